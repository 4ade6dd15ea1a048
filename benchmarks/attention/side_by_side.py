"""Calls timed side by side: by turns, in an order drawn by lot, so that a clock that drifts hits all alike."""

import random
import statistics
import time
from collections.abc import Callable

import torch

Call = Callable[[], object]


class Clock:
    """CUDA events on a GPU, the wall clock elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cuda = device.type == "cuda"

    def wait(self) -> None:
        """Wait until everything that was enqueued is done."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def time(self, call: Call, calls: int) -> float:
        """Return the milliseconds of one of ``calls`` calls in a row, from an idle device."""
        self.wait()
        if not self.cuda:
            begun = time.perf_counter()
            for _ in range(calls):
                call()
            return (time.perf_counter() - begun) * 1e3 / calls
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / calls


def by_turns(
    clock: Clock, ways: dict[str, Call], *, seconds: float, calls: int = 1, least: int = 7, most: int = 60
) -> dict[str, list[float]]:
    """Time every way in every round; return the milliseconds per call of each, round by round.

    As many rounds as fit into ``seconds``, at least ``least``. Two calls of each before do not count.
    """
    slowest = 0.0
    for call in ways.values():
        call()
        clock.wait()
        slowest += clock.time(call, calls) * calls
    rounds = max(least, min(most, int(seconds * 1e3 / max(slowest, 1e-3))))
    chance = random.Random(rounds)
    times: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            times[name].append(clock.time(ways[name], calls))
    return times


def ratio(ours: list[float], others: list[float]) -> float:
    """Return the median of the ratios round by round: what disturbed a round disturbed both."""
    return statistics.median(a / b for a, b in zip(ours, others, strict=True))


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    """Return the median of each in milliseconds."""
    return {name: round(statistics.median(each), 5) for name, each in times.items()}
