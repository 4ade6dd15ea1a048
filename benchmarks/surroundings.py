"""What every comparison needs: sagefix and uv as programs, scratch environments, and a clean environment."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.measure import NotHereError, call

# What would make one side slower or do something else: no compiled modules, another target, another index.
_DROPPED = (
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONUNBUFFERED",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
)
_DROPPED_BEGINNINGS = ("SAGEFIX_", "GIT_", "PIP_TARGET", "PIP_USER", "PIP_PREFIX")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says, and the scratch folder. ``runs`` and ``build_runs``: how often each.

    ``python_version``, ``torch`` and ``platform`` name a cell, ``cache`` a cache of sagefix's that holds environments
    already; all for ``cross``.
    """

    scratch: Path
    runs: int = 10
    build_runs: int = 1
    pin: str = "sageattention"
    ref: str | None = None
    wheel: Path | None = None
    python: Path | None = None
    source: str | None = None
    arch: str | None = None
    cuda: str = "auto"
    max_memory: str | None = None
    python_version: str = ".".join(map(str, sys.version_info[:2]))
    torch: str | None = None
    platform: str | None = None
    cache: Path | None = None


def environment(scratch: Path, **more: str) -> dict[str, str]:
    """Return this process's environment without what leaks in, with sagefix's folders below ``scratch``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _DROPPED and not name.startswith(_DROPPED_BEGINNINGS)
    }
    beside = str(Path(sys.executable).parent)
    return {
        **kept,
        "PATH": os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]),
        "SAGEFIX_CACHE_DIR": str(scratch / "cache"),
        "SAGEFIX_WHEELHOUSE": str(scratch / "wheels"),
        # A question to the network from time to time would be somebody else's time.
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **more,
    }


def sagefix() -> tuple[str, ...]:
    """Return the words that start sagefix: its own program beside this Python, as a user has it."""
    beside = Path(sys.executable).with_name("sagefix.exe" if os.name == "nt" else "sagefix")
    return (str(beside),) if beside.is_file() else (sys.executable, "-m", "sagefix")


def ask_sagefix(*words: str | Path, env: Mapping[str, str]) -> Any:
    """Run a command of sagefix with ``--json`` and return its result."""
    return json.loads(call(*sagefix(), *words, "--json", env=env))["result"]


def given(**options: str | Path | None) -> list[str]:
    """Return options for a command line, without those that were not given: ``max_memory`` is ``--max-memory``."""
    return [
        word
        for name, value in options.items()
        if value
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


def uv() -> str:
    """Return the path of uv; raises :class:`NotHereError` when there is none."""
    beside = Path(sys.executable).with_name("uv.exe" if os.name == "nt" else "uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise NotHereError("uv is not here: pip install 'sagefix[uv]'.")
    return found


def pip() -> tuple[str, ...]:
    """Return the words that start pip: its program beside this Python."""
    beside = Path(sys.executable).with_name("pip.exe" if os.name == "nt" else "pip")
    if beside.is_file():
        return (str(beside),)
    if find_spec("pip") is None:
        raise NotHereError("pip is not in this environment.")
    return (sys.executable, "-m", "pip")


def python_of(environment_folder: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return environment_folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_target(folder: Path, *, like: Path | None = None) -> Path:
    """Make a virtual environment with pip and return its Python.

    ``like``: a Python whose packages it sees (through a ``.pth`` file) and which stays untouched; its version is
    taken as well. Otherwise this Python's version, and no packages.
    """
    base = like or Path(sys.executable)
    call(base, "-m", "venv", folder)
    python = python_of(folder)
    if like is not None:
        show = "import sysconfig; p = sysconfig.get_paths(); print(p['purelib']); print(p['platlib'])"
        (own, *_) = call(python, "-c", show).splitlines()
        (Path(own) / "target.pth").write_text(call(like, "-c", show), encoding="utf-8")
    return python


def builder(folder: Path) -> Path:
    """Return a Python that can build the demo: this one if it has setuptools, else a new environment with it."""
    if find_spec("setuptools") is not None:
        return Path(sys.executable)
    python = make_target(folder)
    call(python, "-m", "pip", "install", "--quiet", "setuptools", env=environment(folder.parent))
    return python
