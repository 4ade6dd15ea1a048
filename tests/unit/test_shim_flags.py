"""The build shim's flags: each extension gets the archs of its own, whatever upstream's one list says."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

GUEST = Path(__file__).parents[2] / "sagefix" / "guest"


@pytest.fixture(scope="module")
def shim() -> ModuleType:
    return _guest("shim")


@pytest.fixture(scope="module")
def crossing() -> ModuleType:
    return _guest("crossing")


def _guest(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, GUEST / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_flags_of_an_arch_and_of_its_ptx(shim: ModuleType) -> None:
    assert shim.arch_flags([["8.6", "86", False]]) == ["-gencode", "arch=compute_86,code=sm_86"]
    assert shim.arch_flags([["8.0", "80", True], ["9.0", "90a", False]]) == [
        "-gencode", "arch=compute_80,code=sm_80",
        "-gencode", "arch=compute_80,code=compute_80",
        "-gencode", "arch=compute_90a,code=sm_90a",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "flags",
    [
        ["-gencode", "arch=compute_90a,code=sm_90a"],
        ["-gencode=arch=compute_90a,code=sm_90a"],
        ["--generate-code", "arch=compute_80,code=sm_80"],
        ["--generate-code=arch=compute_80,code=sm_80"],
        ["-arch", "sm_80"],
        ["-arch=sm_80"],
        ["--gpu-architecture", "sm_80"],
        ["--gpu-architecture=sm_80"],
        ["--threads=8"],
        ["--threads", "8"],
        ["-t", "8"],
        ["-t=8"],
    ],
)
def test_archs_and_threads_are_taken_out_however_they_are_written(shim: ModuleType, flags: list[str]) -> None:
    assert shim.without_archs(["-O3", *flags, "-std=c++17", "-Xptxas=-v"]) == [
        "-O3",
        "-std=c++17",
        "-Xptxas=-v",
    ]


def test_calls_are_not_tied_at_link_time(shim: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = sysconfig.get_config_vars()
    monkeypatch.setitem(variables, "LDSHARED", "gcc -shared -Wl,-Bsymbolic-functions -Wl,-z,relro")
    monkeypatch.setenv("LDFLAGS", "-Wl,-Bsymbolic -L/mine")
    shim.bind_at_run_time()
    assert variables["LDSHARED"] == "gcc -shared -Wl,-z,relro"
    assert os.environ["LDFLAGS"] == "-L/mine"


def test_a_cross_build_is_told_nothing_of_this_machine(
    crossing: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = sysconfig.get_config_vars()
    for name, value in {
        "CFLAGS": "-O2 -m64 -march=x86-64-v2 -mtune=generic -fcf-protection -fstack-protector-strong -g",
        "LDFLAGS": "-L/here/lib -Wl,-rpath,/here/lib -Wl,-z,relro",
        "OPT": "-DNDEBUG -mno-omit-leaf-frame-pointer",
        "ANDROID_API_LEVEL": None,
        "Py_ENABLE_SHARED": 1,
    }.items():
        monkeypatch.setitem(variables, name, value)
    crossing.cross_compile(())
    assert variables["CFLAGS"] == "-O2 -fstack-protector-strong -g"
    assert variables["LDFLAGS"] == "-Wl,-z,relro"
    assert variables["OPT"] == "-DNDEBUG"
    assert (variables["ANDROID_API_LEVEL"], variables["Py_ENABLE_SHARED"]) == (0, 0)


def test_the_other_torch_is_named_in_place_of_the_one_that_runs(
    crossing: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = "/here/site-packages/torch", "/there/torch"
    torch = ModuleType("torch")
    utils, extension = ModuleType("torch.utils"), ModuleType("torch.utils.cpp_extension")

    def include_paths(device_type: str = "cpu") -> list[str]:
        return [f"{mine}/include", f"{mine}/include/torch/csrc/api/include", "/here/cuda/include"]

    def library_paths(device_type: str = "cpu") -> list[str]:
        return [f"{mine}/lib", f"{mine}_and_more/lib"]

    for name, value in {"include_paths": include_paths, "library_paths": library_paths}.items():
        setattr(extension, name, value)
    for parent, name, child in ((torch, "utils", utils), (utils, "cpp_extension", extension)):
        setattr(parent, name, child)
    for each in (torch, utils, extension):
        monkeypatch.setitem(sys.modules, each.__name__, each)
    crossing.build_against(mine, other)
    assert extension.include_paths(device_type="cuda") == [
        f"{other}/include", f"{other}/include/torch/csrc/api/include", "/here/cuda/include"
    ]  # fmt: skip
    assert extension.library_paths("cuda") == [f"{other}/lib", f"{mine}_and_more/lib"]
