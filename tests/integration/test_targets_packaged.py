"""A CUDA toolkit out of small wheels shaped like NVIDIA's: real uv and pip, real links, a real stub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cuda_wheels import GXX, cuda_wheels, only_from, torch_wheels

from sagefix.archs import parse_archs
from sagefix.checks import failures
from sagefix.errors import ToolchainError, UsageError
from sagefix.pins.model import Build, Capability, Pin, Recipe, Source
from sagefix.targets.cuda import check_toolkit
from sagefix.targets.interpreter import probe
from sagefix.targets.linking import driver_problem
from sagefix.targets.model import Interpreter
from sagefix.targets.packaged import (
    expect_packaged,
    find_packaged,
    list_packaged,
    make_packaged,
    remove_packaged,
)
from sagefix.targets.toolchain import check_toolchain, choose_toolkit, decide_toolkit
from sagefix.targets.wanted import wanted_for

pytestmark = pytest.mark.skipif(
    GXX is None or not sys.platform.startswith("linux"), reason="needs g++ and the linker of Linux"
)

ROW = Capability(
    arch="9.0", gencode="90a", min_cuda="12.3", extensions=("pkg._c",), dispatch="kernel", links=("cuda",),
    sources=("https://example.org/why",),
)  # fmt: skip
RECIPE = Recipe(name="r", setup_py=("x",), capability=(ROW,), sources=())
PIN = Pin(
    schema=1, name="demo", project="demo", package="demo", version="1", summary="", device="cuda", license="",
    source=Source(commit="c", tree="t", files=()), build=Build(), recipe=(RECIPE,), ref=(),
)  # fmt: skip
SM90 = parse_archs("9.0")


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, scratch = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("scratch")
    return torch_wheels(cuda_wheels(folder, scratch), scratch)


@pytest.fixture(autouse=True)
def index(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_from(monkeypatch, wheels, tmp_path / "fetching")
    # A system toolkit of the machine that runs the tests must not count.
    monkeypatch.setattr("sagefix.targets.toolkit._USUAL_HOMES", ())
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("uv", "sh", "env", "c++", "g++", "gcc", "cc", "as", "ld", "false"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))


@pytest.fixture
def make_interpreter(tmp_path: Path) -> Callable[[str], Interpreter]:
    def make(torch: str) -> Interpreter:
        folder = tmp_path / f"target-{torch}"
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        python = folder / "bin" / "python"
        subprocess.run(
            ["uv", "pip", "install", "--quiet", "--python", str(python), f"torch=={torch}"], check=True
        )
        return probe(python)

    return make


@pytest.fixture
def target(make_interpreter: Callable[[str], Interpreter]) -> Interpreter:
    return make_interpreter("2.11.0")


@pytest.fixture(params=["uv", "pip"])
def fetcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pip":
        monkeypatch.setattr("sagefix.targets.fetching.find_uv", lambda: None)
    return request.param


def test_a_toolkit_of_packages_passes_every_check(target: Interpreter, fetcher: str) -> None:
    wanted = wanted_for(target)
    assert (wanted.cuda, wanted.release) == ("13.0", "13.0.2")
    assert wanted.headers == {"nvidia-cublas": "13.1.0.3", "nvidia-cusparse": "12.6.3.3"}
    assert find_packaged(wanted) is None
    toolkit = make_packaged(wanted, target, offline=False)
    assert (toolkit.full_version, toolkit.found_in) == ("13.0.88", "PyPI")
    checks = check_toolkit(toolkit, target, PIN, RECIPE, SM90)
    assert not failures(checks)
    assert [check.name for check in checks][-1] == "CUDA trial"

    (kept,) = list_packaged()
    versions = {each.name: each.version for each in kept.toolchain.packages}
    assert versions["nvidia-cuda-crt"] == versions["nvidia-nvvm"] == versions["nvidia-cuda-nvcc"] == "13.0.88"
    assert all(each.sha256 for each in kept.toolchain.packages)
    assert "nvidia-cublas" not in versions
    assert (kept.toolchain.fetched_by, kept.toolchain.driver_functions) == (fetcher, 6)
    assert kept.size > 0


def test_the_overlay_is_made_of_links_that_stay_inside(target: Interpreter) -> None:
    make_packaged(wanted_for(target), target, offline=False)
    (kept,) = list_packaged()
    folder = Path(kept.folder)
    home = folder / "toolkit"
    assert (home / "bin/nvcc").is_symlink() and not (home / "bin").is_symlink()
    assert (home / "lib64/libcudart.so").readlink() == Path("libcudart.so.13")
    assert (home / "include/cusparse.h").read_text() == "// cusparse\n"
    assert (home / "include/cccl/nv/target").is_file()
    assert driver_problem(home / "lib64/stubs/libcuda.so") == ""
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    assert all(path.resolve(strict=True).is_relative_to(folder.resolve()) for path in links)
    assert all(not path.readlink().is_absolute() for path in links)
    # The target may go away: its headers were copied.
    shutil.rmtree(target.prefix)
    assert (home / "include/cublas_v2.h").is_file()


def test_nothing_changes_in_the_target(target: Interpreter) -> None:
    def state() -> list[tuple[str, int]]:
        return sorted((str(path), path.lstat().st_mtime_ns) for path in Path(target.prefix).rglob("*"))

    before = state()
    make_packaged(wanted_for(target), target, offline=False)
    assert state() == before


def test_what_is_there_needs_no_network_and_serves_every_target_that_wants_the_same(
    target: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_packaged(wanted_for(target), target, offline=False)
    only_from(monkeypatch, tmp_path, tmp_path / "nothing")
    again = make_packaged(wanted_for(target), target, offline=True)
    assert again == made
    assert len(list_packaged()) == 1


def test_offline_says_so(target: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_from(monkeypatch, tmp_path, tmp_path / "nothing")
    with pytest.raises(
        ToolchainError, match=r"The CUDA 13\.0 compiler is not at hand, and --offline"
    ) as caught:
        make_packaged(wanted_for(target), target, offline=True)
    assert "without --offline" in caught.value.hint
    assert list_packaged() == ()


def test_versions_that_the_index_lacks(
    target: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_from(monkeypatch, tmp_path, tmp_path / "nothing")
    with pytest.raises(ToolchainError, match=r"Cannot fetch the CUDA 13\.0 compiler: .*cuda-toolkit"):
        make_packaged(wanted_for(target), target, offline=False)


def test_a_torch_without_nvidias_wheels_has_the_headers_fetched(
    make_interpreter: Callable[[str], Interpreter], fetcher: str
) -> None:
    target = make_interpreter("2.12.0")
    wanted = wanted_for(target)
    assert (wanted.release, wanted.headers, wanted.fetched) == ("13.0.*", {}, ("cusparse", "cublas"))
    toolkit = make_packaged(wanted, target, offline=False)
    assert not failures(check_toolkit(toolkit, target, PIN, RECIPE, SM90))
    (kept,) = list_packaged()
    # Of libraries of hundreds of megabytes only the headers stay.
    assert not list(Path(kept.folder).rglob("libcublas*"))
    assert "nvidia-cublas" in {each.name for each in kept.toolchain.packages}


def test_a_torch_for_cuda_12_has_no_packages(
    make_interpreter: Callable[[str], Interpreter], tmp_path: Path
) -> None:
    target = make_interpreter("2.10.0")
    with pytest.raises(ToolchainError, match="PyPI has no compiler for CUDA 12") as caught:
        decide_toolkit("pypi", target, PIN, RECIPE, SM90)
    assert "Install the CUDA 12.8 toolkit" in caught.value.hint
    with pytest.raises(
        ToolchainError, match=r"No CUDA compiler .* Nor can one be made of packages: PyPI has no"
    ):
        decide_toolkit("auto", target, PIN, RECIPE, SM90)
    lost, host = check_toolchain("auto", target, PIN, RECIPE, SM90)
    assert (lost.name, lost.status, host.name) == ("CUDA toolchain", "failure", "host compiler")


def test_a_python_without_torch_or_another_machine(
    target: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ToolchainError, match="has no torch with CUDA"):
        wanted_for(msgspec.structs.replace(target, torch=None))
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ToolchainError, match="no packages of the CUDA 13 compiler for Linux on riscv64"):
        wanted_for(target)


def test_auto_takes_packages_and_says_why(target: Interpreter) -> None:
    looked = check_toolchain("auto", target, PIN, RECIPE, SM90)
    assert looked[0].found.startswith("CUDA 13.0.2 from PyPI: No CUDA compiler (nvcc) was found")
    assert "is not in the cache; a build fetches it (about 100.0 MB)" in looked[1].found
    assert not failures(looked)
    offline = check_toolchain("auto", target, PIN, RECIPE, SM90, offline=True)
    assert [check.name for check in failures(offline)] == ["CUDA toolkit"]

    expected, _ = choose_toolkit("auto", target, PIN, RECIPE, SM90, fetch=False)
    assert not expected.here
    assert list_packaged() == ()
    toolkit, reason = choose_toolkit("auto", target, PIN, RECIPE, SM90)
    assert toolkit.here
    assert (toolkit.home, toolkit.full_version) == (expected.home, expected.full_version)
    assert "from PyPI" in reason.found
    assert not failures(check_toolchain("auto", target, PIN, RECIPE, SM90))


def test_auto_takes_a_system_toolkit_that_is_complete(target: Interpreter, tmp_path: Path) -> None:
    """The packaged one, copied elsewhere, plays the system's: first without its stub, then without headers."""
    home = tmp_path / "cuda"
    shutil.copytree(make_packaged(wanted_for(target), target, offline=False).home, home)
    shutil.rmtree(home / "lib64/stubs")
    remove_packaged(everything=True)
    env = {**os.environ, "CUDA_HOME": str(home)}
    decision = decide_toolkit("auto", target, PIN, RECIPE, SM90, env)
    assert decision.toolkit is not None
    assert decision.toolkit.home == str(home)
    assert decision.reason.found == f"CUDA 13.0.88 at {home}: it is complete and fits the target"
    assert decision.checks and not failures(decision.checks)
    assert driver_problem(Path(decision.toolkit.stub_folders[0]) / "libcuda.so") == ""

    (home / "include/cusparse.h").unlink()
    slim = decide_toolkit("auto", target, PIN, RECIPE, SM90, env)
    assert slim.toolkit is None
    assert f"that in {home} does not do: CUDA headers: cusparse.h not found" in slim.reason.found
    named = decide_toolkit(str(home), target, PIN, RECIPE, SM90)
    assert named.toolkit is not None and named.toolkit.home == str(home)
    assert decide_toolkit("system", target, PIN, RECIPE, SM90, env).toolkit is not None
    with pytest.raises(ToolchainError, match="there is no CUDA compiler in it"):
        decide_toolkit(str(tmp_path), target, PIN, RECIPE, SM90)
    with pytest.raises(UsageError, match="--cuda is empty"):
        decide_toolkit(" ", target, PIN, RECIPE, SM90)


def test_a_damaged_toolchain_names_its_removal(target: Interpreter) -> None:
    toolkit = make_packaged(wanted_for(target), target, offline=False)
    Path(toolkit.nvcc).resolve().unlink()
    (kept,) = list_packaged()
    with pytest.raises(ToolchainError, match=f"{kept.name} in the cache is damaged") as caught:
        find_packaged(wanted_for(target))
    assert f"sagefix toolchain remove {kept.name}" in caught.value.hint
    (removed,) = remove_packaged((kept.toolchain.key,))
    assert removed.name == kept.name
    assert make_packaged(wanted_for(target), target, offline=False).here


def test_no_compiler_no_download(target: Interpreter, tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"No C\+\+ compiler was found"):
        make_packaged(wanted_for(target), target, {"PATH": str(tmp_path)}, offline=False)
    assert expect_packaged(wanted_for(target), offline=False).full_version == "13.0.88"
