"""Two wheels that ought to be the same, and where they are not: file, section of an ELF file, first differing text."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import msgspec

from sagefix.files import sha256_file
from sagefix.wheels.elf import is_library
from sagefix.wheels.zips import open_zip, safe_members

_SHOWN = 3
# In others, machine code among them, what looks like text is none.
_WITH_TEXT = (".rodata", ".data", ".dynstr", ".strtab", ".debug_", ".comment", ".nv_fatbin", ".note")
# A hash of all the others: it says nothing by itself.
_BUILD_ID = ".note.gnu.build-id"
_LONGEST = 160
_TEXT = re.compile(rb"[\x20-\x7e]{6,}")
# nvcc writes a number made from the source's absolute path into internal names; see building/reproducible.py.
_MODULE_ID = re.compile(rb"(_INTERNAL_|_GLOBAL__N__|__nv_static_\d+__)[0-9a-f]{8}_")


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A section of an ELF file that differs.

    ``sizes`` are in bytes (-1: not there), ``offset`` is the first byte that differs, ``strings`` are the first
    texts that stand at one place in only one of the two: ``(first, second)``. ``only_module_ids``: but for the
    numbers that nvcc makes from the path of the source it is the same.
    """

    name: str
    sizes: tuple[int, int]
    offset: int
    strings: tuple[tuple[str, str], ...] = ()
    only_module_ids: bool = False


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A file that differs. ``lines`` are the first differing lines of a text: ``(number, first, second)``."""

    path: str
    kind: Literal["only in the first", "only in the second", "content", "entry"]
    found: str
    sections: tuple[Section, ...] = ()
    lines: tuple[tuple[int, str, str], ...] = ()


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What two wheels have in common.

    ``identical`` is about every byte of both files. ``same_code``: all that is imported is equal, and only files of
    ``.dist-info`` or the archive's own fields differ. ``sha256`` are those of the two files.
    """

    names: tuple[str, str]
    sha256: tuple[str, str]
    sizes: tuple[int, int]
    identical: bool
    same_code: bool
    files: int
    members: tuple[Member, ...] = ()


def compare_wheels(first: Path, second: Path) -> Comparison:
    """Compare two wheels, whatever they are called.

    Raises :class:`~sagefix.errors.WheelError` when one cannot be opened.
    """
    digests = sha256_file(first), sha256_file(second)
    sizes = first.stat().st_size, second.stat().st_size
    with open_zip(first) as one, open_zip(second) as two:
        names = [*dict.fromkeys((*safe_members(one, first.name), *safe_members(two, second.name)))]
        members: tuple[Member, ...] = ()
        if digests[0] != digests[1]:
            members = _without_record(_members(one, two, names))
    return Comparison(
        names=(first.name, second.name),
        sha256=digests,
        sizes=sizes,
        identical=digests[0] == digests[1],
        same_code=all(member.kind == "entry" or ".dist-info/" in member.path for member in members),
        files=len(names),
        members=members,
    )


def _members(one: zipfile.ZipFile, two: zipfile.ZipFile, names: Sequence[str]) -> Iterable[Member]:
    there = set(one.namelist()), set(two.namelist())
    for name in sorted(names):
        if name not in there[1]:
            yield Member(path=name, kind="only in the first", found=f"{one.getinfo(name).file_size} bytes")
        elif name not in there[0]:
            yield Member(path=name, kind="only in the second", found=f"{two.getinfo(name).file_size} bytes")
        else:
            data = one.read(name), two.read(name)
            if data[0] != data[1]:
                yield _content(name, *data)
            elif entry := _entry(one.getinfo(name), two.getinfo(name)):
                yield Member(path=name, kind="entry", found=entry)
    order = [name for name in one.namelist() if name in there[1]]
    if order != [name for name in two.namelist() if name in there[0]]:
        yield Member(path="", kind="entry", found="the files stand in another order in the archive")


def _without_record(members: Iterable[Member]) -> tuple[Member, ...]:
    """Leave RECORD out when other files differ: their hashes stand in it."""
    found = tuple(members)
    others = tuple(member for member in found if not member.path.endswith(".dist-info/RECORD"))
    return others if any(member.kind != "entry" for member in others) else found


def _entry(one: zipfile.ZipInfo, two: zipfile.ZipInfo) -> str:
    fields = {
        "time": (one.date_time, two.date_time),
        "mode": (oct(one.external_attr >> 16), oct(two.external_attr >> 16)),
        "compression": (one.compress_type, two.compress_type),
        "compressed size": (one.compress_size, two.compress_size),
        "system": (one.create_system, two.create_system),
    }
    return "; ".join(f"{name} {a} and {b}" for name, (a, b) in fields.items() if a != b)


def _content(name: str, one: bytes, two: bytes) -> Member:
    sizes = f"{len(one)} and {len(two)} bytes"
    if is_library(name) and (sections := _sections(one, two)):
        if all(section.only_module_ids for section in sections if section.name != _BUILD_ID):
            found = f"{sizes}; the same but for the numbers nvcc makes from the path of the source"
        else:
            found = f"{sizes}; sections {', '.join(section.name for section in sections)}"
        return Member(path=name, kind="content", found=found, sections=sections)
    try:
        texts = one.decode(), two.decode()
    except UnicodeDecodeError:
        return Member(path=name, kind="content", found=f"{sizes}, first at {_first_difference(one, two)}")
    return Member(path=name, kind="content", found=sizes, lines=_lines(*texts))


def _lines(one: str, two: str) -> tuple[tuple[int, str, str], ...]:
    """Return the lines that one of two texts has and the other has not, side by side."""
    lines = one.splitlines(), two.splitlines()
    only = [
        [(number, line) for number, line in enumerate(mine, 1) if line not in set(other)]
        for mine, other in (lines, lines[::-1])
    ]
    if not any(only):
        pairs = enumerate(zip_longest(*lines, fillvalue=""), 1)
        return tuple((number, _cut(a), _cut(b)) for number, (a, b) in pairs if a != b)[:_SHOWN]
    found = [
        (left[0] or right[0], _cut(left[1]), _cut(right[1]))
        for left, right in zip_longest(*only, fillvalue=(0, ""))
    ]
    return tuple(found[:_SHOWN])


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _sections(one: bytes, two: bytes) -> tuple[Section, ...]:
    """Return the sections that differ; empty when one of the files is no readable ELF file."""
    from elftools.common.exceptions import ELFError

    try:
        tables = _section_table(one), _section_table(two)
    except (ELFError, struct.error, ValueError, KeyError, IndexError, AttributeError):
        return ()
    found = []
    for name in dict.fromkeys((*tables[0], *tables[1])):
        a, b = (table.get(name) for table in tables)
        if a != b:
            found.append(_section(name, a, b))
    return tuple(found)


def _section_table(data: bytes) -> Mapping[str, bytes]:
    from elftools.elf.elffile import ELFFile

    elf: Any = ELFFile(io.BytesIO(data))
    return {section.name: section.data() for section in elf.iter_sections() if section.name}


def _section(name: str, one: bytes | None, two: bytes | None) -> Section:
    if one is None or two is None:
        return Section(name=name, sizes=(_size(one), _size(two)), offset=0)
    masked = [_MODULE_ID.sub(rb"\g<1>________", data) for data in (one, two)]
    return Section(
        name=name,
        sizes=(len(one), len(two)),
        offset=_first_difference(one, two),
        strings=_strings(one, two) if name.startswith(_WITH_TEXT) else (),
        only_module_ids=masked[0] == masked[1],
    )


def _size(data: bytes | None) -> int:
    return -1 if data is None else len(data)


def _first_difference(one: bytes, two: bytes) -> int:
    """Return the offset of the first byte that differs; blocks are compared first, files have megabytes."""
    block = 1 << 16
    for start in range(0, max(len(one), len(two)), block):
        a, b = one[start : start + block], two[start : start + block]
        if a != b:
            return start + next(
                (at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
            )
    return 0


def _strings(one: bytes, two: bytes) -> tuple[tuple[str, str], ...]:
    """Return the first texts that one section has and the other has not, side by side."""
    texts = [list(dict.fromkeys(match.decode() for match in _TEXT.findall(data))) for data in (one, two)]
    only = [
        [text for text in mine if text not in others]
        for mine, others in ((texts[0], set(texts[1])), (texts[1], set(texts[0])))
    ]
    return tuple((_cut(a), _cut(b)) for a, b in zip_longest(*only, fillvalue=""))[:_SHOWN]
