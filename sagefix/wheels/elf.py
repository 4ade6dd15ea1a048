"""What the ELF files of a wheel say: whom they need, what they expect, for which GPUs they hold code."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from packaging.version import Version

from sagefix.errors import WheelError
from sagefix.wheels.fatbin import code_archs, toolkit_release
from sagefix.wheels.model import Extension
from sagefix.wheels.zips import open_zip

_LIBRARY = re.compile(r"\.so(\.\d+)*$")
# The names setuptools and CPython give:
# https://docs.python.org/3/library/importlib.html#importlib.machinery.EXTENSION_SUFFIXES
_MODULE = re.compile(r"(?P<name>[^\W\d]\w*)(?P<tag>\.(cpython-[\w-]+|pypy[\w-]+|graalpy[\w-]+|abi3))?\.so")
_GLIBC = re.compile(r"GLIBC_(\d+\.\d+(?:\.\d+)?)")
# https://gcc.gnu.org/onlinedocs/libstdc++/manual/abi.html
_GLIBCXX = re.compile(r"GLIBCXX_(\d+\.\d+(?:\.\d+)?)")
# https://sourceware.org/glibc/wiki/Release/2.36: the first that understands DT_RELR has this marker instead
# of a number.
_GLIBC_MARKERS = {"GLIBC_ABI_DT_RELR": "2.36"}


def is_library(path: str) -> bool:
    """Tell by its name whether a member of a wheel is a shared library or module (``.so``, ``.so.1``)."""
    return _LIBRARY.search(path) is not None


def module_suffix(path: str) -> str:
    """Return what stands behind a module's name: ``.cpython-312-x86_64-linux-gnu.so``, ``.abi3.so``."""
    name = PurePosixPath(path).name
    return name[name.index(".") :] if "." in name else ""


def read_extensions(wheel: Path) -> tuple[Extension, ...]:
    """Read every shared library and module of a wheel, in order of their paths.

    Raises :class:`WheelError` when the wheel cannot be opened or one of them is no ELF file.
    """
    with open_zip(wheel) as archive:
        names = sorted(filter(is_library, archive.namelist()))
        return tuple(read_extension(archive.read(name), name) for name in names)


def read_extension(data: bytes | IO[bytes], path: str) -> Extension:
    """Read one ELF file; ``path`` is its place inside the wheel (or site-packages), which names the module.

    Raises :class:`WheelError` when it is no shared ELF file or its GPU code is in an unknown form.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        return _read(ELFFile(stream), path)
    except WheelError as error:
        raise WheelError(f"{path}: {error.message}", hint=error.hint) from error
    except (
        ELFError,
        struct.error,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        AssertionError,
    ) as error:
        # pyelftools raises whatever its parsing trips over when a file is damaged behind the header.
        raise WheelError(f"{path} is not a readable ELF file ({error or type(error).__name__}).") from error


def _read(elf: Any, path: str) -> Extension:
    dynamic, symbols = elf.get_section_by_name(".dynamic"), elf.get_section_by_name(".dynsym")
    if dynamic is None or symbols is None:
        raise WheelError("it is an ELF file, but not a shared library.")
    needed, rpath, soname = [], [], ""
    for tag in dynamic.iter_tags():
        if tag.entry.d_tag == "DT_NEEDED":
            needed.append(tag.needed)
        elif tag.entry.d_tag == "DT_SONAME":
            soname = tag.soname
        elif tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
            rpath += (tag.rpath if tag.entry.d_tag == "DT_RPATH" else tag.runpath).split(":")
    undefined, exports = set(), set()
    for symbol in symbols.iter_symbols():
        bind = symbol["st_info"]["bind"]
        if not symbol.name or bind == "STB_LOCAL":
            continue
        if symbol["st_shndx"] != "SHN_UNDEF":
            exports.add(symbol.name)
        elif bind != "STB_WEAK":
            undefined.add(symbol.name)
    section = elf.get_section_by_name(".nv_fatbin")
    code = section.data() if section is not None else b""
    cubins, ptx = code_archs(code)
    return Extension(
        path=path,
        module=_module(path, exports),
        machine=machine_name(elf),
        soname=soname,
        needed=tuple(needed),
        rpath=tuple(rpath),
        undefined=tuple(sorted(undefined)),
        glibc=_glibc(elf),
        glibcxx=_glibcxx(elf),
        cubins=cubins,
        ptx=ptx,
        exports=tuple(sorted(exports)),
        relocated=_relocated(elf, symbols),
        cuda=toolkit_release(code),
    )


def _relocated(elf: Any, symbols: Any) -> tuple[str, ...]:
    """Return the symbols that the loader has to write an address of into this file: those that its code uses."""
    from elftools.elf.relocation import RelocationSection

    used: set[int] = set()
    for section in elf.iter_sections():
        if isinstance(section, RelocationSection) and section["sh_link"]:
            used.update(relocation["r_info_sym"] for relocation in section.iter_relocations())
    return tuple(sorted(name for number in used if number and (name := symbols.get_symbol(number).name)))


def machine_name(elf: Any) -> str:
    """Return the machine of an open ``ELFFile`` as platform tags write it: ``x86_64``, ``aarch64``."""
    return str(elf["e_machine"]).removeprefix("EM_").lower()


def _module(path: str, exports: set[str]) -> str:
    """Return the import name of a module, or empty for a library that only others link to."""
    parts = PurePosixPath(path).parts
    match = _MODULE.fullmatch(parts[-1])
    if match is None or not (match["tag"] or f"PyInit_{match['name']}" in exports):
        return ""
    if len(parts) > 2 and parts[0].endswith(".data"):
        parts = parts[2:]
    return ".".join((*parts[:-1], match["name"]))


def read_sections(data: bytes, names: Iterable[str], path: str) -> dict[str, bytes]:
    """Return the bytes of sections of an ELF file by their names, those that are there; ``path`` is for messages.

    Raises :class:`WheelError` when it cannot be read.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        elf: Any = ELFFile(io.BytesIO(data))
        found = {name: elf.get_section_by_name(name) for name in names}
        return {name: section.data() for name, section in found.items() if section is not None}
    except (ELFError, struct.error, ValueError, KeyError, IndexError, AttributeError) as error:
        raise WheelError(f"{path} is not a readable ELF file ({error or type(error).__name__}).") from error


def _versions(elf: Any) -> list[str]:
    """Return the names of the symbol versions that are asked for: ``GLIBC_2.34``, ``GLIBCXX_3.4.29`` ..."""
    section = elf.get_section_by_name(".gnu.version_r")
    if section is None:
        return []
    return [version.name for _, versions in section.iter_versions() for version in versions]


def _glibcxx(elf: Any) -> str:
    found = [match[1] for name in _versions(elf) if (match := _GLIBCXX.fullmatch(name))]
    return max(found, key=Version, default="")


def _glibc(elf: Any) -> str:
    names = _versions(elf)
    found = [match[1] for name in names if (match := _GLIBC.fullmatch(name))]
    found += [_GLIBC_MARKERS[name] for name in names if name in _GLIBC_MARKERS]
    return max(found, key=Version, default="")


def glibc_floor(extensions: Iterable[Extension]) -> str:
    """Return the lowest glibc that all of them load on (``"2.32"``), or empty when none asks for one."""
    return max((extension.glibc for extension in extensions if extension.glibc), key=Version, default="")


def uses_cxx11_abi(extensions: Iterable[Extension]) -> bool | None:
    """Tell which ``std::string`` they expect from others, or None when no symbol shows it.

    Symbols of the new ABI carry ``__cxx11``; in the old one ``std::string`` is written ``Ss``.
    https://gcc.gnu.org/onlinedocs/libstdc++/manual/using_dual_abi.html
    """
    undefined = [name for extension in extensions for name in extension.undefined]
    if any("__cxx11" in name for name in undefined):
        return True
    return False if any(re.search(r"^_ZN.*3c10.*(?:RKSs|ESs|Ss$)", name) for name in undefined) else None
