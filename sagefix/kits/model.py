"""What a kit holds, as its manifest says it: ``kit.json``, the first file of the archive."""

from __future__ import annotations

from typing import Literal

import msgspec

SCHEMA = 1
MANIFEST = "kit.json"
WHEELS = "wheels"
"""The folder with a wheelhouse: wheels, what is kept beside them, and the index."""
SOURCE = "source"
PROGRAMS = "sagefix"
"""The folder with sagefix's own wheel, those that it needs, and pip."""

Kind = Literal["start", "wheelhouse", "source", "sagefix"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a kit: its path in there, its size in bytes, and what it is for in a few words."""

    path: str
    size: int
    sha256: str
    kind: Kind
    what: str


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A Python (``3.12``) and a machine (``x86_64``) that the kit brings sagefix for."""

    python: str
    machine: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of a kit.

    ``ref`` is what was asked for (empty: the pin's own commit), ``wheels`` are file names, ``source`` the path of the
    bundle in the kit. ``files`` are all of the archive but the manifest itself, in their order there.
    """

    schema: int = SCHEMA
    sagefix: str
    pin: str
    project: str
    commit: str
    tree: str
    ref: str
    wheels: tuple[str, ...]
    source: str
    hosts: tuple[Host, ...]
    files: tuple[Entry, ...]
