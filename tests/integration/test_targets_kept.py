"""Folders of the cache: made by one process, whole or not at all, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from sagefix.errors import DiskError, LockError, UsageError
from sagefix.targets.kept import (
    is_made,
    made_folders,
    make_once,
    read_facts,
    remove_from,
    remove_kept,
    require_free,
    shelf,
)

ROOT = Path(__file__).parents[2]
# Counts its calls in a file beside the folder, and stops in the middle as long as a file tells it to.
SLOW = """
import sys, time
from pathlib import Path
import msgspec
from sagefix.targets.kept import make_once, shelf

class Facts(msgspec.Struct):
    name: str

def fill(work):
    with (folder.parent / "calls").open("a") as calls:
        calls.write("called\\n")
    (work / "half").write_text("x")
    while (folder.parent / "hold").exists():
        time.sleep(0.02)
    (work / "whole").write_text("x")
    return Facts(name="it")

folder = shelf("things") / "it"
make_once(folder, "it", fill, in_place=sys.argv[1] == "in place")
"""


class Facts(msgspec.Struct):
    name: str


def nothing(work: Path) -> Facts:
    return Facts(name="it")


def start(how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SLOW, how], env={**os.environ, "PYTHONPATH": str(ROOT)})


def until(path: Path, lines: int) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() or len(path.read_text().splitlines()) < lines:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("how", ["in place", "aside"])
def test_a_killed_process_leaves_nothing_that_counts(how: str) -> None:
    folder = shelf("things") / "it"
    hold = folder.parent / "hold"
    hold.touch()
    killed = start(how)
    until(folder.parent / "calls", 1)
    with pytest.raises(LockError, match="is making it just now"):
        remove_kept(folder, "it")
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not is_made(folder)
    assert made_folders("things") == []
    hold.unlink()
    assert start(how).wait(30) == 0
    assert read_facts(folder, Facts) == Facts(name="it")
    assert sorted(path.name for path in folder.iterdir()) == ["half", "sagefix.json", "whole"]
    assert (folder.parent / "calls").read_text().count("called") == 2
    assert not folder.with_name("it.partial").exists()


def test_two_processes_make_one(tmp_path: Path) -> None:
    folder = shelf("things") / "it"
    (folder.parent / "hold").touch()
    both = [start("aside"), start("aside")]
    until(folder.parent / "calls", 1)
    time.sleep(0.3)
    (folder.parent / "hold").unlink()
    assert [process.wait(30) for process in both] == [0, 0]
    assert (folder.parent / "calls").read_text().count("called") == 1


def test_a_failure_leaves_nothing_and_can_be_tried_again() -> None:
    folder = shelf("things") / "it"

    def fail(work: Path) -> Facts:
        (work / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_once(folder, "it", fail)
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == []
    make_once(folder, "it", nothing)
    make_once(folder, "it", fail)
    assert read_facts(folder, Facts) == Facts(name="it")


def test_what_another_sagefix_wrote_is_not_guessed_at() -> None:
    folder = shelf("things") / "it"
    make_once(folder, "it", nothing)
    (folder / "sagefix.json").write_text('{"name": 1}')
    assert read_facts(folder, Facts) is None


def test_removing_by_name_by_part_and_all() -> None:
    def five_bytes(work: Path) -> Facts:
        (work / "x").write_text("12345")
        return Facts(name="it")

    for name in ("py3.11-torch2.10-aa", "py3.11-torch2.11-bb", "py3.12-torch2.11-cc"):
        make_once(shelf("things") / name, name, five_bytes)
    with pytest.raises(UsageError, match=r"'torch2\.11' stands for several: py3\.11"):
        remove_from("things", ["torch2.11"], everything=False, what="a thing")
    with pytest.raises(UsageError, match="'nope' is not the name of a thing") as caught:
        remove_from("things", ["nope"], everything=False, what="a thing")
    assert "py3.12-torch2.11-cc" in caught.value.hint
    (removed,) = remove_from("things", ["torch2.10"], everything=False, what="a thing")
    assert (removed.name, removed.freed) == ("py3.11-torch2.10-aa", 5)
    (shelf("things") / "unfinished.partial").mkdir()
    gone = remove_from("things", [], everything=True, what="a thing")
    assert [each.name for each in gone] == ["py3.11-torch2.11-bb", "py3.12-torch2.11-cc", "unfinished"]
    assert [path for path in shelf("things").iterdir() if path.is_dir()] == []
    assert remove_from("nowhere", [], everything=True, what="a thing") == ()


def test_a_full_disk_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    require_free(tmp_path, 1, "This")
    with pytest.raises(DiskError, match=r"This needs 1000000000\.0 GB below"):
        require_free(tmp_path, 10**18, "This")
