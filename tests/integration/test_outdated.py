"""``sagefix outdated``: what is installed beside the pin and beside a real git history."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from histories import History, git, make_history, write_manifest

from tests.integration.conftest import Here, MakeTarget, Said

PIN = ("--pin", "demo")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> History:
    """The history, not to be changed."""
    return make_history(tmp_path_factory.mktemp("history") / "repository")


@pytest.fixture
def history(made: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    return use(made, tmp_path, monkeypatch)


def use(made: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **known: str) -> History:
    """Let the pin be the first commit of the history; ``known`` names commits that are ``good`` or ``bad``."""
    rows = "".join(
        f'\n[[known]]\nstatus = "{status}"\narchs = ["*"]\ncommits = ["{made[name]}"]\n'
        f'reason = "Somebody measured {name}."\nsources = ["tests/histories.py"]\n'
        for name, status in known.items()
    )
    folder = write_manifest(tmp_path / "manifests", made, known=rows)
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(folder))
    return made


def outdated(here: Here, target: Path, *more: str | Path) -> Said:
    return here("outdated", *PIN, "--python", target, *more, json_=True)


def check(result: Any, name: str) -> Any:
    (found,) = [row for row in result["checks"] if row["name"] == name]
    return found


def test_what_install_made_is_up_to_date(
    here: Here, make_target: MakeTarget, made: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(made, tmp_path, monkeypatch, fixed="good")
    target = make_target()
    assert here("install", *PIN, "--python", target).code == 0
    said = outdated(here, target, "--exit-code")
    result = said.result
    assert (result["status"], result["reasons"]) == ("up to date", [])
    assert result["commits"] == [made["good"]] == [result["pin"]["commit"]]
    assert result["built_by"].startswith("built by sagefix ")
    assert [(proof["level"], proof["capability"]) for proof in result["proofs"]] == [("numerics", "cpu")]
    assert check(result, "verified")["found"].startswith("Numerics on ")
    upstream = result["upstream"]
    assert (upstream["source"], upstream["why_not"]) == (made.path.as_uri(), "")
    assert upstream["after_pin"] == upstream["after_installed"] + 3 == 11
    assert upstream["head"]["commit"] == made["last"]
    assert (upstream["head"]["subject"], upstream["head"]["standing"]) == ("last", "unknown")
    assert upstream["head"]["read"] and "No known fault of source." in upstream["head"]["words"]
    assert upstream["newest_good"]["commit"] == made["fixed"]
    assert result["advice"] == [
        f"`sagefix install --ref {made['fixed'][:7]}` takes the newer commit that is known to be good."
    ]
    words = here("outdated", *PIN, "--python", target).out
    assert "up to date\n" in words and "Somebody measured fixed." in words


def test_another_commit_is_outdated_unless_it_is_known_to_be_good(
    here: Here, make_target: MakeTarget, made: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(made, tmp_path, monkeypatch, again="bad", fixed="good")
    target = make_target()
    install = ("install", *PIN, "--python", target, "--allow-known-bad", "--verify", "none", "--ref")
    for name, why in (("again", "is known to be broken on every arch: Somebody measured again."),
                      ("last", "not known to be good or bad")):  # fmt: skip
        assert here(*install, made[name]).code == 0
        assert outdated(here, target).code == 0
        said = outdated(here, target, "--exit-code")
        assert (said.code, said.answer["error"]["name"]) == (25, "outdated")
        assert said.answer["result"]["status"] == "outdated"
        assert why in check(said.answer["result"], "version")["found"]
    assert here(*install, made["fixed"]).code == 0
    result = outdated(here, target, "--exit-code").result
    assert result["status"] == "up to date"
    assert (result["upstream"]["after_installed"], result["upstream"]["newest_good"]) == (1, None)
    assert check(result, "verified")["found"] == "Never verified."
    # Without the wheel nothing is kept of it.
    elsewhere = outdated(here, target, "--wheelhouse", tmp_path / "empty").result
    assert check(elsewhere, "verified")["status"] == "skipped"
    assert elsewhere["proofs"] == []


def test_a_wheel_that_failed_here_is_outdated(here: Here, make_target: MakeTarget, history: History) -> None:
    target = make_target()
    install = ("install", *PIN, "--python", target, "--verify", "none")
    assert here(*install).code == 0
    (wheel,) = Path(os.environ["SAGEFIX_WHEELHOUSE"], "demoattention").glob("*.whl")
    # A verdict of another machine with the same kind of processor, taken in.
    report = here("verify", *PIN, "--python", target, "--level", "numerics", json_=True).result
    (case,) = report["numerics"]["cases"][:1]
    failed = [
        {"name": "numerics attention", "status": "failure", "found": "Noise.", "fix": "", "sources": []}
    ]
    report["numerics"]["cases"] = [{**case, "status": "wrong"}]
    report |= {"checks": [*report["checks"], *failed], "when": "2099-01-01T00:00:00+00:00"}
    (proof := target / "proof.json").write_text(json.dumps(report))
    assert here("wheelhouse", "prove", wheel.name, proof).code == 0
    said = outdated(here, target, "--exit-code")
    assert said.code == 25
    assert check(said.answer["result"], "verified")["found"].startswith(
        "It failed level numerics on this kind of GPU: FAILED level numerics on "
    )


def test_nothing_installed(here: Here, make_target: MakeTarget, history: History) -> None:
    target = make_target(build=False)
    result = outdated(here, target).result
    assert (result["status"], result["installed"], result["commits"]) == ("not installed", "", [])
    assert outdated(here, target, "--exit-code").code == 25
    words = here("outdated", *PIN, "--python", target)
    assert "not installed\n" in words.out
    assert here("outdated", *PIN, "--python", target / "nowhere").code == 5


def test_a_source_that_does_not_answer_is_told(
    here: Here, make_target: MakeTarget, history: History, tmp_path: Path
) -> None:
    target = make_target(build=False)
    with socket.socket() as taken:
        # A port that is taken and does not listen: nobody else can answer there.
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/source.git"
        result = outdated(here, target, "--source", address).result
    assert result["upstream"]["head"] is None
    assert "could not be reached" in result["upstream"]["why_not"]
    assert check(result, "upstream")["status"] == "skipped"
    assert result["status"] == "not installed"
    for source, why in (
        ("https://example.org/source.git", "Offline"),
        (str(tmp_path / "nowhere"), "There is no"),
        (str(make_folder(tmp_path)), "is a folder without history"),
    ):
        result = outdated(here, target, "--source", source, "--offline").result
        assert why in result["upstream"]["why_not"]


def make_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "setup.py").write_text("")
    return folder


def test_newest_commits_of_other_sources(
    here: Here, make_target: MakeTarget, history: History, tmp_path: Path
) -> None:
    target = make_target(build=False)
    copy = tmp_path / "copy"
    shutil.copytree(history.path, copy)
    for name, standing, after in (
        ("good", "unknown", 0),
        ("broken", "bad", 4),
        ("conflict", "unparsable", 6),
    ):
        git(copy, "reset", "--quiet", "--hard", history[name])
        upstream = outdated(here, target, "--source", copy).result["upstream"]
        assert upstream["head"]["commit"] == history[name]
        assert (upstream["head"]["standing"], upstream["after_pin"]) == (standing, after)
    # A history that has nothing to do with the pin's still has a newest commit.
    other = History(tmp_path / "other")
    other.write("README.md", "Another beginning.\n")
    git(other.path, "add", "--all")
    alone = git(other.path, "commit-tree", git(other.path, "write-tree"), "-m", "alone")
    git(other.path, "update-ref", "refs/heads/main", alone)
    result = outdated(here, target, "--source", other.path).result
    assert (result["upstream"]["head"]["commit"], result["upstream"]["after_pin"]) == (alone, None)
    assert result["upstream"]["why_not"]


def test_the_demo_has_nothing_newer(here: Here, make_target: MakeTarget) -> None:
    result = outdated(here, make_target(build=False)).result
    assert (result["upstream"]["source"], result["upstream"]["after_pin"]) == ("embedded:demo", 0)
    assert "That is the pin." in check(result, "upstream")["found"]
