"""A CUDA extension with the habits of the packages that are hard to prebuild.

It asks torch for the GPUs of this machine and ignores TORCH_CUDA_ARCH_LIST, has one list of nvcc flags, and
links the driver library.
"""

import subprocess

import torch
from setuptools import setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CUDAExtension

if CUDA_HOME is None:
    raise RuntimeError("Cannot find CUDA_HOME.")

capabilities = set()
for index in range(torch.cuda.device_count()):
    major, minor = torch.cuda.get_device_capability(index)
    if major < 8:
        continue
    capabilities.add(f"{major}.{minor}")
if not capabilities:
    raise RuntimeError("No GPUs found. Please specify the target GPU architectures.")

release = subprocess.check_output([CUDA_HOME + "/bin/nvcc", "-V"], text=True)
print("compiling with", release.splitlines()[-1])

flags = ["-O2", "-std=c++17", "-U__CUDA_NO_HALF_OPERATORS__", "--threads=2"]
for capability in capabilities:
    if capability.startswith("9.0"):
        number = "90a"
    elif capability.startswith("8.0"):
        number = "80"
    flags += ["-gencode", f"arch=compute_{number},code=sm_{number}"]

setup(
    name="cuda_like_upstream",
    version="1.0.0",
    packages=["cuda_like_upstream"],
    ext_modules=[
        CUDAExtension(
            "cuda_like_upstream._kernels",
            ["csrc/module.cpp", "csrc/kernels.cu"],
            libraries=["cuda"],
            extra_compile_args={"cxx": ["-O2", "-std=c++17"], "nvcc": flags},
        )
    ],
    cmdclass={"build_ext": BuildExtension},
)
