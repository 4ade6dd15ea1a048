"""Kits as files: the same content gives the same bytes, and nothing that is not as the manifest says gets out."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sagefix.errors import KitError
from sagefix.kits.model import Host, Manifest
from sagefix.kits.opening import opened, read_manifest
from sagefix.kits.packing import Packed, encode, write_kit
from sagefix.progress import task
from sagefix.settings import shipped_manifests

BOOTSTRAP = shipped_manifests() / "kit" / "bootstrap.py"
MANIFEST = Manifest(
    sagefix="0.1.0",
    pin="demo",
    project="demoattention",
    commit="a" * 40,
    tree="b" * 40,
    ref="",
    wheels=(),
    source="source/demo.bundle",
    hosts=(Host(python="3.11", machine="x86_64"),),
    files=(),
)
FILES = (
    Packed(path="README.txt", kind="start", what="how", content=b"read me\n"),
    Packed(path="wheels/demo/a+b.whl", kind="wheelhouse", what="a wheel", content=b"wheel" * 1000),
    Packed(path="source/demo.bundle", kind="source", what="the source", content=b"bundle"),
    Packed(path="sagefix/sagefix-0.1.0-py3-none-any.whl", kind="sagefix", what="itself", content=b"sagefix"),
)
Member = tuple[tarfile.TarInfo, bytes]


def _write(file: Path, files: tuple[Packed, ...] = FILES) -> Path:
    with task("writing") as running:
        write_kit(file, MANIFEST, files, running)
    return file


def _rewrite(file: Path, change: Callable[[list[Member]], None]) -> None:
    """Change the members of an archive."""
    with tarfile.open(file) as archive:
        members = [(each, (archive.extractfile(each) or io.BytesIO()).read()) for each in archive]
    change(members)
    with tarfile.open(file, "w") as archive:
        for info, data in members:
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))


def test_the_same_content_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _write(tmp_path / "first.kit.tar").read_bytes()
    assert _write(tmp_path / "second.kit.tar").read_bytes() == first
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1759000000")
    assert _write(tmp_path / "later.kit.tar").read_bytes() != first
    with tarfile.open(tmp_path / "later.kit.tar") as archive:
        assert {each.mtime for each in archive} == {1759000000}


def test_a_kit_opens_without_sagefixs_own_wheels_and_leaves_nothing(
    tmp_path: Path, own_environment: Path
) -> None:
    with opened(_write(tmp_path / "a.kit.tar")) as kit:
        assert [entry.path for entry in kit.manifest.files] == [each.path for each in FILES]
        assert Path(kit.source).read_bytes() == b"bundle"
        assert (kit.wheels / "demo" / "a+b.whl").read_bytes() == b"wheel" * 1000
        assert not (Path(kit.folder) / "sagefix").exists()
        assert kit.shown(f"{kit.wheels}/demo/a+b.whl") == f"{tmp_path}/a.kit.tar:wheels/demo/a+b.whl"
    assert [path.name for path in (own_environment / "kits").iterdir()] == ["CACHEDIR.TAG"]


def _other_content(members: list[Member]) -> None:
    members[2] = (members[2][0], b"Wheel" * 1000)


def _other_program(members: list[Member]) -> None:
    members[4] = (members[4][0], b"SAGEFIX")


def _longer(members: list[Member]) -> None:
    members[2] = (members[2][0], b"wheel" * 1001)


def _missing(members: list[Member]) -> None:
    del members[3]


def _more(members: list[Member]) -> None:
    members.append((tarfile.TarInfo("wheels/more"), b"more"))


def _twice(members: list[Member]) -> None:
    members.append(members[2])


def _link(members: list[Member]) -> None:
    info = tarfile.TarInfo(members[2][0].name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    members[2] = (info, b"")


def _outside(members: list[Member]) -> None:
    members.append((tarfile.TarInfo("../outside"), b"out"))


DAMAGES = [_other_content, _other_program, _longer, _missing, _more, _twice, _link, _outside]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_kit_is_refused_whole(
    tmp_path: Path, own_environment: Path, damage: Callable[[list[Member]], None]
) -> None:
    file = _write(tmp_path / "a.kit.tar")
    _rewrite(file, damage)
    with pytest.raises(KitError, match="is damaged"), opened(file):
        raise AssertionError("it opened")
    assert [path.name for path in (own_environment / "kits").iterdir()] == ["CACHEDIR.TAG"]
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("damage", [each for each in DAMAGES if each is not _longer])
def test_the_bootstrap_refuses_it_as_well(tmp_path: Path, damage: Callable[[list[Member]], None]) -> None:
    file = _write(tmp_path / "a.kit.tar")
    _rewrite(file, damage)
    done = subprocess.run(
        [sys.executable, "-I", BOOTSTRAP, file], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == KitError.exit_code
    assert "is damaged" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.kit.tar"]


@pytest.mark.parametrize("length", [0.3, 0.6, 0.9])
def test_a_kit_that_was_cut_off_is_refused(tmp_path: Path, length: float) -> None:
    file = _write(tmp_path / "a.kit.tar")
    data = file.read_bytes().rstrip(b"\0")
    file.write_bytes(data[: int(len(data) * length)])
    with pytest.raises(KitError, match=r"is damaged|is not a kit"), opened(file):
        raise AssertionError("it opened")


@pytest.mark.parametrize("path", ["../out", "/etc/out", "a/../../out", "a//b", "a\\b", "C:/x", "a/./b", ""])
def test_a_path_that_leaves_its_folder_is_refused(tmp_path: Path, path: str) -> None:
    file = tmp_path / "a.kit.tar"
    packed = Packed(path=path, kind="wheelhouse", what="out", content=b"out")
    manifest = msgspec.structs.replace(MANIFEST, source="", files=(packed.entry(),))
    with tarfile.open(file, "w") as archive:
        for name, data in (("kit.json", encode(manifest)), (path, b"out")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with pytest.raises(KitError, match="could leave its folder"), opened(file):
        raise AssertionError("it opened")


def test_what_is_no_kit_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not an archive")
    (tmp_path / "empty").touch()
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.add(BOOTSTRAP, "bootstrap.py")
    for name in ("text", "empty", "other.tar"):
        with pytest.raises(KitError, match="is not a kit"):
            read_manifest(tmp_path / name)
    with pytest.raises(KitError, match="There is no"):
        read_manifest(tmp_path / "nowhere")
    with pytest.raises(KitError, match="is a folder"):
        read_manifest(tmp_path)


def test_a_kit_of_a_newer_sagefix_says_so(tmp_path: Path) -> None:
    file = tmp_path / "a.kit.tar"
    with tarfile.open(file, "w") as archive:
        data = b'{"schema": 2, "all": "else"}'
        info = tarfile.TarInfo("kit.json")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    with pytest.raises(KitError, match="schema 2") as raised:
        read_manifest(file)
    assert "README.txt" in raised.value.hint
