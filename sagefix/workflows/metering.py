"""How much memory a program and everything it starts took at its worst.

The kernel keeps that figure for a control group: ``memory.peak`` (version 2,
https://docs.kernel.org/admin-guide/cgroup-v2.html) or ``memory.max_usage_in_bytes`` (version 1,
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html). It counts each page once and the page cache, too. Where
no group can be made, the resident memory of all its processes is added up several times a second, which counts
shared pages once for each process and can miss a short peak.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from pathlib import Path
from types import TracebackType
from typing import Literal

import msgspec

from sagefix.targets.host import memory_groups

logger = logging.getLogger(__name__)

_EVERY_S = 0.1
_PREFIX = "sagefix"
_OURS = re.compile(rf"{_PREFIX}-(\d+)-\S+")
# File of the peak, file of the limit.
_FILES = (("memory.peak", "memory.max"), ("memory.max_usage_in_bytes", "memory.limit_in_bytes"))


class Peak(msgspec.Struct, frozen=True, kw_only=True):
    """A peak in bytes, and who said it: the kernel (``cgroup``) or our own counting (``sampled``).

    0 bytes: it ended before anybody looked.
    """

    size: int = 0
    source: Literal["cgroup", "sampled"] = "sampled"


class Group:
    """A control group of ours. ``limit`` in bytes is enforced by the kernel (0: none)."""

    def __init__(self, folder: Path, peak_file: Path) -> None:
        self.folder = folder
        self._peak = peak_file

    @classmethod
    def make(cls, name: str, parent: Path | None = None, *, limit: int = 0) -> Group | None:
        """Make a group below ``parent`` (default: this process's own); None where that is not allowed."""
        for above in memory_groups() if parent is None else (parent,):
            if parent is None:
                _sweep(above)
            made = cls._make_below(above, f"{_PREFIX}-{os.getpid()}-{name}", limit)
            if made is not None:
                return made
        return None

    @classmethod
    def _make_below(cls, above: Path, name: str, limit: int) -> Group | None:
        # Version 2 hands a controller down only when it is told to, and refuses while processes are in the group.
        with contextlib.suppress(OSError):
            control = above / "cgroup.subtree_control"
            if control.exists() and "memory" not in control.read_text().split():
                control.write_text("+memory")
        folder = above / name
        try:
            folder.mkdir()
        except OSError as error:
            logger.debug("no control group below %s: %s", above, error)
            return None
        for peak, maximum in _FILES:
            if (folder / peak).is_file():
                try:
                    if limit:
                        (folder / maximum).write_text(str(limit))
                except OSError as error:
                    logger.debug("no memory limit for %s: %s", folder, error)
                return cls(folder, folder / peak)
        _remove(folder)
        return None

    def add(self, pid: int) -> bool:
        """Move a process into the group; what it starts from then on belongs to it. False: not allowed."""
        try:
            (self.folder / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            logger.debug("%s cannot be moved into %s: %s", pid, self.folder, error)
            return False
        return True

    def peak(self) -> int:
        """Return the peak in bytes, 0 when the kernel does not say."""
        try:
            return int(self._peak.read_text())
        except (OSError, ValueError):
            return 0

    def remove(self) -> None:
        """Remove the group, unless a process is still in it."""
        _remove(self.folder)


class Meter:
    """Measures one program and its children while the context is open; :meth:`start` says which.

    ``parent`` is the folder of a group to make another one in; without it, or where that fails, memory is
    sampled.
    """

    def __init__(self, name: str, parent: Path | None = None) -> None:
        self._group = Group.make(name, parent) if parent is not None else None
        self._sampled = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._group is not None:
            self._group.remove()

    def start(self, pid: int) -> None:
        """Measure a process and what it starts."""
        if self._group is not None and self._group.add(pid):
            return
        if self._group is not None:
            self._group.remove()
            self._group = None
        if self._thread is None:
            self._thread = threading.Thread(target=self._sample, args=(pid,), daemon=True)
            self._thread.start()

    def peak(self) -> Peak:
        """Return the peak so far."""
        if self._group is not None:
            return Peak(size=self._group.peak(), source="cgroup")
        return Peak(size=self._sampled, source="sampled")

    def _sample(self, pid: int) -> None:
        while True:
            self._sampled = max(self._sampled, resident(pid))
            if self._stop.wait(_EVERY_S):
                return


def resident(pid: int) -> int:
    """Return the resident memory of a process and of everything below it, in bytes; 0 when it is gone."""
    import psutil

    total = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += int(process.memory_info().rss)
    return total


def _sweep(above: Path) -> None:
    """Remove the empty groups of runs that were killed."""
    with contextlib.suppress(OSError):
        for folder in above.iterdir():
            match = _OURS.fullmatch(folder.name)
            if match and not _alive(int(match[1])):
                for inner in (each for each in folder.iterdir() if each.is_dir()):
                    _remove(inner)
                _remove(folder)


def _alive(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
