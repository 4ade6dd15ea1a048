"""Build environments from small wheels: real Pythons, real uv and pip, and a torch with what the probe reads."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cuda_wheels import GXX, only_from, torch_wheels, write_wheel

from sagefix.errors import TargetError, TorchError, UsageError
from sagefix.targets.environments import (
    Spec,
    find_environment,
    list_environments,
    make_environment,
    read_spec,
    remove_environments,
)
from sagefix.targets.pythons import find_version, is_version

pytestmark = pytest.mark.skipif(
    GXX is None or not sys.platform.startswith("linux"), reason="needs g++ and the linker of Linux"
)

ROOT = Path(__file__).parents[2]
HERE = ".".join(str(part) for part in sys.version_info[:2])
FULL = ".".join(str(part) for part in sys.version_info[:3])


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, scratch = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("scratch")
    torch_wheels(folder, scratch)
    write_wheel(folder, "buildtool", "1.0")
    return folder


@pytest.fixture(autouse=True)
def index(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_from(monkeypatch, wheels, tmp_path / "fetching")


@pytest.fixture(params=["uv", "pip"])
def fetcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pip":
        monkeypatch.setattr("sagefix.targets.fetching.find_uv", lambda: None)
    return str(request.param)


def spec(torch: str = "2.12", *requires: str) -> Spec:
    return read_spec(HERE, torch, requires or ("buildtool",))


def test_an_environment_is_made_once_and_is_a_target(
    fetcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, name = find_environment(spec())
    assert found is None
    made = make_environment(spec())
    assert made.torch is not None
    assert (made.torch.version, made.torch.cuda) == ("2.12.0+cu130", "13.0")
    assert made.packages["buildtool"] == "1.0"
    assert made.version == FULL
    assert made.python_h
    (kept,) = list_environments()
    assert (kept.name, kept.executable) == (name, made.executable)
    assert (kept.environment.torch, kept.environment.cuda) == ("2.12.0+cu130", "13.0")
    assert kept.environment.packages == made.packages
    # Nothing is fetched for what is there.
    only_from(monkeypatch, tmp_path, tmp_path / "nothing")
    assert make_environment(spec(), offline=True) == made
    assert find_environment(spec())[0] == made


def test_every_part_of_the_request_is_in_the_key() -> None:
    names = {
        find_environment(each)[1]
        for each in (
            spec(), spec("2.12.0"), spec("2.10"), spec("2.12", "buildtool", "packaging"), spec(""),
            Spec(python=HERE, torch="2.12", requires=("buildtool",), index="https://example.org/simple"),
        )
    }  # fmt: skip
    assert len(names) == 6
    assert any(name.startswith(f"py{FULL}-torch2.12-") for name in names)


def test_a_torch_that_is_not_made_for_this_python(fetcher: str) -> None:
    with pytest.raises(
        TorchError, match=rf"torch 2\.13 does not exist for Python {FULL} on this machine: .*torch"
    ):
        make_environment(spec("2.13"))
    with pytest.raises(TorchError, match=r"torch 9\.9 does not exist"):
        make_environment(spec("9.9"))
    assert list_environments() == ()


def test_a_requirement_that_is_not_there() -> None:
    with pytest.raises(TargetError, match="no-such-package"):
        make_environment(spec("", "no-such-package"))


def test_offline_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_from(monkeypatch, tmp_path, tmp_path / "nothing")
    with pytest.raises(TargetError, match=r"Torch 2\.12 is not at hand, and --offline forbids"):
        make_environment(spec(), offline=True)


def test_what_was_changed_or_lost_its_base_is_made_anew() -> None:
    made = make_environment(spec())
    (site,) = Path(made.prefix).glob("lib/python*/site-packages")
    shutil.rmtree(site / "buildtool-1.0.dist-info")
    again = make_environment(spec())
    assert again.packages == made.packages
    Path(made.executable).unlink()
    assert make_environment(spec()).packages == made.packages
    assert len(list_environments()) == 1


def test_one_that_was_killed_half_way_is_made_again(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    uv = shutil.which("uv")
    assert uv is not None
    (slow / "uv").write_text(
        f'#!/bin/sh\n[ "$1" = pip ] && {{ touch "{tmp_path}/reached"; sleep 60; }}\nexec "{uv}" "$@"\n'
    )
    (slow / "uv").chmod(0o755)
    code = (
        "from sagefix.targets.environments import *\n"
        f"make_environment(read_spec({HERE!r}, '2.12', ('buildtool',)))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{slow}{os.pathsep}{os.environ['PATH']}"}
    killed = subprocess.Popen([sys.executable, "-c", code], env=env)
    deadline = time.monotonic() + 60
    while not (tmp_path / "reached").exists():
        assert time.monotonic() < deadline and killed.poll() is None
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert list_environments() == ()
    assert make_environment(spec()).packages["buildtool"] == "1.0"


def test_removing_one() -> None:
    make_environment(spec())
    (kept,) = list_environments()
    (removed,) = remove_environments((kept.environment.key,))
    assert removed.name == kept.name
    assert removed.freed > 1000
    assert not Path(kept.folder).exists()


@pytest.mark.parametrize(
    ("python", "torch", "message"),
    [
        (None, "2.11", "--python has to be a version."),
        ("/usr/bin/python3", "2.11", "has to be a version, not /usr/bin/python3"),
        ("3.12", "cu130", "--torch cu130 is not a version"),
        ("3.12", "2.11+cu130", r"--torch 2.11\+cu130 is not a version"),
    ],
)
def test_what_cannot_be_understood(python: str | None, torch: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_spec(python, torch, ())


def test_what_is_a_version_and_what_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_version("3.12") and is_version("3.12.1")
    assert (
        not is_version(None)
        and not is_version("3")
        and not is_version("python3.12")
        and not is_version(".venv")
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "3.12").mkdir()
    assert not is_version("3.12")


def test_finding_a_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shim that comes first on PATH and refuses hides nothing; headers are asked for."""
    shims, real = tmp_path / "shims", tmp_path / "real"
    for folder in (shims, real):
        folder.mkdir()
    (shims / f"python{HERE}").write_text("#!/bin/sh\necho this version is not active >&2\nexit 127\n")
    (shims / f"python{HERE}").chmod(0o755)
    (real / f"python{HERE}").symlink_to(sys.executable)
    env = {**os.environ, "PATH": f"{shims}{os.pathsep}{real}", "PYENV_ROOT": str(tmp_path)}
    assert find_version(HERE, env, offline=True).version == FULL
    assert find_version(FULL, env, offline=True).version == FULL


def test_pythons_that_are_not_there() -> None:
    with pytest.raises(TargetError, match=r"Python 3\.8 is too old"):
        find_version("3.8")
    with pytest.raises(TargetError, match=r"There is no Python 3\.99 on this machine") as caught:
        find_version("3.99", offline=True)
    assert "python3.99-dev" in caught.value.hint
