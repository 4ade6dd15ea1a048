"""How many calls went where, counted by threads apart, so that no count is lost and no lock is taken in a call."""

import threading
import weakref
from collections import defaultdict
from typing import Dict, List, Tuple

Counts = Dict[str, int]


class Counter:
    """Counts words; any thread may count, read or reset at any time."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._threads: List[Tuple["weakref.ref[threading.Thread]", Counts]] = []
        self._ended: Counts = {}
        self._before: Counts = {}

    def add(self, word: str) -> None:
        """Count one call."""
        try:
            counts = self._local.counts
        except AttributeError:
            counts = self._begin()
        counts[word] += 1

    def _begin(self) -> Counts:
        counts: Counts = defaultdict(int)
        self._local.counts = counts
        with self._lock:
            self._fold()
            self._threads.append((weakref.ref(threading.current_thread()), counts))
        return counts

    def _fold(self) -> None:
        """Keep the sum of threads that have ended, and forget them."""
        running = []
        for thread, counts in self._threads:
            alive = thread()
            if alive is not None and alive.is_alive():
                running.append((thread, counts))
            else:
                _add(self._ended, counts)
        self._threads = running

    def _total(self) -> Counts:
        total = dict(self._ended)
        for _, counts in self._threads:
            # A copy made by C code in one step: the thread goes on counting.
            _add(total, dict(counts))
        return total

    def read(self) -> Counts:
        """Return the counts since the last reset, without words that nobody counted."""
        with self._lock:
            total = self._total()
        counted = {word: count - self._before.get(word, 0) for word, count in total.items()}
        return {word: count for word, count in sorted(counted.items()) if count}

    def reset(self) -> None:
        """Begin at nothing. Threads keep their own sums, so that none is disturbed."""
        with self._lock:
            self._before = self._total()


def _add(total: Counts, counts: Counts) -> None:
    for word, count in counts.items():
        total[word] = total.get(word, 0) + count
