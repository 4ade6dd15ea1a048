"""Which GPU code a compiled module holds, read from its ``.nv_fatbin`` section.

The section is a row of containers, each a header and entries, each entry a header and a payload (a cubin, or
PTX text, maybe compressed). The entry's header alone says what it is for, so nothing is decompressed::

    container  u32 magic 0xBA55ED50, u16 version 1, u16 header size, u64 size of all entries
    entry      u16 kind (1 PTX, 2 cubin), u16, u32 header size, u64 payload size (padded),
               u32 compressed size, u32, u16 minor, u16 major, u32 arch (90), u32, u32,
               u64 flags, u64, u64 decompressed size

Layout: https://github.com/n-eiling/cuda-fatbin-decompression (fatbin-decompress.h) and
https://github.com/jiegec/fatbinary (fatbinary.ksy). Neither names the two flags for arch-specific
(``sm_90a``) and family-specific (``sm_100f``) code: those were found by compiling one kernel for 9.0, 9.0a,
10.0f and 10.3a with nvcc 13.0 and comparing with what cuobjdump 13.2 says, and they hold for the CUDA 12 code
of torchao 0.13 (https://pypi.org/project/torchao/0.13.0/), whose files are named for their archs. A cubin's
own ``e_flags`` do not tell in CUDA 13: they are equal for 9.0 and 9.0a. Compression (flag 0x2000 LZ4, 0x8000
zstd) changes no field read here.
"""

from __future__ import annotations

import re
import struct
from typing import Literal

import msgspec

from sagefix.errors import WheelError

MAGIC = 0xBA55ED50
ARCH_SPECIFIC = 1 << 20
"""Flag of code for exactly one arch: the ``a`` of ``sm_90a``."""
FAMILY_SPECIFIC = 1 << 21
"""Flag of code for one family: the ``f`` of ``sm_100f``."""

_CONTAINER = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQIIHHIIIQ")
_KINDS: dict[int, Literal["ptx", "cubin"]] = {1: "ptx", 2: "cubin"}
# A note that ptxas leaves in each cubin (seen from CUDA 12.8 on); only readable where the cubin is not
# compressed.
_TOOLS = re.compile(rb"Cuda compilation tools, release (\d+\.\d+), V")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of GPU code for ``arch`` (``"9.0"``, ``"9.0a"``, ``"10.0f"``); ``other``: neither of ours."""

    kind: Literal["ptx", "cubin", "other"]
    arch: str


def read_fatbin(section: bytes) -> tuple[Entry, ...]:
    """Read every entry of a ``.nv_fatbin`` section.

    Raises :class:`WheelError` when the bytes are no fatbin or end early: GPU code that cannot be named must
    not pass as code that is not there.
    """
    entries: list[Entry] = []
    offset = 0
    while offset < len(section):
        if not any(section[offset : offset + 8]):
            offset += 8  # the linker aligns containers with zeros
            continue
        magic, version, header, size = _unpack(_CONTAINER, section, offset)
        end = offset + header + size
        if magic != MAGIC or version != 1 or header < _CONTAINER.size:
            raise WheelError(
                f"The GPU code is not in a form sagefix knows (magic {magic:#x}, version {version})."
            )
        if end > len(section):
            raise WheelError("The GPU code is cut off: a fatbin is longer than its section.")
        entries += _read_entries(section, offset + header, end)
        offset = end
    return tuple(entries)


def _read_entries(section: bytes, offset: int, end: int) -> list[Entry]:
    entries = []
    while offset < end:
        kind, _, header, size, _, _, _, _, number, _, _, flags = _unpack(_ENTRY, section, offset)
        if header < _ENTRY.size or offset + header + size > end:
            raise WheelError("The GPU code is cut off: an entry is longer than its fatbin.")
        suffix = "a" if flags & ARCH_SPECIFIC else "f" if flags & FAMILY_SPECIFIC else ""
        entries.append(Entry(kind=_KINDS.get(kind, "other"), arch=f"{number // 10}.{number % 10}{suffix}"))
        offset += header + size
    return entries


def _unpack(form: struct.Struct, data: bytes, offset: int) -> tuple[int, ...]:
    try:
        return form.unpack_from(data, offset)
    except struct.error as error:
        raise WheelError("The GPU code is cut off in the middle of a header.") from error


def arch_order(arch: str) -> tuple[int, int, str]:
    """Sort key of archs with suffix: by number, then ``""`` before ``"a"`` before ``"f"``."""
    number = arch.rstrip("af")
    major, minor = number.split(".")
    return int(major), int(minor), arch.removeprefix(number)


def code_archs(section: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the archs of cubins and those of PTX in a section, each sorted and once."""
    entries = read_fatbin(section)
    cubins, ptx = ({entry.arch for entry in entries if entry.kind == kind} for kind in ("cubin", "ptx"))
    return tuple(sorted(cubins, key=arch_order)), tuple(sorted(ptx, key=arch_order))


def toolkit_release(section: bytes) -> str:
    """Return the CUDA release that made the cubins (``"13.0"``); empty when they do not tell or differ."""
    found = {match.decode() for match in _TOOLS.findall(section)}
    return found.pop() if len(found) == 1 else ""
