"""Compilers for another machine than this one: found, tried, and asked where the libraries of that machine are."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from sagefix.checks import Check
from sagefix.errors import ProcessError, ToolchainError
from sagefix.process import find_program, quote, run
from sagefix.targets.compilers import Compiler, find_c_compiler, find_host_compiler, find_nvcc_host_compiler
from sagefix.targets.cross.platforms import Platform, platform_named
from sagefix.targets.model import Interpreter
from sagefix.targets.needs import distributions

NAME = "cross compiler"
IGNORED = ("LIBRARY_PATH", "LD_RUN_PATH", "LDSHARED", "LDCXXSHARED")
"""Variables that speak of this machine's libraries; a build for another machine does without them."""
_TIMEOUT_S = 60.0
_LIBRARIES = ("libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1")
# What glibc says of itself: https://sourceware.org/git/?p=glibc.git;a=blob;f=csu/version.c
_RELEASE = re.compile(rb"GNU C Library[^\n\0]*release version (\d+\.\d+)")
_TRIALS = {
    "C": "#include <stdlib.h>\nvoid *sagefix_trial(size_t size) { return malloc(size); }\n",
    "C++": '#include <string>\nstd::string sagefix_trial(const char *text) { return std::string(text) + "!"; }\n',
}


class CrossCompilers(msgspec.Struct, frozen=True, kw_only=True):
    """The compilers for a machine: ``cc`` and ``cxx`` as words of a command (``cxx`` is empty where none was asked
    for), ``glibc`` the version that they link with, ``folders`` those of that machine's system libraries.
    """

    machine: str
    cc: tuple[str, ...]
    cxx: tuple[str, ...]
    glibc: str
    folders: tuple[str, ...]


def find_cross_compilers(
    platform: Platform, env: Mapping[str, str] | None = None, *, cxx: bool = True
) -> CrossCompilers:
    """Return the compilers for a platform: ``CC`` and ``CXX`` if they are for its machine, else those on ``PATH``.

    Each is tried on a few lines, so that one without a C library is not found out after minutes. Without ``cxx``
    that of C alone is looked for.

    Raises :class:`ToolchainError`: there is none, with the package that brings it; it is for another machine; it
    cannot link.
    """
    environment = _without_ignored(os.environ if env is None else env)
    c = _find(platform, "CC", "gcc", "C", environment)
    cpp = _find(platform, "CXX", "g++", "C++", environment) if cxx else ()
    if cxx:
        _require_nvcc_ccbin(platform, {**environment, "CC": quote(c), "CXX": quote(cpp)})
    return CrossCompilers(
        machine=platform.machine,
        cc=c,
        cxx=cpp,
        glibc=_glibc(c, environment),
        folders=library_folders(cpp or c, environment),
    )


def tool_environment(interpreter: Interpreter, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment in which the tools for a target are looked for: for a described one, ``CC`` and
    ``CXX`` are the compilers for its machine; else ``env`` as it is.

    Raises as :func:`find_cross_compilers`.
    """
    environment = dict(os.environ if env is None else env)
    if interpreter.built_by is None:
        return environment
    found = find_cross_compilers(
        platform_named(interpreter.platform_tag), environment, cxx=interpreter.torch is not None
    )
    named = {"CC": quote(found.cc), **({"CXX": quote(found.cxx)} if found.cxx else {})}
    return {**_without_ignored(environment), **named}


def check_cross_compilers(
    interpreter: Interpreter, env: Mapping[str, str] | None = None
) -> tuple[Check, ...]:
    """Say for a described target whether there are compilers for its machine; nothing for any other."""
    if interpreter.built_by is None:
        return ()
    try:
        found = find_cross_compilers(
            platform_named(interpreter.platform_tag), env, cxx=interpreter.torch is not None
        )
    except ToolchainError as error:
        return (Check(name=NAME, status="failure", found=error.message, fix=error.hint),)
    told = " and ".join(quote(command) for command in (found.cc, found.cxx) if command)
    return (
        Check(name=NAME, status="ok", found=f"{told} for {found.machine}, with glibc {found.glibc or '?'}"),
    )


def library_folders(command: Iterable[str], env: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the folders in which a compiler finds the C library, libstdc++ and their like; the compiler is asked."""
    found = []
    for name in _LIBRARIES:
        said = _said([*command, f"-print-file-name={name}"], os.environ if env is None else env)
        # What is not found is said as it was asked.
        if Path(said).is_absolute():
            found.append(str(Path(said).resolve().parent))
    return tuple(dict.fromkeys(found))


def libc_of(compiler: Compiler, env: Mapping[str, str] | None = None) -> str:
    """Return the version of the glibc that a compiler links with, empty where it does not say."""
    return _glibc(compiler.command, os.environ if env is None else env)


def _find(
    platform: Platform, variable: str, program: str, language: str, env: Mapping[str, str]
) -> tuple[str, ...]:
    if env.get(variable, "").strip():
        # Whether it is a compiler at all is found out in the way that it is for any other.
        (find_c_compiler if variable == "CC" else find_host_compiler)(env)
        command = tuple(shlex.split(env[variable]))
    else:
        # By its name and not its path: torch writes it into the flags, which the record keeps.
        names = [f"{each}-{program}" for each in (platform.triplet, *platform.other_triplets)]
        name = next((each for each in names if find_program(each, env) is not None), None)
        if name is None:
            raise _missing(platform, names[0], language)
        command = (name,)
    machine = _said([*command, "-dumpmachine"], env)
    if machine.partition("-")[0] != platform.machine:
        raise ToolchainError(
            f"{variable} names {quote(command)}, which compiles for {machine or 'nobody knows what'}, "
            f"not for {platform.machine}.",
            hint=f"Unset {variable}, or set it to a compiler for {platform.machine} such as "
            f"{platform.triplet}-{program}.",
        )
    _try(platform, command, language, env)
    return command


def _missing(platform: Platform, program: str, language: str) -> ToolchainError:
    return ToolchainError(
        f"There is no {language} compiler for {platform.machine} on this machine: {program} is not on PATH.",
        hint=_install(platform),
        details={"program": program, "packages": dict(platform.packages)},
    )


def _install(platform: Platform) -> str:
    """Say which package brings it here; where the distribution is not known, all that are."""
    own = [name for name in distributions() if name in platform.packages or name in platform.without_libc]
    if own and own[0] in platform.packages:
        return f"Run: {platform.packages[own[0]]}"
    every = ", ".join(f"{name}: {command}" for name, command in platform.packages.items())
    why = f"{platform.without_libc[own[0]]} " if own else ""
    return f"{why}Install it ({every}), or set CC and CXX to a compiler for {platform.machine}."


def _require_nvcc_ccbin(platform: Platform, env: Mapping[str, str]) -> None:
    """nvcc takes ``-ccbin`` of the user's flags before that of torch; it has to be for the same machine."""
    named = find_nvcc_host_compiler(env)
    machine = _said([*named.command, "-dumpmachine"], env)
    if machine.partition("-")[0] != platform.machine:
        raise ToolchainError(
            f"{named.named_by} gives nvcc {named.path} as its host compiler, which compiles for {machine}, not for "
            f"{platform.machine}.",
            hint=f"Take -ccbin out of {named.named_by}.",
        )


def _try(platform: Platform, command: tuple[str, ...], language: str, env: Mapping[str, str]) -> None:
    """Compile and link a few lines: distributions have cross compilers for kernels, without a C library."""
    if said := _trial(command, language, tuple(sorted(env.items()))):
        raise ToolchainError(
            f"{quote(command)} cannot build a {language} library for {platform.machine}: {said}",
            hint=f"It may lack the C library of that machine. {_install(platform)}",
        )


@lru_cache(maxsize=16)
def _trial(command: tuple[str, ...], language: str, env: tuple[tuple[str, str], ...]) -> str:
    """Return why it does not work, nothing when it does; one process asks several times."""
    with tempfile.TemporaryDirectory(prefix="sagefix-cross-") as scratch:
        source = Path(scratch) / ("trial.c" if language == "C" else "trial.cpp")
        source.write_text(_TRIALS[language], encoding="ascii")
        output = str(source.with_suffix(".so"))
        try:
            run(
                [*command, "-fPIC", "-shared", str(source), "-o", output],
                cwd=Path(scratch), env=dict(env), timeout=_TIMEOUT_S,
            )  # fmt: skip
        except ProcessError as error:
            return " ".join(str(error.details.get("tail") or error.message).replace(scratch, "").split())
    return ""


def _without_ignored(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in IGNORED}


def _glibc(command: Iterable[str], env: Mapping[str, str]) -> str:
    try:
        found = _RELEASE.search(Path(_said([*command, "-print-file-name=libc.so.6"], env)).read_bytes())
    except OSError:
        return ""
    return found[1].decode() if found else ""


def _said(command: list[str], env: Mapping[str, str]) -> str:
    try:
        return run(command, env={**env, "LC_ALL": "C"}, timeout=_TIMEOUT_S).stdout.strip()
    except ProcessError:
        return ""
