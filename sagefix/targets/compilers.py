"""The host's C++ compiler: which one is meant, what it is, and whether nvcc and torch accept it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from sagefix.checks import Check
from sagefix.errors import ProcessError, ToolchainError
from sagefix.process import find_program, quote, run

_TIMEOUT_S = 60.0
_NVCC_VARIABLES = "https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/#nvcc-environment-variables"
_SUPPORTED = "https://docs.nvidia.com/cuda/cuda-installation-guide-linux/#host-compiler-support-policy"
_UNCHECKED = "-allow-unsupported-compiler"


class Compiler(msgspec.Struct, frozen=True, kw_only=True):
    """A C or C++ compiler. ``command`` is how it is called (``("ccache", "/usr/bin/g++")``), ``path`` its program.

    ``kind`` is ``"gcc"`` or ``"clang"``, ``version`` like ``"12.2.0"``, both read from the macros it defines.
    ``named_by`` is the variable that chose it, empty for the default.
    """

    path: str
    kind: str
    version: str
    command: tuple[str, ...]
    named_by: str = ""

    @property
    def major(self) -> int:
        """``12``: what nvcc's bound is about."""
        return int(self.version.split(".")[0])


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The oldest and newest major versions that are accepted, by kind; 0 where none is stated."""

    gcc: tuple[int, int] = (0, 0)
    clang: tuple[int, int] = (0, 0)

    def of(self, kind: str) -> tuple[int, int]:
        """Return the bounds of a kind of compiler."""
        return self.clang if kind == "clang" else self.gcc


def find_host_compiler(env: Mapping[str, str] | None = None) -> Compiler:
    """Return the compiler of C++ sources and extensions: ``CXX``, ``CC``, else ``c++`` or ``g++`` on
    ``PATH``.

    Raises :class:`ToolchainError`: none found, or what was named is no C++ compiler.
    """
    environment = os.environ if env is None else env
    for variable in ("CXX", "CC"):
        if environment.get(variable, "").strip():
            return _describe(shlex.split(environment[variable]), variable, environment)
    for name in ("c++", "g++"):
        if find_program(name, environment) is not None:
            return _describe([name], "", environment)
    raise ToolchainError(
        "No C++ compiler was found.",
        hint="Install one (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++), or set CC and CXX.",
    )


def find_c_compiler(env: Mapping[str, str] | None = None) -> Compiler:
    """Return the compiler of C sources and extensions: ``CC``, else ``cc``, ``gcc`` or ``clang`` on ``PATH``.

    Raises :class:`ToolchainError`.
    """
    environment = os.environ if env is None else env
    if environment.get("CC", "").strip():
        return _describe(shlex.split(environment["CC"]), "CC", environment, "c")
    for name in ("cc", "gcc", "clang"):
        if find_program(name, environment) is not None:
            return _describe([name], "", environment, "c")
    raise ToolchainError(
        "No C compiler was found.",
        hint="Install one (Debian, Ubuntu: apt install gcc; Fedora: dnf install gcc), or set CC.",
    )


def find_nvcc_host_compiler(env: Mapping[str, str] | None = None) -> Compiler:
    """Return the compiler that nvcc will call, which may be another one than that of the C++ sources.

    In this order: ``-ccbin`` in ``NVCC_PREPEND_FLAGS`` or ``NVCC_APPEND_FLAGS``, ``CC`` (torch hands it to
    nvcc as ``-ccbin``), ``NVCC_CCBIN``, ``gcc`` on ``PATH``. Raises :class:`ToolchainError`.
    """
    environment = os.environ if env is None else env
    for variable in ("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"):
        if named := _ccbin(environment.get(variable, "")):
            return _describe([named], variable, environment)
    for variable in ("CC", "NVCC_CCBIN"):
        if environment.get(variable, "").strip():
            return _describe(shlex.split(environment[variable]), variable, environment)
    return _describe(["gcc"], "", environment)


def _ccbin(flags: str) -> str:
    """Return what ``-ccbin X``, ``-ccbin=X`` or ``--compiler-bindir X`` names; of a folder, its gcc."""
    words = iter(shlex.split(flags))
    for word in words:
        name, equals, value = word.partition("=")
        if name in {"-ccbin", "--compiler-bindir"}:
            named = value if equals else next(words, "")
            return str(Path(named) / "gcc") if Path(named).is_dir() else named
    return ""


def _describe(
    command: Sequence[str], named_by: str, env: Mapping[str, str], language: str = "c++"
) -> Compiler:
    """Ask a compiler for its predefined macros, which are what nvcc's and torch's headers look at."""
    said_by = f"{named_by} names {quote(command)}, which" if named_by else quote(command)
    # A wrapper such as ccache stands before the compiler itself.
    program = find_program(command[0], env)
    if program is None:
        raise ToolchainError(
            f"{said_by} was not found.",
            hint="Correct the variable." if named_by else "Install g++, or set CC and CXX.",
        )
    try:
        said = run([*command, "-E", "-dM", "-x", language, os.devnull], env=env, timeout=_TIMEOUT_S).stdout
    except ProcessError as error:
        raise ToolchainError(
            f"{said_by} does not compile {language.upper()}: {error.message}",
            hint="Install its C++ part (Debian, Ubuntu: apt install g++), or set CC and CXX to another one.",
            details=error.details,
        ) from error
    macros = dict(re.findall(r"^#define (__(?:GNUC|clang)\w*__) (\d+)$", said, re.MULTILINE))
    kind = "clang" if "__clang_major__" in macros else "gcc"
    names = (
        ("__clang_major__", "__clang_minor__", "__clang_patchlevel__")
        if kind == "clang"
        else ("__GNUC__", "__GNUC_MINOR__", "__GNUC_PATCHLEVEL__")
    )
    if names[0] not in macros:
        raise ToolchainError(
            f"{said_by} is neither gcc nor clang.",
            hint="Set CC and CXX to one of them.",
            details={"command": [*command]},
        )
    compiler = next((path for word in reversed(command) if (path := find_program(word, env))), program)
    return Compiler(
        path=str(compiler),
        kind=kind,
        version=".".join(macros.get(name, "0") for name in names),
        command=(str(program), *command[1:]),
        named_by=named_by,
    )


def read_bounds(include_folders: Sequence[str | Path], torch_folder: str | Path | None = None) -> Bounds:
    """Read which compilers are accepted out of the headers that refuse the others.

    The newest stands in the toolkit's ``crt/host_config.h`` (``#if __GNUC__ > 15``), the oldest in torch's
    ``c10/util/C++17.h`` (``__GNUC__ < 9``).
    """
    host_config = _first(Path(folder) / "crt" / "host_config.h" for folder in include_folders)
    newest_gcc = re.search(r"#\s*if\s+__GNUC__\s*>\s*(\d+)", host_config)
    # Not the bound of NVIDIA's own clang, which stands before it and is written with ">".
    newest_clang = re.search(r"\(\s*__clang_major__\s*>=\s*(\d+)\s*\)", host_config)
    torch = _first([Path(torch_folder) / "include" / "c10" / "util" / "C++17.h"] if torch_folder else [])
    oldest_gcc = re.search(r"__GNUC__\s*<\s*(\d+)", torch)
    oldest_clang = re.search(r"__clang_major__\s*<\s*(\d+)", torch)
    return Bounds(
        gcc=(_int(oldest_gcc), _int(newest_gcc)),
        clang=(_int(oldest_clang), max(0, _int(newest_clang) - 1)),
    )


def _first(paths: Iterable[Path]) -> str:
    for path in paths:
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
    return ""


def _int(found: re.Match[str] | None) -> int:
    return int(found.group(1)) if found else 0


def check_host_compiler(
    env: Mapping[str, str] | None = None, *, bounds: Bounds | None = None, nvcc: str = ""
) -> tuple[Check, ...]:
    """Say for the compiler, and for nvcc's if it is another one, whether it is accepted.

    ``bounds`` are those of :func:`read_bounds`, ``nvcc`` what to call the toolkit (``"nvcc 13.0"``); both
    are left out for a pin without CUDA.
    """
    environment = os.environ if env is None else env
    try:
        # Without CUDA there is C to compile, and a machine may well have no C++ compiler.
        own = find_host_compiler(environment) if nvcc else find_c_compiler(environment)
        for_nvcc = find_nvcc_host_compiler(environment) if nvcc else own
    except ToolchainError as error:
        return (Check(name="host compiler", status="failure", found=error.message, fix=error.hint),)
    limits = bounds or Bounds()
    # c++ and gcc are two programs of one compiler.
    same = (own.kind, own.version) == (for_nvcc.kind, for_nvcc.version)
    checks = [_accepted("host compiler", own, limits, nvcc, environment, nvcc_uses_it=same and bool(nvcc))]
    if not same:
        checks.append(
            _accepted("host compiler of nvcc", for_nvcc, limits, nvcc, environment, nvcc_uses_it=True)
        )
    return tuple(checks)


def _accepted(
    name: str, compiler: Compiler, bounds: Bounds, nvcc: str, env: Mapping[str, str], *, nvcc_uses_it: bool
) -> Check:
    oldest, newest = bounds.of(compiler.kind)
    by = f" (named by {compiler.named_by})" if compiler.named_by else ""
    found = f"{compiler.kind} {compiler.version} at {compiler.path}{by}"
    flags = env.get("NVCC_PREPEND_FLAGS", "") + " " + env.get("NVCC_APPEND_FLAGS", "")
    if oldest and compiler.major < oldest:
        return Check(
            name=name,
            status="failure",
            found=f"{found}, and torch's headers need {compiler.kind} {oldest} or newer",
            fix=f"Install a newer {compiler.kind} and set CC and CXX to it.",
        )
    if nvcc_uses_it and newest and compiler.major > newest:
        unchecked = _UNCHECKED in flags.split()
        return Check(
            name=name,
            status="warning" if unchecked else "failure",
            found=f"{found}, and {nvcc} accepts {compiler.kind} up to {newest}",
            fix=_older(compiler.kind, newest, env),
            sources=(_SUPPORTED, _NVCC_VARIABLES),
        )
    if newest:
        found += f"; {nvcc} accepts up to {newest}"
    return Check(name=name, status="ok", found=found)


def _older(kind: str, newest: int, env: Mapping[str, str]) -> str:
    """Say what to set; a compiler that is there already is named."""
    c, cxx = ("clang", "clang++") if kind == "clang" else ("gcc", "g++")
    there = next((n for n in range(newest, 4, -1) if find_program(f"{cxx}-{n}", env)), 0)
    start = "" if there else f"Install {cxx}-{newest} or older. "
    number = there or newest
    return (
        f"{start}Set CC={c}-{number} CXX={cxx}-{number} (torch hands CC to nvcc), "
        f"or NVCC_PREPEND_FLAGS='-ccbin {cxx}-{number}'."
    )
