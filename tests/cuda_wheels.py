"""Small stand-ins for NVIDIA's and torch's wheels, laid out like the real ones, for real uv and pip to install.

The compiler in them is a shell script that answers what sagefix asks; libraries and stubs are really compiled.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from wheel.wheelfile import WheelFile

GXX = shutil.which("g++")

NVCC = """\
#!/bin/sh
here=${0%/*}
for last; do :; done
case "$1" in
--version) echo 'Cuda compilation tools, release @SHORT@, V@FULL@';;
--dryrun) {
  echo "#$ _HERE_=$here"
  [ -e "$here/nvcc.profile" ] && echo "#$ TOP=$here/.."
  echo "#$ INCLUDES=\\"-I$here/..//include\\"  "
  echo "#$ SYSTEM_INCLUDES=\\"-isystem\\" \\"$here/..//include/cccl\\"  "
  echo "#$ LIBRARIES=  \\"-L$here/..//lib64/stubs\\" \\"-L$here/..//lib64\\""
} >&2;;
*) @COMPILE@;;
esac
"""
CUDA_H = """\
#define CUDAAPI
#define cuMemAlloc cuMemAlloc_v2
    #define cuMemcpyAsync  __CUDA_API_PTSZ(cuMemcpyAsync)
#define CUDA_VERSION 13000
CUresult CUDAAPI cuInit(unsigned int Flags);
CUresult CUDAAPI cuMemAlloc(CUdeviceptr *dptr, size_t bytesize);
CUresult CUDAAPI cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src);
__CUDA_DEPRECATED CUresult CUDAAPI
cuTensorMapEncodeTiled(CUtensorMap *tensorMap);
"""
CONTEXT = """\
#include <cuda_runtime_api.h>
#include <cusparse.h>
#include <cublas_v2.h>
"""
PREFIX = "nvidia/cu13"
RELEASE = {
    "nvcc": "nvidia-cuda-nvcc==13.0.88.*",
    "crt": "nvidia-cuda-crt==13.0.88.*",
    "nvvm": "nvidia-nvvm==13.0.88.*",
    "cccl": "nvidia-cuda-cccl==13.0.85.*",
    "cudart": "nvidia-cuda-runtime==13.0.96.*",
    "profiler": "nvidia-cuda-profiler-api==13.0.85.*",
    "cublas": "nvidia-cublas==13.1.0.3.*",
    "cusparse": "nvidia-cusparse==12.6.3.3.*",
}


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, str | bytes] | None = None,
    *,
    requires: Sequence[str] = (),
    extras: Mapping[str, str] | None = None,
    tag: str = "py3-none-any",
) -> Path:
    """Write a wheel; what lies in a folder ``bin`` is executable. ``extras`` maps each to its requirement."""
    module = name.replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-{tag}.whl"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {each}" for each in requires]
    for extra, requirement in (extras or {}).items():
        metadata += [f"Provides-Extra: {extra}", f"Requires-Dist: {requirement}; extra == '{extra}'"]
    with WheelFile(path, "w") as archive:
        for inside, content in (files or {}).items():
            info = zipfile.ZipInfo(inside)
            info.external_attr = (stat.S_IFREG | (0o755 if "/bin/" in inside else 0o644)) << 16
            archive.writestr(info, content)
        archive.writestr(f"{module}-{version}.dist-info/METADATA", "\n".join(metadata) + "\n")
        archive.writestr(
            f"{module}-{version}.dist-info/WHEEL",
            f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
        )
    return path


def shared_library(folder: Path, source: str = "int nothing;", *flags: str) -> bytes:
    """Compile a real shared library."""
    assert GXX is not None
    code, made = folder / "library.cpp", folder / "library.so"
    code.write_text(source, encoding="ascii")
    subprocess.run([GXX, "-shared", "-fPIC", *flags, str(code), "-o", str(made)], check=True)
    return made.read_bytes()


def cuda_wheels(folder: Path, scratch: Path) -> Path:
    """Write the wheels of a CUDA 13.0 compiler and of two libraries, and newer ones that must not be taken."""
    nvcc = NVCC.replace("@COMPILE@", 'echo made > "$last"')
    for full in ("13.0.88", "13.2.51"):
        text = nvcc.replace("@FULL@", full).replace("@SHORT@", full[:4])
        tools = {f"{PREFIX}/bin/{tool}": "#!/bin/sh\n" for tool in ("ptxas", "cudafe++", "fatbinary")}
        write_wheel(
            folder,
            "nvidia-cuda-nvcc",
            full,
            {f"{PREFIX}/bin/nvcc": text, f"{PREFIX}/bin/nvcc.profile": "TOP = $(_HERE_)/..\n", **tools},
            # As the real one: they float.
            requires=["nvidia-nvvm", "nvidia-cuda-crt"],
        )
        host_config = f"#if __GNUC__ > 99\n#endif\n// {full}\n"
        write_wheel(folder, "nvidia-cuda-crt", full, {f"{PREFIX}/include/crt/host_config.h": host_config})
        write_wheel(folder, "nvidia-nvvm", full, {f"{PREFIX}/nvvm/bin/cicc": f"#!/bin/sh\n# {full}\n"})
    write_wheel(folder, "nvidia-cuda-cccl", "13.0.85", {f"{PREFIX}/include/cccl/nv/target": ""})
    runtime = {f"{PREFIX}/include/{name}": "" for name in ("cuda_runtime.h", "cuda_runtime_api.h")}
    runtime[f"{PREFIX}/include/cuda.h"] = CUDA_H
    write_wheel(
        folder,
        "nvidia-cuda-runtime",
        "13.0.96",
        {**runtime, f"{PREFIX}/lib/libcudart.so.13": shared_library(scratch)},
    )
    profiler = {f"{PREFIX}/include/cuda_profiler_api.h": ""}
    write_wheel(folder, "nvidia-cuda-profiler-api", "13.0.85", profiler)
    for name, version, header in (
        ("cublas", "13.1.0.3", "cublas_v2.h"),
        ("cusparse", "12.6.3.3", "cusparse.h"),
    ):
        files = {f"{PREFIX}/include/{header}": f"// {name}\n", f"{PREFIX}/lib/lib{name}.so.13": "large"}
        write_wheel(folder, f"nvidia-{name}", version, files)
    write_wheel(folder, "cuda-toolkit", "13.0.2", extras=RELEASE)
    return folder


def torch_wheels(folder: Path, scratch: Path) -> Path:
    """Write torch 2.11.0 with CUDA 13.0 and NVIDIA's libraries, 2.12.0 without them, 2.10.0 with CUDA 12.8, and
    2.13.0 for a Python that does not exist."""
    source = (
        "#include <string>\nnamespace c10 { struct SourceLocation { int line; };\n"
        "struct Error { Error(SourceLocation, std::string); };\n"
        "Error::Error(SourceLocation, std::string) {} }\n"
    )
    library = shared_library(scratch, source, "-D_GLIBCXX_USE_CXX11_ABI=1")
    brought = ["cuda-toolkit[cublas,cudart,cusparse]==13.0.2"]
    for version, cuda, requires, tag in (
        ("2.10.0", "12.8", [], "py3-none-any"),
        ("2.11.0", "13.0", brought, "py3-none-any"),
        ("2.12.0", "13.0", [], "py3-none-any"),
        ("2.13.0", "13.0", [], "cp399-cp399-any"),
    ):
        said = f"__version__ = '{version}+cu{cuda.replace('.', '')}'\ncuda = '{cuda}'\nhip = None\n"
        files = {
            "torch/__init__.py": "",
            "torch/version.py": said,
            "torch/include/ATen/cuda/CUDAContextLight.h": CONTEXT,
            "torch/lib/libc10.so": library,
        }
        write_wheel(folder, "torch", version, files, requires=requires, tag=tag)
    return folder


def only_from(monkeypatch: pytest.MonkeyPatch, folder: Path, scratch: Path) -> None:
    """Let uv and pip know no packages but those of a folder; ``scratch`` takes their settings and caches."""
    scratch.mkdir(exist_ok=True)
    config = scratch / "uv.toml"
    config.write_text(f"no-index = true\nfind-links = ['{folder}']\n", encoding="utf-8")
    for name, value in {
        "UV_CONFIG_FILE": str(config),
        "UV_CACHE_DIR": str(scratch / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
    }.items():
        monkeypatch.setenv(name, value)
