"""A kit of the demo pin: made here, installed where there is no network, from nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from support import environment_beside

from sagefix.errors import TargetError
from sagefix.targets.pythons import find_version
from tests.integration.conftest import ROOT, MakeTarget, Sagefix, ask, python_of

RIGHT = "import demoattention.__main__ as m; print(m.main())"
OWN = ".".join(str(part) for part in sys.version_info[:2])


def _without_network() -> list[str]:
    """The command that runs another one without a network; skips where that is not allowed."""
    command = ["unshare", "--net", "--map-root-user"] if os.geteuid() else ["unshare", "--net"]
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("network namespaces are not allowed here")
    return command


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory, base_target: Path) -> Path:
    """A kit with the wheel for this Python."""
    folder = tmp_path_factory.mktemp("kit")
    env = {
        **os.environ,
        "SAGEFIX_CACHE_DIR": str(folder / "cache"),
        "SAGEFIX_WHEELHOUSE": str(folder / "wheels"),
        "PYTHONPATH": str(ROOT),
    }
    target = environment_beside(folder / "target", base_target)
    for words in (
        ["install", "--pin", "demo", "--python", target],
        ["kit", "--pin", "demo", "--output", folder],
    ):
        subprocess.run([sys.executable, "-m", "sagefix", *words], check=True, env=env, cwd=folder)
    (found,) = folder.glob("demo-*.kit.tar")
    return found


def test_a_machine_with_nothing_but_python_installs_from_it(kit: Path, tmp_path: Path) -> None:
    cut_off = _without_network()
    carried = shutil.copy(kit, tmp_path / "carried.tar")
    with tarfile.open(carried) as archive:
        for name in ("bootstrap.sh", "bootstrap.py"):
            (tmp_path / name).write_bytes(archive.extractfile(name).read())  # type: ignore[union-attr]
    target = tmp_path / "target"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", target], check=True)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SAGEFIX_HOST_PYTHON": sys.executable}

    def start(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*cut_off, "sh", "bootstrap.sh", "carried.tar", *words],
            cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = start("install", "--python", str(target))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Installing sagefix" in done.stderr
    assert "from a wheel at hand, nothing compiled" in done.stdout
    assert "The numbers are proven" in done.stdout
    assert ask(target, RIGHT).endswith("right\n0")
    # sagefix stays, with its proof of what it installed, and is not installed a second time.
    again = start("install", "--python", str(target))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Installing sagefix" not in again.stderr
    assert "proven already" in again.stdout
    # What is in the way is not touched.
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    refused = start("--into", "mine", "install", "--python", str(target))
    assert (refused.returncode, (tmp_path / "mine" / "file").read_text()) == (27, "mine")


def test_it_is_a_wheelhouse_and_an_index_when_it_is_unpacked(
    kit: Path, tmp_path: Path, sagefix: Sagefix
) -> None:
    with tarfile.open(kit) as archive:
        for member in archive:
            if member.name.startswith("wheels/"):
                (tmp_path / member.name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / member.name).write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
    checks = sagefix("wheelhouse", "check", "--wheelhouse", tmp_path / "wheels").result
    assert {check["status"] for check in checks} == {"ok"}
    (listed,) = sagefix("wheelhouse", "list", "--wheelhouse", tmp_path / "wheels").result
    # Its proof came along.
    assert listed["proof"] == "numerics"


def test_the_same_content_gives_the_same_kit(kit: Path, sagefix: Sagefix, tmp_path: Path) -> None:
    env = {"SAGEFIX_WHEELHOUSE": str(kit.parent / "wheels")}
    made = sagefix("kit", "--pin", "demo", "--output", tmp_path / "other.tar", env=env).result
    assert made["size"] == kit.stat().st_size
    assert Path(made["file"]).read_bytes() == kit.read_bytes()
    assert made["manifest"]["hosts"] == [{"python": OWN, "machine": os.uname().machine}]


def test_nothing_of_this_machine_is_used(kit: Path, sagefix: Sagefix, make_target: MakeTarget) -> None:
    target = make_target(build=False)
    installed = sagefix("install", "--kit", kit, "--python", target).result
    assert (installed["action"], installed["compiled"]) == ("installed", False)
    # What is verified is kept in the wheelhouse, where the wheel stands for the next time.
    (listed,) = sagefix("wheelhouse", "list").result
    assert listed["filename"] == Path(installed["wheel"]).name
    for option, value in (("--source", "x"), ("--index", "https://example.invalid/")):
        said = sagefix("install", "--kit", kit, "--python", target, option, value)
        assert (said.code, option in said.answer["error"]["message"]) == (2, True)
    said = sagefix("install", "--kit", kit, "--pin", "sageattention", "--python", target)
    assert (said.code, "kit of the pin demo" in said.answer["error"]["message"]) == (27, True)
    said = sagefix("install", "--kit", kit, "--ref", "v9", "--python", target)
    assert (said.code, said.answer["error"]["name"]) == (27, "kit")


def test_a_dry_run_names_the_wheel_in_the_kit(kit: Path, sagefix: Sagefix, make_target: MakeTarget) -> None:
    planned = sagefix("install", "--kit", kit, "--python", make_target(), "--dry-run").result
    assert planned["wheel"].startswith(f"{kit}:wheels/demoattention/")
    assert planned["decisions"][0]["facts"]["where"] == planned["wheel"]


def test_without_a_wheel_that_fits_its_source_is_compiled(
    kit: Path, sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path, own_environment: Path
) -> None:
    env = {"SAGEFIX_WHEELHOUSE": str(kit.parent / "wheels")}
    bare = sagefix("kit", "--pin", "demo", "--source-only", "--output", tmp_path / "bare.tar", env=env).result
    assert bare["manifest"]["wheels"] == []
    target = make_target()
    said = sagefix("install", "--kit", bare["file"], "--python", target, "--no-build")
    assert (said.code, said.answer["error"]["name"]) == (14, "no-wheel")
    assert "kit" in said.answer["error"]["hint"]
    done = sagefix("install", "--kit", bare["file"], "--python", target)
    assert done.result["compiled"] is True
    assert "No wheel of the kit fits" in done.err
    assert ask(target, RIGHT).endswith("right\n0")
    built = sagefix("build", "--kit", bare["file"], "--python", target, "--rebuild").result
    assert built["compiled"] is True
    # The folder that it was unpacked into has gone.
    assert [path.name for path in (own_environment / "kits").iterdir()] == ["CACHEDIR.TAG"]


def test_a_wheel_that_does_not_fit_is_refused_with_the_reason(
    kit: Path, sagefix: Sagefix, tmp_path: Path
) -> None:
    other = _other_python()
    target = tmp_path / "other"
    subprocess.run([other, "-m", "venv", "--without-pip", target], check=True)
    said = sagefix("install", "--kit", kit, "--python", python_of(target), "--no-build")
    assert said.code == 14
    tag = OWN.replace(".", "")
    assert f"it is for Python cp{tag}-cp{tag}" in said.answer["error"]["message"]


def _other_python() -> str:
    """A Python of another minor version; skips where there is none."""
    for version in ("3.10", "3.12", "3.13"):
        with contextlib.suppress(TargetError):
            if version != OWN:
                return find_version(version, offline=True).executable
    pytest.skip("there is no second Python")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--arch", "9.0"], 14),
        (["--python", "2.7"], 14),
        (["--wheel", "nothing.whl"], 14),
        (["--source-only", "--torch", "2.11"], 2),
        (["--host-python", "three"], 2),
        (["--host-python", "3.9"], 2),
        (["--output", "taken"], 2),
    ],
)
def test_what_cannot_be_packed_is_refused(kit: Path, sagefix: Sagefix, words: list[str], code: int) -> None:
    (sagefix.folder / "taken").write_text("mine")
    env = {"SAGEFIX_WHEELHOUSE": str(kit.parent / "wheels")}
    said = sagefix("kit", "--pin", "demo", *words, env=env)
    assert said.code == code, said.err
    assert [path.name for path in sagefix.folder.iterdir()] == ["taken"]
    assert (sagefix.folder / "taken").read_text() == "mine"
