"""How long calls take: CUDA events on a GPU, the wall clock elsewhere. Runs inside the target, for bench.py."""

import gc
import time
from typing import Any, Callable, ContextManager

import torch

# Long enough on any GPU to enqueue a call behind it: about a millisecond at 2 GHz.
_BUSY_CYCLES = 2000000
# What is written is read from memory again only if it is a good deal larger than the cache.
_FLUSH_FACTOR = 4


class Clock:
    """Measures single calls. Between two of them the level-2 cache is emptied by writing over it.

    ``queued``: the call is enqueued behind other work, so that the GPU never waits for its launches. Else the GPU
    is idle before it, and the time is that of one call from its first launch to its last result.
    """

    def __init__(self, device: Any, flush: bool, queued: bool) -> None:
        self.cuda = device.type == "cuda"
        self.queued = queued and self.cuda
        self.flushed = 0
        if self.cuda:
            self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            # Versions of torch that do not tell the size of the cache get what is enough for any GPU so far.
            cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0) or (64 << 20)
            self.flushed = _FLUSH_FACTOR * cache if flush else 0
            self.scratch = torch.empty(self.flushed, dtype=torch.int8, device=device)

    @property
    def name(self) -> str:
        """How the time is taken."""
        return "cuda events" if self.cuda else "wall"

    def wait(self) -> None:
        """Wait until everything that was enqueued is done."""
        if self.cuda:
            torch.cuda.synchronize()

    def measure(self, call: Callable[[], Any], around: Callable[[], ContextManager[Any]]) -> float:
        """Return the time of one call in milliseconds; what ``around`` does on the way in and out is not in it."""
        with around():
            if not self.cuda:
                begun = time.perf_counter()
                call()
                return (time.perf_counter() - begun) * 1e3
            if self.flushed:
                self.scratch.zero_()
            torch.cuda.synchronize()
            if self.queued:
                torch.cuda._sleep(_BUSY_CYCLES)
            self.begin.record()
            call()
            self.end.record()
            self.end.synchronize()
            return float(self.begin.elapsed_time(self.end))

    def memory(self, call: Callable[[], Any]) -> Any:
        """Return the peak in bytes that a call needs beside what there is already (None: not known), and its result."""
        if not self.cuda:
            return None, call()
        self.wait()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        found = call()
        self.wait()
        return torch.cuda.max_memory_allocated() - before, found

    def forget(self) -> None:
        """Give freed memory back, so that what one backend left in pieces is not another one's trouble."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
