"""The exact versions of every program that has a hand in the bytes of an extension."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from sagefix.errors import ProcessError
from sagefix.files import sha256_bytes
from sagefix.process import run
from sagefix.targets.compilers import Compiler
from sagefix.targets.cross.compilers import libc_of
from sagefix.targets.model import Interpreter
from sagefix.targets.toolkit import Toolkit

_TIMEOUT_S = 30.0
_RELEASE = re.compile(r"\bV(\d+\.\d+\.\d+)")


def tool_versions(
    interpreter: Interpreter,
    toolkit: Toolkit | None = None,
    compiler: Compiler | None = None,
    env: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return name -> version of the tools of a build, those that are there, sorted by name.

    ``glibc`` is the one whose start files are linked in, the building machine's; ``python build`` stands for the
    compilers and flags that the Python brings along; ``host compiler`` and ``ld`` name the distribution's build, which
    decides defaults. Of a described target, the Python is the one that builds for it, ``glibc`` that of the cross
    compiler, and ``built on`` says what kind of machine did it.
    """
    environment = os.environ if env is None else env
    builder = interpreter.builder
    found = {
        "python": builder.version,
        "python build": _short_hash(builder.build_flags),
        "glibc": builder.glibc,
        **{name: builder.packages.get(name, "") for name in ("setuptools", "wheel", "ninja")},
        "torch": interpreter.packages.get("torch", ""),
    }
    if compiler is not None:
        found["host compiler"] = f"{compiler.kind} {compiler.version}{_maker(compiler, environment)}"
        found["ld"] = _linker(compiler, environment)
    if interpreter.built_by is not None:
        found["built on"] = builder.machine
        if compiler is not None:
            found["host compiler"] += f" for {interpreter.machine}"
            found["glibc"] = libc_of(compiler, environment)
    if toolkit is not None:
        found["nvcc"] = toolkit.full_version
    return {name: version for name, version in sorted(found.items()) if version}


def ptxas_version(toolkit: Toolkit, env: Mapping[str, str] | None = None) -> str:
    """Return the version of the toolkit's assembler, which may be another than nvcc's; empty when it does not say.

    It is no part of :func:`tool_versions`: a toolkit that is still to be fetched has a version, but no programs.
    """
    said = _said([Path(toolkit.home) / "bin" / "ptxas", "--version"], os.environ if env is None else env)
    found = _RELEASE.search(said)
    return found[1] if found else ""


def _short_hash(flags: Mapping[str, str]) -> str:
    return sha256_bytes(msgspec.json.encode(flags, order="sorted"))[:16] if any(flags.values()) else ""


def _said(command: Sequence[str | Path], env: Mapping[str, str]) -> str:
    try:
        return run(command, env={**env, "LC_ALL": "C"}, timeout=_TIMEOUT_S).stdout
    except ProcessError:
        return ""


def _maker(compiler: Compiler, env: Mapping[str, str]) -> str:
    """Return `` (Debian 12.2.0-14)`` where the first line of ``--version`` names whose build it is."""
    first = _said([*compiler.command, "--version"], env).partition("\n")[0]
    found = re.search(r"\(([^()]+)\)", first)
    return f" ({found[1]})" if found else ""


def _linker(compiler: Compiler, env: Mapping[str, str]) -> str:
    """Return the first line of the linker that the compiler calls: ``GNU ld (GNU Binutils for Debian) 2.40``."""
    chosen = re.findall(r"-fuse-ld=(\w+)", env.get("LDFLAGS", ""))
    name = f"ld.{chosen[-1]}" if chosen else "ld"
    program = _said([*compiler.command, f"-print-prog-name={name}"], env).strip() or name
    return _said([program, "--version"], env).partition("\n")[0].strip()
