"""The build shim's flags: each extension gets the archs of its own, whatever upstream's one list says."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

SHIM = Path(__file__).parents[2] / "sagefix" / "guest" / "shim.py"


@pytest.fixture(scope="module")
def shim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shim", SHIM)
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
