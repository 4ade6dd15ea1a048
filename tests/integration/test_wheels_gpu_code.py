"""GPU code as the CUDA compiler really packs it, where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sagefix.wheels.elf import read_extension

KERNEL = """
__global__ void scale(float *values) { values[threadIdx.x] *= 2.0f; }
void launch(float *values) { scale<<<1, 32>>>(values); }
"""
ARCHS = [
    "-gencode=arch=compute_90a,code=sm_90a",
    "-gencode=arch=compute_90,code=sm_90",
    "-gencode=arch=compute_80,code=[sm_80,compute_80]",
]
NVCC = shutil.which("nvcc")

pytestmark = pytest.mark.skipif(NVCC is None or shutil.which("g++") is None, reason="needs nvcc and g++")


def library(folder: Path, *options: str) -> Path:
    assert NVCC is not None
    (folder / "kernel.cu").write_text(KERNEL)
    output = folder / "kernel.so"
    # The runtime is left out: nothing here is loaded, and not every toolkit brings the static one.
    command = [
        NVCC,
        "--shared",
        "-Xcompiler",
        "-fPIC",
        "-cudart",
        "none",
        "-o",
        output,
        folder / "kernel.cu",
        *options,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return output


@pytest.mark.parametrize("packing", ["", "--no-compress", "-compress-mode=size", "-compress-mode=speed"])
def test_archs_are_what_the_compiler_was_told(tmp_path: Path, packing: str) -> None:
    assert NVCC is not None
    if packing.startswith("-compress-mode"):
        text = subprocess.run([NVCC, "--help"], check=True, capture_output=True, text=True).stdout
        if "--compress-mode" not in text:
            pytest.skip("this nvcc packs in one way only")
    data = library(tmp_path, *ARCHS, *filter(None, [packing])).read_bytes()
    read = read_extension(data, "kernel.so")
    assert read.cubins == ("8.0", "9.0", "9.0a")
    assert read.ptx == ("8.0",)


def test_ptx_alone(tmp_path: Path) -> None:
    read = read_extension(
        library(tmp_path, "-gencode=arch=compute_80,code=compute_80").read_bytes(), "kernel.so"
    )
    assert (read.cubins, read.ptx) == ((), ("8.0",))
