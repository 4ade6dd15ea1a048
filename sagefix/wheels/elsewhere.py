"""What a wheel for another platform would be found out for there: nothing of it runs here, so its files are read.

Beside the checks of any wheel (:mod:`~sagefix.wheels.checking`): every library in NEEDED is one of the platform's, the
Python interface is that of this version, the symbol versions are those of the platform's C and C++ libraries, and the
GPU code is that of the native build.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from packaging.version import Version

from sagefix.checks import Check
from sagefix.errors import WheelError
from sagefix.wheels.elf import glibc_floor, is_library, read_extensions, read_sections
from sagefix.wheels.libraries import Library, LibraryFinder
from sagefix.wheels.model import Extension
from sagefix.wheels.symbols import is_python, of_the_driver
from sagefix.wheels.zips import open_zip, some

CODE = (".nv_fatbin", "__nv_relfatbin")
"""The sections that hold GPU code: https://docs.nvidia.com/cuda/cuda-binary-utilities/"""
_LIBPYTHON = re.compile(r"libpython[\d.]+[a-z]*\.so")


class System(msgspec.Struct, frozen=True, kw_only=True):
    """The system that a wheel is for, as far as it is described.

    ``machine`` like ``aarch64``; ``libraries`` are folders of that machine's libraries, ``glibc`` and ``glibcxx`` the
    versions of its C and C++ libraries (``"2.35"``, ``"3.4.30"``; empty: not known). ``python`` is a Python of the
    same version that is here, for another machine.
    """

    name: str
    machine: str
    libraries: tuple[Path, ...]
    glibc: str
    glibcxx: str
    python: Path
    python_machine: str


def check_for(wheel: Path, system: System) -> tuple[Check, ...]:
    """Check a wheel against a system that is not here; never raises for what is wrong with the wheel."""
    try:
        found = read_extensions(wheel)
    except WheelError as error:
        return (Check(name="libraries", status="failure", found=error.message, fix=error.hint),)
    return (check_needed(found, system), check_python_api(found, system), check_floor(found, system))


def check_needed(found: Sequence[Extension], system: System) -> Check:
    """Every library in NEEDED is one of the platform's; libpython is none, as not every Python has it."""
    problems, names = [], set()
    with LibraryFinder(system.machine, system.libraries) as finder:
        siblings = {Path(each.path).name for each in found} | {each.soname for each in found if each.soname}
        for extension in found:
            for name in extension.needed:
                if _LIBPYTHON.match(name):
                    problems.append(f"{extension.path} needs {name}, which a Python may not have")
                elif name not in siblings and not of_the_driver(name) and finder.find(name) is None:
                    problems.append(
                        f"{extension.path} needs {name}, which is not among those of {system.name}"
                    )
                names.add(name)
    if problems:
        return Check(
            name="libraries",
            status="failure",
            found=some(problems, 5),
            fix="The log says what was linked; the linker must find the libraries of that machine alone.",
        )
    told = f"{', '.join(sorted(names))}: all of {system.name}" if names else "none is needed"
    return Check(name="libraries", status="ok", found=told)


def check_python_api(found: Sequence[Extension], system: System) -> Check:
    """Every function of Python that the extensions call is in Pythons of this version.

    The one that is here is asked: what an interpreter exports depends on its version, not on the machine.
    """
    wanted = sorted({name for extension in found for name in extension.undefined if is_python(name)})
    name = "Python interface"
    with LibraryFinder(system.python_machine, ()) as finder:
        here = finder.open(Path(os.path.realpath(system.python)))
        libraries = [here, *_libpython(finder, here)] if here is not None else []
        missing = [symbol for symbol in wanted if not any(each.defines(symbol) for each in libraries)]
        if not libraries or len(missing) == len(wanted) > 0:
            return Check(name=name, status="skipped", found=f"{system.python} does not tell what it exports")
    if missing:
        return Check(
            name=name,
            status="failure",
            found=f"this version of Python has no {some(missing)}",
            fix="The headers are of another Python: look at the -I flags in the log.",
        )
    return Check(name=name, status="ok", found=f"{len(wanted)} functions, all in {system.python}")


def _libpython(finder: LibraryFinder, python: Library) -> list[Library]:
    names = [name for name in python.needed if _LIBPYTHON.match(name)]
    return [found for name in names if (found := finder.find(name, asked_by=python)) is not None]


def check_floor(found: Sequence[Extension], system: System) -> Check:
    """The symbol versions that are asked for exist in the platform's C and C++ libraries."""
    asked = {
        "glibc": (glibc_floor(found), system.glibc),
        "libstdc++": (max((e.glibcxx for e in found if e.glibcxx), key=Version, default=""), system.glibcxx),
    }
    problems = [
        f"{what} {floor} is needed, and {system.name} is taken to have {there}"
        for what, (floor, there) in asked.items()
        if floor and there and Version(floor) > Version(there)
    ]
    if problems:
        return Check(
            name="symbol versions",
            status="failure",
            found="; ".join(problems),
            fix="Use an older cross compiler, or say that the machine is newer: --platform manylinux_2_39_"
            f"{system.machine}.",
        )
    told = [
        f"{what} {floor} is needed, {there or 'an unknown version'} is there"
        for what, (floor, there) in asked.items()
        if floor
    ]
    return Check(name="symbol versions", status="ok", found="; ".join(told) or "none is asked for")


def check_gpu_code(wheel: Path, native: Path | None, why: str = "") -> Check:
    """The GPU code is byte for byte that of the native build of the same: the CPU's machine has no part in it.

    ``native`` is that wheel, None where none is at hand (``why``).
    """
    name = "GPU code against the native build's"
    if native is None:
        return Check(name=name, status="skipped", found=why or "no native build at hand")
    try:
        mine, other = _code_of(wheel), _code_of(native)
    except WheelError as error:
        return Check(name=name, status="failure", found=error.message, fix=error.hint)
    if not mine and not other:
        return Check(name=name, status="ok", found=f"none, as in {native.name}")
    problems = [
        f"{module} {section}: " + _difference(mine.get((module, section)), other.get((module, section)))
        for module, section in sorted({*mine, *other})
        if mine.get((module, section)) != other.get((module, section))
    ]
    if problems:
        return Check(
            name=name,
            status="failure",
            found=f"not that of {native.name}: {some(problems, 5)}",
            fix="Build both again with the same nvcc; `sagefix rebuild` says whether a build can be repeated.",
        )
    size = sum(map(len, mine.values()))
    return Check(
        name=name, status="ok", found=f"{len(mine)} sections, {size} bytes, equal to those of {native.name}"
    )


def _code_of(wheel: Path) -> Mapping[tuple[str, str], bytes]:
    """Return the sections with GPU code, by the name of the module without its suffix, and their own."""
    found: dict[tuple[str, str], bytes] = {}
    with open_zip(wheel) as archive:
        for member in filter(is_library, archive.namelist()):
            module = member.partition(".")[0]
            sections = read_sections(archive.read(member), CODE, member)
            found |= {(module, name): data for name, data in sections.items()}
    return found


def _difference(mine: bytes | None, other: bytes | None) -> str:
    if mine is None or other is None:
        return "only in the native build" if mine is None else "not in the native build"
    if len(mine) != len(other):
        return f"{len(mine)} bytes, {len(other)} in the native build"
    return f"{sum(a != b for a, b in zip(mine, other, strict=True))} of {len(mine)} bytes differ"
