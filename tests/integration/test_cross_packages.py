"""What a build for another platform is linked with, out of small wheels: real uv and pip, a real cross compiler."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_wheels import CUDA_H, GXX, PREFIX, cuda_wheels, only_from, shared_library, torch_wheels, write_wheel
from elftools.elf.elffile import ELFFile

from sagefix.archs import parse_archs
from sagefix.checks import failures
from sagefix.errors import SagefixError, ToolchainError, TorchError
from sagefix.pins.load import load_pin
from sagefix.targets.cross.compilers import tool_environment
from sagefix.targets.cross.described import find_described, make_described
from sagefix.targets.cross.packages import list_packages
from sagefix.targets.cross.platforms import load_platforms
from sagefix.targets.cuda import find_host_compiler
from sagefix.targets.environments import Spec
from sagefix.targets.linking import check_libraries
from sagefix.targets.packaged import find_packaged, list_packaged, make_packaged
from sagefix.targets.wanted import wanted_for
from sagefix.wheels.elf import machine_name
from sagefix.workflows.situation import Request
from sagefix.workflows.toolchain import remove, show

OTHER = next(platform for platform in load_platforms().platform if not platform.here)
MINE = next(platform for platform in load_platforms().platform if platform.here)
CC = shutil.which(f"{OTHER.triplet}-gcc")
PYTHON = ".".join(str(part) for part in sys.version_info[:2])

pytestmark = pytest.mark.skipif(
    GXX is None or CC is None or not sys.platform.startswith("linux"),
    reason=f"needs Linux, g++ and a cross compiler: {next(iter(OTHER.packages.values()))}",
)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of the native tests, with a CUDA runtime for each of the two machines."""
    folder, scratch = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("scratch")
    torch_wheels(cuda_wheels(folder, scratch), scratch)
    (folder / "nvidia_cuda_runtime-13.0.96-py3-none-any.whl").unlink()
    headers = {f"{PREFIX}/include/{name}": "" for name in ("cuda_runtime.h", "cuda_runtime_api.h")}
    other = scratch / "other.so"
    (scratch / "other.c").write_text("int nothing;\n")
    subprocess.run([str(CC), "-shared", "-fPIC", "-o", str(other), str(scratch / "other.c")], check=True)
    for platform, library in ((MINE, shared_library(scratch)), (OTHER, other.read_bytes())):
        write_wheel(
            folder,
            "nvidia-cuda-runtime",
            "13.0.96",
            {**headers, f"{PREFIX}/include/cuda.h": CUDA_H, f"{PREFIX}/lib/libcudart.so.13": library},
            tag=f"py3-none-manylinux_2_28_{platform.machine}",
        )
    return folder


@pytest.fixture(autouse=True)
def index(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_from(monkeypatch, wheels, tmp_path / "fetching")


@pytest.fixture(params=["uv", "pip"])
def fetcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pip":
        monkeypatch.setattr("sagefix.targets.fetching.find_uv", lambda: None)
    return str(request.param)


def machine_of(path: Path) -> str:
    with path.open("rb") as stream:
        return machine_name(ELFFile(stream))


def test_a_target_is_described_by_its_packages_and_found_again() -> None:
    spec = Spec(python=PYTHON, torch="2.11")
    made = make_described(OTHER, spec, cuda=True, offline=False)
    assert (made.machine, made.platform_tag, made.glibc) == (OTHER.machine, OTHER.name, OTHER.glibc)
    assert made.ext_suffix == f".cpython-{PYTHON.replace('.', '')}-{OTHER.triplet}.so"
    assert made.tags[0].endswith(f"-{OTHER.name}")
    assert f"manylinux_{OTHER.glibc.replace('.', '_')}_{OTHER.machine}" in made.tags[1]
    assert made.torch is not None and made.torch.version == "2.11.0+cu130"
    (kept,) = list_packages()
    assert Path(made.torch.folder).is_relative_to(kept.folder)
    # What it comes to on the platform, and not only what is unpacked.
    assert made.packages["nvidia-cusparse"] == "12.6.3.3"
    assert made.builder.machine == MINE.machine
    assert make_described(OTHER, spec, cuda=True, offline=True) == made
    assert find_described(OTHER, spec) == (made, "")


def test_a_torch_without_cuda_is_refused_before_anything_is_made(own_environment: Path) -> None:
    with pytest.raises(TorchError, match=f"torch 2.10.0 for {OTHER.name} is CPU-only") as caught:
        make_described(OTHER, Spec(python=PYTHON, torch="2.10"), cuda=True, offline=False)
    assert OTHER.torch_cuda in caught.value.hint
    assert not (own_environment / "environments").exists()
    assert find_described(OTHER, Spec(python=PYTHON, torch="2.10"))[0] is None


def test_a_torch_that_does_not_exist_there_is_refused() -> None:
    with pytest.raises(SagefixError, match="torch"):
        make_described(OTHER, Spec(python=PYTHON, torch="2.99"), cuda=True, offline=False)


def test_the_toolkit_compiles_here_and_links_for_there(fetcher: str) -> None:
    target = make_described(OTHER, Spec(python=PYTHON, torch="2.11"), cuda=True, offline=False)
    tools = tool_environment(target)
    wanted = wanted_for(target)
    assert wanted.libraries_for == OTHER.machine
    toolkit = make_packaged(wanted, target, tools, offline=False)
    libraries = Path(toolkit.home) / "lib64"
    assert machine_of(libraries / "libcudart.so") == OTHER.machine
    assert machine_of(libraries / "stubs" / "libcuda.so") == OTHER.machine
    recipe = load_pin("sageattention").recipe[0]
    checked = check_libraries(toolkit, recipe, parse_archs("9.0"), find_host_compiler(tools), tools)
    assert not failures((checked,)), checked.found
    # The native one is another, and neither stands in for the other.
    native = make_packaged(wanted_for(target.builder), target.builder, offline=False)
    assert machine_of(Path(native.home) / "lib64" / "libcudart.so") == MINE.machine
    assert native.home != toolkit.home
    found = find_packaged(wanted, tools)
    assert found is not None and found.home == toolkit.home


def test_what_is_fetched_is_shown_and_removed() -> None:
    target = make_described(OTHER, Spec(python=PYTHON, torch="2.11"), cuda=True, offline=False)
    make_packaged(wanted_for(target), target, tool_environment(target), offline=False)
    rows = [row for row in show(Request()).toolkits if row.machine == OTHER.machine]
    assert sorted(row.kind for row in rows) == ["packages", "toolkit"]
    packages = next(row for row in rows if row.kind == "packages")
    assert packages.packages == {"torch": "2.11.0"}
    remove((packages.name,))
    assert list_packages() == ()
    remove(everything=True)
    assert list_packaged() == ()


def test_damaged_packages_of_a_platform_are_named() -> None:
    spec = Spec(python=PYTHON, torch="2.11")
    made = make_described(OTHER, spec, cuda=True, offline=False)
    assert made.torch is not None
    shutil.rmtree(made.torch.folder)
    with pytest.raises(TorchError, match="cannot be read") as caught:
        make_described(OTHER, spec, cuda=True, offline=False)
    (kept,) = list_packages()
    assert f"sagefix toolchain remove {kept.name}" in caught.value.hint


def test_cuda_12_has_no_compiler_for_it_either(wheels: Path) -> None:
    with pytest.raises(ToolchainError, match="PyPI has no compiler for CUDA 12"):
        target = make_described(OTHER, Spec(python=PYTHON, torch="2.10"), cuda=False, offline=False)
        wanted_for(target)
