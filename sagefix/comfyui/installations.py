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
from sagefix.comfyui.pythons import BESIDE, Candidate, candidates_of, embedded_in, is_environment
from sagefix.comfyui.table import Table
from sagefix.errors import TargetError

Kind = Literal["portable", "easy-install", "clone", "desktop"]

_VERSION = re.compile(r"""__version__\s*=\s*["']([^"']+)["']""")


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


def the_installation(folder: Path, table: Table, *, python: bool = True) -> Installation:
    """Return the one installation at a folder; with ``python`` the Python that it runs in has to be clear.

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
    if python and not installation.python:
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
        if embedded_in(outer) is not None:
            return _Place(outer, _portable_kind(outer), folder, folder)
        return _Place(folder, "clone", folder, folder)
    inner = _app_in(folder)
    if inner is not None and embedded_in(folder) is not None:
        return _Place(folder, _portable_kind(folder), inner, inner)
    if _is_desktop_base(folder):
        return _Place(folder, "desktop", inner, folder)
    if inner is not None and any(is_environment(folder / name) for name in BESIDE):
        # A folder with the checkout and its environment side by side.
        return _Place(folder, "clone", inner, inner)
    return None


def _is_app(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfy").is_dir() and (folder / "nodes.py").is_file()


def _app_in(folder: Path) -> Path | None:
    inner = folder / "ComfyUI"
    return inner if _is_app(inner) else None


def _portable_kind(folder: Path) -> Kind:
    # https://github.com/Tavris1/ComfyUI-Easy-Install: the portable layout, with a folder of add-ons.
    easy = any((folder / name).is_dir() for name in ("Add-Ons", "Add-ons", "add-ons"))
    return "easy-install" if easy or "easy-install" in folder.name.lower() else "portable"


def _is_desktop_base(folder: Path) -> bool:
    return is_environment(folder / ".venv") and all(
        (folder / name).is_dir() for name in ("custom_nodes", "models", "user")
    )


def _installation(place: _Place, env: Mapping[str, str]) -> Installation:
    folders = [place.root, place.base] + ([place.app] if place.app else [])
    launches = find_launches(dict.fromkeys(folders))
    candidates = candidates_of(place.root, place.base, launches, env, machine=place.kind != "desktop")
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
