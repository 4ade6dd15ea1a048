"""Build file of linked_to_torch: it asks for torch's folder without importing torch."""

import os
from importlib.util import find_spec

from setuptools import Extension, setup

TORCH = os.path.dirname(find_spec("torch").origin)

setup(
    name="linked_to_torch",
    version="1.0.0",
    packages=["linked_to_torch"],
    ext_modules=[
        Extension(
            "linked_to_torch._ops",
            sources=["csrc/ops.cpp"],
            include_dirs=[os.path.join(TORCH, "include")],
            library_dirs=[os.path.join(TORCH, "lib")],
            libraries=["c10"],
            extra_compile_args=["-std=c++17"],
        )
    ],
)
