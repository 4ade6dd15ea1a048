"""The line from pin to proof on the demo package: real git, real compiler, real uv."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from wheel.wheelfile import WheelFile

from tests.integration.conftest import MakeTarget, Sagefix, ask

VERSION = "import importlib.metadata as m; print(m.version('demoattention'))"
RIGHT = "import demoattention.__main__ as m; print(m.main())"


def _wheelhouse() -> Path:
    return Path(os.environ["SAGEFIX_WHEELHOUSE"])


def _wheel() -> Path:
    (wheel,) = (_wheelhouse() / "demoattention").glob("*.whl")
    return wheel


def _install(target: Path, *more: str) -> list[str]:
    return ["install", "--pin", "demo", "--python", str(target), *more]


def _leftovers(marker: Path) -> list[str]:
    """Processes whose command line names a path: compilers that outlived their build."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(marker) in line:
                found.append(line)
    return found


def test_install_builds_verifies_and_gives_the_right_numbers(
    sagefix: Sagefix, make_target: MakeTarget
) -> None:
    target = make_target()
    result = sagefix(*_install(target)).result
    assert result["action"] == "installed"
    assert result["compiled"] is True
    assert result["level"] == "numerics"
    assert result["version"].startswith("1.0.0+")
    assert all(check["status"] in ("ok", "skipped") for check in result["verdict"]["checks"])
    assert ask(target, VERSION) == result["version"]
    assert ask(target, RIGHT).endswith("right\n0")
    assert Path(result["log"]).read_text().count("attention.c") >= 1


def test_a_second_install_compiles_nothing(sagefix: Sagefix, make_target: MakeTarget) -> None:
    first, second = make_target("first"), make_target("second", build=False)
    sagefix(*_install(first))
    again = sagefix(*_install(first)).result
    assert (again["action"], again["compiled"]) == ("already installed", False)
    other = sagefix(*_install(second, "--no-build")).result
    assert (other["action"], other["compiled"]) == ("installed", False)
    assert ask(second, RIGHT).endswith("right\n0")


def test_dry_run_changes_nothing(sagefix: Sagefix, make_target: MakeTarget, own_environment: Path) -> None:
    target = make_target()
    result = sagefix(*_install(target, "--dry-run")).result
    assert result["action"] == "planned"
    assert result["wheel"].endswith(".whl")
    assert len(result["key"]) == 20
    assert "--no-deps" in result["commands"][0]
    assert "No module" in ask(target, "import demoattention")
    assert not _wheelhouse().exists()
    assert not (own_environment / "builds").exists()


def test_no_build_without_a_wheel_is_refused(sagefix: Sagefix, make_target: MakeTarget) -> None:
    said = sagefix(*_install(make_target(), "--no-build"))
    assert said.code == 14
    assert said.answer["error"]["name"] == "no-wheel"


def test_rebuild_compiles_again_and_gives_the_same_bytes(sagefix: Sagefix, make_target: MakeTarget) -> None:
    target = make_target()
    sagefix(*_install(target))
    before = _wheel().read_bytes()
    result = sagefix(*_install(target, "--rebuild")).result
    assert (result["action"], result["compiled"]) == ("installed", True)
    assert _wheel().read_bytes() == before


def test_build_installs_nothing_and_copies_out(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path
) -> None:
    target = make_target()
    result = sagefix("build", "--pin", "demo", "--python", target, "--output", tmp_path / "out").result
    assert result["compiled"] is True
    assert (tmp_path / "out" / result["wheel"]["filename"]).read_bytes() == _wheel().read_bytes()
    assert "No module" in ask(target, "import demoattention")
    with zipfile.ZipFile(_wheel()) as archive:
        assert any(name.endswith(".dist-info/sagefix.json") for name in archive.namelist())


def test_save_wheel_makes_a_wheel_that_installs_elsewhere(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path
) -> None:
    first, second = make_target("first"), make_target("second", build=False)
    sagefix(*_install(first))
    saved = sagefix(
        "save-wheel", "--pin", "demo", "--python", first, "--wheelhouse", tmp_path / "saved"
    ).result
    assert saved["unknown"] == []
    done = sagefix(*_install(second, "--no-build", "--wheelhouse", str(tmp_path / "saved"))).result
    assert done["compiled"] is False
    assert ask(second, RIGHT).endswith("right\n0")


def _spoil(wheel: Path, destination: Path) -> Path:
    """The same wheel with one module that does not parse, and a RECORD that agrees with it."""
    destination.mkdir()
    path = destination / wheel.name
    with zipfile.ZipFile(wheel) as old, WheelFile(path, "w") as new:
        for name in old.namelist():
            if name.endswith("/RECORD"):
                continue
            data = old.read(name)
            new.writestr(name, b"<<<<<<< ours\n" + data if name == "demoattention/shapes.py" else data)
    return path


@pytest.mark.parametrize("before", [True, False], ids=["something before", "nothing before"])
def test_what_was_there_comes_back_when_verification_fails(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path, before: bool
) -> None:
    target, other = make_target("first"), make_target("other", build=False)
    sagefix(*_install(target))
    spoiled = _spoil(_wheel(), tmp_path / "spoiled")
    house = tmp_path / "house"
    assert sagefix("wheelhouse", "add", spoiled, "--wheelhouse", house).code == 0
    victim = target if before else other
    said = sagefix(*_install(victim, "--reinstall", "--no-build", "--wheelhouse", str(house)))
    assert said.code == 16
    assert said.answer["error"]["name"] == "verification"
    assert "conflict markers" in said.answer["error"]["message"]
    if before:
        assert ask(victim, RIGHT).endswith("right\n0")
        assert sagefix("verify", "--pin", "demo", "--python", victim).code == 0
    else:
        assert "No module" in ask(victim, "import demoattention")
    # The wheel that failed is never chosen again.
    listed = sagefix("wheelhouse", "list", "--wheelhouse", house).result
    assert listed[0]["proof"].startswith("failed")
    assert sagefix(*_install(victim, "--reinstall", "--no-build", "--wheelhouse", str(house))).code == 14


def test_a_damaged_wheel_in_the_wheelhouse_is_not_installed(
    sagefix: Sagefix, make_target: MakeTarget
) -> None:
    target = make_target()
    sagefix(*_install(target))
    data = bytearray(_wheel().read_bytes())
    data[len(data) // 2] ^= 0xFF
    _wheel().write_bytes(data)
    said = sagefix(*_install(make_target("other", build=False), "--no-build"))
    assert said.code == 12
    assert "wheelhouse" in said.answer["error"]["hint"]
    assert sagefix("wheelhouse", "check").code == 12


def _slow_compiler(folder: Path, seconds: float) -> Path:
    """A compiler that takes its time before it compiles the extension; other questions it answers at once."""
    script = folder / "slow-cc"
    script.write_text(f'#!/bin/sh\ncase "$*" in *attention.c*) sleep {seconds};; esac\nexec cc "$@"\n')
    script.chmod(0o755)
    return script


def _wait_for(path: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(path.glob(pattern)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_two_builds_of_one_key_compile_once(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path, own_environment: Path
) -> None:
    target = make_target()
    slow = {"CC": str(_slow_compiler(tmp_path, 2))}
    command = ["build", "--pin", "demo", "--python", str(target), "--json"]
    first = sagefix.start(*command, env=slow)
    _wait_for(own_environment, "builds/*/src/setup.py", first)
    second = sagefix.start(*command, env=slow)
    outputs = [process.communicate(timeout=120) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert ['"compiled":true' in out for out, _ in outputs] == [True, False]
    assert "waiting" in outputs[1][1]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_build_leaves_nothing_and_can_be_repeated(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path, own_environment: Path, number: int
) -> None:
    target = make_target()
    slow = _slow_compiler(tmp_path, 30)
    process = sagefix.start(*_install(target), env={"CC": str(slow)})
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any("attention.c" in line for line in _leftovers(slow)):
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), err
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _leftovers(slow):
        time.sleep(0.05)
    assert _leftovers(slow) == []
    assert not list(_wheelhouse().glob("demoattention/*.whl"))
    assert "Traceback" not in err
    slow.write_text('#!/bin/sh\nexec cc "$@"\n')
    assert sagefix(*_install(target), env={"CC": str(slow)}).result["compiled"] is True


@pytest.mark.skipif(sys.platform != "linux", reason="signals")
def test_an_install_killed_half_way_is_undone_by_the_next(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path, own_environment: Path
) -> None:
    target = make_target()
    sagefix(*_install(target))
    # uv as it is, but slow to return: the moment between installing and verifying gets long enough to be hit.
    slow = tmp_path / "bin"
    slow.mkdir()
    real = subprocess.run(["which", "uv"], capture_output=True, text=True, check=True).stdout.strip()
    (slow / "uv").write_text(f'#!/bin/sh\n{real} "$@"\ntouch {slow}/done\nsleep 30\n')
    (slow / "uv").chmod(0o755)
    path = {"PATH": f"{slow}:{os.environ['PATH']}"}
    process = sagefix.start(*_install(target, "--reinstall"), env=path)
    _wait_for(slow, "done", process)
    process.kill()
    process.communicate(timeout=30)
    said = sagefix(*_install(target))
    assert said.result["action"] == "already installed"
    assert "was interrupted" in said.err
    assert ask(target, RIGHT).endswith("right\n0")
    assert not list((own_environment / "stash").glob("*/stash.json"))


def test_a_build_that_fails_shows_the_cause_and_keeps_the_log(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path
) -> None:
    broken = tmp_path / "broken-cc"
    broken.write_text(
        '#!/bin/sh\ncase "$*" in\n'
        '*attention.c*) echo "attention.c:7:1: error: no such thing" >&2; exit 1;;\n'
        'esac\nexec cc "$@"\n'
    )
    broken.chmod(0o755)
    said = sagefix(*_install(make_target()), env={"CC": str(broken)})
    assert said.code == 10
    error = said.answer["error"]
    assert "attention.c:7:1: error: no such thing" in error["message"]
    assert "attention.c" in Path(error["details"]["log"]).read_text()
    assert not list(_wheelhouse().glob("demoattention/*.whl"))


def test_without_setuptools_the_command_that_installs_it_is_named(
    sagefix: Sagefix, make_target: MakeTarget
) -> None:
    said = sagefix(*_install(make_target(build=False)))
    assert said.code == 5
    assert "setuptools" in said.answer["error"]["message"]
    assert "setuptools" in said.answer["error"]["hint"]


def test_pip_installs_as_well(sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path) -> None:
    sagefix(*_install(make_target("builder")))
    target = tmp_path / "with-pip"
    subprocess.run([sys.executable, "-m", "venv", target], check=True)
    result = sagefix(*_install(target, "--no-build", "--installer", "pip")).result
    assert "-m pip install" in result["commands"][0]
    assert ask(target, RIGHT).endswith("right\n0")


@pytest.mark.skipif(sys.platform != "linux", reason="needs mount namespaces")
def test_a_full_disk_is_said_and_leaves_nothing(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces are not allowed here")
    target = make_target()
    sagefix(*_install(target))
    words = " ".join(
        f"'{word}'"
        for word in sagefix.command("wheelhouse", "add", _wheel(), "--wheelhouse", small, "--json")
    )
    script = (
        f"mount -t tmpfs -o size=24k tmpfs '{small}' && {words}; echo code=$?; find '{small}' -name '*.whl*'"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        capture_output=True,
        text=True,
        cwd=sagefix.folder,
        check=False,
    )
    assert '"name":"disk"' in done.stdout, done.stdout + done.stderr
    assert done.stdout.strip().endswith("code=18")
