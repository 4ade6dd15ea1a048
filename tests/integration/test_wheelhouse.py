"""The store: what is added stays what it is, and everything that is not gets found."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from pypi_simple import ProjectPage
from support import LABEL, make_wheel

from sagefix.checks import Check, failures
from sagefix.errors import DiskError, LockError, WheelError, WheelhouseError
from sagefix.files import sha256_file
from sagefix.progress import SilentReporter, reporting
from sagefix.wheelhouse import store as store_module
from sagefix.wheelhouse.proving import proof_of
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.model import Proof

NAME = f"sageattention-2.2.0+{LABEL}-py3-none-any.whl"


@pytest.fixture
def house(tmp_path: Path) -> Wheelhouse:
    return Wheelhouse.open(tmp_path / "house")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "dist")


def kept(house: Wheelhouse, suffix: str = "", name: str = NAME) -> Path:
    return house.path / "sageattention" / f"{name}{suffix}"


def failed(house: Wheelhouse) -> dict[str, Check]:
    return {check.name: check for check in failures(house.check())}


def test_added_wheel_is_listed_with_its_facts(house: Wheelhouse, wheel: Path) -> None:
    facts = house.add(wheel)
    assert facts.where == str(kept(house))
    assert facts.sha256 == sha256_file(wheel)
    assert (facts.label.commit, facts.label.torch, facts.label.archs) == ("68de379", "2.11", ("9.0",))
    assert facts.requires_torch == "==2.11.*"
    assert facts.proof == ""
    assert house.entries() == house.entries("SageAttention") == [facts] == [house.get(NAME)]
    assert house.entries("other") == []
    assert wheel.exists()
    assert not failures(house.check())


def test_what_goes_to_an_installer_is_hashed_first(house: Wheelhouse, wheel: Path) -> None:
    facts = house.add(wheel)
    house.require_intact(facts)
    data, seen = kept(house).read_bytes(), kept(house).stat()
    kept(house).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    # Size and time are as they were, so a listing cannot tell; the hash does.
    os.utime(kept(house), ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert house.entries() == [facts]
    with pytest.raises(WheelhouseError, match="other content than when it was added") as raised:
        house.require_intact(facts)
    assert raised.value.details == {"filename": NAME}
    kept(house).unlink()
    with pytest.raises(WheelhouseError, match="cannot be read"):
        house.require_intact(facts)


def test_pages_are_read_by_an_independent_parser(house: Wheelhouse, wheel: Path) -> None:
    facts = house.add(wheel)
    folder = house.path / "sageattention"
    html = ProjectPage.from_html(
        "sageattention", (folder / "index.html").read_bytes(), "https://example.org/"
    )
    data = ProjectPage.from_json_data(
        json.loads((folder / "index.json").read_bytes()), "https://example.org/"
    )
    for page in (html, data):
        (package,) = page.packages
        assert package.filename == NAME
        assert package.url == "https://example.org/" + NAME.replace("+", "%2B")
        assert package.digests == {"sha256": facts.sha256}
        assert package.requires_python == ">=3.9"
        assert package.metadata_digests == {"sha256": sha256_file(kept(house, ".metadata"))}
    assert data.packages[0].size == facts.size
    assert data.packages[0].upload_time is not None
    assert data.versions == [f"2.2.0+{LABEL}"]
    assert "data-dist-info-metadata" in (folder / "index.html").read_text()
    assert "dist-info-metadata" not in (folder / "index.json").read_text()
    assert b"Requires-Dist: torch==2.11.*" in kept(house, ".metadata").read_bytes()
    assert 'href="sageattention/"' in (house.path / "index.html").read_text()


def test_adding_again_changes_nothing(house: Wheelhouse, wheel: Path) -> None:
    house.add(wheel)
    house.record_proof(NAME, {"ok": True}, "static", True)
    before = {path: path.stat().st_mtime_ns for path in house.path.rglob("*") if path.name != ".lock"}
    assert house.add(wheel).proof == "static"
    assert before == {path: path.stat().st_mtime_ns for path in house.path.rglob("*") if path.name != ".lock"}


def test_other_content_under_the_same_name(house: Wheelhouse, wheel: Path, tmp_path: Path) -> None:
    house.add(wheel)
    house.record_proof(NAME, {}, "static", True)
    other = make_wheel(tmp_path / "other", body="value = 2\n")
    with pytest.raises(WheelhouseError, match="kept already, with other content") as raised:
        house.add(other)
    assert "--replace" in raised.value.hint
    facts = house.add(other, replace=True)
    assert facts.sha256 == sha256_file(other)
    assert facts.proof == ""
    assert not failures(house.check())


def test_move_deletes_the_original(house: Wheelhouse, wheel: Path) -> None:
    house.add(wheel, move=True)
    assert not wheel.exists()
    assert kept(house).exists()
    house.add(kept(house), move=True)
    assert kept(house).exists()


@pytest.mark.parametrize("damage", ["truncated", "renamed", "missing"])
def test_unsound_wheels_are_refused(house: Wheelhouse, wheel: Path, damage: str) -> None:
    if damage == "truncated":
        wheel.write_bytes(wheel.read_bytes()[:-100])
    elif damage == "renamed":
        wheel = wheel.rename(wheel.with_name(NAME.replace("2.2.0", "2.2.1")))
    else:
        wheel.unlink()
    with pytest.raises(WheelError):
        house.add(wheel)
    assert house.entries() == []
    assert not failures(house.check())


def test_remove(house: Wheelhouse, wheel: Path) -> None:
    house.add(wheel)
    house.remove(NAME)
    assert house.entries() == []
    assert not (house.path / "sageattention").exists()
    assert "sageattention" not in (house.path / "index.html").read_text()
    assert not failures(house.check())
    with pytest.raises(WheelhouseError, match="is not in"):
        house.remove(NAME)
    with pytest.raises(WheelhouseError, match="not the file name of a wheel"):
        house.remove("../sageattention/" + NAME)
    with pytest.raises(WheelhouseError, match="not the file name of a wheel"):
        house.get("readme.txt")
    assert house.get(NAME) is None


def test_hundred_wheels_list_fast(house: Wheelhouse, tmp_path: Path) -> None:
    for number in range(100):
        house.add(make_wheel(tmp_path / "many", version=f"2.2.0+{LABEL}.n{number}"), move=True)
    best = min(_timed(house) for _ in range(5))
    assert best < 0.05, f"{best * 1000:.0f} ms"
    entries = house.entries()
    assert [facts.version.rpartition("n")[2] for facts in entries[:3]] == ["99", "98", "97"], "newest first"


def _timed(house: Wheelhouse) -> float:
    started = time.perf_counter()
    assert len(house.entries()) == 100
    return time.perf_counter() - started


def test_proofs_are_kept_and_summed_up(house: Wheelhouse, wheel: Path) -> None:
    house.add(wheel)
    house.record_proof(NAME, {"gpus": ["9.0"], "checks": []}, "static", True)
    house.record_proof(NAME, {"gpus": ["9.0"], "checks": []}, "import", True)
    facts = house.get(NAME)
    assert facts is not None
    assert facts.proof == "import"
    house.record_proof(NAME, {"gpus": ["9.0"], "why": "undefined symbol"}, "import", False)
    house.record_proof(NAME, {"gpus": ["9.0"], "why": "again"}, "import", False)
    facts, sidecar = house.get(NAME), house.sidecar(NAME)
    assert facts is not None
    assert sidecar is not None
    assert facts.proof == "failed:import"
    assert [(proof.level, proof.passed) for proof in sidecar.proofs] == [
        ("static", True),
        ("import", True),
        ("import", False),
    ]
    assert house.proofs(NAME)[-1].verdict["why"] == "again"
    assert sidecar.proofs[-1].verdict == {}
    with pytest.raises(WheelhouseError, match="no level of verification"):
        house.record_proof(NAME, {}, "vibes", True)
    with pytest.raises(WheelhouseError, match="is not in"):
        house.record_proof(NAME.replace("2.2.0", "2.2.1"), {}, "static", True)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], ""),
        ([("static", True)], "static"),
        ([("import", True), ("static", True)], "import"),
        ([("static", False)], "failed:static"),
        ([("static", False), ("import", True)], "import"),
        ([("import", True), ("static", False)], "failed:static"),
        ([("import", False), ("static", True)], "failed:import"),
        ([("import", False), ("import", True)], "import"),
        ([("numerics", False), ("import", True)], "failed:numerics"),
        ([("full", True), ("import", False), ("import", True)], "import"),
    ],
)
def test_what_proofs_say_together(outcomes: list[tuple[str, bool]], expected: str) -> None:
    assert (
        proof_of(Proof(level=level, passed=passed, when="", verdict={}) for level, passed in outcomes)
        == expected
    )


# Opening


def test_a_checkouts_folder_is_an_empty_wheelhouse(tmp_path: Path, wheel: Path) -> None:
    (tmp_path / "README.md").write_text("Wheels go here.\n")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "README.md").write_text("Wheels go here.\n")
    house = Wheelhouse.open(tmp_path / "wheels", create=False)
    assert house.entries() == []
    assert [path.name for path in house.path.iterdir()] == ["README.md"]
    assert not failures(house.check())
    house = Wheelhouse.open(tmp_path / "wheels")
    house.add(wheel)
    assert not failures(house.check())


def test_a_missing_folder_without_create(tmp_path: Path) -> None:
    house = Wheelhouse.open(tmp_path / "none", create=False)
    assert house.entries() == house.entries("sageattention") == []
    assert house.get(NAME) is None
    assert house.prune(keep=1, unproven=True, dry_run=True) == []
    for action in (house.check, house.write_index, lambda: house.remove(NAME)):
        with pytest.raises(WheelhouseError, match="There is no wheelhouse at"):
            action()
    assert not (tmp_path / "none").exists()


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(WheelhouseError, match="is not a wheelhouse and not empty"):
        Wheelhouse.open(tmp_path)
    with pytest.raises(WheelhouseError, match="is not a folder"):
        Wheelhouse.open(tmp_path / "holiday.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "cannot be understood"), (b'{"schema": 2, "sagefix": "9"}', "has schema 2")],
)
def test_a_marker_nobody_can_read(house: Wheelhouse, content: bytes, message: str) -> None:
    (house.path / ".sagefix-wheelhouse.json").write_bytes(content)
    with pytest.raises(WheelhouseError, match=message):
        Wheelhouse.open(house.path)
    assert message in failed(house)[".sagefix-wheelhouse.json"].found


def test_a_marker_that_was_deleted(house: Wheelhouse, wheel: Path) -> None:
    house.add(wheel)
    (house.path / ".sagefix-wheelhouse.json").unlink()
    with pytest.raises(WheelhouseError, match="is not a wheelhouse and not empty"):
        Wheelhouse.open(house.path)
    assert failed(house)[".sagefix-wheelhouse.json"].found == "missing"


# Damage


def test_a_truncated_wheel_is_refused_and_healed_by_adding_it(house: Wheelhouse, wheel: Path) -> None:
    house.add(wheel)
    house.record_proof(NAME, {}, "static", True)
    kept(house).write_bytes(wheel.read_bytes()[:50])
    for look in (house.entries, lambda: house.get(NAME)):
        with pytest.raises(WheelhouseError, match=r"damaged: .* is 50 bytes long instead of") as raised:
            look()
        assert "wheelhouse check" in raised.value.hint
    assert "truncated or changed: 50 bytes" in failed(house)[NAME].found
    assert house.add(wheel).proof == "static"
    assert not failures(house.check())


def test_a_changed_wheel_of_the_same_length(house: Wheelhouse, wheel: Path) -> None:
    house.add(wheel)
    content = bytearray(kept(house).read_bytes())
    content[60] ^= 1
    kept(house).write_bytes(content)
    os.utime(kept(house), (1, 1))
    with pytest.raises(WheelhouseError, match="has other content than when it was added"):
        house.entries()
    sidecar = house.sidecar(NAME)
    assert sidecar is not None
    os.utime(kept(house), ns=(sidecar.mtime_ns, sidecar.mtime_ns))
    assert len(house.entries()) == 1, "a listing trusts size and time"
    assert "changed: its sha256 is" in failed(house)[NAME].found, "a check does not"
    house.remove(NAME)
    assert not failures(house.check())


def test_a_copied_wheelhouse_is_the_same(house: Wheelhouse, wheel: Path, tmp_path: Path) -> None:
    house.add(wheel)
    shutil.copytree(house.path, tmp_path / "copy", copy_function=shutil.copyfile)
    copy = Wheelhouse.open(tmp_path / "copy", create=False)
    os.utime(kept(copy), (1, 1))
    (facts,) = copy.entries()
    assert facts.where == str(kept(copy))
    sidecar = copy.sidecar(NAME)
    assert sidecar is not None
    assert kept(copy).stat().st_mtime_ns == sidecar.mtime_ns, "the next look needs no hash"
    assert not failures(copy.check())


def test_a_wheel_deleted_by_hand_is_told(house: Wheelhouse, wheel: Path) -> None:
    house.add(wheel)
    kept(house).unlink()
    heard: list[str] = []

    class Reporter(SilentReporter):
        def warn(self, text: str) -> None:
            heard.append(text)

    with reporting(Reporter()):
        assert house.entries() == []
    assert "is gone from" in heard[0]
    assert "the wheel is gone, its sidecar is still there" in failed(house)[NAME].found
    house.add(wheel)
    assert not failures(house.check())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda _: b"{", "cannot be understood"),
        (lambda data: data.replace(b'"schema": 1', b'"schema": 7', 1), "has schema 7"),
        (lambda _: b'{"schema": 7, "everything": "else"}', "has schema 7"),
        (
            lambda data: data.replace(NAME.encode(), NAME.encode().replace(b"2.2.0", b"2.2.9")),
            "another wheel",
        ),
        (
            lambda data: data.replace(
                b'"proofs": []', b'"proofs": [{"level": "x", "passed": true, "when": "", "verdict": {}}]'
            ),
            "unknown level",
        ),
    ],
)
def test_an_unreadable_sidecar_is_never_guessed_at(
    house: Wheelhouse, wheel: Path, content, message: str
) -> None:  # type: ignore[no-untyped-def]
    house.add(wheel)
    sidecar = kept(house, ".sagefix.json")
    sidecar.write_bytes(content(sidecar.read_bytes()))
    with pytest.raises(WheelhouseError, match=message):
        house.entries()
    assert message in failed(house)[NAME].found
    house.add(wheel)
    assert not failures(house.check())


def test_foreign_files_are_found(house: Wheelhouse, wheel: Path, tmp_path: Path) -> None:
    house.add(wheel)
    folder = house.path / "sageattention"
    (house.path / "notes.txt").write_text("x")
    (house.path / "Not_Normal").mkdir()
    (house.path / "escape").symlink_to(tmp_path)
    (folder / "script.sh").write_text("x")
    (folder / "folder").mkdir()
    (folder / NAME.replace("2.2.0", "1.0.0")).write_bytes(b"x")
    (folder / NAME.replace("2.2.0", "1.1.1")).symlink_to(wheel)
    (folder / (NAME.replace("2.2.0", "1.2.2") + ".metadata")).write_bytes(b"x")
    (folder / ".sage-abc.partial.whl").write_bytes(b"x")
    found = failed(house)
    assert {name: check.found for name, check in found.items()} == {
        "notes.txt": "does not belong into a wheelhouse",
        "Not_Normal": "does not belong into a wheelhouse",
        "escape": f"a symbolic link to {tmp_path}",
        "sageattention/script.sh": "does not belong into a wheelhouse",
        "sageattention/folder": "does not belong into a wheelhouse",
        NAME.replace("2.2.0", "1.0.0"): "a wheel that was never added (it has no sidecar)",
        NAME.replace("2.2.0", "1.1.1"): f"a symbolic link to {wheel}",
        NAME.replace("2.2.0", "1.2.2"): "the wheel is gone, its METADATA is still there",
    }
    assert all(check.fix for check in found.values())
    partial = next(check for check in house.check() if ".partial" in check.name)
    assert partial.status == "warning"
    assert len(house.entries()) == 1, "foreign files do not hide the others"


def test_a_link_in_place_of_a_wheel_is_refused(house: Wheelhouse, wheel: Path) -> None:
    house.add(wheel)
    kept(house).unlink()
    kept(house).symlink_to(wheel)
    with pytest.raises(WheelhouseError, match="is not a regular file"):
        house.entries()
    house.add(wheel)
    assert not kept(house).is_symlink()
    assert not failures(house.check())


def test_changed_metadata_and_pages_are_found_and_put_right(house: Wheelhouse, wheel: Path) -> None:
    house.add(wheel)
    kept(house, ".metadata").write_text("Name: other\n")
    assert "metadata is changed" in failed(house)[NAME].found
    house.add(wheel)
    kept(house, ".metadata").unlink()
    assert "metadata is missing" in failed(house)[NAME].found
    house.add(wheel)
    (house.path / "sageattention" / "index.html").write_text("")
    (house.path / "index.json").unlink()
    assert "index.json, sageattention/index.html" in failed(house)["index"].found
    house.write_index()
    assert not failures(house.check())


def test_a_wheel_dropped_in_by_hand_is_adopted(house: Wheelhouse, wheel: Path) -> None:
    kept(house).parent.mkdir()
    shutil.copy(wheel, kept(house))
    assert house.entries() == []
    house.add(kept(house))
    assert len(house.entries()) == 1
    assert not failures(house.check())


# Pruning


def test_prune_keeps_the_newest_of_each_kind(house: Wheelhouse, tmp_path: Path) -> None:
    for version in ("2.2.0+aaaaaaa.cu130.torch2.11.sm90", "2.2.0+aaaaaaa.fix1.cu130.torch2.11.sm90"):
        house.add(make_wheel(tmp_path / "d", version=version))
    # A newer wheel of another commit takes nothing away from this one: who is pinned to it needs it.
    house.add(make_wheel(tmp_path / "d", version="2.2.0+bbbbbbb.cu130.torch2.11.sm90"))
    house.add(make_wheel(tmp_path / "d", version="2.2.0+aaaaaaa.cu130.torch2.10.sm90"))
    house.add(make_wheel(tmp_path / "d", version="2.2.0+aaaaaaa.cu130.torch2.11.sm90", tag="py2-none-any"))
    house.add(make_wheel(tmp_path / "d", project="other"))
    lines = house.prune(keep=1, unproven=False, dry_run=True)
    assert lines == [
        "sageattention-2.2.0+aaaaaaa.cu130.torch2.11.sm90-py3-none-any.whl: "
        "1 newer for the same commit, Python, platform, archs and torch"
    ]
    assert len(house.entries()) == 6
    assert house.prune(keep=1, unproven=False) == lines
    assert len(house.entries()) == 5
    assert not failures(house.check())


def test_prune_what_is_unproven(house: Wheelhouse, tmp_path: Path) -> None:
    names = [
        house.add(make_wheel(tmp_path / "d", version=f"2.2.0+{commit}")).filename
        for commit in ("aaaaaaa", "bbbbbbb", "ccccccc")
    ]
    house.record_proof(names[0], {}, "import", True)
    house.record_proof(names[1], {}, "import", False)
    assert house.prune(keep=None, unproven=True, project="other") == []
    assert sorted(house.prune(keep=None, unproven=True)) == [
        f"{names[1]}: failed the import check",
        f"{names[2]}: passed no verification",
    ]
    assert [facts.filename for facts in house.entries()] == [names[0]]


def test_prune_takes_old_leftovers(house: Wheelhouse, wheel: Path) -> None:
    house.add(wheel)
    old, young = kept(house).with_name(".x-1.partial.whl"), kept(house).with_name(".x-2.partial.whl")
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    assert house.prune(keep=None, unproven=False) == [
        "sageattention/.x-1.partial.whl: left over by an interrupted write"
    ]
    assert young.exists()
    assert not old.exists()


# Among others, and where writing is not possible

_ADDER = """
import sys
from pathlib import Path
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.model import Proof
for wheel in sys.argv[2:]:
    Wheelhouse.open(Path(sys.argv[1])).add(Path(wheel))
"""


def test_several_processes_add_at_once(tmp_path: Path) -> None:
    shared = make_wheel(tmp_path / "d")
    processes = []
    for number in range(4):
        own = [make_wheel(tmp_path / "d", version=f"2.2.0+n{number}x{i}") for i in range(5)]
        command = [sys.executable, "-c", _ADDER, str(tmp_path / "house"), *map(str, own), str(shared)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        processes.append(subprocess.Popen(command, env=environment))
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    house = Wheelhouse.open(tmp_path / "house", create=False)
    assert len(house.entries()) == 21
    assert not failures(house.check())


def test_a_lock_that_is_held(house: Wheelhouse, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    monkeypatch.setattr(store_module, "_LOCK_TIMEOUT_S", 0.1)
    with FileLock(house.path / ".lock"):
        assert house.entries() == [], "reading needs no lock"
        with pytest.raises(LockError, match="another process has held"):
            house.add(wheel)


@pytest.mark.parametrize("at", ["wheel", "metadata", "sidecar", "page"])
def test_an_interruption_at_any_step_is_cured_by_the_same_command(
    house: Wheelhouse, wheel: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop as kill -9 does, in that nothing after the step is written."""
    steps = {"wheel": ".whl", "metadata": ".metadata", "sidecar": ".sagefix.json", "page": "index.html"}
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if str(target).endswith(steps[at]):
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            house.add(wheel)
    if at != "page":
        assert house.entries() == []
    house.add(wheel)
    assert len(house.entries()) == 1
    assert not failures(house.check())


def test_a_full_disk(house: Wheelhouse, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full)
        with pytest.raises(DiskError, match="no space is left") as raised:
            house.add(wheel)
    assert raised.value.hint
    assert house.entries() == []
    assert not failures(house.check())


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder that can be read and not written by the user that the test runs as meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="sagefix-test-"))
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_wheelhouse_that_cannot_be_written(nobody: Path, wheel: Path) -> None:
    house = Wheelhouse.open(nobody / "house")
    house.add(wheel)
    house.check()  # everything is imported before the user changes
    copy = nobody / wheel.name
    shutil.copy(wheel, copy)
    (nobody / "empty").mkdir()
    (nobody / "closed").mkdir()
    for path in (nobody, *nobody.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (nobody / "closed").chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        again = Wheelhouse.open(nobody / "house")
        assert len(again.entries()) == 1
        assert not failures(again.check())
        for action in (
            lambda: again.add(copy),
            lambda: again.remove(NAME),
            lambda: again.record_proof(NAME, {}, "static", True),
            lambda: Wheelhouse.open(nobody / "empty"),
            lambda: Wheelhouse.open(nobody / "new"),
        ):
            with pytest.raises(DiskError, match="is not writable") as raised:
                action()
            assert "--wheelhouse" in raised.value.hint
        with pytest.raises(WheelhouseError, match="cannot be read: Permission denied"):
            Wheelhouse.open(nobody / "closed", create=False)
    finally:
        if root:
            os.seteuid(0)


def test_facts_survive_the_sidecar(house: Wheelhouse, wheel: Path) -> None:
    facts = house.add(wheel)
    sidecar = house.sidecar(NAME)
    assert sidecar is not None
    assert msgspec.structs.replace(sidecar.facts, where=facts.where) == facts
    assert sidecar.added.endswith("Z")
    assert sidecar.added_by.startswith("sagefix ")
