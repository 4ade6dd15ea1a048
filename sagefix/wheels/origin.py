"""What an installed package was built from and with, as far as its files tell.

Each answer has a source that is better or worse. They are asked in order of how hard they are to get wrong,
and what nobody answers stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from packaging.metadata import Metadata
from packaging.version import Version

from sagefix.archs import Arch, parse_arch, sort_archs
from sagefix.pins.model import Pin
from sagefix.targets.linking import library_folders
from sagefix.targets.model import Interpreter
from sagefix.wheels.archive import required_torch
from sagefix.wheels.elf import is_library
from sagefix.wheels.gittree import tree_id
from sagefix.wheels.installed import Installed
from sagefix.wheels.label import UNKNOWN, commit_matches, parse_label
from sagefix.wheels.model import Extension
from sagefix.wheels.symbols import unprovided

_CUDART = re.compile(r"libcudart\.so\.(\d+)")
_MINOR = re.compile(r"==\s*(\d+\.\d+)(?:\.|$)")


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Commit, torch (``2.11``), CUDA (``13.0`` or ``13``) and archs; empty means unknown.

    ``told_by`` maps each of the first three that is known to what told it.
    """

    commit: str
    torch: str
    cuda: str
    archs: tuple[Arch, ...]
    told_by: dict[str, str]


def find_origin(
    pin: Pin,
    installed: Installed,
    extensions: Sequence[Extension],
    metadata: Metadata,
    interpreter: Interpreter,
) -> Origin:
    """Find out where an installed package comes from; see the functions below for how."""
    commit, commit_by = find_commit(pin, installed)
    torch, torch_by = (
        find_torch(installed, extensions, metadata, interpreter) if pin.build.torch else ("", "")
    )
    cuda, cuda_by = find_cuda(installed, extensions) if pin.device == "cuda" else ("", "")
    told_by = {"commit": commit_by, "torch": torch_by, "cuda": cuda_by}
    return Origin(
        commit=commit,
        torch=torch,
        cuda=cuda,
        archs=code_archs(extensions),
        told_by={what: by for what, by in told_by.items() if by},
    )


def find_commit(pin: Pin, installed: Installed) -> tuple[str, str]:
    """Return a commit and who told it: pip's note of a git URL, the Python files themselves, or the version's
    label.

    The files tell by their git tree, which the pin lists for commits it knows. Several commits may share one;
    then the pin's own is taken if it is among them, else the first.
    """
    vcs = installed.direct_url.get("vcs_info") or {}
    if vcs.get("vcs") == "git" and re.fullmatch(r"[0-9a-f]{40,64}", str(vcs.get("commit_id", ""))):
        return str(vcs["commit_id"]), "direct_url.json"
    folder = pin.package.replace(".", "/") + "/"
    tree = tree_id(
        {
            path.removeprefix(folder): file
            for path, file in installed.files.items()
            if path.startswith(folder) and not is_library(path)
        }
    )
    same = [ref.commit for ref in pin.ref if ref.package_tree == tree]
    if same:
        return (pin.source.commit if pin.source.commit in same else same[0]), "package tree"
    labelled = parse_label(installed.version).commit
    if labelled and labelled != UNKNOWN:
        known = [ref.commit for ref in pin.ref if commit_matches(labelled, ref.commit)]
        return (known[0] if len(known) == 1 else labelled), "version label"
    return "", ""


def find_torch(
    installed: Installed, extensions: Sequence[Extension], metadata: Metadata, interpreter: Interpreter
) -> tuple[str, str]:
    """Return the torch minor an extension was built for: as METADATA or the label say, or as the symbols
    allow.

    When every symbol an extension needs is in the target's torch, it is good for that torch; strictly, it may
    have been built with a neighbour.
    """
    if match := _MINOR.match(required_torch(metadata)):
        return match[1], "METADATA"
    if labelled := parse_label(installed.version).torch:
        return labelled, "version label"
    linked = [extension for extension in extensions if any("torch" in name for name in extension.needed)]
    if linked and interpreter.torch is not None:
        resolutions = unprovided(linked, library_folders(interpreter, env={}))
        if not any(resolution.missing for resolution in resolutions):
            return interpreter.torch.release, "symbols of the target's torch"
    return "", ""


def find_cuda(installed: Installed, extensions: Sequence[Extension]) -> tuple[str, str]:
    """Return the CUDA version: from a note in the cubins, the label, or the runtime's soname (its major)."""
    noted = {extension.cuda for extension in extensions if extension.cuda}
    if len(noted) == 1:
        return noted.pop(), "cubins"
    if labelled := parse_label(installed.version).cuda:
        return labelled, "version label"
    majors = {
        match[1] for extension in extensions for name in extension.needed if (match := _CUDART.match(name))
    }
    return (majors.pop(), "NEEDED") if len(majors) == 1 else ("", "")


def code_archs(extensions: Sequence[Extension]) -> tuple[Arch, ...]:
    """Return the archs of all GPU code, with PTX where any of it is PTX."""
    cubins = [parse_arch(code) for extension in extensions for code in extension.cubins]
    ptx = [parse_arch(code) for extension in extensions for code in extension.ptx]
    return sort_archs([*cubins, *(Arch(arch.major, arch.minor, True) for arch in ptx)])


def base_version(version: str) -> str:
    """Return a version without its local label."""
    return Version(version).public
