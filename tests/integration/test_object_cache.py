"""The object cache: sccache before the compilers that ninja starts, for one build."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from sagefix.building.objects import check_object_cache, find_object_cache, read_objects
from sagefix.building.plan import Identity
from sagefix.errors import UsageError
from tests.unit.test_plan import plan

GUEST = Path(__file__).parents[2] / "sagefix" / "guest"
SCCACHE = Path(sysconfig.get_path("scripts")) / "sccache"
BUILD = """\
import sys
sys.path.insert(0, {guest!r})
from objects import ObjectCache
import subprocess
cache = ObjectCache({program!r}, {{"SCCACHE_DIR": {objects!r}}})
if cache.ready():
    cache.put_before_compilers(".")
sys.exit(subprocess.run(["ninja", "-v"]).returncode)
"""
NINJA = """\
cxx = g++
rule compile
  command = $cxx -MMD -MF $out.d -c $in -o $out
build {name}.o: compile {folder}/{name}.cpp
"""


def compiled(folder: Path, program: str = str(SCCACHE), text: str = "int one() { return 1; }\n") -> str:
    """Compile one source in ``folder/work``, made anew; return what the build said."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    for path in work.iterdir():
        path.unlink()
    (work / "one.cpp").write_text(text)
    (work / "build.ninja").write_text(NINJA.format(name="one", folder=work))
    script = BUILD.format(guest=str(GUEST), program=program, objects=str(folder / "objects"))
    env = {name: value for name, value in os.environ.items() if not name.startswith("SCCACHE_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=work,
        env={**env, "SAGEFIX_BUILD_DIR": str(work)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (work / "one.o").is_file()
    return done.stdout


def test_a_source_that_was_compiled_before_is_not_compiled_again(tmp_path: Path) -> None:
    first = read_objects(compiled(tmp_path))
    second = read_objects(compiled(tmp_path))
    other = read_objects(compiled(tmp_path, text="int one() { return 2; }\n"))
    assert first is not None and second is not None and other is not None
    assert (first.reused, first.compiled) == (0, 1)
    assert (second.reused, second.compiled) == (1, 0)
    assert (other.reused, other.compiled) == (0, 1)


def test_the_server_ends_with_the_build_and_leaves_nothing_behind(tmp_path: Path) -> None:
    import psutil

    compiled(tmp_path)
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == [
        ".ninja_log", "build.ninja", "one.cpp", "one.o", "one.o.d",
    ]  # fmt: skip
    here = [
        process
        for process in psutil.process_iter(["name", "environ"])
        if process.info["name"] == "sccache"
        and (process.info["environ"] or {}).get("SCCACHE_DIR") == str(tmp_path / "objects")
    ]
    assert not here


@pytest.mark.parametrize("says", ["exit 1", "exec sleep 60"], ids=["ends", "hangs"])
def test_a_server_that_does_not_start_costs_the_build_nothing(tmp_path: Path, says: str) -> None:
    broken = tmp_path / "my sccache"
    broken.write_text(f"#!/bin/sh\n{says}\n")
    broken.chmod(0o755)
    said = compiled(tmp_path, str(broken))
    assert "sagefix: no object cache" in said
    assert read_objects(said) is None


def test_a_path_with_spaces_is_a_program(tmp_path: Path) -> None:
    spaced = tmp_path / "of $mine"
    spaced.mkdir()
    (spaced / "sccache").symlink_to(SCCACHE)
    assert read_objects(compiled(tmp_path, str(spaced / "sccache"))) is not None


def find(choice: str, identity: Identity, **env: str) -> dict[str, str] | None:
    found = find_object_cache(choice, identity, {"PATH": os.defpath, **env})
    return found.variables if found else None


def test_the_one_of_the_own_environment_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEFIX_CACHE_DIR", str(tmp_path))
    identity = plan().identity
    variables = find("auto", identity)
    assert variables is not None
    assert variables["SCCACHE_DIR"] == str(tmp_path / "objects")
    assert find("off", identity) is None
    # Where the user keeps objects is his to say.
    assert "SCCACHE_DIR" not in (find("auto", identity, SCCACHE_BUCKET="mine") or {"SCCACHE_DIR": ""})


@pytest.mark.parametrize(
    ("text", "said"),
    [("echo sccache 0.2.15", "is sccache 0.2.15"), ("exit 3", "is no sccache that runs")],
    ids=["old", "broken"],
)
def test_one_that_was_named_has_to_be_usable(tmp_path: Path, text: str, said: str) -> None:
    program = tmp_path / "sccache"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    with pytest.raises(UsageError, match=said):
        find(str(program), plan().identity)


def test_doctor_says_whether_there_is_one(tmp_path: Path) -> None:
    assert check_object_cache("auto", {}).status == "ok"
    assert check_object_cache("off", {}).status == "skipped"
    assert check_object_cache(str(tmp_path / "nothing"), {}).status == "warning"


@pytest.mark.parametrize("log", ["", "sagefix objects {", 'sagefix objects {"stats": 1}'])
def test_a_log_without_figures_has_none(log: str) -> None:
    assert read_objects(log) is None
