"""Builds whose bytes do not tell where they were made.

Compilers write paths into what they make: ``__FILE__`` in assertions of torch's headers, debug information, and in
GPU code a number that nvcc computes from the source's absolute path. So each folder gets a name that is the same on
every machine, and what only a debugger reads is left out by the linker.

- ``-ffile-prefix-map``: https://gcc.gnu.org/onlinedocs/gcc/Overall-Options.html (gcc 8, clang 10 or newer)
- ``--strip-all``: https://sourceware.org/binutils/docs/ld/Options.html. The linker does it, not ``strip`` afterwards,
  since the build id is a hash of what the linker writes; nvcc's temporary names hold process ids.
- ``--orig_src_path_name`` of nvcc's front end, seen in ``nvcc --dryrun``: the number in names such as
  ``_INTERNAL_37c2eed1_8_fused_cu_...`` depends on it (tried with nvcc 13.0: nothing else differed in the GPU code
  of one source compiled in two folders). NVIDIA does not document it, so a toolkit that does not show it is left
  alone, and its wheels then depend on the folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sagefix.errors import ProcessError
from sagefix.process import run
from sagefix.settings import manifests_dir
from sagefix.targets.model import Interpreter
from sagefix.targets.toolkit import Toolkit

STAND_IN = "/sagefix"
"""Where everything seems to be, to who reads paths in a wheel."""
BUILD = "build"
_OLDEST = {"gcc": 8, "clang": 10}
_SOURCE_OPTION = "--orig_src_path_name"
# Neither setuptools nor nvcc has a way to quote these in the variables that carry flags.
_PLAIN = re.compile(r"[\w./+@%~-]+", re.ASCII)
_SYSTEM = frozenset({"/", "/usr", "/usr/local"})


def places_of(interpreter: Interpreter, toolkit: Toolkit | None) -> dict[str, str]:
    """Return the folders that compilers of a target read from, each with the name that stands for it."""
    builder = interpreter.builder
    found = {
        builder.prefix: "environment",
        builder.base_prefix: "python",
        builder.include: "include",
        builder.purelib: "site-packages",
        builder.platlib: "site-packages",
        interpreter.purelib: "site-packages",
        interpreter.platlib: "site-packages",
        str(manifests_dir()): "manifests",
    }
    if interpreter.torch is not None:
        found[str(Path(interpreter.torch.folder).parent)] = "site-packages"
    if toolkit is not None:
        found[toolkit.home] = "cuda"
    return {folder: name for folder, name in found.items() if folder and folder not in _SYSTEM}


def shown(text: str, places: Mapping[str, str], root: Path) -> str:
    """Write a command or path with ``{build}``, ``{cuda}`` ... for the folders of this machine."""
    every = _everything(places, root)
    for folder in sorted(every, key=len, reverse=True):
        text = re.sub(re.escape(folder) + r"(?=/|$|[\s\"',;:])", f"{{{every[folder]}}}", text)
    return text


def reproducible_flags(
    places: Mapping[str, str], root: Path, *, compiler: str, nvcc: str, env: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables that make compilers and linker forget where they work, the user's flags in front.

    ``compiler`` is ``"gcc 12.2.0"`` (empty: unknown, and then no flag is given that an old one might not know),
    ``nvcc`` the path of the CUDA compiler or empty. ``env`` holds what the user set.
    """
    flags = _maps(places, root) if _understands(compiler) else []
    added = {"CPPFLAGS": flags, "LDFLAGS": ["-Wl,--strip-all"]}
    if nvcc:
        added["NVCC_APPEND_FLAGS"] = [f"-Xcompiler={flag}" for flag in flags]
        if _names_sources(nvcc, env):
            added["NVCC_APPEND_FLAGS"] += ["-Xcudafe", f"{_SOURCE_OPTION}={STAND_IN}/{BUILD}/source.cu"]
    return {
        name: " ".join(filter(None, [env.get(name, ""), *words])) for name, words in added.items() if words
    }


def _maps(places: Mapping[str, str], root: Path) -> list[str]:
    """Return one flag for each folder; of several that fit, compilers take the one that came last."""
    every = _everything(places, root)
    return [
        f"-ffile-prefix-map={folder}={STAND_IN}/{every[folder]}"
        for folder in sorted(every, key=len)
        if _PLAIN.fullmatch(folder)
    ]


def _everything(places: Mapping[str, str], root: Path) -> dict[str, str]:
    """Add the build's folder, as it is called and as a process that asks for its working folder sees it."""
    return {**places, str(root): BUILD, str(root.resolve()): BUILD}


def _understands(compiler: str) -> bool:
    kind, _, version = compiler.partition(" ")
    major = version.partition(".")[0]
    return major.isdigit() and kind in _OLDEST and int(major) >= _OLDEST[kind]


def _names_sources(nvcc: str, env: Mapping[str, str]) -> bool:
    try:
        said = run([nvcc, "--dryrun", "sagefix.cu"], env=env, timeout=60.0, check=False)
    except ProcessError:
        return False
    return _SOURCE_OPTION in said.stderr + said.stdout
