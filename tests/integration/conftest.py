"""Real parts that several tests share: environments, and sagefix as a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import environment_beside

from sagefix.cli.app import main
from sagefix.pins.load import load_file
from sagefix.targets.environments import make_environment, read_spec

ROOT = Path(__file__).parents[2]
# What `make test-cuda` fetches: torch for the Python that runs the tests, and where it stays.
CUDA_PIN = ROOT / "tests" / "packages" / "cuda_like_upstream.toml"
CUDA_PYTHON, CUDA_TORCH = ".".join(str(part) for part in sys.version_info[:2]), "2.11"
CUDA_CACHE = os.environ.get("CUDA_TEST_CACHE")
MakeTarget = Callable[..., Path]
Here = Callable[..., "Said"]


class Said(NamedTuple):
    """What a run of sagefix came to. ``answer`` is its envelope (empty without ``--json``)."""

    code: int
    answer: dict[str, Any]
    out: str
    err: str

    @property
    def result(self) -> Any:
        """The result of the envelope, or the whole output when there is none."""
        assert self.code == 0, self.out + self.err
        return self.answer["result"]


class Sagefix(NamedTuple):
    """Runs ``python -m sagefix`` in a process of its own."""

    folder: Path

    def __call__(self, *args: str | Path, env: dict[str, str] | None = None, json_: bool = True) -> Said:
        done = subprocess.run(
            self.command(*args, *(["--json"] if json_ else [])),
            cwd=self.folder,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Said(done.returncode, json.loads(done.stdout) if json_ else {}, done.stdout, done.stderr)

    def start(self, *args: str | Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start it and let it run."""
        return subprocess.Popen(
            self.command(*args),
            cwd=self.folder,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *args: str | Path) -> list[str]:
        """The words of the command."""
        return [
            sys.executable,
            "-P" if sys.version_info >= (3, 11) else "-B",
            "-m",
            "sagefix",
            *map(str, args),
        ]


@pytest.fixture
def sagefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sagefix:
    """The command, run in an empty folder."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Sagefix(folder)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """The command in this process: where a new one takes too long, or where something has to be set inside it."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str | Path, json_: bool = False) -> Said:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, args), *(["--json"] if json_ else [])])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, json.loads(out) if json_ else {}, out, err)

    return run


@pytest.fixture(scope="session")
def base_target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with setuptools, which a build needs; not to be changed by tests."""
    folder = tmp_path_factory.mktemp("base") / "venv"
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, folder], check=True)
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", folder, "setuptools", "wheel"], check=True)
    return folder


@pytest.fixture
def make_target(tmp_path: Path, base_target: Path) -> MakeTarget:
    """A function that makes new environments; with ``build`` they have the packages to build with."""

    def make(name: str = "target", *, build: bool = True) -> Path:
        folder = tmp_path / name
        if build:
            return environment_beside(folder, base_target)
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, folder], check=True)
        return folder

    return make


@pytest.fixture(scope="session")
def torch_python() -> Path:
    """A Python with torch, which need see no GPU: the one that SAGEFIX_TORCH_PYTHON names, else that of the build
    environment of `make test-cuda`, which is made now if it is not there."""
    if named := os.environ.get("SAGEFIX_TORCH_PYTHON"):
        return Path(named)
    if CUDA_CACHE is None:
        pytest.skip("neither SAGEFIX_TORCH_PYTHON nor CUDA_TEST_CACHE is set")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAGEFIX_CACHE_DIR", CUDA_CACHE)
        spec = read_spec(CUDA_PYTHON, CUDA_TORCH, load_file(CUDA_PIN).build.requires)
        return Path(make_environment(spec).executable)


def python_of(target: Path) -> Path:
    """The interpreter of an environment."""
    return target / "bin" / "python"


def ask(target: Path, code: str) -> str:
    """Run a line in an environment and return what it printed."""
    done = subprocess.run([python_of(target), "-c", code], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()
