"""Build file of demoattention: one C extension, nothing else needed than setuptools and a C compiler."""

import os

from setuptools import Extension, setup

HERE = os.path.dirname(os.path.abspath(__file__))

with open(os.path.join(HERE, "README.md"), encoding="utf-8") as readme:
    LONG_DESCRIPTION = readme.read()

setup(
    name="demoattention",
    version="1.0.0",
    description="Exact attention on plain arrays, for the demonstration of sagefix",
    long_description=LONG_DESCRIPTION,
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.9",
    packages=["demoattention"],
    package_data={"demoattention": ["py.typed"]},
    ext_modules=[
        Extension(
            "demoattention._attention",
            sources=["csrc/attention.c"],
            libraries=["m"],
            extra_compile_args=["-O2", "-Wall"],
        )
    ],
)
