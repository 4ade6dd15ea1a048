"""The Pythons that an installation of ComfyUI may run in, and which of them it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from sagefix.comfyui.launching import Launch
from sagefix.errors import TargetError
from sagefix.process import find_program
from sagefix.targets.interpreter import find_python, probe

PythonKind = Literal["embedded", "venv", "conda", "active", "system"]
BESIDE = ("venv", ".venv", "env", ".env", "conda", ".conda")
"""Names of environments that belong to the ComfyUI they stand beside."""

_EMBEDDED = ("python_embeded", "python_embedded")


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A Python that an installation may run in. ``reasons`` say what speaks for it or against it."""

    python: str
    kind: PythonKind
    version: str
    torch: str
    accepted: bool
    reasons: tuple[str, ...]


def candidates_of(
    root: Path, base: Path, launches: tuple[Launch, ...], env: Mapping[str, str], *, machine: bool
) -> tuple[Candidate, ...]:
    """Return the Pythons that an installation may run in, with reasons; one is accepted where that is clear.

    ``root`` is the folder of the installation, ``base`` that of the user's own files. With ``machine`` an installation
    without a Python of its own may run in the active environment or in ``python3`` on ``PATH``.
    """
    return _judge(list(_pythons(root, base, env, machine=machine)), launches)


def embedded_in(folder: Path) -> Path | None:
    """Return the Python that comes with a portable ComfyUI, or None."""
    return next((folder / name for name in _EMBEDDED if (folder / name).is_dir()), None)


def is_environment(folder: Path) -> bool:
    """Tell whether a folder is a virtual or a conda environment."""
    return (folder / "pyvenv.cfg").is_file() or (folder / "conda-meta").is_dir()


def _pythons(
    root: Path, base: Path, env: Mapping[str, str], *, machine: bool
) -> Iterator[tuple[Path, PythonKind]]:
    """Yield the Pythons in and beside an installation; those of the machine only when it has none of its own."""
    seen = False
    folders: list[tuple[Path, PythonKind]] = []
    if (embedded := embedded_in(root)) is not None:
        folders.append((embedded, "embedded"))
    for folder in dict.fromkeys([base, root, root.parent]):
        for each in _environments(folder, named=folder == root.parent):
            folders.append((each, "conda" if (each / "conda-meta").is_dir() else "venv"))
    for folder, kind in dict.fromkeys(folders):
        try:
            yield find_python(str(folder)), kind
            seen = True
        except TargetError:
            continue
    if seen or not machine:
        return
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if named := env.get(variable):
            try:
                yield find_python(named, env), "active"
            except TargetError:
                continue
            return
    if (system := find_program("python3", env)) is not None:
        yield system, "system"


def _environments(folder: Path, *, named: bool) -> Iterator[Path]:
    """Yield the environments in a folder; with ``named`` only those whose name says that they belong to it."""
    try:
        children = sorted(each for each in folder.iterdir() if each.is_dir())
    except OSError:
        return
    for each in children:
        if is_environment(each) and (not named or each.name in BESIDE):
            yield each


def _judge(found: list[tuple[Path, PythonKind]], launches: tuple[Launch, ...]) -> tuple[Candidate, ...]:
    """Say of each Python what speaks for it. Of several, one with torch beats those without, and one that the start
    scripts name beats the others; where these two disagree, or more than one is left, the user has to choose."""
    asked = [_ask(python, kind, launches, alone=len(found) == 1) for python, kind in found]
    named = {candidate.python for candidate, by_script in asked if by_script}
    judged = [candidate for candidate, _ in asked]
    with_torch = {each.python for each in judged if each.accepted and each.torch}
    if with_torch:
        judged = _drop(judged, with_torch | named, "it has no torch")
    if len(named) == 1 and (named <= with_torch or not with_torch):
        judged = _drop(judged, named, "the start scripts name another one")
    return tuple(judged)


def _drop(judged: list[Candidate], kept: set[str], reason: str) -> list[Candidate]:
    return [
        msgspec.structs.replace(each, accepted=False, reasons=(*each.reasons, reason))
        if each.accepted and each.python not in kept
        else each
        for each in judged
    ]


def _ask(
    python: Path, kind: PythonKind, launches: tuple[Launch, ...], *, alone: bool
) -> tuple[Candidate, bool]:
    scripts = [Path(each.script).name for each in launches if _names(each, python)]
    reasons = [_found(python, kind), *(f"{name} starts it" for name in scripts)]
    try:
        interpreter = probe(python)
    except TargetError as error:
        made = Candidate(
            python=str(python),
            kind=kind,
            version="",
            torch="",
            accepted=False,
            reasons=(*reasons, error.message),
        )
        return made, False
    torch = interpreter.torch.version if interpreter.torch else ""
    reasons.append(f"it has torch {torch}" if torch else "it has no torch" if alone else "")
    made = Candidate(
        python=str(python),
        kind=kind,
        version=interpreter.version,
        torch=torch,
        accepted=True,
        reasons=tuple(filter(None, reasons)),
    )
    return made, bool(scripts)


def _found(python: Path, kind: PythonKind) -> str:
    folder = python.parent.parent if python.parent.name in ("bin", "Scripts") else python.parent
    return {
        "embedded": f"{folder.name} comes with the installation",
        "venv": f"{folder.name} is a virtual environment of it",
        "conda": f"{folder.name} is a conda environment of it",
        "active": "it is the active environment, and the installation has none of its own",
        "system": "it is the python3 on PATH, and the installation has no environment of its own",
    }[kind]


def _names(launch: Launch, python: Path) -> bool:
    """Tell whether a script names the folder of a Python: ``python_embeded\\python.exe``, ``venv/bin/activate``."""
    folder = python.parent.parent if python.parent.name in ("bin", "Scripts") else python.parent
    return (
        re.search(rf"(?:^|[\s\"'/\\=.]){re.escape(folder.name)}[/\\]", launch.text, re.MULTILINE) is not None
    )
