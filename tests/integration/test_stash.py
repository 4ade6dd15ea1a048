"""What was installed before: taken, and put back exactly, whatever happened in between."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import make_wheel

from sagefix.errors import InstallError
from sagefix.installing.installer import Installer, choose_installer
from sagefix.installing.stash import Stash, installed, remove_incomplete
from sagefix.targets.interpreter import probe
from sagefix.targets.model import Interpreter
from tests.integration.conftest import MakeTarget, python_of

PROJECT = "sage-attention"
# Nothing here may need an installer: it may be the very thing that does not work.
BROKEN = Installer(kind="pip", program=("no-such-installer",))
Snapshot = dict[str, tuple[bytes, int, float]]


@pytest.fixture
def target(make_target: MakeTarget) -> Interpreter:
    return probe(python_of(make_target(build=False)))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "old", project=PROJECT, version="1.0", requires=(), body="value = 1\n")


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "new", project=PROJECT, version="2.0", requires=(), body="value = 2\n")


def install(target: Interpreter, *what: str | Path) -> None:
    command = ["uv", "pip", "install", "--quiet", "--offline", "--python", target.executable, "--no-deps"]
    subprocess.run([*command, *what], check=True)


def snapshot(target: Interpreter) -> Snapshot:
    """Every file in site-packages with content, permissions and time of change."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime)
        for path in Path(target.purelib).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def value(target: Interpreter) -> str:
    code = "import sage_attention as m; print(m.value)"
    done = subprocess.run([target.executable, "-c", code], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def test_another_version_goes_and_the_first_comes_back(target: Interpreter, old: Path, new: Path) -> None:
    install(target, old)
    module = Path(target.purelib) / "sage_attention.py"
    os.utime(module, (1_700_000_000, 1_700_000_000))
    module.chmod(0o640)
    assert value(target) == "1"
    before = snapshot(target)
    stash = Stash(target, PROJECT)
    taken = stash.take(new)
    assert (taken.version, taken.project) == ("1.0", PROJECT)
    install(target, new)
    assert value(target) == "2"
    assert stash.put_back(BROKEN) == taken
    assert snapshot(target) == before
    assert value(target) == "1"
    assert not stash.folder.exists()


def test_bytecode_of_what_went_does_not_stay(target: Interpreter, old: Path, new: Path) -> None:
    """A module of the same size and time would be taken from the other's bytecode."""
    install(target, old)
    module = Path(target.purelib) / "sage_attention.py"
    os.utime(module, (1_700_000_000, 1_700_000_000))
    stash = Stash(target, PROJECT)
    stash.take(new)
    install(target, new)
    os.utime(module, (1_700_000_000, 1_700_000_000))
    assert value(target) == "2"
    stash.put_back(BROKEN)
    assert value(target) == "1"


def _nothing(target: Interpreter) -> None:
    del target


def _module_lost(target: Interpreter) -> None:
    (Path(target.purelib) / "sage_attention.py").unlink()


def _info_lost(target: Interpreter) -> None:
    shutil.rmtree(next(Path(target.purelib).glob("sage_attention-*.dist-info")))


def _record_lost(target: Interpreter) -> None:
    next(Path(target.purelib).glob("sage_attention-*.dist-info/RECORD")).unlink()


def _all_lost(target: Interpreter) -> None:
    _module_lost(target)
    _info_lost(target)


def _other_half_installed(target: Interpreter) -> None:
    _all_lost(target)
    (Path(target.purelib) / "sage_attention.py").write_text("value = 'half'\n")
    half = Path(target.purelib) / "sage_attention-2.0.dist-info"
    half.mkdir()
    (half / "METADATA").write_text("Metadata-Version: 2.1\nName: sage-attention\nVersion: 2.0\n")


LOSSES = [_nothing, _module_lost, _info_lost, _record_lost, _all_lost, _other_half_installed]


@pytest.mark.parametrize("lose", LOSSES, ids=[lose.__name__.strip("_") for lose in LOSSES])
def test_whatever_is_left_in_between(
    target: Interpreter, old: Path, new: Path, lose: Callable[[Interpreter], None]
) -> None:
    install(target, old)
    before = snapshot(target)
    stash = Stash(target, PROJECT)
    stash.take(new)
    lose(target)
    stash.put_back(BROKEN)
    assert snapshot(target) == before
    assert value(target) == "1"


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "half"])
def test_nothing_before(target: Interpreter, new: Path, whole: bool) -> None:
    before = snapshot(target)
    stash = Stash(target, PROJECT)
    assert stash.take(new).version == ""
    install(target, new)
    if not whole:
        _info_lost(target)
    stash.put_back(BROKEN)
    assert snapshot(target) == before
    assert installed(target, PROJECT) is None
    assert "No module" in value(target)
    assert not list(Path(target.purelib).glob("sage_attention*"))


def test_files_of_unknown_origin_come_back(target: Interpreter, new: Path) -> None:
    """Somebody copied the module there; no metadata knows of it, and an installer writes over it."""
    (Path(target.purelib) / "sage_attention.py").write_text("value = 'copied'\n")
    before = snapshot(target)
    stash = Stash(target, PROJECT)
    assert stash.take(new).version == ""
    install(target, new)
    assert value(target) == "2"
    stash.put_back(BROKEN)
    assert snapshot(target) == before
    assert value(target) == "copied"


def test_an_editable_installation_before(make_target: MakeTarget, new: Path, tmp_path: Path) -> None:
    target = probe(python_of(make_target()))
    source = tmp_path / "source"
    source.mkdir()
    (source / "sage_attention.py").write_text("value = 'editable'\n")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "sage-attention"\nversion = "0.1"\n[tool.setuptools]\npy-modules = ["sage_attention"]\n'
    )
    install(target, "--no-build-isolation", "--editable", source)
    assert value(target) == "editable"
    before, own = snapshot(target), sorted(path.name for path in source.iterdir())
    stash = Stash(target, PROJECT)
    assert stash.take(new).version == "0.1"
    install(target, new)
    assert value(target) == "2"
    stash.put_back(BROKEN)
    assert value(target) == "editable"
    assert snapshot(target) == before
    # The folder it was installed from is its owner's.
    assert sorted(path.name for path in source.iterdir()) == own


def test_what_only_an_installer_can_remove(target: Interpreter, new: Path) -> None:
    """Metadata that lists files in its own way: an installer is asked, and nothing is guessed."""
    site = Path(target.purelib)
    stash = Stash(target, PROJECT)
    stash.take()
    egg = site / "sage_attention-1.0.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: sage-attention\nVersion: 1.0\n")
    (egg / "installed-files.txt").write_text("../sage_attention.py\n")
    (site / "sage_attention.py").write_text("value = 'egg'\n")
    with pytest.raises(InstallError, match="Could not remove"):
        stash.put_back(BROKEN)
    assert value(target) == "egg"
    # The stash is still there, for the next try.
    assert (stash.folder / "stash.json").is_file()


def test_nothing_is_touched_when_nothing_changed(target: Interpreter, old: Path, new: Path) -> None:
    install(target, old)
    nodes = {path: path.stat().st_ino for path in Path(target.purelib).rglob("*")}
    stash = Stash(target, PROJECT)
    stash.take(new)
    stash.put_back(BROKEN)
    assert {path: path.stat().st_ino for path in Path(target.purelib).rglob("*")} == nodes


def test_a_stash_that_was_left_is_put_back_by_the_next(target: Interpreter, old: Path, new: Path) -> None:
    install(target, old)
    Stash(target, PROJECT).take(new)
    install(target, new)
    again = Stash(target, PROJECT)
    again.recover(BROKEN)
    assert value(target) == "1"
    again.recover(BROKEN)
    assert value(target) == "1"


def test_a_stash_that_cannot_be_read_says_what_to_do(target: Interpreter, old: Path) -> None:
    install(target, old)
    stash = Stash(target, PROJECT)
    stash.take()
    (stash.folder / "stash.json").write_text("{")
    with pytest.raises(InstallError, match="cannot be read") as raised:
        stash.recover(BROKEN)
    assert "Delete that folder" in raised.value.hint
    assert str(stash.folder) in str(raised.value)
    assert value(target) == "1"


def test_taking_again_replaces_what_was_taken(target: Interpreter, old: Path, new: Path) -> None:
    install(target, old)
    stash = Stash(target, PROJECT)
    stash.take(new)
    install(target, new)
    stash.take(old)
    install(target, old)
    stash.put_back(BROKEN)
    assert value(target) == "2"


def test_incomplete_metadata_is_removed_and_nothing_else(target: Interpreter, old: Path) -> None:
    install(target, old)
    site = Path(target.purelib)
    for name in ("sage_attention-0.9.dist-info", "Sage.Attention-0.8.dist-info", "other-1.dist-info"):
        (site / name).mkdir()
    (site / "sage_attention_extras-1.dist-info").mkdir()
    remove_incomplete(target, PROJECT)
    left = sorted(path.name for path in site.glob("*.dist-info"))
    assert left == ["other-1.dist-info", "sage_attention-1.0.dist-info", "sage_attention_extras-1.dist-info"]
    found = installed(target, PROJECT)
    assert found is not None
    assert found.version == "1.0"


def test_real_installers_take_back_what_we_put_back(target: Interpreter, old: Path, new: Path) -> None:
    """RECORD is whole again, so that the user's own installer can go on from there."""
    install(target, old)
    stash = Stash(target, PROJECT)
    stash.take(new)
    install(target, new)
    stash.put_back(choose_installer(target))
    subprocess.run(["uv", "pip", "uninstall", "--quiet", "--python", target.executable, PROJECT], check=True)
    assert "No module" in value(target)


def test_one_at_a_time(target: Interpreter) -> None:
    first, second = Stash(target, PROJECT), Stash(target, PROJECT)
    code = (
        "import sys, time; from filelock import FileLock\n"
        "with FileLock(sys.argv[1] + '.lock'): print('held', flush=True); time.sleep(0.5)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(first.folder)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        started = time.monotonic()
        with second.locked():
            assert time.monotonic() - started > 0.2
