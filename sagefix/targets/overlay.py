"""A CUDA toolkit's folder made of links into unpacked wheels, which stay as they are."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

_VERSIONED = re.compile(r"(lib[\w+-]+\.so)\.\d[\d.]*")


def make_overlay(home: Path, packages: Path, headers: Path, first: Path | None = None) -> None:
    """Make ``home`` a CUDA_HOME of ``packages`` (``bin``, ``include``, ``lib``, ``nvvm``) and further headers.

    ``first`` is a folder of libraries that stand in for those of the same name: another machine's, where extensions
    are linked for it.

    nvcc finds its parts from the path it was called by, so ``bin`` is a real folder with a link for each file.
    ``lib64`` is what nvcc's and torch's linker flags name; the wheels lack the names without a version
    (``libcudart.so``) that ``-l`` looks for. All links are relative: the folders move together.
    """
    (home / "bin").mkdir(parents=True)
    for entry in sorted((packages / "bin").iterdir()):
        link(home / "bin" / entry.name, entry)
    merge(home / "include", [packages / "include", headers])
    link(home / "nvvm", packages / "nvvm")
    libraries = home / "lib64"
    (libraries / "stubs").mkdir(parents=True)
    owners = {
        entry.name: entry
        for folder in (packages / "lib", *filter(None, [first]))
        for entry in folder.iterdir()
    }
    for name, entry in sorted(owners.items()):
        if name != "stubs":
            link(libraries / name, entry)
    for entry in sorted(libraries.iterdir()):
        if (found := _VERSIONED.fullmatch(entry.name)) and not (libraries / found[1]).exists():
            (libraries / found[1]).symlink_to(entry.name)
    # nvcc.profile of the wheels puts $(TOP)/lib on LD_LIBRARY_PATH of nvcc's own parts.
    (home / "lib").symlink_to("lib64")


def merge(into: Path, sources: Sequence[Path]) -> None:
    """Make a folder that shows everything in ``sources``; of two files with one name, that of the first."""
    into.mkdir()
    names = sorted({entry.name for source in sources if source.is_dir() for entry in source.iterdir()})
    for name in names:
        owners = [source / name for source in sources if (source / name).exists()]
        if len(owners) > 1 and all(owner.is_dir() for owner in owners):
            merge(into / name, owners)
        else:
            link(into / name, owners[0])


def link(path: Path, target: Path) -> None:
    """Make a relative link."""
    path.symlink_to(os.path.relpath(target, path.parent))
