"""An extension that takes the whole process down when it is loaded."""

from setuptools import Extension, setup

setup(
    name="crashing-import",
    version="1.0.0",
    packages=["crashing_import"],
    ext_modules=[Extension("crashing_import._abort", ["abort.c"])],
)
