"""A stub of the driver library: what an extension is linked with on a machine that has no driver.

It has the driver's SONAME, so that the extension asks for ``libcuda.so.1`` when it is loaded, and it defines
every function of the driver's interface. An empty one would link as well, but ``--as-needed`` drops a library
that provides nothing, and the extension then dies on the GPU machine with ``undefined symbol``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from sagefix.errors import ProcessError, ToolchainError
from sagefix.files import aside, disk_errors, sha256_bytes
from sagefix.process import run
from sagefix.targets.compilers import Compiler
from sagefix.targets.kept import shelf
from sagefix.targets.linking import driver_problem, find_library
from sagefix.targets.toolkit import Toolkit

SONAME = "libcuda.so.1"
NAME = "libcuda.so"
_TIMEOUT_S = 120.0
# The driver's interface is declared in these; cuda.h is all of it but for OpenGL, EGL and VDPAU.
_HEADERS = ("cuda.h", "cudaProfiler.h", "cudaGL.h", "cudaEGL.h", "cudaVDPAU.h")
# CUDA_ERROR_STUB_LIBRARY, "the CUDA driver that the application has loaded is a stub library":
# https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html
_STUB_ERROR = 34

_DECLARED = re.compile(r"\bCUDAAPI\s+(cu[A-Z]\w*)\s*\(")
# A name that stands for a later version (cuMemAlloc is cuMemAlloc_v2), or for one of two kinds of default stream
# (__CUDA_API_PTSZ(cuMemcpyAsync) is cuMemcpyAsync_ptsz when CUDA_API_PER_THREAD_DEFAULT_STREAM is set).
_RENAMED = re.compile(
    r"^[ \t]*#[ \t]*define[ \t]+cu[A-Z]\w*[ \t]+(?:__CUDA_API_(PTDS|PTSZ)\((cu[A-Z]\w*)\)|(cu[A-Z]\w*))[ \t]*$",
    re.MULTILINE,
)


def declared_functions(header: str) -> tuple[str, ...]:
    """Return every function that a header of the driver declares, under all names its macros give it."""
    names = set(_DECLARED.findall(header))
    for stream, name, other in _RENAMED.findall(header):
        names.add(name or other)
        if stream:
            names.add(f"{name}_{stream.lower()}")
    return tuple(sorted(names))


def stub_source(names: Iterable[str]) -> str:
    """Return the C source of a stub: every function says that this is no driver."""
    return "".join(f"int {name}(void) {{ return {_STUB_ERROR}; }}\n" for name in names)


def driver_functions(include_folders: Sequence[str | Path]) -> tuple[str, ...]:
    """Return the functions of the driver that a toolkit's headers declare.

    Raises :class:`ToolchainError` when there is no cuda.h, or nothing in it.
    """
    names: set[str] = set()
    for header in _HEADERS:
        for folder in include_folders:
            path = Path(folder) / header
            if path.is_file():
                names.update(declared_functions(path.read_text(encoding="utf-8", errors="replace")))
                break
    if "cuInit" not in names:
        raise ToolchainError(
            f"The driver's functions cannot be read: no cuda.h in {', '.join(map(str, include_folders))}.",
            hint="Install the toolkit's headers (cuda-cudart-dev), or the driver.",
        )
    return tuple(sorted(names))


def make_stub(
    include_folders: Sequence[str | Path],
    output: Path,
    compiler: Compiler,
    env: Mapping[str, str] | None = None,
) -> int:
    """Compile the stub of the driver that a toolkit's headers describe; return how many functions it has.

    ``compiler`` decides the machine it is for. Raises :class:`ToolchainError`.
    """
    names = driver_functions(include_folders)
    _compile(stub_source(names), output, compiler, env)
    if problem := driver_problem(output):
        raise ToolchainError(f"The stub of the driver came out wrong: {problem}.")
    return len(names)


def with_driver(toolkit: Toolkit, compiler: Compiler, env: Mapping[str, str] | None = None) -> Toolkit:
    """Return the toolkit with a stub of the driver in its ``stub_folders`` if the linker finds no driver.

    The stub stands in the cache, one for each set of functions and compiler. A toolkit without cuda.h comes
    back as it is: what it lacks is said by the check of the libraries.
    """
    environment = os.environ if env is None else env
    found = find_library("cuda", compiler, [*toolkit.lib_folders, *toolkit.stub_folders], environment)
    if found is not None and not driver_problem(found):
        return toolkit
    try:
        source = stub_source(driver_functions(toolkit.include_folders))
    except ToolchainError:
        return toolkit
    key = sha256_bytes(f"{compiler.kind} {compiler.version} {compiler.path}\n{source}".encode())[:16]
    output = shelf("stubs") / key / NAME
    if not output.is_file():
        _compile(source, output, compiler, environment)
    # First: a stub that was found and is wrong must not be found again.
    return msgspec.structs.replace(toolkit, stub_folders=(str(output.parent), *toolkit.stub_folders))


def _compile(source: str, output: Path, compiler: Compiler, env: Mapping[str, str] | None) -> None:
    with disk_errors(output, "write the stub of the driver"), aside(output) as temporary:
        code = temporary.with_suffix(".c")
        code.write_text(source, encoding="ascii")
        command = [
            *compiler.command, "-x", "c", "-w", "-O1", "-fPIC", "-shared", "-nostdlib",
            f"-Wl,-soname,{SONAME}", "-Wl,--build-id=none", "-Wl,-s", "-o", str(temporary), str(code),
        ]  # fmt: skip
        try:
            run(command, env=env, timeout=_TIMEOUT_S)
        except ProcessError as error:
            raise ToolchainError(
                f"The stub of the driver does not compile: {error.message}",
                hint="`sagefix doctor` checks the host compiler.",
                details=error.details,
            ) from error
        finally:
            code.unlink(missing_ok=True)
