"""The Dockerfile of the demo pin, step by step in a clean root: what Docker would do, with debootstrap and chroot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from clean_root import Builder, Machine, Stage, UnknownError, why_not

from sagefix.workflows.dockerfile import ImageRequest, write_dockerfile

WHY_NOT = why_not()
DEMO = ImageRequest(pin="demo", python="3.11", base="debian:bookworm-slim")
RIGHT = ("python", "-m", "demoattention")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if WHY_NOT:
        pytest.skip(WHY_NOT)
    work = tmp_path_factory.mktemp("roots")
    yield Machine(work=work)
    # Two gigabytes, which pytest would keep for two more runs.
    shutil.rmtree(work)


@pytest.fixture(scope="module")
def image(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The runtime stage, after every step of every stage was run."""
    file = tmp_path_factory.mktemp("context") / "Dockerfile"
    write_dockerfile(DEMO, file)
    return Builder(file, machine).build()


def _outcomes(image: Stage) -> list[Path]:
    return sorted((image.root / "var/lib/sagefix").glob("verified-*.json"))


def test_the_first_start_verifies_the_second_relies_on_it(
    machine: Machine, image: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    assert machine.start(image, *RIGHT, network=False) == 0
    out, err = capfd.readouterr()
    assert "first-start: the numbers of demo are right" in err
    assert out.endswith("right\n")
    (outcome,) = _outcomes(image)
    kept = json.loads(outcome.read_text())
    assert (kept["result"]["level"], kept["result"]["pin"]) == ("numerics", "demo")
    assert len(kept["result"]["wheel_sha256"]) == 64
    assert machine.start(image, *RIGHT, network=False) == 0
    assert "are proven already" in capfd.readouterr().err

    # A start that finds nothing writable says so and goes on.
    nowhere = {"SAGEFIX_STATE": "/proc/nowhere", "SAGEFIX_CACHE_DIR": "/proc/nowhere/cache"}
    assert machine.start(image, "true", **nowhere) == 0
    err = capfd.readouterr().err
    assert "will not be kept" in err
    assert "the numbers of demo are right" in err
    # What cannot be verified is told, and the command runs.
    assert machine.start(image, "echo", "ran", SAGEFIX_STATE="/tmp/other", SAGEFIX_PYTHON="/nowhere") == 0
    out, err = capfd.readouterr()
    assert "NOT verified (status 5)" in err
    assert out == "ran\n"
    # The status of a command is that of the container.
    assert machine.start(image, "sh", "-c", "exit 7") == 7


def test_wrong_numbers_do_not_start(
    machine: Machine, image: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    (package,) = (image.root / "opt/venv/lib").glob("python*/site-packages/demoattention")
    module = package / "__init__.py"
    before = module.read_text()
    try:
        module.write_text(
            before + "\n_right = attention\n\n\ndef attention(*a, **k):\n    raise ValueError(0)\n"
        )
        state = {"SAGEFIX_STATE": "/tmp/wrong"}
        assert machine.start(image, "echo", "ran", **state) == 16
        out, err = capfd.readouterr()
        assert "are WRONG here" in err
        assert out == ""
        assert machine.start(image, "echo", "ran", **state) == 16
        assert "found before" in capfd.readouterr().err
        assert machine.start(image, "echo", "ran", **state, SAGEFIX_FIRST_START="warn") == 0
        assert machine.start(image, "echo", "ran", **state, SAGEFIX_FIRST_START="off") == 0
        assert machine.start(image, "echo", "ran", **state, SAGEFIX_FIRST_START="no") == 2
    finally:
        module.write_text(before)


def test_what_runs_is_small_and_not_root(
    machine: Machine, image: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    for program in ("gcc", "cc", "g++", "nvcc", "git", "make"):
        found = [image.root / folder / program for folder in ("usr/bin", "usr/local/bin", "opt/venv/bin")]
        assert not any(path.exists() or path.is_symlink() for path in found), program
    assert machine.run(image, ["id", "-u"]) == 0
    assert capfd.readouterr().out == "10001\n"
    assert machine.run(image, ["sh", "-c", "touch /opt/venv/x || touch /opt/wheelhouse/x"]) != 0
    capfd.readouterr()
    wheels = [path.name for path in (image.root / "opt/wheelhouse/demoattention").iterdir()]
    assert any(name.endswith(".whl") for name in wheels)
    assert any(name.endswith(".whl.provenance.json") for name in wheels)


def test_no_setting_of_this_machine_stands_in_the_image(image: Stage) -> None:
    assert not (image.root / "run/outside/apt.conf").exists()
    assert not (image.root / "etc/pip.conf").exists()
    assert not any("run/outside" in value for value in image.env.values())


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "it can")
@pytest.mark.parametrize(
    "line", ["HEALTHCHECK NONE", "RUN --mount=type=secret,id=x true", "COPY --chown=1 a b"]
)
def test_what_is_not_run_here_ends_the_run(tmp_path: Path, machine: Machine, line: str) -> None:
    (machine.work / "debian-empty").mkdir(exist_ok=True)
    (machine.work / "debian-empty" / "made").touch()
    file = tmp_path / "Dockerfile"
    file.write_text(f"FROM debian:empty\n{line}\n")
    with pytest.raises(UnknownError):
        Builder(file, machine, tell=False).build()
