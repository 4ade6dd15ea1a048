"""What the source room hands on, and what it says to itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """A commit whose selected files lie in the cache, each object's hash checked.

    ``commit``: the full commit; ``dir`` and 12 digits of the tree when it comes from a plain folder that
    could not be shown to hold the commit asked for. ``tree``: the tree it stands for; for such a folder, that
    of the selected files alone. ``setup_py``: git blob of ``/setup.py``, empty if there is none. ``origin``:
    what was asked, URL or path, without credentials. ``received``: bytes of packs moved, 0 from the cache.
    ``repository``: path of the bare repository in the cache.
    """

    commit: str
    tree: str
    setup_py: str
    origin: str
    from_cache: bool
    received: int
    repository: str


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """A place to take the source from. ``shown`` is for people and records: no credentials in it.

    ``url`` and ``protocol`` (git's word: ``https``, ``ssh``, ``file``) for a remote, ``path`` for the others.
    """

    kind: Literal["url", "repository", "bundle", "folder", "embedded"]
    shown: str
    url: str = ""
    protocol: str = ""
    path: Path = Path()


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """The header of a commit object; ``time`` is the committer's, in Unix seconds."""

    tree: str
    parents: tuple[str, ...]
    time: int


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a tree: path with ``/``, git's mode (``0o100644``), blob id."""

    path: str
    mode: int
    blob: str


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What a pin's patterns select of a tree: files by path, and the tree objects on the way to them."""

    files: tuple[File, ...]
    trees: tuple[str, ...]
    submodules: tuple[str, ...] = ()

    def blob_of(self, path: str) -> str:
        """Return the blob of a file, or an empty string."""
        return next((file.blob for file in self.files if file.path == path), "")
