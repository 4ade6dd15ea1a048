"""The whole-wheel rule: every symbol an extension expects is provided by a library it names.

The dynamic loader looks a symbol up in the main program, in the extension, and in its NEEDED libraries and
theirs, breadth first (https://man7.org/linux/man-pages/man3/dlopen.3.html). What happens to be loaded by
somebody else does not count, because Python loads modules with ``RTLD_LOCAL``. An extension that fails this
rule builds, packs and installs, and fails at import: an empty driver stub at link time, say, is dropped from
NEEDED by ``--as-needed``, and ``cuTensorMapEncodeTiled`` is left without a provider.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import msgspec

from sagefix.wheels.libraries import Library, LibraryFinder
from sagefix.wheels.model import Extension

_PYTHON = re.compile(r"_?Py[A-Z_]\w*")
"""The Python C API, which the interpreter itself exports: https://docs.python.org/3/c-api/stable.html."""

_NAMES_OF_ABSENT = {
    # https://docs.nvidia.com/cuda/cuda-driver-api/: part of the driver, absent where there is no GPU.
    re.compile(r"libcuda\.so\.1"): re.compile(r"cu[A-Z]\w*"),
    # https://docs.nvidia.com/deploy/nvml-api/: comes with the driver, too.
    re.compile(r"libnvidia-ml\.so\.1"): re.compile(r"nvml[A-Z]\w*"),
}
"""Libraries that a machine may lack although the wheel is right, and what their symbols are called."""


def is_python(symbol: str) -> bool:
    """Tell whether a symbol is the interpreter's by its name."""
    return _PYTHON.fullmatch(symbol) is not None


def of_the_driver(library: str) -> bool:
    """Tell whether a library comes with NVIDIA's driver, and with no package."""
    return any(pattern.fullmatch(library) for pattern in _NAMES_OF_ABSENT)


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """Where the loader would find the symbols of one extension.

    ``missing`` symbols have no provider: the import will fail. ``assumed`` ones (symbol, library) belong by
    their name to a library that is in NEEDED but not on this machine. ``absent`` are the libraries in NEEDED,
    its own or others', that are not on this machine.
    """

    path: str
    missing: tuple[str, ...]
    assumed: tuple[tuple[str, str], ...]
    absent: tuple[str, ...]


def unprovided(
    extensions: Sequence[Extension], libraries: Sequence[Path], *, interpreter_exports: bool = True
) -> tuple[Resolution, ...]:
    """Resolve the undefined symbols of each extension as the dynamic loader would, without loading anything.

    ``libraries`` are folders to search before the system's own
    (:func:`~sagefix.targets.linking.library_folders`). ``interpreter_exports``: the main program provides
    the Python C API, which holds for every Python that loads modules. An extension of the same wheel counts
    where NEEDED names it, as for the loader. Weak symbols may stay undefined and were left out when the
    extensions were read.
    """
    with ExitStack() as stack:
        finders: dict[str, LibraryFinder] = {}
        for machine in {extension.machine for extension in extensions}:
            finders[machine] = stack.enter_context(LibraryFinder(machine, tuple(libraries)))
        siblings = {PurePosixPath(extension.path).name: extension for extension in extensions}
        siblings |= {extension.soname: extension for extension in extensions if extension.soname}
        return tuple(
            _resolve(extension, finders[extension.machine], siblings, interpreter_exports)
            for extension in extensions
        )


def _resolve(
    extension: Extension, finder: LibraryFinder, siblings: dict[str, Extension], interpreter_exports: bool
) -> Resolution:
    open_symbols = set(extension.undefined)
    if interpreter_exports:
        open_symbols = {symbol for symbol in open_symbols if not is_python(symbol)}
    absent: list[str] = []
    seen: set[str] = set()
    queue: deque[tuple[str, Library | None]] = deque((name, None) for name in extension.needed)
    while queue and open_symbols:
        name, asked_by = queue.popleft()
        if name in seen:
            continue
        seen.add(name)
        if name in siblings:
            sibling = siblings[name]
            open_symbols -= set(sibling.exports)
            queue.extend((needed, None) for needed in sibling.needed)
            continue
        library = finder.find(name, asked_by=asked_by)
        if library is None:
            absent.append(name)
            continue
        open_symbols = {symbol for symbol in open_symbols if not library.defines(symbol)}
        queue.extend((needed, library) for needed in library.needed)
    assumed = {symbol: name for symbol in open_symbols for name in absent if _fits(symbol, name)}
    return Resolution(
        path=extension.path,
        missing=tuple(sorted(open_symbols - set(assumed))),
        assumed=tuple(sorted(assumed.items())),
        absent=tuple(absent),
    )


def _fits(symbol: str, library: str) -> bool:
    return any(
        pattern.fullmatch(library) and names.fullmatch(symbol) for pattern, names in _NAMES_OF_ABSENT.items()
    )
