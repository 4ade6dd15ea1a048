"""The machine that was measured on; figures without it mean nothing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

# Whose speed it is as well: sagefix's time holds that of uv, and its start that of typer.
PROGRAMS = ("sagefix", "pip", "uv", "typer")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """``cores`` this process may use, ``memory`` in bytes, ``load`` the average of the last minute at the start
    (None where the system does not say): one that is near the number of cores means that others were working.
    ``programs`` maps those of this environment to their versions.
    """

    cores: int
    cpu: str
    memory: int
    system: str
    python: str
    load: float | None
    programs: dict[str, str] = {}


def describe() -> Machine:
    """Look at this machine."""
    import psutil

    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    try:
        load = round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        load = None
    return Machine(
        cores=cores,
        cpu=cpu_name(_read("/proc/cpuinfo")) or platform.processor() or platform.machine(),
        memory=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        load=load,
        programs={name: found for name in PROGRAMS if (found := _version(name))},
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def cpu_name(cpuinfo: str) -> str:
    """Return the processor's name from the text of /proc/cpuinfo, empty if it does not say (some ARM)."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
