"""An extension that cannot be loaded, and a package that says nothing about it."""

from setuptools import Extension, setup

setup(
    name="swallowed-import",
    version="1.0.0",
    packages=["swallowed_import"],
    ext_modules=[
        Extension("swallowed_import._fine", ["fine.c"]),
        # `kernel` is declared and called, and no library has it: that links, since a shared object may leave
        # symbols open, and fails when it is loaded.
        Extension("swallowed_import._broken", ["broken.c"]),
    ],
)
