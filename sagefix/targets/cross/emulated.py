"""An interpreter of another architecture, run by qemu: to everything that asks it, an interpreter like any other.

Its program is a script that starts the emulator on a Python of the cache (:mod:`sagefix.targets.cross.rootfs`).
Machine, platform and suffixes of modules are then those of the other architecture; the system calls are this
machine's. https://www.qemu.org/docs/master/user/main.html
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from sagefix.errors import ProcessError, ToolchainError
from sagefix.process import find_program, quote, run
from sagefix.targets.compilers import find_c_compiler
from sagefix.targets.cross.compilers import find_cross_compilers
from sagefix.targets.cross.platforms import Platform
from sagefix.targets.cross.rootfs import Kept
from sagefix.targets.interpreter import PROBE_TIMEOUT_S, probe
from sagefix.targets.model import SLOWER, Interpreter
from sagefix.targets.needs import distributions
from sagefix.targets.stub import SONAME, make_stub

_VERSION = re.compile(r"version (\d+\.\d+(?:\.\d+)?)")
_TIMEOUT_S = 30.0
# What of the user's speaks of Pythons and libraries of this machine.
_NOT_THERE = ("LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")


class Emulator(msgspec.Struct, frozen=True, kw_only=True):
    """A program that runs programs of another architecture: ``name`` as it is called, ``version`` like ``"7.2.22"``."""

    program: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


def find_emulator(platform: Platform, env: Mapping[str, str] | None = None) -> Emulator:
    """Return the emulator for a platform. Raises :class:`ToolchainError` that says how it is installed."""
    for name in platform.emulators:
        program = find_program(name, env)
        if program is None:
            continue
        try:
            said = run([program, "--version"], timeout=_TIMEOUT_S).stdout
        except ProcessError as error:
            raise ToolchainError(
                f"{program} does not run: {error.message}",
                hint=f"Install it again: {for_this_machine(platform.emulator_packages)}.",
                details=error.details,
            ) from error
        found = _VERSION.search(said)
        return Emulator(program=str(program), name=name, version=found[1] if found else "")
    raise ToolchainError(
        f"There is no emulator for {platform.machine} on this machine: {' and '.join(platform.emulators)} were not "
        "found.",
        hint=f"Install it: {for_this_machine(platform.emulator_packages)}.",
    )


def for_this_machine(commands: Mapping[str, str]) -> str:
    """Return the command of this machine's distribution, else all of them."""
    own = next((commands[name] for name in distributions() if name in commands), "")
    return own or "; ".join(f"{name}: {command}" for name, command in commands.items())


def make_interpreter(
    emulator: Emulator,
    python: Kept,
    folder: Path,
    *,
    imports: Sequence[Path] = (),
    libraries: Sequence[Path] = (),
) -> Interpreter:
    """Write the script that starts a Python under an emulator into ``folder``, and ask it about itself.

    ``imports`` are folders that it imports from before its own, ``libraries`` such that its loader searches first.
    Nothing of the user's own Pythons counts in there. Raises :class:`TargetError` when it does not answer.
    """
    launcher = folder / python.program.name
    settings = {"PYTHONNOUSERSITE": "1", "PYTHONPYCACHEPREFIX": str(python.bytecode)}
    if imports:
        settings["PYTHONPATH"] = os.pathsep.join(map(str, imports))
    if libraries:
        settings["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, libraries))
    # Not with qemu's own -E, which takes a comma for the end of a value.
    lines = [
        "#!/bin/sh",
        f"unset {' '.join(_NOT_THERE)}",
        *(f"export {name}={shlex.quote(value)}" for name, value in settings.items()),
        f'exec {shlex.join([emulator.program, "-L", str(python.sysroot), str(python.program)])} "$@"',
    ]
    launcher.write_text("\n".join(lines) + "\n", encoding="utf-8")
    launcher.chmod(0o755)
    return msgspec.structs.replace(
        probe(launcher, timeout=PROBE_TIMEOUT_S * SLOWER),
        executable=str(launcher),
        emulator=str(emulator),
        sysroot=str(python.sysroot),
    )


def make_driver_stub(platform: Platform, site: Path, folder: Path, asked_by: str) -> Path:
    """Make a stub of the driver's library for a platform in ``folder``, which is then to be searched by its loader.

    Its functions are those of the header that came with ``site``'s packages; ``asked_by`` says in an error what needs
    it. Raises :class:`ToolchainError` without the cross compiler.
    """
    try:
        found = find_cross_compilers(platform, cxx=False)
    except ToolchainError as error:
        raise ToolchainError(
            f"{asked_by} asks for {SONAME}, which belongs to NVIDIA's driver, and no stub of it can be made: "
            f"{error.message}",
            hint=f"{error.hint} Or verify at level static.",
            details=error.details,
        ) from error
    headers = [*site.glob("nvidia/*/include"), *site.glob("triton/backends/nvidia/include")]
    make_stub(headers, folder / SONAME, find_c_compiler({**os.environ, "CC": quote(found.cc)}))
    return folder
