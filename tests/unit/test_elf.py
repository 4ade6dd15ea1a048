"""What ELF files and the GPU code inside them say, on bytes made here and on a real module of this Python."""

from __future__ import annotations

import contextlib
import platform
import struct
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagefix.archs import Arch
from sagefix.errors import WheelError
from sagefix.wheels.checking import code_problems, platform_problems
from sagefix.wheels.elf import glibc_floor, is_library, module_suffix, read_extension, uses_cxx11_abi
from sagefix.wheels.fatbin import Entry, code_archs, read_fatbin, toolkit_release
from sagefix.wheels.model import Extension

PTX, CUBIN, LTO = 1, 2, 8
SPECIFIC, FAMILY, ZSTD, LZ4 = 1 << 20, 1 << 21, 0x8000, 0x2000


def entry(kind: int, arch: int, flags: int = 0, *, payload: bytes = b"code", header: int = 64) -> bytes:
    padded = payload + bytes(-len(payload) % 8)
    head = struct.pack(
        "<HHIQIIHHIIIQQQ", kind, 0x101, header, len(padded), 0, 0, 8, 1, arch, 0, 0, flags | 0x11, 0, 0
    )
    return head + bytes(header - len(head)) + padded


def container(*entries: bytes, magic: int = 0xBA55ED50, version: int = 1) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", magic, version, 16, len(body)) + body


def extension(**changes: object) -> Extension:
    made = Extension(
        path="tiny/_c.cpython-312-x86_64-linux-gnu.so",
        module="tiny._c",
        machine="x86_64",
        soname="",
        needed=(),
        rpath=(),
        undefined=(),
        glibc="2.17",
        cubins=(),
        ptx=(),
    )
    return msgspec.structs.replace(made, **changes)


def test_entries_of_several_containers() -> None:
    section = (
        container(entry(CUBIN, 90, SPECIFIC), entry(PTX, 80, ZSTD, header=80), entry(CUBIN, 80, LZ4))
        + bytes(24)
        + container(entry(CUBIN, 120, header=112), entry(CUBIN, 100, FAMILY), entry(LTO, 90))
        + bytes(8)
    )
    assert read_fatbin(section) == (
        Entry(kind="cubin", arch="9.0a"),
        Entry(kind="ptx", arch="8.0"),
        Entry(kind="cubin", arch="8.0"),
        Entry(kind="cubin", arch="12.0"),
        Entry(kind="cubin", arch="10.0f"),
        Entry(kind="other", arch="9.0"),
    )
    assert code_archs(section) == (("8.0", "9.0a", "10.0f", "12.0"), ("8.0",))


def test_plain_and_specific_code_are_told_apart() -> None:
    both = container(entry(CUBIN, 90), entry(CUBIN, 90, SPECIFIC), entry(CUBIN, 90, SPECIFIC))
    assert code_archs(both) == (("9.0", "9.0a"), ())


def test_no_code_at_all() -> None:
    assert code_archs(b"") == ((), ())
    assert code_archs(bytes(16)) == ((), ())
    assert code_archs(container()) == ((), ())


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (container(magic=0x1EE55A01), "not in a form sagefix knows"),
        (container(version=2), "version 2"),
        (container(entry(CUBIN, 90))[:-8], "a fatbin is longer than its section"),
        (container(entry(CUBIN, 90)[:-8]), "an entry is longer than its fatbin"),
        (container(entry(CUBIN, 90)[:20]), "in the middle of a header"),
        (b"\x50\xed\x55\xba", "in the middle of a header"),
    ],
)
def test_code_in_an_unknown_form_is_refused(section: bytes, message: str) -> None:
    with pytest.raises(WheelError, match=message):
        read_fatbin(section)


@given(st.binary(max_size=200))
def test_any_bytes_give_an_answer_or_a_refusal(data: bytes) -> None:
    for section in (data, container(data), container(entry(CUBIN, 90)) + data):
        with contextlib.suppress(WheelError):
            read_fatbin(section)


def test_the_toolkit_is_noted_in_cubins() -> None:
    note = b"Cuda compilation tools, release 13.0, V13.0.88\0"
    assert (
        toolkit_release(container(entry(CUBIN, 90, payload=note), entry(CUBIN, 80, payload=note))) == "13.0"
    )
    other = note.replace(b"13.0", b"12.8")
    assert toolkit_release(container(entry(CUBIN, 90, payload=note), entry(CUBIN, 80, payload=other))) == ""
    assert toolkit_release(container(entry(CUBIN, 90))) == ""


@pytest.mark.parametrize(
    ("path", "library", "suffix"),
    [
        ("a/_b.cpython-312-x86_64-linux-gnu.so", True, ".cpython-312-x86_64-linux-gnu.so"),
        ("a/_b.abi3.so", True, ".abi3.so"),
        ("a.libs/libx-1234.so.1.2", True, ".so.1.2"),
        ("a/solver.py", False, ".py"),
        ("a/so", False, ""),
        ("a/x.so.txt", False, ".so.txt"),
    ],
)
def test_what_is_a_library(path: str, library: bool, suffix: str) -> None:
    assert is_library(path) is library
    assert module_suffix(path) == suffix


@pytest.mark.skipif(sys.platform != "linux", reason="reads an ELF file")
def test_a_real_module_of_this_python() -> None:
    import msgspec._core

    file = Path(str(msgspec._core.__file__))
    name = f"msgspec/{file.name}"
    read = read_extension(file.read_bytes(), name)
    assert read.module == "msgspec._core"
    assert read.machine == platform.machine()
    assert "libc.so.6" in read.needed
    assert "PyInit__core" in read.exports
    assert "PyLong_FromLong" in read.undefined or "PyLong_FromLongLong" in read.undefined
    assert (read.cubins, read.ptx, read.cuda) == ((), (), "")
    with file.open("rb") as stream:
        assert read_extension(stream, name) == read
    moved = read_extension(file.read_bytes(), f"msgspec-1.data/platlib/{name}")
    assert moved.module == "msgspec._core"


@pytest.mark.skipif(sys.platform != "linux", reason="reads an ELF file")
def test_damaged_elf_files() -> None:
    import msgspec._core

    data = Path(str(msgspec._core.__file__)).read_bytes()
    for broken in (b"", b"not an ELF file", data[:16], data[:1000], data[: len(data) // 2]):
        with pytest.raises(WheelError, match=r"a/b\.so"):
            read_extension(broken, "a/b.so")


def test_the_glibc_floor_is_compared_as_numbers() -> None:
    assert glibc_floor([extension(glibc="2.9"), extension(glibc="2.32"), extension(glibc="")]) == "2.32"
    assert glibc_floor([]) == ""


def test_the_string_abi_shows_in_symbols() -> None:
    new = "_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
    old = "_ZN3c106detail14torchCheckFailEPKcS2_jRKSs"
    assert uses_cxx11_abi([extension(undefined=(new,))]) is True
    assert uses_cxx11_abi([extension(undefined=(old,))]) is False
    assert uses_cxx11_abi([extension(undefined=("malloc",))]) is None


HOPPER = {"9.0": "90a", "8.0": "80"}


@pytest.mark.parametrize(
    ("cubins", "ptx", "archs", "problems"),
    [
        (("9.0a",), (), (Arch(9, 0),), []),
        (("8.0", "9.0a"), ("8.0",), (Arch(8, 0, True), Arch(9, 0)), []),
        ((), (), (), []),
        ((), (), (Arch(9, 0),), ["holds no code for 9.0a"]),
        (("9.0",), (), (Arch(9, 0),), ["holds no code for 9.0a", "holds code nobody asked for: 9.0"]),
        (("8.0", "9.0a"), (), (Arch(9, 0),), ["holds code nobody asked for: 8.0"]),
        (("9.0a",), ("9.0a",), (Arch(9, 0),), ["holds PTX nobody asked for: 9.0"]),
        (("8.0",), (), (Arch(8, 0, True),), ["holds no PTX for 8.0"]),
        (("12.0a",), (), (Arch(12, 0),), []),
        (("8.6",), (), (), ["holds code nobody asked for: 8.6"]),
    ],
)
def test_gpu_code_is_what_was_asked_for(
    cubins: tuple[str, ...], ptx: tuple[str, ...], archs: tuple[Arch, ...], problems: list[str]
) -> None:
    found = code_problems(extension(cubins=cubins, ptx=ptx), archs, HOPPER)
    assert found == [f"tiny._c {problem}" for problem in problems]


def test_tag_suffix_and_machine_have_to_fit() -> None:
    def problems(tag: str, **changes: object) -> list[str]:
        suffix = ".cpython-312-x86_64-linux-gnu.so"
        return platform_problems([extension(**changes)], tag, machine="x86_64", ext_suffix=suffix)

    assert problems("linux_x86_64") == []
    assert problems("manylinux_2_28_x86_64.linux_x86_64", path="tiny/_c.abi3.so") == []
    assert problems("any") == ["the tag any does not fit code for x86_64"]
    assert problems("linux_x86_64", machine="aarch64") == [
        "tiny/_c.cpython-312-x86_64-linux-gnu.so is code for aarch64, not x86_64"
    ]
    (wrong_python,) = problems("linux_x86_64", path="tiny/_c.cpython-311-x86_64-linux-gnu.so")
    assert "is for a Python whose modules end in .cpython-311-x86_64-linux-gnu.so" in wrong_python
    assert platform_problems([], "any", machine="x86_64", ext_suffix=".so") == []
