"""Installations of ComfyUI and the Python that each of them runs in.

Four layouts are known. *Portable* and *Easy-Install*: a folder with ``ComfyUI`` and ``python_embeded`` (their
spelling) in it. *Clone*: a checkout with a virtual or conda environment inside or beside it, else a Python from
elsewhere. *Desktop*: a folder without ComfyUI's code, which stands in the app, and with ``.venv``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from sagefix.comfyui.launching import Launch, find_launches
from sagefix.comfyui.table import Table
from sagefix.errors import TargetError
from sagefix.process import find_program
from sagefix.targets.interpreter import find_python, probe

Kind = Literal["portable", "easy-install", "clone", "desktop"]
PythonKind = Literal["embedded", "venv", "conda", "active", "system"]

_EMBEDDED = ("python_embeded", "python_embedded")
_BESIDE = ("venv", ".venv", "env", ".env", "conda", ".conda")
_VERSION = re.compile(r"""__version__\s*=\s*["']([^"']+)["']""")


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A Python that an installation may run in. ``reasons`` say what speaks for it or against it."""

    python: str
    kind: PythonKind
    version: str
    torch: str
    accepted: bool
    reasons: tuple[str, ...]


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """An installation. ``app`` holds ``main.py`` (empty: it stands elsewhere), ``base`` the user's own folders
    (``custom_nodes``, ``temp``, ``user``), ``version`` is ComfyUI's (empty: unknown).

    ``python`` is the interpreter that it runs in; empty when none was found, or when several may be it.
    """

    root: str
    kind: Kind
    app: str
    base: str
    version: str
    python: str
    candidates: tuple[Candidate, ...]
    launches: tuple[Launch, ...] = ()

    @property
    def custom_nodes(self) -> Path:
        """Where packs of nodes are installed."""
        return Path(self.base) / "custom_nodes"


class _Place(msgspec.Struct, frozen=True):
    root: Path
    kind: Kind
    app: Path | None
    base: Path


def find_installations(
    folder: Path | None, table: Table, env: Mapping[str, str] | None = None
) -> tuple[Installation, ...]:
    """Return the installations at a folder: it is one, is inside one, or holds some. Without a folder: the working
    folder, then the places where installers put them.

    Raises :class:`TargetError` when ``folder`` is none.
    """
    environment = os.environ if env is None else env
    if folder is not None and not folder.is_dir():
        raise TargetError(
            f"{folder} is not a folder.", hint="Name the folder that ComfyUI was installed into."
        )
    places: dict[Path, _Place] = {}
    for place in _at(folder) if folder is not None else _everywhere(table):
        places.setdefault(place.base.resolve(), place)
    return tuple(_installation(place, environment) for place in places.values())


def the_installation(folder: Path, table: Table) -> Installation:
    """Return the one installation at a folder, with the one Python that it runs in.

    Raises :class:`TargetError`: there is none, there are several, or several Pythons may be the one.
    """
    found = find_installations(folder, table)
    if not found:
        raise TargetError(
            f"There is no ComfyUI at {folder}.",
            hint="Name the folder that holds main.py of ComfyUI, or the one with python_embeded in it; "
            "`sagefix comfyui find` looks in the usual places.",
        )
    if len(found) > 1:
        raise TargetError(
            f"There are {len(found)} installations of ComfyUI at {folder}: "
            f"{', '.join(each.root for each in found)}.",
            hint="Name one of them.",
        )
    (installation,) = found
    if not installation.python:
        raise _unclear(installation)
    return installation


def _unclear(installation: Installation) -> TargetError:
    candidates = installation.candidates
    if not candidates:
        return TargetError(
            f"There is no Python in or beside {installation.root}.",
            hint="Name the Python that starts ComfyUI with --python.",
        )
    told = "; ".join(f"{each.python}: {', '.join(each.reasons)}" for each in candidates)
    several = sum(each.accepted for each in candidates)
    return TargetError(
        f"{several} Pythons may be the one that {installation.root} runs in: {told}."
        if several
        else f"No Python of {installation.root} can be used: {told}.",
        hint="Name the Python that starts ComfyUI with --python; its console says `Python executable:`.",
        details={"candidates": [msgspec.to_builtins(each) for each in candidates]},
    )


# --- where


def _everywhere(table: Table) -> Iterator[_Place]:
    yield from _at(Path.cwd())
    for row in table.desktop:
        settings = Path(row.path).expanduser() / "config.json"
        try:
            base = json.loads(settings.read_text(encoding="utf-8")).get("basePath")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(base, str) and Path(base).is_dir():
            yield _Place(Path(base), "desktop", _app_in(Path(base)), Path(base))
    for row in table.place:
        if (path := Path(row.path).expanduser()).is_dir():
            yield from _at(path)


def _at(folder: Path) -> Iterator[_Place]:
    """Yield what a folder is; else what it is inside of; else what stands in it."""
    folder = folder.absolute()
    for each in (folder, *folder.parents):
        if (place := _place(each)) is not None:
            yield place
            return
    try:
        children = sorted(each for each in folder.iterdir() if each.is_dir())
    except OSError:
        return
    for each in children:
        if (place := _place(each)) is not None:
            yield place


def _place(folder: Path) -> _Place | None:
    if _is_app(folder):
        # A clone, or the inner folder of a portable one.
        outer = folder.parent
        if _embedded_in(outer) is not None:
            return _Place(outer, _portable_kind(outer), folder, folder)
        return _Place(folder, "clone", folder, folder)
    inner = _app_in(folder)
    if inner is not None and _embedded_in(folder) is not None:
        return _Place(folder, _portable_kind(folder), inner, inner)
    if _is_desktop_base(folder):
        return _Place(folder, "desktop", inner, folder)
    if inner is not None and any(_is_environment(folder / name) for name in _BESIDE):
        # A folder with the checkout and its environment side by side.
        return _Place(folder, "clone", inner, inner)
    return None


def _is_app(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfy").is_dir() and (folder / "nodes.py").is_file()


def _app_in(folder: Path) -> Path | None:
    inner = folder / "ComfyUI"
    return inner if _is_app(inner) else None


def _embedded_in(folder: Path) -> Path | None:
    return next((folder / name for name in _EMBEDDED if (folder / name).is_dir()), None)


def _portable_kind(folder: Path) -> Kind:
    # https://github.com/Tavris1/ComfyUI-Easy-Install: the portable layout, with a folder of add-ons.
    easy = any((folder / name).is_dir() for name in ("Add-Ons", "Add-ons", "add-ons"))
    return "easy-install" if easy or "easy-install" in folder.name.lower() else "portable"


def _is_desktop_base(folder: Path) -> bool:
    return _is_environment(folder / ".venv") and all(
        (folder / name).is_dir() for name in ("custom_nodes", "models", "user")
    )


def _is_environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").is_file() or (folder / "conda-meta").is_dir()


# --- which Python


def _installation(place: _Place, env: Mapping[str, str]) -> Installation:
    folders = [place.root, place.base] + ([place.app] if place.app else [])
    launches = find_launches(dict.fromkeys(folders))
    candidates = _judge(list(_pythons(place, env)), launches)
    accepted = [each for each in candidates if each.accepted]
    return Installation(
        root=str(place.root),
        kind=place.kind,
        app=str(place.app) if place.app else "",
        base=str(place.base),
        version=_version(place.app) if place.app else "",
        python=accepted[0].python if len(accepted) == 1 else "",
        candidates=candidates,
        launches=launches,
    )


def _version(app: Path) -> str:
    try:
        found = _VERSION.search((app / "comfyui_version.py").read_text(encoding="utf-8"))
    except OSError:
        return ""
    return found[1] if found else ""


def _pythons(place: _Place, env: Mapping[str, str]) -> Iterator[tuple[Path, PythonKind]]:
    """Yield the Pythons in and beside an installation; those of the machine only when it has none of its own."""
    seen = False
    folders: list[tuple[Path, PythonKind]] = []
    if (embedded := _embedded_in(place.root)) is not None:
        folders.append((embedded, "embedded"))
    for folder in dict.fromkeys([place.base, place.root, place.root.parent]):
        for each in _environments(folder, named=folder == place.root.parent):
            folders.append((each, "conda" if (each / "conda-meta").is_dir() else "venv"))
    for folder, kind in dict.fromkeys(folders):
        try:
            yield find_python(str(folder)), kind
            seen = True
        except TargetError:
            continue
    if seen or place.kind == "desktop":
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
        if _is_environment(each) and (not named or each.name in _BESIDE):
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
