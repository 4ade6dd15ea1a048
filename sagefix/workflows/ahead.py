"""A wheel that is made while something else goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from pathlib import Path

from sagefix.process import Stop, stoppable

_WAIT_S = 0.2


class Ahead:
    """Makes one wheel at a time in another thread, under a name by which it is taken."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._stop = Stop()
        self._name = ""
        self._made: Future[Path] | None = None

    def start(self, name: str, make: Callable[[], Path]) -> None:
        """Begin, unless something is being made; progress goes where it went."""
        if self._made is not None and not self._made.done():
            return

        def stoppably() -> Path:
            with stoppable(self._stop):
                return make()

        self._name, self._made = name, self._pool.submit(copy_context().run, stoppably)

    def take(self, name: str) -> Path | None:
        """Return the wheel that was begun under a name, once it is there; None when none was. Raises as ``make``."""
        if self._made is None or self._name != name:
            return None
        made, self._made = self._made, None
        # In short waits: Ctrl-C that comes just before a wait does not end one without limit.
        while wait([made], timeout=_WAIT_S).not_done:
            pass
        return made.result()

    def close(self) -> None:
        """End what was begun."""
        self._stop.end()
        self._pool.shutdown(cancel_futures=True)
