"""The stub of the driver: made by the real compiler, used by the real linker."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cuda_wheels import CUDA_H

from sagefix.errors import ToolchainError
from sagefix.targets.compilers import Compiler, find_host_compiler
from sagefix.targets.linking import driver_problem
from sagefix.targets.stub import declared_functions, make_stub, with_driver
from sagefix.targets.toolkit import Toolkit
from sagefix.wheels.elf import read_extension

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None or not sys.platform.startswith("linux"),
    reason="needs g++ and the linker of Linux",
)


@pytest.fixture
def compiler() -> Compiler:
    return find_host_compiler(os.environ)


@pytest.fixture
def include(tmp_path: Path) -> Path:
    folder = tmp_path / "include"
    folder.mkdir()
    (folder / "cuda.h").write_text(CUDA_H, encoding="ascii")
    return folder


def slim_toolkit(include: Path) -> Toolkit:
    return Toolkit(
        home=str(include.parent), nvcc="nvcc", version="13.0", full_version="13.0.88", found_in="option",
        include_folders=(str(include),), lib_folders=(), stub_folders=(),
    )  # fmt: skip


def test_every_name_that_a_header_gives_a_function() -> None:
    assert declared_functions(CUDA_H) == (
        "cuInit", "cuMemAlloc", "cuMemAlloc_v2", "cuMemcpyAsync", "cuMemcpyAsync_ptsz", "cuTensorMapEncodeTiled",
    )  # fmt: skip


def test_an_extension_linked_with_the_stub_needs_the_driver(
    tmp_path: Path, include: Path, compiler: Compiler
) -> None:
    stub = tmp_path / "stubs" / "libcuda.so"
    assert make_stub([include], stub, compiler) == 6
    assert driver_problem(stub) == ""
    code, linked = tmp_path / "kernel.c", tmp_path / "kernel.so"
    code.write_text("int cuTensorMapEncodeTiled(void);\nint f(void) { return cuTensorMapEncodeTiled(); }\n")
    subprocess.run(
        [
            "gcc",
            "-shared",
            "-fPIC",
            "-Wl,--as-needed",
            str(code),
            f"-L{stub.parent}",
            "-lcuda",
            "-o",
            str(linked),
        ],
        check=True,
    )
    assert "libcuda.so.1" in read_extension(linked.read_bytes(), "kernel.so").needed
    # Whoever runs with the stub after all is told so: CUDA_ERROR_STUB_LIBRARY.
    assert ctypes.CDLL(str(stub)).cuInit(0) == 34


def test_the_stub_is_the_same_whenever_it_is_made(tmp_path: Path, include: Path, compiler: Compiler) -> None:
    made = []
    for name in ("one", "two"):
        make_stub([include], tmp_path / name / "libcuda.so", compiler)
        made.append((tmp_path / name / "libcuda.so").read_bytes())
    assert made[0] == made[1]


def test_a_toolkit_without_headers_or_a_broken_compiler(
    tmp_path: Path, include: Path, compiler: Compiler
) -> None:
    with pytest.raises(ToolchainError, match=r"no cuda\.h in"):
        make_stub([tmp_path / "nothing"], tmp_path / "libcuda.so", compiler)
    broken = msgspec.structs.replace(compiler, command=(shutil.which("false") or "false",))
    with pytest.raises(ToolchainError, match="does not compile"):
        make_stub([include], tmp_path / "libcuda.so", broken)
    assert not (tmp_path / "libcuda.so").exists()
    assert with_driver(slim_toolkit(tmp_path / "nothing"), compiler, os.environ).stub_folders == ()


def test_a_toolkit_gets_a_stub_only_where_no_driver_is_found(
    tmp_path: Path, include: Path, compiler: Compiler
) -> None:
    env = {"PATH": os.environ["PATH"]}
    make_stub([include], tmp_path / "driver" / "libcuda.so", compiler)
    there = {**env, "LIBRARY_PATH": str(tmp_path / "driver")}
    assert with_driver(slim_toolkit(include), compiler, there) == slim_toolkit(include)
    # An empty stub, which would be dropped from what the extension needs, is not good enough.
    empty = tmp_path / "empty"
    empty.mkdir()
    subprocess.run(
        ["gcc", "-shared", "-Wl,-soname,libcuda.so.1", "-x", "c", os.devnull, "-o", empty / "libcuda.so"],
        check=True,
    )
    toolkit = msgspec.structs.replace(slim_toolkit(include), stub_folders=(str(empty),))
    completed = with_driver(toolkit, compiler, {**env, "LIBRARY_PATH": ""})
    assert completed.stub_folders[1:] == (str(empty),)
    assert driver_problem(Path(completed.stub_folders[0]) / "libcuda.so") == ""
    assert with_driver(toolkit, compiler, env) == completed
