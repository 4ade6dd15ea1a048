"""``sagefix bisect`` over a git history of ours: at level static, and with wheels that are built and grafted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from histories import History, git, make_history, write_manifest

from sagefix.errors import WheelhouseError
from sagefix.pins.load import load_pin
from sagefix.source.history import read_history
from sagefix.targets.host import cores
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.workflows.bisect_wheels import WheelJudge
from sagefix.workflows.bisection import Asked
from sagefix.workflows.situation import Request
from tests.integration.conftest import Here, Sagefix, ask, python_of

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None and shutil.which("gcc") is None, reason="needs a C compiler"
)
# parent, child, before, after, merged from, on the main line
EDGES = [
    ("branch", "wrong", "good", "bad", "", False),
    ("readme", "broken", "good", "bad", "wrong", True),
    ("still", "conflict", "bad", "unparsable", "", True),
    ("conflict", "reverted", "unparsable", "good", "", True),
    ("reverted", "again", "good", "bad", "", True),
    ("still", "repair", "bad", "good", "", False),
    ("again", "fixed", "bad", "good", "repair", True),
]
Find = Callable[..., Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> History:
    """The history, not to be changed."""
    return make_history(tmp_path_factory.mktemp("history") / "repository")


@pytest.fixture
def history(made: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(write_manifest(tmp_path / "manifests", made)))
    return made


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    """A history of one commit, to be continued; its manifest is written by :func:`use`."""
    return History(tmp_path / "own")


def use(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(write_manifest(tmp_path / "manifests", history)))


def named(history: History, edges: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return edges with the names of their commits."""
    name = {commit: each for each, commit in history.commits.items()} | {"": ""}
    return [
        (name[edge["parent"]], name[edge["child"]], edge["before"], edge["after"],
         name[edge["merged_from"]], edge["main"])
        for edge in edges
    ]  # fmt: skip


def bisect(run: Any, history: History, *args: str | Path, good: str = "good", bad: str = "last") -> Any:
    """Run the command and return what it said."""
    ends = (history.commits.get(good, good), history.commits.get(bad, bad))
    return run("bisect", "--pin", "demo", "--good", ends[0], "--bad", ends[1], *args)


def rows_of(history: History, result: Any) -> dict[str, Any]:
    name = {commit: each for each, commit in history.commits.items()}
    return {name[row["commit"]]: row for row in result["rows"]}


# --- static


def test_every_edge_is_found_with_no_commit_guessed(here: Here, history: History) -> None:
    said = bisect(lambda *args: here(*args, json_=True), history)
    result = said.result
    assert sorted(named(history, result["edges"])) == sorted(EDGES)
    rows = rows_of(history, result)
    assert {name: row["verdict"] for name, row in rows.items()} == {
        **dict.fromkeys(("good", "readme", "branch", "reverted", "repair", "fixed", "last"), "good"),
        **dict.fromkeys(("wrong", "broken", "still", "again"), "bad"),
        "conflict": "unparsable",
    }
    assert {name for name, row in rows.items() if row["how"] == "tested"} == {
        "good", "branch", "wrong", "conflict", "repair",
    }  # fmt: skip
    assert all(row["how"] != "skipped" for row in rows.values())
    assert rows["broken"]["equal_to"] == history["wrong"] and "equal" in rows["broken"]["because"]
    assert [(piece["verdict"], len(piece["commits"])) for piece in result["stretches"]] == [
        ("good", 2), ("bad", 2), ("unparsable", 1), ("good", 1), ("bad", 1), ("good", 2),
    ]  # fmt: skip
    assert rows["wrong"]["date"].startswith("2026-01-01T") and rows["wrong"]["subject"] == "wrong"
    assert "topological order" in result["walked"] and "all parents" in result["walked"]


def test_the_answer_is_told_in_words(here: Here, history: History) -> None:
    out = bisect(here, history).out
    short = {name: commit[:7] for name, commit in history.commits.items()}
    assert f"The first commit on the main line that is not good is {short['broken']}." in out
    assert f"{short['readme']} good -> {short['broken']} bad, merged from {short['wrong']}: broken" in out
    assert f"{short['branch']} good -> {short['wrong']} bad: wrong" in out
    assert f"--bad {short['last']} is good itself: what was broken was repaired on the way." in out
    assert "5 commits tested, 7 inferred from an equal one, 0 skipped; none guessed." in out
    assert f"{short['wrong']} bad: demoattention/kernels.py: the operator demo::double" in out


def test_the_main_line_alone(here: Here, history: History) -> None:
    said = bisect(lambda *args: here(*args, "--first-parent", json_=True), history)
    assert named(history, said.result["edges"]) == [
        (parent, child, before, after, "", True) for parent, child, before, after, _, main in EDGES if main
    ]
    assert "first parents" in said.result["walked"]
    # "repair" is no first parent of "last".
    said = bisect(lambda *args: here(*args, "--first-parent", json_=True), history, good="repair")
    assert said.code == 9 and "not on the line of first parents" in said.answer["error"]["message"]


def test_it_comes_from_the_cache_the_second_time(here: Here, history: History, tmp_path: Path) -> None:
    run = lambda *args: here(*args, json_=True)  # noqa: E731
    first = bisect(run, history).result
    assert first["received"] > 0
    again = bisect(run, history, "--offline").result
    assert again["received"] == 0 and again["edges"] == first["edges"]


@pytest.mark.parametrize("way", ["repository", "bundle", "history bundle", "no filter"])
def test_it_comes_from_wherever_the_history_is(here: Here, made: History, tmp_path: Path, way: str,
                                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    copy = tmp_path / "copy.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(made.path), str(copy))
    use(made, tmp_path, monkeypatch)
    source: str = str(copy)
    if way == "no filter":
        git(copy, "config", "uploadpack.allowFilter", "false")
        source = copy.as_uri()
    elif way == "history bundle":
        source = str(tmp_path / "all.bundle")
        git(copy, "bundle", "create", "--quiet", source, "main")
    elif way == "bundle":
        source = str(tmp_path / "range.bundle")
        words = ("--since", made["readme"], "--ref", made["last"], "--source", str(copy))
        written = here("source", "bundle", source, "--pin", "demo", *words, json_=True).result
        assert written["commits"] == 11
        monkeypatch.setenv("SAGEFIX_CACHE_DIR", str(tmp_path / "another"))
    run = lambda *args: here(*args, "--source", source, "--offline", json_=True)  # noqa: E731
    result = bisect(run, made, good="readme").result
    assert ("readme", "broken", "good", "bad", "wrong", True) in named(made, result["edges"])


def test_entries_fit_into_the_manifest(here: Here, history: History, tmp_path: Path) -> None:
    file = tmp_path / "known.toml"
    assert bisect(here, history, "--toml", file).code == 0
    manifest = Path(os.environ["SAGEFIX_MANIFESTS"]) / "demo.toml"
    manifest.write_text(
        manifest.read_text(encoding="utf-8") + "\n" + file.read_text(encoding="utf-8"), encoding="utf-8"
    )
    pin = load_pin("demo")
    assert [known.status for known in pin.known_about(history["again"], ())] == ["bad"]
    # What is known now agrees, and still decides nothing.
    result = bisect(lambda *args: here(*args, json_=True), history).result
    assert result["disagreements"] == []
    text = manifest.read_text(encoding="utf-8").replace('status = "bad"', 'status = "good"')
    manifest.write_text(text, encoding="utf-8")
    result = bisect(lambda *args: here(*args, json_=True), history).result
    assert sorted(named(history, result["edges"])) == sorted(EDGES)
    assert {each["commit"] for each in result["disagreements"]} == {
        history[name] for name in ("wrong", "broken", "still", "again")
    }
    assert (
        f"The manifest says that {history['again'][:7]} is good, and it is bad" in bisect(here, history).out
    )
    assert '[[known]]\nstatus = "unparsable"' in bisect(here, history, "--toml", "-").out


@pytest.mark.parametrize(
    ("good", "bad", "code", "words"),
    [
        ("nowhere", "last", 9, "--good: .* has no ref 'nowhere'"),
        ("good", "nowhere", 9, "--bad: .* has no ref 'nowhere'"),
        ("-x", "last", 3, "--good: '-x' is not a commit"),
        ("good", "0" * 40, 9, "has no commit 0{40}|does not hold commit 0{40}"),
        ("good", "good", 2, "--good and --bad are one commit"),
        ("broken", "last", 24, "--good [0-9a-f]{7} is bad itself at level static: demoattention/kernels.py"),
        ("conflict", "last", 24, "--good [0-9a-f]{7} is unparsable itself"),
        ("good", "readme", 24, "The verdict never changes: --bad [0-9a-f]{7} is good at level static, too."),
        ("last", "good", 9, "comes before [0-9a-f]{7}, not after it"),
        ("repair", "again", 9, "is not an ancestor of .* They part at [0-9a-f]{7}"),
    ],
)  # fmt: skip
def test_what_makes_no_search(
    here: Here, history: History, good: str, bad: str, code: int, words: str
) -> None:
    said = bisect(here, history, good=good, bad=bad)
    assert said.code == code, said.err
    assert re.search(words, said.err.replace("\n", " ")), said.err


def test_a_search_without_a_result_shows_what_it_saw(here: Here, history: History) -> None:
    said = bisect(lambda *args: here(*args, json_=True), history, good="broken")
    assert said.answer["error"]["details"] == {"kind": "good-is-bad", "commit": history["broken"]}
    assert len(said.answer["result"]["edges"]) == 5


def test_places_without_a_history_are_refused(
    here: Here, history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(history.path, tmp_path / "plain", ignore=shutil.ignore_patterns(".git"))
    said = bisect(here, history, "--source", folder)
    assert said.code == 9 and "has no history" in said.err
    said = bisect(here, history, "--source", tmp_path / "gone")
    assert said.code == 9 and "There is no" in said.err
    said = bisect(here, history, "--source", "http://localhost:1/x", "--offline")
    assert said.code == 9 and "Offline, and the history" in said.err and "--since" in said.err
    said = bisect(here, history, "--toml", tmp_path)
    assert said.code == 2
    monkeypatch.delenv("SAGEFIX_MANIFESTS")
    pin = load_pin("demo")
    said = here("bisect", "--pin", "demo", "--good", pin.source.commit, "--bad", history["last"])
    assert said.code == 9 and "has no history" in said.err


def test_unrelated_and_cut_histories_are_told_apart(here: Here, history: History, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "--quiet", str(history.path), str(copy))
    git(copy, "checkout", "--quiet", "--orphan", "other")
    git(copy, "commit", "--quiet", "--allow-empty", "-m", "alone")
    alone = git(copy, "rev-parse", "HEAD")
    said = bisect(here, history, "--source", copy, bad=alone)
    assert said.code == 9 and "no common ancestor" in said.err
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=2", history.path.as_uri(), str(shallow))
    said = bisect(here, history, "--source", shallow)
    assert said.code == 9 and "does not hold commit" in said.err


def test_a_commit_without_the_package_is_skipped_and_the_edge_goes_through_it(
    here: Here, own: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(own.path / "demoattention")
    own.commit("empty")
    own.take("good")
    own.plant(good=False)
    own.commit("bad")
    use(own, tmp_path, monkeypatch)
    said = bisect(lambda *args: here(*args, json_=True), own, bad="bad")
    rows = rows_of(own, said.result)
    assert rows["empty"]["how"] == "skipped" and "no package demoattention" in rows["empty"]["words"]
    (edge,) = said.result["edges"]
    assert edge["through"] == [own["empty"]]
    assert "which cannot be judged" in bisect(here, own, bad="bad").out


# --- with wheels


@needs_compiler
def test_numbers_find_the_same_edges_with_one_compilation(
    sagefix: Sagefix, history: History, make_target: Callable[..., Path]
) -> None:
    target = make_target()
    words = ("--level", "numerics", "--python", python_of(target))
    result = bisect(sagefix, history, *words).result
    assert sorted(named(history, result["edges"])) == sorted(EDGES)
    assert (result["compiled"], result["grafted"]) == (1, 3)
    rows = rows_of(history, result)
    assert "never written" in rows["wrong"]["words"] and rows["wrong"]["made"] == "grafted"
    assert rows["conflict"]["made"] == "" and rows["conflict"]["verdict"] == "unparsable"
    # Nothing was done to the target or to the user's wheelhouse.
    assert "ModuleNotFoundError" in ask(target, "import demoattention")
    assert not list(Path(os.environ["SAGEFIX_WHEELHOUSE"]).rglob("*.whl"))
    kept = list(Path(os.environ["SAGEFIX_CACHE_DIR"]).glob("bisect/*/*"))
    assert {path.name for path in kept} == {"donors", "verdicts", "wheels"}

    again = bisect(sagefix, history, *words).result
    assert (again["compiled"], again["grafted"]) == (0, 0)
    assert again["edges"] == result["edges"]
    assert all(row["kept"] for row in again["rows"] if row["verdict"] != "unparsable")

    apart = bisect(sagefix, history, *words, "--fresh", "--no-share").result
    assert (apart["compiled"], apart["grafted"]) == (4, 0) and apart["edges"] == result["edges"]


@needs_compiler
def test_a_search_that_was_killed_goes_on(
    sagefix: Sagefix, history: History, make_target: Callable[..., Path]
) -> None:
    words = ("--level", "import", "--python", python_of(make_target()))
    ends = ("--pin", "demo", "--good", history["good"], "--bad", history["last"])
    running = sagefix.start("bisect", *ends, *words)
    verdicts = Path(os.environ["SAGEFIX_CACHE_DIR"]) / "bisect"
    deadline = time.monotonic() + 120
    while not list(verdicts.glob("*/verdicts/*.json")):
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    said = bisect(sagefix, history, *words)
    rows = rows_of(history, said.answer["result"])
    assert rows["good"]["kept"] and not rows["repair"]["kept"]
    # What was compiled for a commit that need not be judged again is there for the others.
    assert (said.answer["result"]["compiled"], rows["repair"]["made"]) == (0, "grafted")


@needs_compiler
def test_an_installed_copy_of_the_user_is_neither_judged_nor_touched(
    sagefix: Sagefix, history: History, make_target: Callable[..., Path]
) -> None:
    target = make_target()
    (site,) = target.glob("lib/python*/site-packages")
    (site / "demoattention").mkdir()
    (site / "demoattention" / "__init__.py").write_text("raise ImportError('mine')\n")
    (site / "demoattention-0.1.dist-info").mkdir()
    (site / "demoattention-0.1.dist-info" / "METADATA").write_text("Name: demoattention\nVersion: 0.1\n")
    words = ("--level", "numerics", "--python", python_of(target))
    result = bisect(sagefix, history, *words, bad="broken").result
    assert rows_of(history, result)["broken"]["verdict"] == "bad"
    assert "mine" in ask(target, "import demoattention")


@needs_compiler
def test_other_native_sources_are_compiled_and_a_broken_build_is_skipped(
    sagefix: Sagefix, own: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_target: Path
) -> None:
    own.edit("setup.py", '"-O2"', '"-O1"')
    own.commit("flags")
    own.edit("setup.py", '"-O1"', '"-O2"')
    own.edit("setup.py", "HERE = ", "# The same extension.\nHERE = ")
    own.commit("comment")
    own.edit("csrc/attention.c", "#include", "#error broken\n#include") if (
        (own.path / "csrc/attention.c").read_text().count("#include") == 1
    ) else own.write("csrc/attention.c", "#error broken\n")
    own.commit("uncompilable")
    own.take("good")
    own.plant(good=False)
    own.commit("bad")
    use(own, tmp_path, monkeypatch)
    words = ("--level", "numerics", "--python", python_of(base_target))
    said = bisect(sagefix, own, *words, bad="bad")
    # The next compilation goes on beside the first where a second core is idle.
    beside = f"Compiling {own['flags'][:7]} beside {own['good'][:7]}." in said.err
    assert beside == (cores() >= 2 and "MAX_JOBS" not in os.environ)
    result = said.result
    rows = rows_of(own, result)
    assert {name: row["made"] for name, row in rows.items()} == {
        "good": "built", "flags": "built", "comment": "", "uncompilable": "", "bad": "grafted",
    }  # fmt: skip
    assert rows["comment"]["equal_to"] == own["good"]
    assert (
        rows["uncompilable"]["how"] == "skipped" and "It cannot be built: " in rows["uncompilable"]["words"]
    )
    (edge,) = result["edges"]
    assert edge["through"] == [own["uncompilable"]]


@needs_compiler
def test_a_good_end_that_is_bad_ends_the_search_at_once(
    sagefix: Sagefix, history: History, base_target: Path
) -> None:
    said = bisect(sagefix, history, "--level", "numerics", "--python", python_of(base_target), good="broken")
    assert said.code == 24 and said.answer["error"]["details"]["kind"] == "good-is-bad"
    assert said.answer["result"]["compiled"] == 1
    assert [row["how"] for row in said.answer["result"]["rows"]].count("skipped") > 3


@needs_compiler
def test_a_graft_is_byte_for_byte_the_build_but_for_its_record(
    history: History, base_target: Path, tmp_path: Path
) -> None:
    pin = load_pin("demo")
    found = read_history(pin, history["good"], history["last"])
    request = Request(pin="demo", python=str(python_of(base_target)))
    by_commit = {change.commit: change for change in found.changes}
    wheels = []
    for share in (True, False):
        asked = Asked(good="", bad="", level="import", share=share, fresh=True)
        judge = WheelJudge(request, asked, pin, found, found.changes)
        try:
            judge._wheel(by_commit[history["good"]], ())
            # Other Python files, another README, and so another METADATA.
            for name in ("broken", "last"):
                wheel, how = judge._wheel(by_commit[history[name]], ())
                assert how == ("grafted" if share else "built")
                wheels.append(shutil.copy(wheel, tmp_path / f"{name}-{share}-{wheel.name}"))
        finally:
            judge.close()
    for grafted, built in zip(wheels[:2], wheels[2:], strict=True):
        with zipfile.ZipFile(grafted) as one, zipfile.ZipFile(built) as other:
            assert one.namelist() == other.namelist()
            different = {name for name in one.namelist() if one.read(name) != other.read(name)}
            assert {name.partition(".dist-info/")[2] for name in different} == {
                "RECORD", "sagefix.json", "sboms/demoattention.cdx.json",
            }  # fmt: skip
    real = tmp_path / Path(wheels[0]).name.partition("-True-")[2]
    Path(wheels[0]).rename(real)
    with pytest.raises(WheelhouseError, match="was grafted for a search"):
        Wheelhouse.open(tmp_path / "house").add(real)
