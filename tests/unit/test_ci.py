"""The workflows: what they pin, what they may, and that their steps are make targets that exist."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()

# Stands in for the program of GitHub: writes down how it was called, and knows one release.
GH = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$CALLS"
if [ "$1 $2" = "release view" ]; then [ "$3" = known ]; fi || exit 1
case "$*" in *"--json assets"*) printf '%s\n' a+b-1.whl bad-1.whl bad-1.whl.metadata bad-1.whlx ;; esac
"""


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_keeps_the_rules(path: Path) -> None:
    text = path.read_text()
    used = re.findall(r"uses: (.*)", text)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")
    assert re.search(r"^permissions:\n  contents: read$", text, re.MULTILINE)
    assert re.search(r"^concurrency:$", text, re.MULTILINE)
    # Whatever is in an expression reaches a command through the environment alone.
    for script in re.findall(r"run: (\|\n(?:          .*\n)+|.*\n)", text):
        assert "${{" not in script, script
    assert text.count("timeout-minutes:") == text.count("runs-on:")


def test_only_the_jobs_that_publish_may_write() -> None:
    text = (ROOT / ".github/workflows/prebuild.yml").read_text()
    before, publishing = text.split("\n  publish:\n")
    assert "write" not in re.sub(r"#.*", "", before)
    assert re.findall(r"^      (\S+: write)", publishing, re.MULTILINE) == [
        "contents: write",
        "pages: write",
        "id-token: write",
    ]
    assert "write" not in (ROOT / ".github/workflows/checks.yml").read_text()
    # What publishes waits for all that is built.
    assert "needs: [matrix, build, second-opinion]" in publishing
    assert "needs.build.result == 'success'" in publishing


def test_each_step_is_a_make_target() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
    named = {
        word
        for path in WORKFLOWS
        for line in re.findall(r"make (?:-s )?([a-z-]+)", re.sub(r"#.*", "", path.read_text()))
        for word in (line,)
    }
    assert named >= {"dev", "matrix", "prebuild", "gate", "publish-index", "publish-release", "lint", "test"}
    assert named <= targets


def test_what_is_in_the_environment_cannot_be_a_command(tmp_path: Path) -> None:
    """make hands its words on as they are: neither make nor the shell reads them."""
    tool = tmp_path / "venv" / "bin" / "sagefix"
    tool.parent.mkdir(parents=True)
    tool.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >> "$CALLS"\n')
    tool.chmod(0o755)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "venv" / ".installed").touch()
    calls = tmp_path / "calls"
    evil = '"; touch pwned; $(shell touch pwned) `touch pwned` $(touch pwned)'
    subprocess.run(
        [
            "make",
            "-s",
            "-f",
            ROOT / "Makefile",
            "prebuild",
            f"VENV={tmp_path / 'venv'}",
        ],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "CELL": evil, "PIN": evil, "WHEELS": evil, "CALLS": str(calls)},
        check=True,
    )
    said = calls.read_text().splitlines()
    assert said[: said.index("--jobs")] == ["prebuild", "--pin", evil, "--wheelhouse", evil]
    assert said[said.index("--cell") + 1] == evil
    assert not (tmp_path / "pwned").exists()


def release(tmp_path: Path, *arguments: str) -> tuple[int, str, list[str]]:
    gh = tmp_path / "bin" / "gh"
    gh.parent.mkdir(exist_ok=True)
    gh.write_text(GH)
    gh.chmod(0o755)
    calls = tmp_path / "calls"
    calls.unlink(missing_ok=True)
    done = subprocess.run(
        ["bash", ROOT / "scripts" / "publish-release.sh", *arguments],
        cwd=tmp_path,
        env={"PATH": f"{gh.parent}:{os.environ['PATH']}", "CALLS": str(calls)},
        capture_output=True,
        text=True,
        check=False,
    )
    return (
        done.returncode,
        done.stdout + done.stderr,
        calls.read_text().splitlines() if calls.exists() else [],
    )


def test_a_release_gets_the_wheels_and_what_stands_beside_them(tmp_path: Path) -> None:
    site = tmp_path / "site" / "demo"
    site.mkdir(parents=True)
    suffixes = ("", ".metadata", ".proofs.json", ".sagefix.json")
    for suffix in suffixes:
        (site / f"a+b-1.whl{suffix}").touch()
    (site / "index.html").write_text('<a href="a%2Bb-1.whl#sha256=0">a+b-1.whl</a>')
    files = " ".join(f"site/demo/a+b-1.whl{suffix}" for suffix in suffixes)
    code, _, calls = release(tmp_path, "upload", "known", "site")
    assert (code, calls[1:]) == (0, [f"release upload known --clobber {files}"])
    code, _, calls = release(tmp_path, "upload", "new", "site")
    assert code == 0
    assert calls[1].startswith("release create new ")
    assert calls[2].startswith("release upload new ")


def test_a_wheel_that_the_index_does_not_list_leaves_the_release(tmp_path: Path) -> None:
    site = tmp_path / "site" / "demo"
    site.mkdir(parents=True)
    for name in ("a+b-1.whl", "bad-1.whl", "bad-1.whl.sagefix.json"):
        (site / name).touch()
    (site / "index.html").write_text('<a href="a%2Bb-1.whl#sha256=0">a+b-1.whl</a>')
    code, said, calls = release(tmp_path, "upload", "known", "site")
    assert (code, said) == (0, "bad-1.whl is not in the index: it failed a verification.\n")
    assert calls[2:] == [
        "release delete-asset known bad-1.whl --yes",
        "release delete-asset known bad-1.whl.metadata --yes",
        "release upload known --clobber site/demo/a+b-1.whl",
    ]
    (site / "index.html").write_text("")
    assert release(tmp_path, "upload", "known", "site")[0] == 1


def test_a_release_is_fetched_if_there_is_one(tmp_path: Path) -> None:
    code, said, calls = release(tmp_path, "fetch", "new", "before")
    assert (code, said, len(calls)) == (0, "There is no release new yet.\n", 1)
    assert (tmp_path / "before").is_dir()
    code, _, calls = release(tmp_path, "fetch", "known", "before")
    assert calls[1].startswith("release download known --dir before ")


def test_a_release_script_that_is_called_wrongly(tmp_path: Path) -> None:
    assert release(tmp_path, "upload", "known")[:2] == (
        2,
        "usage: publish-release.sh fetch|upload TAG FOLDER\n",
    )
    assert release(tmp_path, "burn", "known", "site")[0] == 2
    (tmp_path / "empty").mkdir()
    code, said, calls = release(tmp_path, "upload", "known", "empty")
    assert (code, said, calls) == (1, "There is no wheel in the index of empty.\n", [])
