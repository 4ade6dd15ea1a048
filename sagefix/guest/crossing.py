"""Part of the build shim: what a build for another platform must not take from this machine's Python and torch."""

import os
import sysconfig
from typing import Callable, List, Sequence

# Flags of a Python's own that only compilers of its machine know, as Debian, Ubuntu, Fedora and Arch give them:
# https://wiki.debian.org/Hardening, https://src.fedoraproject.org/rpms/redhat-rpm-config
OF_ONE_MACHINE = (
    "-m64", "-m32", "-march=", "-mtune=", "-mcpu=", "-mfpmath=", "-msse", "-mavx", "-mno-", "-mbranch-protection",
    "-fcf-protection", "-mstackrealign", "-specs=", "-L", "-Wl,-rpath", "-Wl,-R",
)  # fmt: skip


def cross_compile(torch: Sequence[str]) -> None:
    """Take out of Python's own answers what is true of this machine alone.

    ``ANDROID_API_LEVEL``: where ``_PYTHON_HOST_PLATFORM`` is set, setuptools links libpython unless that is 0
    (https://github.com/pypa/setuptools/blob/v80.9.0/setuptools/_distutils/command/build_ext.py, ``get_libraries``),
    and a Python without a shared library then cannot load the module.
    """
    variables = sysconfig.get_config_vars()
    for name in ("CFLAGS", "OPT", "BASECFLAGS", "PY_CFLAGS", "CCSHARED", "CPPFLAGS", "LDFLAGS"):
        if isinstance(variables.get(name), str):
            words = variables[name].split(" ")
            variables[name] = " ".join(word for word in words if not word.startswith(OF_ONE_MACHINE))
    variables.update({"ANDROID_API_LEVEL": 0, "Py_ENABLE_SHARED": 0})
    if torch:
        build_against(*torch)


def build_against(mine: str, other: str) -> None:
    """Have torch name the headers and libraries of another torch in place of its own."""
    from torch.utils import cpp_extension

    def redirected(paths: Callable[..., List[str]]) -> Callable[..., List[str]]:
        def call(*args: object, **kwargs: object) -> List[str]:
            found = paths(*args, **kwargs)
            return [other + path[len(mine) :] if under(path, mine) else path for path in found]

        return call

    for name in ("include_paths", "library_paths"):
        setattr(cpp_extension, name, redirected(getattr(cpp_extension, name)))


def under(path: str, folder: str) -> bool:
    """Tell whether a path is a folder or below it."""
    return path == folder or path.startswith(folder + os.sep)
