"""Two wheels side by side: what differs is named as exactly as it can be."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sagefix.errors import WheelError
from sagefix.wheels.comparing import Comparison, compare_wheels
from sagefix.wheels.writing import write_wheel

INFO = "tiny-1.0.dist-info"
CC = shutil.which("gcc") or shutil.which("cc")
needs_compiler = pytest.mark.skipif(
    CC is None or not sys.platform.startswith("linux"), reason="needs a C compiler for ELF files"
)
C = 'const char *place(void) {{ return "{text}"; }}\nint more(int x) {{ return x * {factor}; }}\n'


def wheel(folder: Path, files: dict[str, bytes], *, epoch: int = 1_700_000_000) -> Path:
    return write_wheel(folder, "tiny-1.0-py3-none-any.whl", dist_info=INFO, files=files, epoch=epoch)


def pair(tmp_path: Path, one: dict[str, bytes], two: dict[str, bytes]) -> Comparison:
    return compare_wheels(wheel(tmp_path / "one", one), wheel(tmp_path / "two", two))


def library(tmp_path: Path, text: str, factor: int = 2, *, strip: bool = True) -> bytes:
    source, made = tmp_path / "c.c", tmp_path / "c.so"
    source.write_text(C.format(text=text, factor=factor))
    assert CC is not None
    options = ["-Wl,--strip-all"] if strip else ["-g"]
    subprocess.run([CC, "-shared", "-fPIC", "-O1", *options, source, "-o", made], check=True)
    return made.read_bytes()


def test_the_same_content_is_identical(tmp_path: Path) -> None:
    files = {"tiny.py": b"x = 1\n", f"{INFO}/METADATA": b"Name: tiny\n"}
    found = pair(tmp_path, files, files)
    assert found.identical
    assert found.same_code
    assert found.sha256[0] == found.sha256[1]
    assert (found.files, found.members) == (3, ())


def test_files_that_only_one_has_and_lines_that_differ(tmp_path: Path) -> None:
    found = pair(
        tmp_path,
        {"tiny.py": b"a = 1\nb = 2\nc = 3\n", "gone.py": b"1"},
        {"tiny.py": b"a = 1\nb = 5\nc = 3\nd = 4\n", "new.py": b"22"},
    )
    assert not found.identical
    assert not found.same_code
    gone, new, tiny = found.members
    assert (gone.path, gone.kind, gone.found) == ("gone.py", "only in the first", "1 bytes")
    assert (new.path, new.kind, new.found) == ("new.py", "only in the second", "2 bytes")
    assert (tiny.path, tiny.kind) == ("tiny.py", "content")
    assert tiny.lines == ((2, "b = 2", "b = 5"), (4, "", "d = 4"))


def test_lines_in_another_order_are_shown_where_they_stand(tmp_path: Path) -> None:
    found = pair(tmp_path, {"tiny.py": b"a\nb\n"}, {"tiny.py": b"b\na\n"})
    assert found.members[0].lines == ((1, "a", "b"), (2, "b", "a"))


def test_a_difference_in_dist_info_leaves_the_code_the_same(tmp_path: Path) -> None:
    found = pair(
        tmp_path,
        {"tiny.py": b"", f"{INFO}/sagefix.json": b'{\n "sagefix": "0.1.0"\n}\n'},
        {"tiny.py": b"", f"{INFO}/sagefix.json": b'{\n "sagefix": "0.2.0"\n}\n'},
    )
    assert found.same_code
    (member,) = found.members
    assert member.path == f"{INFO}/sagefix.json"
    assert member.lines == ((2, ' "sagefix": "0.1.0"', ' "sagefix": "0.2.0"'),)


def test_what_differs_in_the_archive_alone(tmp_path: Path) -> None:
    files = {"tiny.py": b"x = 1\n"}
    one, two = wheel(tmp_path / "one", files), wheel(tmp_path / "two", files, epoch=1_800_000_000)
    found = compare_wheels(one, two)
    assert not found.identical
    assert found.same_code
    assert {member.kind for member in found.members} == {"entry"}
    assert found.members[0].found.startswith("time (2023, 11, 14")


def test_another_order_in_the_archive(tmp_path: Path) -> None:
    paths = []
    for number, names in enumerate((("a.py", "b.py"), ("b.py", "a.py"))):
        path = tmp_path / f"{number}.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(zipfile.ZipInfo(name), "")
        paths.append(path)
    (member,) = compare_wheels(*paths).members
    assert member.found == "the files stand in another order in the archive"


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    found = pair(tmp_path, {"x.bin": bytes(70_000) + b"\xff\x01"}, {"x.bin": bytes(70_000) + b"\xff\x02"})
    assert found.members[0].found == "70002 and 70002 bytes, first at 70001"


@needs_compiler
def test_a_path_in_a_library_is_found_in_its_section(tmp_path: Path) -> None:
    found = pair(
        tmp_path,
        {"tiny/_c.so": library(tmp_path, "/home/one/tiny.c")},
        {"tiny/_c.so": library(tmp_path, "/home/two/tiny.c")},
    )
    (member,) = found.members
    sections = {section.name: section for section in member.sections}
    assert ".rodata" in sections
    assert sections[".rodata"].strings == (("/home/one/tiny.c", "/home/two/tiny.c"),)
    assert sections[".rodata"].offset == len("/home/")
    assert ".text" not in sections


@needs_compiler
def test_machine_code_differs_without_words_and_a_section_may_be_missing(tmp_path: Path) -> None:
    found = pair(
        tmp_path,
        {"tiny/_c.so": library(tmp_path, "text", 3)},
        {"tiny/_c.so": library(tmp_path, "text", 5, strip=False)},
    )
    sections = {section.name: section for section in found.members[0].sections}
    assert sections[".text"].strings == ()
    assert sections[".debug_info"].sizes[0] == -1
    assert sections[".debug_info"].sizes[1] > 0


@needs_compiler
def test_numbers_that_nvcc_makes_from_a_path_are_recognised(tmp_path: Path) -> None:
    name = "_ZN30_INTERNAL_{}_4_k_cu_call7counterE"
    found = pair(
        tmp_path,
        {"tiny/_c.so": library(tmp_path, name.format("cc07bb00"))},
        {"tiny/_c.so": library(tmp_path, name.format("37c2eed1"))},
    )
    assert "the same but for the numbers nvcc makes" in found.members[0].found
    other = pair(
        tmp_path,
        {"tiny/_c.so": library(tmp_path, name.format("cc07bb00"))},
        {"tiny/_c.so": library(tmp_path, name.format("37c2eed1").replace("counter", "another"))},
    )
    assert "sections" in other.members[0].found


def test_a_damaged_library_is_compared_as_bytes(tmp_path: Path) -> None:
    found = pair(tmp_path, {"tiny/_c.so": b"\x7fELF\xff\xfe"}, {"tiny/_c.so": b"\x7fELF\xff\xff"})
    assert found.members[0].found == "6 and 6 bytes, first at 5"


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.whl"
    path.write_bytes(b"no zip")
    with pytest.raises(WheelError, match="is not a zip archive"):
        compare_wheels(path, path)
