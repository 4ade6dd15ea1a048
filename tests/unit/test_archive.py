"""Wheels are read with suspicion: each kind of damage has its own message."""

from __future__ import annotations

import base64
import hashlib
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sagefix.errors import WheelError
from sagefix.wheels import zips
from sagefix.wheels.archive import facts, read_wheel, validate
from sagefix.wheels.finish import finish_wheel
from sagefix.wheels.metadata import add_requirements, set_version
from sagefix.wheels.model import Label, Record
from sagefix.wheels.record import decode_record, encode_record
from sagefix.wheels.writing import write_wheel

VERSION = "1.0+68de379.cu130.torch2.11.sm90"
FILENAME = f"tiny-{VERSION}-py3-none-any.whl"
INFO = f"tiny-{VERSION}.dist-info"
METADATA = f"Metadata-Version: 2.1\nName: tiny\nVersion: {VERSION}\nRequires-Python: >=3.9\n\nA text.\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

Files = dict[str, bytes]


def good_files() -> Files:
    return {
        "tiny/__init__.py": b"x = 1\n",
        f"{INFO}/METADATA": METADATA.encode(),
        f"{INFO}/WHEEL": WHEEL.encode(),
    }


def record_of(files: Files) -> bytes:
    lines = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}")
    return ("\n".join([*lines, f"{INFO}/RECORD,,"]) + "\n").encode()


def pack(path: Path, files: Files, *, record: bytes | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(f"{INFO}/RECORD", record_of(files) if record is None else record)
    return path


def sample_record(**changes: object) -> Record:
    record = Record(
        origin="built",
        pin="tiny",
        project="tiny",
        version=VERSION,
        commit="6" * 40,
        tree="7" * 40,
        recipe="one",
        archs=("9.0",),
        extensions=(),
        python_tag="py3",
        abi_tag="none",
        platform_tag="any",
        glibc="",
        torch="2.11",
        cuda="13.0",
        cxx11_abi=True,
        key="k",
        tools={"nvcc": "13.0", "gcc": "12"},
        environment={},
        source_url="",
        source_date_epoch=1_700_000_000,
        sagefix="0",
    )
    return msgspec.structs.replace(record, **changes)


def test_a_good_wheel(tmp_path: Path) -> None:
    path = pack(tmp_path / FILENAME, good_files())
    archive = validate(path)
    assert (archive.project, archive.version, archive.dist_info) == ("tiny", VERSION, INFO)
    assert archive.tags == ("py3-none-any",)
    assert archive.record is None
    assert set(archive.members) == {*good_files(), f"{INFO}/RECORD"}


def test_facts_are_what_selection_looks_at(tmp_path: Path) -> None:
    files = good_files()
    files[f"{INFO}/METADATA"] = add_requirements(
        METADATA.encode(), ["torch==2.11.*", "triton", "torch>=3; extra == 'x'"]
    )
    files[f"{INFO}/sagefix.json"] = encode_record(sample_record())
    path = pack(tmp_path / FILENAME, files)
    found = facts(path)
    assert found.label == Label(commit="68de379", cuda="13.0", torch="2.11", archs=("9.0",))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.size == path.stat().st_size
    assert found.where == str(path)
    assert found.requires_torch == "==2.11.*"
    assert found.requires_python == ">=3.9"
    assert found.record == sample_record()
    assert (
        facts(path, where="https://example.org/w", sha256="s", proof="import").where
        == "https://example.org/w"
    )


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../outside.py",
        "tiny/../../outside.py",
        "tiny\\..\\x.py",
        "C:/x.py",
        "tiny//x.py",
        "./x.py",
    ],
)
def test_a_member_that_could_leave_its_folder(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / FILENAME, good_files() | {name: b""})
    with pytest.raises(WheelError, match="could leave its folder"):
        read_wheel(path)


def test_a_symbolic_link(tmp_path: Path) -> None:
    path = pack(tmp_path / FILENAME, good_files())
    link = zipfile.ZipInfo("tiny/link.py")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(WheelError, match="is a link or device"):
        read_wheel(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_twice(tmp_path: Path) -> None:
    path = pack(tmp_path / FILENAME, good_files())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("tiny/__init__.py", b"x = 2\n")
    with pytest.raises(WheelError, match=r"holds a file twice: tiny/__init__\.py"):
        read_wheel(path)


def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "MAX_UNPACKED", 1000)
    path = pack(tmp_path / FILENAME, good_files() | {"tiny/zeros": bytes(1001)})
    with pytest.raises(WheelError, match=r"would unpack to 1\.\d kB"):
        read_wheel(path)


def _without(name: str) -> Callable[[Files], Files]:
    return lambda files: {path: data for path, data in files.items() if not path.endswith(name)}


def _replaced(name: str, old: str, new: str) -> Callable[[Files], Files]:
    return lambda files: {
        path: data.replace(old.encode(), new.encode()) if path.endswith(name) else data
        for path, data in files.items()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("/METADATA"), r"has no tiny-.*\.dist-info/METADATA"),
        (_without("/WHEEL"), r"has no tiny-.*\.dist-info/WHEEL"),
        (lambda files: files | {"other-1.dist-info/METADATA": b""}, "should hold one .dist-info folder"),
        (_replaced("/METADATA", "Name: tiny", "Name: huge"), "renamed: its METADATA says huge"),
        (_replaced("/METADATA", VERSION, "1.0"), r"renamed: its METADATA says tiny 1\.0"),
        (_replaced("/METADATA", VERSION, "one"), "METADATA that cannot be used"),
        (_replaced("/METADATA", "Name: tiny\n", ""), "METADATA that cannot be used"),
        (_replaced("/METADATA", "\n\n", "\nRequires-Dist: !\n\n"), "METADATA that cannot be used"),
        (_replaced("/WHEEL", "py3-none-any", "cp312-cp312-linux_x86_64"), "its WHEEL file says cp312"),
        (_replaced("/WHEEL", "Tag: py3-none-any\n", ""), "its WHEEL file says no tag"),
        (_replaced("/WHEEL", "Wheel-Version: 1.0", "Wheel-Version: 2.0"), r"wheel format 2\.0"),
        (lambda files: files | {f"{INFO}/sagefix.json": b"{}"}, "sagefix.json that cannot be read"),
        (lambda files: files | {f"{INFO}/sagefix.json": b"\xff"}, "sagefix.json that cannot be read"),
    ],
)
def test_names_and_content_that_disagree(
    tmp_path: Path, change: Callable[[Files], Files], message: str
) -> None:
    path = pack(tmp_path / FILENAME, change(good_files()))
    with pytest.raises(WheelError, match=message):
        read_wheel(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny.whl", "is not the name of a wheel"),
        ("tiny-1.0-py3-none-any.zip", "is not the name of a wheel"),
        ("tiny-1.0+d1a57a5-py3-none-any.whl", "was renamed: inside it is tiny"),
        (f"huge-{VERSION}-py3-none-any.whl", "was renamed: inside it is tiny"),
        (f"tiny-{VERSION}-cp312-cp312-linux_x86_64.whl", "was renamed: its WHEEL file says py3-none-any"),
    ],
)
def test_a_renamed_wheel(tmp_path: Path, name: str, message: str) -> None:
    path = pack(tmp_path / name, good_files())
    with pytest.raises(WheelError, match=message):
        read_wheel(path)


def test_a_wheel_without_dist_info(tmp_path: Path) -> None:
    path = tmp_path / FILENAME
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/__init__.py", b"")
    with pytest.raises(WheelError, match="found: none"):
        read_wheel(path)


def test_files_and_record_lines_that_do_not_match(tmp_path: Path) -> None:
    files = good_files()
    record = record_of(files)
    more = pack(tmp_path / FILENAME, files | {"tiny/extra.py": b""}, record=record)
    with pytest.raises(WheelError, match=r"tiny/extra\.py is not mentioned in RECORD"):
        read_wheel(more)
    fewer = pack(tmp_path / FILENAME, _without("__init__.py")(files), record=record)
    with pytest.raises(WheelError, match=r"lacks files that its RECORD lists: tiny/__init__\.py"):
        read_wheel(fewer)
    nonsense = pack(tmp_path / FILENAME, files, record=b"\xff\xff")
    with pytest.raises(WheelError, match="RECORD that cannot be read"):
        read_wheel(nonsense)


def test_a_changed_file_is_found_by_validation(tmp_path: Path) -> None:
    files = good_files()
    record = record_of(files)
    path = pack(tmp_path / FILENAME, files | {"tiny/__init__.py": b"x = 2\n"}, record=record)
    read_wheel(path)
    with pytest.raises(WheelError, match=r"tiny/__init__\.py didn't match RECORD") as caught:
        validate(path)
    assert caught.value.hint
    assert str(tmp_path) not in caught.value.message


def test_a_truncated_wheel(tmp_path: Path) -> None:
    path = pack(tmp_path / FILENAME, good_files())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(WheelError, match="is not a zip archive or is cut off"):
        read_wheel(path)
    path.write_bytes(b"")
    with pytest.raises(WheelError, match=r"cut off \(0 B\)"):
        read_wheel(path)


def test_flipped_bytes_inside(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, FILENAME, dist_info=INFO, files=dict(good_files()), epoch=0)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("tiny/__init__.py")
        start = info.header_offset + 30 + len(info.filename)
    data = bytearray(path.read_bytes())
    data[start : start + info.compress_size] = bytes(
        255 - byte for byte in data[start : start + info.compress_size]
    )
    path.write_bytes(data)
    with pytest.raises(WheelError, match=r"damaged|not a zip"):
        validate(path)


def test_a_wheel_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="does not exist"):
        read_wheel(tmp_path / FILENAME)
    (tmp_path / FILENAME).mkdir()
    with pytest.raises(WheelError, match="cannot be read"):
        read_wheel(tmp_path / FILENAME)


def test_writing_is_reproducible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = good_files() | {"tiny/lib.so": b"binary", "tiny/b.py": b"", "tiny/B.py": b""}
    first = write_wheel(tmp_path / "1", FILENAME, dist_info=INFO, files=dict(files), epoch=1_700_000_000)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    shuffled = dict(reversed(files.items()))
    second = write_wheel(tmp_path / "2", FILENAME, dist_info=INFO, files=dict(shuffled), epoch=1_700_000_000)
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in (tmp_path / "1").iterdir()] == [FILENAME]
    assert stat.S_IMODE(first.stat().st_mode) == 0o644
    validate(first)
    with zipfile.ZipFile(first) as archive:
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
        dates = {info.date_time for info in archive.infolist()}
        names = archive.namelist()
    assert modes["tiny/lib.so"] == stat.S_IFREG | 0o755
    assert modes["tiny/__init__.py"] == modes[f"{INFO}/RECORD"] == stat.S_IFREG | 0o644
    assert dates == {(2023, 11, 14, 22, 13, 20)}
    assert names[-1] == f"{INFO}/RECORD"
    assert names[:4] == ["tiny/B.py", "tiny/__init__.py", "tiny/b.py", "tiny/lib.so"]


def test_finishing_adds_record_and_requirements(tmp_path: Path) -> None:
    built = pack(tmp_path / FILENAME, good_files())
    record = sample_record()
    finished = finish_wheel(
        built, tmp_path / "out", record=record, requires=["torch==2.11.*"], epoch=1_700_000_000
    )
    archive = validate(finished)
    assert finished == tmp_path / "out" / FILENAME
    assert archive.record == record
    assert archive.metadata_bytes.decode() == METADATA.replace("\n\n", "\nRequires-Dist: torch==2.11.*\n\n")
    again = finish_wheel(
        finished, tmp_path / "2", record=record, requires=["torch == 2.11.*"], epoch=1_700_000_000
    )
    assert again.read_bytes() == finished.read_bytes()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", "1.0+d1a57a5", r"with version 1\.0\+68de379.*, but 1\.0\+d1a57a5 was planned"),
        ("project", "huge", "with project tiny, but huge was planned"),
        ("platform_tag", "linux_aarch64", "with platform tag any, but linux_aarch64 was planned"),
    ],
)
def test_finishing_refuses_what_was_not_planned(tmp_path: Path, field: str, value: str, message: str) -> None:
    built = pack(tmp_path / FILENAME, good_files())
    with pytest.raises(WheelError, match=message):
        finish_wheel(built, tmp_path / "out", record=sample_record(**{field: value}), requires=[], epoch=0)
    assert not (tmp_path / "out").exists()


def test_a_record_is_the_same_bytes_each_time() -> None:
    record = sample_record()
    other = sample_record(tools={"gcc": "12", "nvcc": "13.0"})
    assert encode_record(record) == encode_record(other)
    assert decode_record(encode_record(record), "x") == record
    with pytest.raises(WheelError, match=r"x has a sagefix\.json that cannot be read"):
        decode_record(b'{"schema": 2}', "x")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_metadata_keeps_every_other_byte(newline: str) -> None:
    lines = [
        "Metadata-Version: 2.1",
        "Version: 1",
        "Summary: Version: 3",
        "Requires-Dist: b (>1)",
        "",
        "Version: 2",
        "\xe9",
    ]
    data = newline.join([*lines, ""]).encode("latin-1")
    lines[1] = "Version: 1+x"
    assert set_version(data, "1+x") == newline.join([*lines, ""]).encode("latin-1")
    added = add_requirements(data, ["b>1", "torch==2.11.*"])
    end = f"{newline}{newline}".encode()
    assert added == data.replace(end, f"{newline}Requires-Dist: torch==2.11.*{newline}{newline}".encode(), 1)


@pytest.mark.parametrize("data", [b"Name: a\nVersion: 1", b"Name: a\nVersion: 1\n"])
def test_metadata_without_a_description(data: bytes) -> None:
    assert add_requirements(data, ["x"]) == b"Name: a\nVersion: 1\nRequires-Dist: x\n"
    assert set_version(data, "2") == data.replace(b"1", b"2")


def test_metadata_that_cannot_be_changed() -> None:
    with pytest.raises(WheelError, match="0 Version lines"):
        set_version(b"Name: a\n\nVersion: 1\n", "2")
    with pytest.raises(WheelError, match="2 Version lines"):
        set_version(b"Version: 1\nVersion: 1\n", "2")
    with pytest.raises(WheelError, match="is not a requirement"):
        add_requirements(b"Name: a\n", ["=="])
