"""The demo pin names the commit that its embedded source becomes, and that source computes what it should."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sagefix import settings
from sagefix.pins.load import load_pin

FOLDER = settings.manifests_dir() / "demo"
WHEN = "2026-01-01T00:00:00+00:00"
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc")

COMPARE = """
import random
from array import array
import demoattention
from demoattention.reference import attention, relative_error

random.seed(20260101)
for kind, limit in (("d", 1e-14), ("f", 1e-6)):
    for causal in (False, True):
        for queries, keys, dim, width in ((1, 1, 1, 1), (33, 33, 16, 8), (9, 9, 64, 64), (5, 40, 16, 24)):
            if causal and queries != keys:
                continue
            # Scores of some hundreds: a softmax that forgets to subtract the maximum overflows.
            q = array(kind, [random.gauss(0, 30) for _ in range(queries * dim)])
            k = array(kind, [random.gauss(0, 30) for _ in range(keys * dim)])
            v = array(kind, [random.gauss(0, 1) for _ in range(keys * width)])
            found = demoattention.attention(q, k, v, dim=dim, width=width, causal=causal)
            error = relative_error(found, attention(q, k, v, dim=dim, width=width, causal=causal))
            assert found.typecode == kind and error < limit, (kind, causal, queries, keys, dim, width, error)

pair = array("d", [1.0, 2.0, 3.0, 4.0])
for call in (demoattention.attention, attention):
    for bad in ({"dim": 3}, {"dim": 0}, {"dim": 2, "width": 3}):
        try:
            call(pair, pair, pair, **bad)
        except ValueError:
            continue
        raise AssertionError(bad)
print("right")
"""


def git(folder: Path, *arguments: str) -> str:
    """Run git with nothing of the user's or the machine's configuration."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "sagefix",
        "GIT_AUTHOR_EMAIL": "sagefix@localhost",
        "GIT_AUTHOR_DATE": WHEN,
        "GIT_COMMITTER_NAME": "sagefix",
        "GIT_COMMITTER_EMAIL": "sagefix@localhost",
        "GIT_COMMITTER_DATE": WHEN,
    }
    # Modes are set in the index: those of the files depend on the umask and file system of the checkout.
    command = ["git", "-c", "core.autocrlf=false", "-c", "core.fileMode=false", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_pin_names_the_commit_of_its_embedded_source(tmp_path: Path) -> None:
    pin = load_pin("demo")
    assert pin.source.embedded == "demo"
    shutil.copytree(FOLDER, tmp_path / "demo", ignore=IGNORED)
    work = tmp_path / "demo"
    git(work, "init", "--quiet", "--object-format=sha1", "--initial-branch=main")
    git(work, "add", "--force", "--all")
    for name in git(work, "ls-files").splitlines():
        git(work, "update-index", "--chmod=-x", name)
    git(work, "commit", "--quiet", "--no-gpg-sign", "--message", "Demo package of sagefix")

    found = {
        "commit": git(work, "rev-parse", "HEAD"),
        "tree": git(work, "rev-parse", "HEAD^{tree}"),
        "package_tree": git(work, "rev-parse", "HEAD:demoattention"),
        "setup_py": git(work, "rev-parse", "HEAD:setup.py"),
    }
    assert git(work, "log", "--format=%B").rstrip("\n") == "Demo package of sagefix"
    ref = pin.ref_of(pin.source.commit)
    assert ref is not None
    written = {
        "commit": pin.source.commit,
        "tree": pin.source.tree,
        "package_tree": ref.package_tree,
        "setup_py": pin.recipe_named(ref.recipe).setup_py[0],
    }
    assert written == found, "manifests/demo/ has changed: put the right-hand values into manifests/demo.toml"


def test_every_file_of_the_source_is_among_those_the_pin_fetches() -> None:
    patterns = load_pin("demo").source.files
    files = [path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()]
    missed = [
        file
        for file in files
        if "__pycache__" not in file and not any(f"/{file}".startswith(pattern) for pattern in patterns)
    ]
    assert missed == []


@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="needs a C compiler")
def test_the_extension_agrees_with_the_reference(tmp_path: Path) -> None:
    work = tmp_path / "demo"
    shutil.copytree(FOLDER, work, ignore=IGNORED)
    built = subprocess.run(
        [sys.executable, "setup.py", "build", "--build-lib", "lib"],
        cwd=work,
        env={**os.environ, "CFLAGS": "-Werror"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    compared = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMPARE],
        cwd=work / "lib",
        check=False,
        capture_output=True,
        text=True,
    )
    assert compared.stdout.strip() == "right", compared.stderr
