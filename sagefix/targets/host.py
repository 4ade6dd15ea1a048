"""This machine: cores, memory and disk that are really ours, containers' limits included, and how many jobs
fit.

A container sees the whole machine's ``/proc``; what it may use stands in its control groups, each of whose
parents may set a lower limit. Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.max,
cpu.max), https://docs.kernel.org/admin-guide/cgroup-v1/memory.html,
https://docs.kernel.org/scheduler/sched-bwc.html. Every function takes the root of the file system, so that
tests can show it another machine.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from sagefix.checks import Check
from sagefix.errors import UsageError
from sagefix.files import human_size

GIB = 1 << 30
_ROOT = Path("/")
_NO_LIMIT = 1 << 60
"""Version 1 writes "no limit" as the largest multiple of the page size; nothing has this much memory."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory in bytes. ``limit_from`` is the file that set the limit, empty when the whole machine is
    ours."""

    total: int
    available: int
    limit_from: str = ""


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """How many compilers at once, and what kept it from being more: ``cores``, ``memory``, ``sources`` or
    ``MAX_JOBS``.

    ``threads`` is how many archs of one file each compiler may work on at once.
    """

    count: int
    limited_by: str
    threads: int = 1


def cores(root: Path = _ROOT) -> int:
    """Return how many cores this process may use: its affinity and the CPU quota of its control groups.

    A quota of one and a half cores counts as two, as Go rounds
    (https://go.dev/blog/container-aware-gomaxprocs).
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _control_groups("cpu", root):
        quota, period = _quota(folder)
        if quota > 0 and period > 0:
            allowed = min(allowed, math.ceil(quota / period))
    return max(1, allowed)


def memory(root: Path = _ROOT) -> Memory:
    """Return how much memory there is and how much of it can be had now.

    What a control group's page cache holds and could give back (``inactive_file``) counts as available, as
    Kubernetes does (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/).
    """
    total, available = _machine_memory(root)
    limit_from = ""
    for folder in _control_groups("memory", root):
        limit, used, limit_file = _limit(folder)
        if not 0 < limit < _NO_LIMIT:
            continue
        available = min(available, max(0, limit - used))
        if limit < total:
            total, limit_from = limit, str(limit_file)
    return Memory(total=total, available=available, limit_from=limit_from)


def memory_groups(root: Path = _ROOT) -> tuple[Path, ...]:
    """Return the folders of this process's own memory control group: one for each version that is mounted."""
    own = []
    for kind in ("cgroup2", "cgroup"):
        if (first := next(_control_groups("memory", root, kind), None)) is not None:
            own.append(first)
    return tuple(own)


def disk_free(path: Path) -> int:
    """Return the free bytes, for this user, of the disk that holds ``path`` or will."""
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def processor() -> str:
    """Return the processor's name as far as the system tells it, else the kind of machine: ``x86_64``."""
    return platform.processor() or platform.machine()


def glibc() -> str:
    """Return the version of this machine's glibc (``"2.36"``), empty where there is none."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):
        return ""
    return version if name == "glibc" else ""


def compile_jobs(
    *,
    cores: int,
    memory_available: int,
    sources: int,
    memory_gib: float,
    archs: int = 1,
    max_jobs_env: str | None = None,
) -> Jobs:
    """Decide how many files are compiled at once, and how many archs of each.

    ``memory_available`` in bytes, ``memory_gib`` the peak of one compiler for one arch in GiB, ``sources`` the
    files to compile. ``max_jobs_env`` is the user's ``MAX_JOBS``, which is obeyed. Files come first; cores and
    memory that are left over go to the archs within a file. Raises :class:`UsageError` when ``MAX_JOBS`` is no
    number.
    """
    fitting = int(memory_available / (memory_gib * GIB)) if memory_gib > 0 else cores
    if max_jobs_env and max_jobs_env.strip():
        try:
            wished = int(max_jobs_env)
        except ValueError:
            wished = 0
        if wished < 1:
            raise UsageError(
                f"MAX_JOBS is {max_jobs_env!r}, and must be a whole number from 1 on.",
                hint="Correct it or unset it.",
            )
        return Jobs(count=wished, limited_by="MAX_JOBS")
    bounds = {"cores": max(1, cores), "memory": max(1, fitting), "sources": max(1, sources)}
    limited_by = min(bounds, key=lambda name: bounds[name])
    count = bounds[limited_by]
    return Jobs(
        count=count,
        limited_by=limited_by,
        threads=max(1, min(archs, cores // count, fitting // count)),
    )


def check_memory(found: Memory, jobs: Jobs, memory_gib: float) -> Check:
    """Say whether the compilers that will run at once have the memory they need."""
    needed = jobs.count * jobs.threads * memory_gib * GIB
    limit = f", limited by {found.limit_from}" if found.limit_from else ""
    text = (
        f"{found.available / GIB:.1f} GiB available of {found.total / GIB:.1f}{limit}; "
        f"{jobs.count} {'job needs' if jobs.count == 1 else 'jobs need'} {needed / GIB:.1f} GiB"
    )
    if needed <= found.available:
        return Check(name="memory", status="ok", found=f"{text} ({jobs.limited_by} set the number)")
    fewer = "Lower MAX_JOBS" if jobs.limited_by == "MAX_JOBS" and jobs.count > 1 else "Free some memory"
    return Check(
        name="memory", status="warning", found=text, fix=f"{fewer}, or the kernel may kill the compiler."
    )


def check_disk(path: Path, needed: int) -> Check:
    """Say whether the disk that holds ``path`` has ``needed`` bytes free."""
    free = disk_free(path)
    found = f"{human_size(free)} free for {path}; {human_size(needed)} needed"
    if free >= needed:
        return Check(name="disk", status="ok", found=found)
    return Check(
        name="disk",
        status="failure",
        found=found,
        fix="Free some space, or point SAGEFIX_CACHE_DIR at another disk.",
    )


def _machine_memory(root: Path) -> tuple[int, int]:
    """Return total and available bytes of the whole machine."""
    fields = {}
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()
        if number and number[0].isdigit():
            fields[name] = int(number[0]) * 1024
    if "MemTotal" in fields:
        return fields["MemTotal"], fields.get("MemAvailable", fields.get("MemFree", 0))
    import psutil

    seen = psutil.virtual_memory()
    return int(seen.total), int(seen.available)


def _control_groups(controller: str, root: Path, kind_wanted: str = "") -> Iterator[Path]:
    """Yield the folders of this process's control group and of its parents, lowest first; version 2, then 1.

    ``kind_wanted`` leaves out the other version (``cgroup2``, ``cgroup``).

    ``/proc/self/cgroup`` says which group, ``/proc/self/mountinfo`` where its tree is mounted and from which
    group on: in a container without a cgroup namespace the mount begins at the container's own group.
    """
    groups: dict[str, str] = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for name in parts[1].split(","):
                groups[name] = parts[2]
    for line in _read(root / "proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or not kind:
            continue
        options = kind[2].split(",") if len(kind) > 2 else []
        if kind_wanted not in ("", kind[0]):
            continue
        if kind[0] == "cgroup2":
            group = groups.get("")
        elif kind[0] == "cgroup" and controller in options:
            group = groups.get(controller)
        else:
            continue
        if group is None:
            continue
        top, mounted = PurePosixPath(fields[3]), PurePosixPath(group)
        inside = mounted.relative_to(top) if mounted.is_relative_to(top) else PurePosixPath()
        base = root / fields[4].lstrip("/")
        if ".." not in inside.parts:
            for part in (inside, *inside.parents):
                yield base / part


def _quota(folder: Path) -> tuple[int, int]:
    """Return the CPU quota and its period in microseconds; a quota of 0 is none."""
    if text := _read(folder / "cpu.max").split():
        return _number(text[0]), _number(text[1]) if len(text) > 1 else 100_000
    return _number(_read(folder / "cpu.cfs_quota_us")), _number(_read(folder / "cpu.cfs_period_us"))


def _limit(folder: Path) -> tuple[int, int, Path]:
    """Return the memory limit (0: none), what counts as used (both in bytes), and the limit's file."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        path = folder / limit
        if text := _read(path).strip():
            reclaimable = next(
                (
                    _number(value)
                    for name, _, value in (
                        line.partition(" ") for line in _read(folder / "memory.stat").splitlines()
                    )
                    if name == cache
                ),
                0,
            )
            return _number(text), max(0, _number(_read(folder / used)) - reclaimable), path
    return 0, 0, folder


def _number(text: str) -> int:
    """Read a count; ``max`` (version 2) and ``-1`` (version 1) mean no limit and become 0."""
    text = text.strip()
    return int(text) if text.isdigit() else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
