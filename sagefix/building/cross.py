"""What a build for another platform is told: an ordinary build of this machine's Python, with a few things set.

setuptools asks the Python that runs it for the platform, the suffix of modules and the compilers. Each is answered by
a variable; without any one of them a build ends well and leaves a wheel that is wrong: a tag of this machine around
code for another, or modules that no Python of the other would load. Sources:

- ``_PYTHON_HOST_PLATFORM``: https://github.com/python/cpython/blob/v3.12.0/Lib/sysconfig.py, ``get_platform``
- ``SETUPTOOLS_EXT_SUFFIX``: https://setuptools.pypa.io/en/latest/history.html (51.3), ``build_ext.get_ext_filename``
- ``CC``, ``CXX``, ``LDSHARED``, ``LDCXXSHARED``, ``LDFLAGS``: setuptools' ``distutils.sysconfig.customize_compiler``;
  torch hands ``CC`` to nvcc as ``-ccbin``, and nvcc asks that compiler what it compiles for
- ``LIBRARY_PATH`` counts in native compilers alone:
  https://gcc.gnu.org/onlinedocs/gcc/Environment-Variables.html
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sagefix.targets.cross.compilers import IGNORED
from sagefix.targets.model import Interpreter
from sagefix.targets.toolkit import Toolkit

HEADERS = "python-headers"
"""The folder, below that of the build, of what the compiler looks for by its machine and the system has not."""


class Cross(msgspec.Struct, frozen=True, kw_only=True):
    """A build for another platform, as the plan holds it.

    ``platform`` is its wheel tag, ``machine`` and ``triplet`` what its compiler says, ``built_on`` this machine's
    kind. ``cc`` and ``cxx`` are the compilers as they are called (``cxx`` may be empty), ``libraries`` the folders
    that are linked with. ``torch`` are the folders of the torch that runs and of the one that is built against, empty
    without torch. ``pyconfig`` is what the compiler looks for in place of this machine's ``pyconfig.h``, and that
    file; empty where there is one for all machines.
    """

    platform: str
    machine: str
    built_on: str
    ext_suffix: str
    cc: str
    cxx: str
    libraries: tuple[str, ...] = ()
    torch: tuple[str, ...] = ()
    pyconfig: tuple[str, ...] = ()


def make_cross(interpreter: Interpreter, toolkit: Toolkit | None, tools: Mapping[str, str]) -> Cross | None:
    """Return how a described target is built for; None for any other. ``tools`` is the environment in which its
    compilers were found (:func:`~sagefix.targets.cross.compilers.tool_environment`).
    """
    builder = interpreter.built_by
    if builder is None:
        return None
    folders = [str(Path(interpreter.torch.folder) / "lib")] if interpreter.torch else []
    if toolkit is not None:
        # The stubs first: an empty one of somebody's must not win.
        folders = [*toolkit.stub_folders, *folders, *toolkit.lib_folders]
    return Cross(
        platform=interpreter.platform_tag,
        machine=interpreter.machine,
        built_on=builder.machine,
        ext_suffix=interpreter.ext_suffix,
        cc=tools["CC"],
        cxx=tools.get("CXX", ""),
        libraries=tuple(dict.fromkeys(folders)),
        torch=(builder.torch.folder, interpreter.torch.folder) if builder.torch and interpreter.torch else (),
        pyconfig=_pyconfig(interpreter, builder),
    )


def _pyconfig(interpreter: Interpreter, builder: Interpreter) -> tuple[str, ...]:
    """Debian's ``pyconfig.h`` includes one of several by the compiler's machine, of which one is installed.

    All of Linux with 64 bits and little bytes first has the same sizes in it; what differs (the processor's own
    instructions) is for Python itself.
    """
    switch = Path(builder.python_h).with_name("pyconfig.h")
    try:
        text = switch.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    names = re.findall(r"#\s*include\s+<(\S+/pyconfig\.h)>", text)
    wanted, own = (
        next((name for name in names if name.startswith(f"{machine}-linux-gnu/")), "")
        for machine in (interpreter.machine, builder.machine)
    )
    # Where the other machine's headers are installed, the compiler finds them by itself.
    if not wanted or not own or (switch.parent.parent / wanted).is_file():
        return ()
    return wanted, str(switch.parent.parent / own)


def provide_headers(cross: Cross, root: Path) -> None:
    """Write what ``pyconfig`` says below the build's folder."""
    if cross.pyconfig:
        wanted, own = cross.pyconfig
        path = root / HEADERS / wanted
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(own, path)


def cross_variables(cross: Cross, base: Mapping[str, str], root: Path) -> dict[str, str]:
    """Return the variables that a build for another platform needs; ``base`` is the environment that they come into,
    whose own flags stay in front, ``root`` the build's folder.
    """
    folders = [f"-L{shlex.quote(folder)}" for folder in cross.libraries]
    variables = {
        "CC": cross.cc,
        # The Python's own command may name folders of this machine, for the linker and for the loader (-rpath).
        "LDSHARED": f"{cross.cc} -shared",
        "LDFLAGS": " ".join(filter(None, [base.get("LDFLAGS", ""), *folders])),
        "_PYTHON_HOST_PLATFORM": cross.platform.replace("_", "-", 1),
        "SETUPTOOLS_EXT_SUFFIX": cross.ext_suffix,
    }
    if cross.pyconfig:
        variables["CPPFLAGS"] = " ".join(filter(None, [base.get("CPPFLAGS", ""), f"-I{root / HEADERS}"]))
    if cross.cxx:
        variables |= {"CXX": cross.cxx, "LDCXXSHARED": f"{cross.cxx} -shared"}
    return {name: value for name, value in variables.items() if value}


def without_ignored(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables less those that speak of this machine's libraries."""
    return {name: value for name, value in variables.items() if name not in IGNORED}
