"""The two entry points people know, from a checkout whose path has a space, called from anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, MakeTarget, ask

RIGHT = "import demoattention.__main__ as m; print(m.main())"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what a clone has, and an environment with sagefix in it that was made before."""
    root = tmp_path / "my checkout ü"
    unwanted = shutil.ignore_patterns("__pycache__", "*.whl")
    for name in ("scripts", "sagefix", "manifests"):
        shutil.copytree(ROOT / name, root / name, ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", root)
    # Whoever runs these tests has what sagefix needs: nothing is downloaded.
    program = tmp_path / "an environment" / "bin" / "sagefix"
    program.parent.mkdir(parents=True)
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" '
        "-c 'from sagefix.cli.app import main; main()' \"$@\"\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("SAGEFIX_VENV", str(program.parents[1]))
    monkeypatch.delenv("SAGEFIX_WHEELHOUSE")
    return root


def run(
    script: Path, *words: str | Path, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *words],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_install_and_save_from_elsewhere(checkout: Path, make_target: MakeTarget, tmp_path: Path) -> None:
    target, elsewhere = make_target("target"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = ["--pin", "demo", "--python", os.path.relpath(target, elsewhere)]
    done = run(checkout / "scripts" / "install-sageattention.sh", *words, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert "compiled" in done.stdout
    assert ask(target, RIGHT).endswith("right\n0")
    # In a checkout, wheels are kept in the checkout.
    (built,) = checkout.glob("wheels/demoattention/*.whl")
    saved = run(
        checkout / "scripts" / "save-sageattention-wheel.sh",
        *words,
        *("--wheelhouse", "saved", "--output", "copies"),
        cwd=elsewhere,
    )
    assert saved.returncode == 0, saved.stderr
    assert (elsewhere / "copies" / built.name).is_file()
    assert len(list(elsewhere.glob("saved/demoattention/*.whl"))) == 1
    assert not list(elsewhere.rglob(".venv"))
    assert not (checkout / ".venv").exists()


def test_called_through_a_link_and_by_bash(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name, command in (("install-sageattention", "install"), ("save-sageattention-wheel", "save-wheel")):
        script = checkout / "scripts" / f"{name}.sh"
        assert os.access(script, os.X_OK)
        by_bash = subprocess.run(
            ["bash", os.path.relpath(script, tmp_path), "--help"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"Usage: sagefix {command}" in by_bash.stdout
        link = tmp_path / "bin" / name
        link.symlink_to(script)
        linked = run(link, "--help", cwd=tmp_path)
        assert f"Usage: sagefix {command}" in linked.stdout, linked.stderr


def test_status_and_output_are_those_of_the_command(checkout: Path, tmp_path: Path) -> None:
    script = checkout / "scripts" / "install-sageattention.sh"
    done = run(script, "--pin", "nope", "--python", tmp_path / "a b", "--json", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout.startswith('{"schema":1,"command":"install","ok":false')
    assert done.stderr == ""


def test_without_a_python_that_is_new_enough(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "env", "readlink"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    old = tools / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    env = {
        "PATH": str(tools),
        "SAGEFIX_VENV": str(tmp_path / "none"),
        "SAGEFIX_HOST_PYTHON": "no such python",
    }
    done = run(checkout / "scripts" / "install-sageattention.sh", cwd=tmp_path, env=env)
    assert done.returncode == 5
    assert "Python 3.10 or newer" in done.stderr
    assert "SAGEFIX_HOST_PYTHON" in done.stderr
    assert not (tmp_path / "none").exists()


def test_the_environment_is_made_when_it_is_missing(checkout: Path, tmp_path: Path) -> None:
    """With a Python that only notes what it is asked to do: that takes a package index otherwise."""
    notes = tmp_path / "notes"
    python = tmp_path / "a python"
    python.write_text(
        "#!/bin/sh\n"
        f'echo "$*" >> "{notes}"\n'
        'if [ "$1" = -m ] && [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi\n'
        'if [ "$2" = pip ]; then printf "#!/bin/sh\\necho sagefix \\"\\$@\\"\\n" > "${0%/*}/sagefix"; '
        'chmod +x "${0%/*}/sagefix"; fi\n'
    )
    python.chmod(0o755)
    env = {"SAGEFIX_VENV": str(tmp_path / "new one"), "SAGEFIX_HOST_PYTHON": str(python)}
    script = checkout / "scripts" / "save-sageattention-wheel.sh"
    done = run(script, "--python", "x y", cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout) == (0, "sagefix save-wheel --python x y\n"), done.stderr
    _, venv, pip = notes.read_text().splitlines()
    assert venv == f"-m venv {tmp_path / 'new one'}"
    assert pip.endswith(f"--editable {checkout}")
    again = run(script, "--python", "x y", cwd=tmp_path, env=env)
    assert again.stdout == done.stdout
    assert len(notes.read_text().splitlines()) == 3
