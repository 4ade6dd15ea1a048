"""A matrix of the demo pin, built for real: failures, interruptions, executors, memory, and the way to an index."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import serving

from sagefix.errors import (
    LockError,
    PrebuildError,
    SagefixError,
    ToolchainError,
    UsageError,
    VerificationError,
    WheelError,
)
from sagefix.pins.matrix import Cell
from sagefix.process import run
from sagefix.targets.cross.compilers import find_cross_compilers
from sagefix.targets.cross.platforms import platform_named
from sagefix.targets.interpreter import probe
from sagefix.targets.pythons import find_version
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.elf import read_extensions
from sagefix.workflows.coverage import Found, MatrixRequest, github_matrix, survey_matrix
from sagefix.workflows.gather import gather
from sagefix.workflows.metering import Group, Meter
from sagefix.workflows.prebuild import GIB, Order, Report, prebuild
from tests.integration.conftest import MakeTarget, Sagefix, python_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the matrix is of Linux wheels")

ONE = ("--pin", "demo")
# Passes as a C compiler. The first compilation goes through unless the folder "first" is there already; others
# hang, unless the file "go" is there.
COMPILER = """#!/bin/sh
case " $* " in
*" -c "*) [ -e {folder}/go ] || mkdir {folder}/first 2>/dev/null || {{ : > {folder}/hanging; sleep 300; }} ;;
esac
exec cc "$@"
"""


@pytest.fixture
def pythons(tmp_path: Path) -> tuple[str, ...]:
    """Two versions of Python that are on this machine with their headers, or at least one."""
    found: list[str] = []
    for minor in range(9, 16):
        with contextlib.suppress(SagefixError):
            find_version(f"3.{minor}", offline=True)
            found.append(f"3.{minor}")
    if not found:
        pytest.skip("needs a Python with headers")
    return tuple(found[:2])


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A compiler that hangs at its second compilation; its folder."""
    folder = tmp_path / "compiler"
    folder.mkdir()
    (folder / "cc").write_text(COMPILER.format(folder=folder))
    (folder / "cc").chmod(0o755)
    monkeypatch.setenv("CC", str(folder / "cc"))
    yield folder
    assert _running(folder) == []


def hang_at(compiler: Path, call: int) -> None:
    """Let the first or the second compilation hang."""
    if call == 1:
        (compiler / "first").mkdir()


def _running(folder: Path) -> list[str]:
    """Processes that name a folder in their command or work in it, after some time to go away."""
    import psutil

    deadline = time.monotonic() + 10
    while True:
        found = [
            " ".join(process.info["cmdline"])
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and any(str(folder) in word for word in process.info["cmdline"] or [])
        ]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def survey(target: Path, wheelhouse: Path) -> Found:
    """The one cell of an environment."""
    request = MatrixRequest(pin="demo", pythons=(str(target),), wheelhouse=str(wheelhouse), here=True)
    (found,) = survey_matrix(request).found
    return found


def named(found: Found, name: str, interpreter: Path) -> Found:
    """A cell like another one, to be built with another Python."""
    cell = msgspec.structs.replace(found.cell, id=name, interpreter=str(interpreter))
    return Found(cell=cell, status="missing")


def build(found: list[Found], wheelhouse: Path, **more: Any) -> Report:
    surveyed = survey_matrix(MatrixRequest(pin="demo", wheelhouse=str(wheelhouse)))
    order = {
        "wheelhouse": wheelhouse,
        **{key: more.pop(key) for key in ("jobs", "max_memory", "gate") if key in more},
    }
    Wheelhouse.open(wheelhouse)
    return prebuild(found, surveyed.pin, surveyed.revision, Order(**order), **more)


def test_a_failing_cell_does_not_stop_the_rest(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    good, bare = make_target("good"), make_target("bare", build=False)
    found = survey(good, wheels)
    heard: list[tuple[str, ...]] = []
    report = build(
        [named(found, "first", python_of(bare)), found, named(found, "third", tmp_path / "nothing")],
        wheels,
        listener=lambda rows: heard.append(tuple(row.status for row in rows)),
    )
    assert [row.status for row in report.rows] == ["failed", "built", "failed"]
    assert "lacks what a build needs: setuptools" in report.rows[0].reason
    assert "There is no Python at" in report.rows[2].reason
    assert heard[0] == ("waiting", "waiting", "waiting")
    assert ("failed", "running", "waiting") in heard
    built = report.rows[1]
    (kept,) = Wheelhouse.open(wheels, create=False).entries()
    assert (built.wheel, built.sha256, built.size) == (kept.filename, kept.sha256, kept.size)
    assert (kept.proof, built.proof) == ("static", "static")
    assert built.memory is not None
    assert 10_000_000 < built.memory.size < 2_000_000_000
    assert built.seconds > built.compile_seconds > 0
    assert "Compiling demoattention" in Path(built.log).read_text()
    assert Path(built.build_log).is_file()
    assert "setuptools" in Path(report.rows[0].log).read_text()
    # The same again: nothing to do, and what it took is remembered.
    again = build([survey(good, wheels)], wheels)
    assert [(row.status, row.proof) for row in again.rows] == [("have", "static")]


def test_the_command_says_what_failed(sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path) -> None:
    bare = make_target("bare", build=False)
    job = tmp_path / "job.md"
    job.write_text("before\n")
    said = sagefix(
        "prebuild", *ONE, "--python", bare, "--wheelhouse", tmp_path / "wheels", "--summary", tmp_path / "s.md",
        env={"GITHUB_STEP_SUMMARY": str(job)},
    )  # fmt: skip
    assert said.code == PrebuildError.exit_code == 21
    assert said.answer["error"]["name"] == "prebuild"
    (row,) = said.answer["result"]["rows"]
    assert row["status"] == "failed"
    assert said.answer["error"]["details"]["failed"] == [row["cell"]["id"]]
    assert "| failed |" in (tmp_path / "s.md").read_text()
    assert job.read_text() == "before\n" + (tmp_path / "s.md").read_text()
    shown = sagefix("prebuild", *ONE, "--python", bare, "--wheelhouse", tmp_path / "wheels", json_=False)
    assert shown.code == 21
    assert "1 cell: 1 failed" in shown.out
    assert row["cell"]["id"] + ": failed after" in shown.err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind_and_is_gone_on_with(
    sagefix: Sagefix, pythons: tuple[str, ...], compiler: Path, tmp_path: Path, number: int
) -> None:
    wheels = tmp_path / "wheels"
    hang_at(compiler, len(pythons))
    command = ["prebuild", *ONE, "--python", ",".join(pythons), "--wheelhouse", wheels]
    # Where tests run in the background SIGINT is ignored, and programs inherit that.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = sagefix.start(*command, "--json")
    signal.signal(signal.SIGINT, previous)
    deadline = time.monotonic() + 120
    while not (compiler / "hanging").exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (compiler / "hanging").exists(), running.communicate()
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    assert _running(compiler) == []
    done = {facts.sha256 for facts in Wheelhouse.open(wheels, create=False).entries()}
    assert len(done) == len(pythons) - 1
    if number == signal.SIGKILL:
        assert running.returncode == -signal.SIGKILL
    else:
        assert running.returncode == 130, out + err
        answer = json.loads(out)
        here = [row["status"] for row in answer["result"]["rows"] if row["status"] != "impossible"]
        assert here == ["built", "interrupted"][-len(pythons) :]
    (compiler / "go").touch()
    said = sagefix(*command)
    rows = [row for row in said.result["rows"] if row["status"] != "impossible"]
    assert [row["status"] for row in rows] == ["have", "built"][-len(pythons) :]
    assert {row["sha256"] for row in rows[:-1]} == done
    assert all(row["seconds"] > 0 for row in rows), "what the first run measured is remembered"
    assert "were interrupted" in said.err


def test_a_wheel_that_was_never_checked_is_checked(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path
) -> None:
    """A run that is killed between building and checking leaves a wheel that nobody vouches for."""
    wheels, target = tmp_path / "wheels", make_target()
    found = survey(target, wheels)
    assert build([found], wheels, gate=False).rows[0].proof == ""
    unproven = survey(target, wheels)
    assert unproven.status == "have"
    (row,) = build([unproven], wheels).rows
    assert (row.status, row.proof) == ("have", "static")
    assert survey(target, wheels).wheel.proof == "static"  # type: ignore[union-attr]


def test_a_cell_that_fails_its_gate_fails(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two copies in the environment behind the gate: the level static refuses that."""
    wheels, target = tmp_path / "wheels", make_target()
    (site,) = target.glob("lib/python*/site-packages")
    (site / "demoattention").mkdir()
    (site / "demoattention" / "__init__.py").write_text("")
    (row,) = build([survey(target, wheels)], wheels).rows
    assert row.status == "failed"
    assert "fails level static: one copy" in row.reason
    # The environment is to blame and not the wheel, so the wheel is kept, unproven: the next run checks it again.
    assert survey(target, wheels).wheel.proof == ""  # type: ignore[union-attr]


def test_an_executor_that_is_handed_in(sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path) -> None:
    wheels, target = tmp_path / "wheels", make_target()
    found = survey(target, wheels)
    with ProcessPoolExecutor(2) as pool:
        report = build([found, named(found, "none", tmp_path / "nothing")], wheels, executor=pool, jobs=2)
        assert pool.submit(int, "1").result() == 1, "it stays open for its owner"
    assert [row.status for row in report.rows] == ["built", "failed"]
    with ProcessPoolExecutor(1) as broken:
        broken.submit(os._exit, 1).exception()
        with pytest.raises(Exception, match="terminated abruptly"):
            build([named(found, "x", tmp_path)], wheels, executor=broken)


def test_one_run_of_a_matrix_at_a_time(
    sagefix: Sagefix, pythons: tuple[str, ...], compiler: Path, tmp_path: Path
) -> None:
    hang_at(compiler, len(pythons))
    command = ["prebuild", *ONE, "--python", ",".join(pythons), "--wheelhouse", tmp_path / "wheels"]
    running = sagefix.start(*command)
    while not (compiler / "hanging").exists() and running.poll() is None:
        time.sleep(0.05)
    said = sagefix(*command)
    running.terminate()
    running.communicate(timeout=30)
    assert said.code in (0, LockError.exit_code)
    assert said.answer["error"]["name"] == "lock"


def test_memory_stays_under_the_limit_and_is_counted(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path
) -> None:
    report = build([survey(make_target(), tmp_path / "wheels")], tmp_path / "wheels", max_memory=GIB, jobs=4)
    assert report.share.cells * report.share.jobs_each >= 1
    assert 0 < report.memory.size <= GIB
    (row,) = report.rows
    assert row.jobs == report.share.jobs_each
    with pytest.raises(UsageError, match=r"One compiler of demo needs 0\.1 GiB"):
        build([], tmp_path / "wheels", max_memory=1000)


@pytest.mark.parametrize("grouped", [True, False], ids=["cgroup", "sampled"])
def test_a_peak_is_that_of_all_processes_together(grouped: bool) -> None:
    group = Group.make("test") if grouped else None
    if grouped and group is None:
        pytest.skip("no control group can be made here")
    # 100 MB in the parent and 150 MB in the child, at the same time.
    child = "a = bytearray(150_000_000); import time; time.sleep(1)"
    parent = (
        "import subprocess, sys, time; time.sleep(0.3); a = bytearray(100_000_000)\n"
        f"subprocess.run([sys.executable, '-c', {child!r}])"
    )
    with Meter("peak", group.folder if group else None) as meter:
        process = subprocess.Popen([sys.executable, "-c", parent])
        meter.start(process.pid)
        process.wait()
        peak = meter.peak()
    assert peak.source == ("cgroup" if grouped else "sampled")
    assert 250_000_000 <= peak.size < 400_000_000
    if group is not None:
        assert group.peak() >= peak.size
        group.remove()
        assert not group.folder.exists()


def test_a_limit_is_kept_by_the_kernel() -> None:
    group = Group.make("limit", limit=200_000_000)
    if group is None:
        pytest.skip("no control group can be made here")
    try:
        with Meter("hungry", group.folder) as meter:
            process = subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(0.3); a = bytearray(400_000_000)"]
            )
            meter.start(process.pid)
            assert process.wait() == -signal.SIGKILL
        assert group.peak() <= 200_000_000
    finally:
        group.remove()


def test_the_way_of_ci_to_a_published_index(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path
) -> None:
    """Matrix, a wheelhouse for each job, one index, and a matrix that finds nothing missing any more."""
    wheels, site, target = tmp_path / "artifacts" / "one", tmp_path / "site", make_target()
    found = survey(target, wheels)
    expected = tmp_path / "matrix.json"
    expected.write_bytes(msgspec.json.encode(github_matrix([found])))
    with pytest.raises(PrebuildError, match="1 of 1 cells are not there; nothing is published") as caught:
        gather([tmp_path / "artifacts"] if wheels.exists() else [tmp_path], site, expected=expected)
    assert caught.value.details == {"missing": [found.cell.id]}
    assert not site.exists()

    build([found], wheels)
    said = sagefix("gather", tmp_path / "artifacts", "--output", site, "--expect", expected)
    assert said.result["added"] == 1
    (kept,) = Wheelhouse.open(site, create=False).entries()
    assert kept.proof == "static"
    assert all(check.status == "ok" for check in Wheelhouse.open(site, create=False).check())
    again = sagefix("gather", tmp_path / "artifacts", "--output", site, "--expect", expected)
    assert (again.result["added"], len(again.result["wheels"])) == (0, 1)

    with serving(tmp_path) as server:
        for index in (f"{server.url}site/", site.as_uri()):
            command = [
                "matrix",
                *ONE,
                "--python",
                target,
                "--wheelhouse",
                tmp_path / "none",
                "--index",
                index,
            ]
            (cell,) = sagefix(*command).result["cells"]
            assert (cell["status"], cell["wheel"]["filename"]) == ("have", kept.filename)
            github = sagefix(*command, "--format", "github", json_=False)
            assert json.loads(github.out) == {"include": []}
        missing = sagefix("matrix", *ONE, "--python", target, "--wheelhouse", tmp_path / "none",
                          "--index", f"{server.url}empty/")  # fmt: skip
    assert [cell["status"] for cell in missing.result["cells"]] == ["missing"]
    assert "It counts as empty" in missing.err


def test_what_no_gate_passed_is_not_published(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path
) -> None:
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    (row,) = build([survey(make_target(), wheels)], wheels, gate=False).rows
    with pytest.raises(VerificationError, match="passed no verification; nothing is published"):
        gather([wheels], site)
    store = Wheelhouse.open(wheels, create=False)
    store.record_proof(row.wheel, {}, "static", False)
    with pytest.raises(VerificationError, match="failed the level static; nothing is published"):
        gather([wheels], site)
    store.record_proof(row.wheel, {}, "static", True)
    wheel = Path(row.where)
    body = wheel.read_bytes()
    wheel.write_bytes(body[:-1] + b"!")
    with pytest.raises(WheelError, match="is not the wheel that was verified"):
        gather([wheels], site)
    wheel.write_bytes(body)
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / wheel.name).write_bytes(body)
    with pytest.raises(VerificationError, match="comes from no wheelhouse"):
        gather([wheels, loose], site)
    with pytest.raises(UsageError, match="is not a folder"):
        gather([tmp_path / "nowhere"], site)
    (tmp_path / "odd.json").write_text("[]")
    with pytest.raises(UsageError, match=r"odd\.json is not a matrix"):
        gather([wheels], site, expected=tmp_path / "odd.json")
    assert not site.exists()
    assert gather([wheels], site).added == 1


def test_options_that_exclude_each_other(sagefix: Sagefix, make_target: MakeTarget) -> None:
    said = sagefix("matrix", *ONE, "--format", "github")
    assert (said.code, said.answer["error"]["message"]) == (
        2,
        "--json and --format github exclude each other.",
    )
    said = sagefix("matrix", "--python", make_target(build=False), "--torch", "2.11")
    assert "a Python brings its own torch" in said.answer["error"]["hint"] + said.answer["error"]["message"]
    said = sagefix("matrix", *ONE, "--index", "https://example.org/simple/", "--offline")
    assert said.answer["error"]["name"] == "index"
    said = sagefix("prebuild", *ONE, "--max-memory", "lots")
    assert said.answer["error"]["message"] == "'lots' is not an amount of memory."


def other_platform() -> str:
    """A platform whose wheels are built here by cross build; skips where none is."""
    if platform.machine() != "x86_64":
        pytest.skip("the matrix cross-builds on x86_64 alone")
    try:
        find_cross_compilers(platform_named("linux_aarch64"), cxx=False)
    except ToolchainError as error:
        pytest.skip(f"{error.message} {error.hint}")
    return "aarch64"


def test_a_cell_of_another_platform_is_built_and_checked_here(
    sagefix: Sagefix, pythons: tuple[str, ...], tmp_path: Path
) -> None:
    other, wheels = other_platform(), tmp_path / "wheels"
    command = ("prebuild", *ONE, "--python", pythons[0], "--wheelhouse", wheels, "--jobs", "2")
    report = sagefix(*command, "--max-memory", "2G").result
    rows = {row["cell"]["platform"]: row for row in report["rows"]}
    assert {(row["status"], row["proof"]) for row in rows.values()} == {("built", "static")}
    crossed = rows[other]
    assert (crossed["cell"]["host"], crossed["wheel"][-18:]) == ("x86_64", "-linux_aarch64.whl")
    (extension,) = read_extensions(Path(crossed["where"]))
    assert (extension.machine, extension.path.endswith("-aarch64-linux-gnu.so")) == ("aarch64", True)
    assert "aarch64-linux-gnu-gcc" in Path(crossed["log"]).read_text()
    assert crossed["memory"]["size"] > 10_000_000
    (proof,) = sagefix("wheelhouse", "show", crossed["wheel"], "--wheelhouse", wheels).result["proofs"]
    assert proof["level"] == "static"
    assert {check["status"] for check in proof["verdict"]["checks"]} <= {"ok", "skipped", "warning"}
    # The same again: both are there, and the index of both can be published.
    again = sagefix(*command).result["rows"]
    assert [row["status"] for row in again] == ["have", "have"]
    expected = tmp_path / "matrix.json"
    cell = survey_matrix(
        MatrixRequest(pin="demo", pythons=(pythons[0],), wheelhouse=str(tmp_path / "none"))
    ).found
    expected.write_bytes(msgspec.json.encode(github_matrix(cell)))
    assert gather([wheels], tmp_path / "site", expected=expected).added == 2
    chosen = sagefix(
        "wheelhouse", "choose", *ONE, "--platform", f"linux_{other}", "--python", pythons[0], "--index",
        (tmp_path / "site").as_uri(), "--wheelhouse", tmp_path / "none",
    ).result  # fmt: skip
    assert chosen["wheel"]["filename"] == crossed["wheel"]


def test_a_damaged_cross_build_does_not_pass_its_gate(
    sagefix: Sagefix, pythons: tuple[str, ...], tmp_path: Path
) -> None:
    """A wheel that is called aarch64 and holds code for this machine: what a wrong environment silently makes."""
    other, wheels = other_platform(), tmp_path / "wheels"
    command = ("prebuild", *ONE, "--python", pythons[0], "--wheelhouse", wheels, "--no-gate")
    rows = {row["cell"]["platform"]: row for row in sagefix(*command).result["rows"]}
    good, native = Path(rows[other]["where"]), Path(rows["x86_64"]["where"])
    folder = tmp_path / "changed"
    run([sys.executable, "-m", "wheel", "unpack", good, "--dest", folder])
    (tmp_path / "packed").mkdir()
    (module,) = folder.rglob("*.so")
    with zipfile.ZipFile(native) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".so")]
        module.write_bytes(archive.read(name))
    run([sys.executable, "-m", "wheel", "pack", next(folder.iterdir()), "--dest-dir", tmp_path / "packed"])
    (changed,) = (tmp_path / "packed").glob("*.whl")
    Wheelhouse.open(wheels).add(changed, replace=True)
    said = sagefix(*command[:-1], "--platform", other)
    (row,) = said.answer["result"]["rows"]
    assert (said.code, row["status"]) == (21, "failed")
    assert "fails level static: extensions" in row["reason"]
    with pytest.raises(VerificationError):
        gather([wheels], tmp_path / "site")


def test_a_missing_cross_compiler_is_told_before_anything_is_compiled(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the matrix cross-builds on x86_64 alone")
    # All programs but cross compilers.
    tools = tmp_path / "tools"
    tools.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in Path(folder).glob("*"):
            link = tools / program.name
            if not program.name.startswith("aarch64") and not link.exists() and not link.is_symlink():
                link.symlink_to(program)
    monkeypatch.setenv("PATH", str(tools))
    named = (
        "prebuild",
        *ONE,
        "--python",
        "3.12",
        "--wheelhouse",
        tmp_path / "wheels",
        "--platform",
        "aarch64",
    )
    said = sagefix(*named)
    assert (said.code, said.answer["error"]["name"]) == (8, "toolchain")
    assert "no C compiler for aarch64" in said.answer["error"]["message"]
    assert "g++-aarch64-linux-gnu" in said.answer["error"]["hint"]
    assert said.answer["result"] is None
    # Who did not name them gets the others, and is told as well.
    said = sagefix("matrix", *ONE, "--python", "3.12", "--here", "--wheelhouse", tmp_path / "wheels")
    rows = {each["cell"]["platform"]: each for each in said.result["cells"]}
    assert (rows["x86_64"]["status"], rows["aarch64"]["status"]) == ("missing", "impossible")
    assert "g++-aarch64-linux-gnu" in rows["aarch64"]["reason"]
    assert "No wheel for aarch64 is built" in said.err
    # A native build asks for another machine, whatever compilers there are.
    said = sagefix(*named, "--native")
    assert "it needs an aarch64 machine" in said.result["rows"][0]["reason"]


def test_cells_are_for_this_machine(make_target: MakeTarget, tmp_path: Path) -> None:
    found = survey(make_target(build=False), tmp_path / "wheels")
    facts = probe(python_of(tmp_path / "target"))
    assert found.cell == Cell(
        id=f"{facts.abi_tag}-{facts.machine}",
        pin="demo",
        python=".".join(facts.version.split(".")[:2]),
        abi=facts.abi_tag,
        interpreter=facts.executable,
        platform=facts.machine,
        host=facts.machine,
        runner=found.cell.runner,
    )
