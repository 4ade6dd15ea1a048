"""CUDA toolkits, each with its own fault, made of files and a small nvcc; compilers and linker are real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cuda_wheels import NVCC

from sagefix.archs import Arch, parse_archs
from sagefix.checks import Check
from sagefix.errors import ToolchainError
from sagefix.pins.model import Build, Capability, Pin, Recipe, Source
from sagefix.targets.compilers import Bounds, check_host_compiler, find_host_compiler, find_nvcc_host_compiler
from sagefix.targets.cuda import check_toolkit, find_toolkit, library_folders, require_toolkit
from sagefix.targets.interpreter import probe
from sagefix.targets.linking import driver_problem, find_library
from sagefix.targets.model import Interpreter, Torch
from sagefix.targets.toolchain import check_toolchain

GXX = shutil.which("g++")
pytestmark = pytest.mark.skipif(
    GXX is None or not sys.platform.startswith("linux"), reason="needs g++ and the linker of Linux"
)

DRIVER = "int cuInit(unsigned flags) { return 999; }"
HEADERS = ("cuda_runtime.h", "cuda_runtime_api.h", "nv/target", "cusparse.h", "cublas_v2.h", "cusolverDn.h")
CONTEXT = """\
#if !defined(STABLE_ONLY)
#include <cuda_runtime_api.h>
#include <cusparse.h>
#include <cublas_v2.h>
#ifdef CUDART_VERSION
#include <cusolverDn.h>
#endif
#endif
"""


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")
    path.chmod(0o755)
    return path


def library(path: Path, source: str = "", soname: str = "") -> Path:
    """Make a real shared library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert GXX is not None
    code = path.with_suffix(".c")
    code.write_text(source, encoding="ascii")
    subprocess.run(
        [GXX, "-shared", "-fPIC", "-x", "c", str(code), "-o", str(path)]
        + ([f"-Wl,-soname,{soname}"] if soname else []),
        check=True,
    )
    return path


def make_toolkit(
    home: Path, *, version: str = "13.0.88", newest_gcc: int = 99, compiles: str = 'echo made > "$last"'
) -> Path:
    """Make a complete toolkit whose nvcc answers what sagefix asks."""
    text = NVCC.replace("@FULL@", version).replace("@SHORT@", ".".join(version.split(".")[:2]))
    executable(home / "bin/nvcc", text.replace("@COMPILE@", compiles))
    (home / "bin/nvcc.profile").write_text("TOP = $(_HERE_)/..\n", encoding="ascii")
    for part in ("bin/ptxas", "bin/cudafe++", "bin/fatbinary", "nvvm/bin/cicc"):
        executable(home / part, "#!/bin/sh\n")
    for name in HEADERS:
        (home / "include" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "include" / name).write_text("", encoding="ascii")
    (home / "include/crt").mkdir()
    (home / "include/crt/host_config.h").write_text(
        f"#if __GNUC__ > {newest_gcc}\n#endif\n", encoding="ascii"
    )
    library(home / "lib64/libcudart.so")
    return home


@pytest.fixture
def toolkit(tmp_path: Path) -> Path:
    return make_toolkit(tmp_path / "cuda 13")


@pytest.fixture
def target(tmp_path: Path) -> Interpreter:
    """The Python that runs the tests, said to have a torch with CUDA 13.0 that has headers."""
    folder = tmp_path / "torch"
    (folder / "include/ATen/cuda").mkdir(parents=True)
    (folder / "include/ATen/cuda/CUDAContextLight.h").write_text(CONTEXT, encoding="ascii")
    (folder / "lib").mkdir()
    return msgspec.structs.replace(
        probe(Path(sys.executable)),
        torch=Torch(version="2.11.0+cu130", cuda="13.0", cxx11_abi=True, folder=str(folder)),
    )


def row(arch: str, min_cuda: str, *, links: tuple[str, ...] = (), reason: str = "") -> Capability:
    return Capability(
        arch=arch, gencode=arch.replace(".", ""), min_cuda=min_cuda, extensions=("pkg._c",),
        dispatch="kernel", reason=reason, links=links, sources=("https://example.org/why",),
    )  # fmt: skip


RECIPE = Recipe(
    name="r",
    setup_py=("x",),
    capability=(
        row("8.0", "12.0"),
        row("8.9", "13.1", reason="Below, its kernel is a trap."),
        row("9.0", "12.3", links=("cuda",)),
    ),
    sources=(),
)
PIN = Pin(
    schema=1, name="demo", project="demo", package="demo", version="1", summary="", device="cuda", license="",
    source=Source(commit="c", tree="t", files=()), build=Build(), recipe=(RECIPE,), ref=(),
)  # fmt: skip
SM80 = parse_archs("8.0")


def variables(**more: str) -> dict[str, str]:
    """Return an environment with the real compilers and nothing of CUDA."""
    return {"PATH": os.environ["PATH"], **more}


def run_checks(
    toolkit: Path, target: Interpreter, archs: tuple[Arch, ...] = SM80, **more: str
) -> dict[str, Check]:
    env = variables(CUDA_HOME=str(toolkit), **more)
    return {
        check.name: check for check in check_toolkit(find_toolkit(None, env), target, PIN, RECIPE, archs, env)
    }


# Finding


def test_every_way_to_a_toolkit(toolkit: Path, tmp_path: Path) -> None:
    found = find_toolkit(None, variables(CUDA_HOME=str(toolkit)))
    assert (found.version, found.full_version, found.found_in) == ("13.0", "13.0.88", "CUDA_HOME")
    assert (found.home, found.nvcc, found.major) == (str(toolkit), str(toolkit / "bin/nvcc"), 13)
    assert found.include_folders == (str(toolkit / "include"),)
    assert found.lib_folders == (str(toolkit / "lib64"),)
    assert found.stub_folders == ()
    other = make_toolkit(tmp_path / "12", version="12.8.93")
    (other / "lib64/stubs").mkdir()
    assert find_toolkit(str(other), variables(CUDA_HOME=str(toolkit))).version == "12.8"
    assert find_toolkit(str(other / "bin/nvcc"), variables()).stub_folders == (str(other / "lib64/stubs"),)
    assert find_toolkit(None, variables(CUDA_PATH=str(other))).found_in == "CUDA_PATH"
    on_path = find_toolkit(None, {"PATH": f"{other / 'bin'}{os.pathsep}{os.environ['PATH']}"})
    assert (on_path.home, on_path.found_in) == (str(other), "PATH")


def test_nvcc_on_path_may_be_a_script_that_starts_another(toolkit: Path, tmp_path: Path) -> None:
    executable(tmp_path / "bin/nvcc", f'#!/bin/sh\nexec "{toolkit}/bin/nvcc" "$@"\n')
    assert find_toolkit(None, {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}).home == str(
        toolkit
    )


def test_nvcc_on_path_may_be_a_lone_link(toolkit: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nvcc").symlink_to(toolkit / "bin/nvcc")
    assert find_toolkit(None, {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}).home == str(
        toolkit
    )


def test_a_folder_of_links_is_a_toolkit_of_its_own(toolkit: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    (overlay / "bin").mkdir(parents=True)
    for part in (toolkit / "bin").iterdir():
        (overlay / "bin" / part.name).symlink_to(part)
    for folder in ("include", "nvvm", "lib64"):
        (overlay / folder).symlink_to(toolkit / folder)
    assert find_toolkit(None, variables(CUDA_HOME=str(overlay))).home == str(overlay)


def test_toolkits_that_are_none(toolkit: Path, tmp_path: Path) -> None:
    (tmp_path / "runtime").mkdir()
    with pytest.raises(ToolchainError, match=r"CUDA_HOME is .*/runtime, but there is no CUDA compiler in it"):
        find_toolkit(None, variables(CUDA_HOME=str(tmp_path / "runtime")))
    with pytest.raises(ToolchainError, match="The CUDA toolkit was said to be /nowhere"):
        find_toolkit("/nowhere", variables())
    executable(tmp_path / "other/bin/nvcc", "#!/bin/sh\necho clang version 20\n")
    with pytest.raises(ToolchainError, match="is not NVIDIA's compiler"):
        find_toolkit(None, variables(CUDA_HOME=str(tmp_path / "other")))
    executable(tmp_path / "broken/bin/nvcc", "#!/bin/sh\necho cannot load >&2; exit 127\n")
    with pytest.raises(ToolchainError, match=r"does not run: .*cannot load"):
        find_toolkit(None, variables(CUDA_HOME=str(tmp_path / "broken")))
    (toolkit / "bin/nvcc.profile").unlink()
    with pytest.raises(ToolchainError, match=r"cannot say where its parts are: no nvcc\.profile beside it"):
        find_toolkit(None, variables(CUDA_HOME=str(toolkit)))


def test_no_toolkit_at_all(tmp_path: Path, target: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sagefix.targets.toolkit._USUAL_HOMES", (str(tmp_path / "usual"),))
    with pytest.raises(ToolchainError, match=r"No CUDA compiler \(nvcc\) was found") as caught:
        find_toolkit(None, {"PATH": str(tmp_path)})
    assert "set CUDA_HOME" in caught.value.hint
    lost, *rest = check_toolchain("system", target, PIN, RECIPE, SM80, {"PATH": str(tmp_path)})
    assert (lost.name, lost.status) == ("CUDA toolchain", "failure")
    assert [check.status for check in rest] == ["failure"]
    usual = make_toolkit(tmp_path / "usual")
    assert find_toolkit(None, {"PATH": str(tmp_path)}).found_in == str(usual)


def test_a_pin_without_cuda_needs_a_compiler_only(target: Interpreter) -> None:
    cpu = msgspec.structs.replace(PIN, device="cpu")
    (check,) = check_toolchain("auto", target, cpu, RECIPE, (), variables())
    assert (check.name, check.status) == ("host compiler", "ok")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no CUDA toolkit on this machine")
def test_the_toolkit_of_this_machine() -> None:
    found = find_toolkit(None, os.environ)
    assert (Path(found.home) / "bin/nvcc").samefile(found.nvcc)
    assert found.full_version.startswith(found.version)
    assert (Path(found.include_folders[0]) / "cuda_runtime.h").is_file()


# Checking


def test_a_complete_toolkit_passes_and_is_tried(toolkit: Path, target: Interpreter) -> None:
    checks = run_checks(toolkit, target)
    assert {check.status for check in checks.values()} == {"ok"}
    assert [*checks] == [
        "CUDA toolkit", "CUDA against torch", "CUDA for 8.0", "CUDA headers", "host compiler",
        "CUDA libraries", "CUDA trial",
    ]  # fmt: skip
    env = variables(CUDA_HOME=str(toolkit))
    assert require_toolkit(find_toolkit(None, env), target, PIN, RECIPE, SM80, env)


def test_another_major_names_both_versions(tmp_path: Path, target: Interpreter) -> None:
    twelve = make_toolkit(tmp_path / "12", version="12.4.131")
    check = run_checks(twelve, target)["CUDA against torch"]
    assert check.status == "failure"
    assert "nvcc is CUDA 12.4, torch 2.11.0+cu130 was built with CUDA 13.0" in check.found
    env = variables(CUDA_HOME=str(twelve))
    with pytest.raises(
        ToolchainError, match=r"nvcc is CUDA 12\.4, torch 2\.11\.0\+cu130 was built with CUDA 13\.0"
    ):
        require_toolkit(find_toolkit(None, env), target, PIN, RECIPE, SM80, env)


def test_another_minor_is_fine(tmp_path: Path, target: Interpreter) -> None:
    newer = make_toolkit(tmp_path / "132", version="13.2.1")
    assert run_checks(newer, target)["CUDA against torch"].status == "ok"


def test_an_arch_may_need_a_newer_toolkit(toolkit: Path, tmp_path: Path, target: Interpreter) -> None:
    check = run_checks(toolkit, target, parse_archs("8.0 8.9"))["CUDA for 8.0, 8.9"]
    assert check.status == "failure"
    assert "8.9 needs 13.1" in check.found
    assert "Below, its kernel is a trap." in check.found
    assert check.sources == ("https://example.org/why",)
    old = make_toolkit(tmp_path / "118", version="11.8.89")
    assert "demo needs 12.0" in run_checks(old, target, ())["CUDA for demo"].found


def test_a_slim_toolkit_lacks_headers(toolkit: Path, tmp_path: Path, target: Interpreter) -> None:
    for name in ("cusparse.h", "cusolverDn.h"):
        (toolkit / "include" / name).unlink()
    check = run_checks(toolkit, target)["CUDA headers"]
    assert check.found.startswith("cusparse.h, cusolverDn.h not found")
    assert "apt install cuda-libraries-dev-13-0" in check.fix
    assert "CUDA trial" not in run_checks(toolkit, target)
    wheels = tmp_path / "site" / "nvidia" / "cu13" / "include"
    wheels.mkdir(parents=True)
    for name in ("cusparse.h", "cusolverDn.h"):
        (wheels / name).write_text("", encoding="ascii")
    with_wheels = msgspec.structs.replace(target, sys_path=(str(tmp_path / "site"),))
    assert f"CPATH={wheels}" in run_checks(toolkit, with_wheels)["CUDA headers"].fix
    assert run_checks(toolkit, target, CPATH=f"{os.pathsep}{wheels}")["CUDA headers"].status == "ok"


def test_a_torch_without_headers(toolkit: Path, target: Interpreter) -> None:
    assert target.torch is not None
    shutil.rmtree(Path(target.torch.folder) / "include")
    assert "torch's own headers are not in" in run_checks(toolkit, target)["CUDA headers"].found


def test_a_toolkit_without_its_parts(toolkit: Path, target: Interpreter) -> None:
    (toolkit / "nvvm/bin/cicc").unlink()
    (toolkit / "bin/ptxas").chmod(0o644)
    check = run_checks(toolkit, target)["CUDA toolkit"]
    assert check.found.endswith("lacks bin/ptxas, nvvm/bin/cicc")


def test_every_failure_is_in_the_error(toolkit: Path, target: Interpreter) -> None:
    (toolkit / "nvvm/bin/cicc").unlink()
    (toolkit / "include/cusparse.h").unlink()
    env = variables(CUDA_HOME=str(toolkit))
    with pytest.raises(ToolchainError, match=r"^CUDA toolkit: .*and 1 more: CUDA headers") as caught:
        require_toolkit(find_toolkit(None, env), target, PIN, RECIPE, SM80, env)
    assert [check["name"] for check in caught.value.details["checks"]] == ["CUDA toolkit", "CUDA headers"]


def test_a_compiler_that_cannot_compile_is_found_by_trying(tmp_path: Path, target: Interpreter) -> None:
    mixed = make_toolkit(
        tmp_path / "mixed", compiles='echo "ptxas fatal : Unsupported .version 9.2" >&2; exit 255'
    )
    check = run_checks(mixed, target)["CUDA trial"]
    assert check.status == "failure"
    assert (
        "nvcc cannot compile an empty kernel for sm_80: ptxas fatal : Unsupported .version 9.2" in check.found
    )


# The host compiler


def test_a_compiler_newer_than_nvcc_accepts(tmp_path: Path, target: Interpreter) -> None:
    strict = make_toolkit(tmp_path / "strict", newest_gcc=2)
    check = run_checks(strict, target)["host compiler"]
    assert check.status == "failure"
    assert "nvcc 13.0 accepts gcc up to 2" in check.found
    assert "CC=gcc-2 CXX=g++-2" in check.fix
    assert "-ccbin" in check.fix
    forced = run_checks(strict, target, NVCC_PREPEND_FLAGS="-allow-unsupported-compiler")["host compiler"]
    assert forced.status == "warning"


def test_a_compiler_older_than_torch_accepts() -> None:
    (check,) = check_host_compiler(variables(), bounds=Bounds(gcc=(99, 0), clang=(99, 0)))
    assert check.status == "failure"
    assert "torch's headers need" in check.found


def test_which_compiler_is_meant(tmp_path: Path) -> None:
    default = find_host_compiler(variables())
    assert default.kind in {"gcc", "clang"}
    assert default.named_by == ""
    assert Path(default.path).is_absolute()
    assert GXX is not None
    named = find_host_compiler(variables(CXX=GXX))
    assert (named.path, named.named_by) == (GXX, "CXX")
    wrapper = executable(tmp_path / "ccache", '#!/bin/sh\nexec "$@"\n')
    wrapped = find_host_compiler(variables(CXX=f"'{wrapper}' g++ -pipe"))
    assert (wrapped.path, wrapped.command) == (GXX, (str(wrapper), "g++", "-pipe"))
    assert wrapped.version == named.version


@pytest.mark.parametrize(
    "env",
    [
        {"NVCC_PREPEND_FLAGS": "-O1 -ccbin {gxx}"},
        {"NVCC_APPEND_FLAGS": "--compiler-bindir={gxx}"},
        {"CC": "{gxx}"},
        {"NVCC_CCBIN": "{gxx}"},
    ],
)
def test_which_compiler_nvcc_calls(env: dict[str, str]) -> None:
    assert GXX is not None
    found = find_nvcc_host_compiler(variables(**{name: text.format(gxx=GXX) for name, text in env.items()}))
    assert (found.path, found.named_by) == (GXX, next(iter(env)))


def test_ccbin_may_be_a_folder(tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    assert gcc is not None
    (tmp_path / "gcc").symlink_to(gcc)
    assert find_nvcc_host_compiler(variables(NVCC_PREPEND_FLAGS=f"-ccbin {tmp_path}")).path == str(
        tmp_path / "gcc"
    )


def test_two_compilers_are_checked_each_for_its_part(tmp_path: Path) -> None:
    """A newer CXX is fine as long as nvcc gets an older CC."""
    newer = executable(tmp_path / "g++-99", "#!/bin/sh\necho '#define __GNUC__ 99'\n")
    checks = check_host_compiler(
        variables(CXX=str(newer), CC=str(GXX)), bounds=Bounds(gcc=(0, 98)), nvcc="nvcc 13.0"
    )
    assert [(check.name, check.status) for check in checks] == [
        ("host compiler", "ok"),
        ("host compiler of nvcc", "ok"),
    ]
    wrong = check_host_compiler(variables(CC=str(newer)), bounds=Bounds(gcc=(0, 98)), nvcc="nvcc 13.0")
    assert [check.status for check in wrong] == ["failure"]


def test_compilers_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="CXX names /nope/g\\+\\+, which was not found"):
        find_host_compiler(variables(CXX="/nope/g++"))
    with pytest.raises(ToolchainError, match=r"No C\+\+ compiler was found"):
        find_host_compiler({"PATH": str(tmp_path)})
    with pytest.raises(ToolchainError, match="gcc was not found"):
        find_nvcc_host_compiler({"PATH": str(tmp_path)})
    deaf = executable(tmp_path / "deaf", "#!/bin/sh\nexit 0\n")
    with pytest.raises(ToolchainError, match="is neither gcc nor clang"):
        find_host_compiler(variables(CC=str(deaf)))
    half = executable(tmp_path / "half", "#!/bin/sh\necho cannot execute cc1plus >&2; exit 1\n")
    with pytest.raises(ToolchainError, match=r"does not compile C\+\+: .*cc1plus"):
        find_host_compiler(variables(CXX=str(half)))


# Linking


def test_the_driver_library_is_found_beside_the_toolkit_or_in_its_stubs(
    toolkit: Path, tmp_path: Path, target: Interpreter
) -> None:
    sm90 = parse_archs("9.0")
    library(tmp_path / "stub/libcuda.so", DRIVER, "libcuda.so.1")
    assert (
        run_checks(toolkit, target, sm90, LIBRARY_PATH=str(tmp_path / "stub"))["CUDA libraries"].status
        == "ok"
    )
    own = library(toolkit / "lib64/stubs/libcuda.so", DRIVER, "libcuda.so.1")
    assert str(own) in run_checks(toolkit, target, sm90)["CUDA libraries"].found


def test_an_empty_stub_of_the_driver_is_refused(toolkit: Path, target: Interpreter) -> None:
    library(toolkit / "lib64/stubs/libcuda.so", "", "libcuda.so.1")
    check = run_checks(toolkit, target, parse_archs("9.0"))["CUDA libraries"]
    assert check.status == "failure"
    assert "is an empty stub: it does not define cuInit" in check.found
    assert "SONAME libcuda.so.1 on LIBRARY_PATH" in check.fix


def test_what_is_wrong_with_a_driver_library(tmp_path: Path) -> None:
    assert driver_problem(library(tmp_path / "good/libcuda.so", DRIVER, "libcuda.so.1")) == ""
    other = library(tmp_path / "other/libcuda.so", DRIVER, "libcuda.so")
    assert "has the SONAME libcuda.so, not libcuda.so.1" in driver_problem(other)
    assert "has no SONAME" in driver_problem(library(tmp_path / "nameless/libcuda.so", DRIVER))
    (tmp_path / "text.so").write_text("INPUT(-lcuda)", encoding="ascii")
    assert "cannot be read" in driver_problem(tmp_path / "text.so")


def test_libraries_that_the_linker_does_not_find(toolkit: Path, target: Interpreter) -> None:
    compiler = find_host_compiler(variables())
    assert find_library("no-such-library", compiler, (), variables()) is None
    assert (
        find_library("cudart", compiler, [toolkit / "lib64"], variables()) == toolkit / "lib64/libcudart.so"
    )
    (toolkit / "lib64/libcudart.so").rename(toolkit / "lib64/libcudart.so.13")
    check = run_checks(toolkit, target)["CUDA libraries"]
    assert check.found == "the linker does not find -lcudart"
    assert "libcudart.so.13 needs a link" in check.fix


def test_folders_of_libraries(toolkit: Path, tmp_path: Path, target: Interpreter) -> None:
    assert target.torch is not None
    wheels = tmp_path / "site" / "nvidia" / "cu13" / "lib"
    wheels.mkdir(parents=True)
    env = variables(CUDA_HOME=str(toolkit), LIBRARY_PATH=f"{tmp_path}{os.pathsep}/no/such")
    with_wheels = msgspec.structs.replace(target, sys_path=(str(tmp_path / "site"),))
    assert library_folders(with_wheels, find_toolkit(None, env), env) == (
        Path(target.torch.folder) / "lib",
        wheels,
        toolkit / "lib64",
        tmp_path,
    )
    assert library_folders(msgspec.structs.replace(with_wheels, torch=None), None, {}) == (wheels,)
