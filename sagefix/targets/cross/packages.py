"""Packages of another platform, unpacked into the cache: torch's libraries and headers, and what they are linked with.

``<cache>/platforms/<name>/packages`` is like a site-packages of that platform; nothing in it runs here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sagefix.files import sha256_bytes
from sagefix.progress import note
from sagefix.targets.cross.platforms import Platform
from sagefix.targets.fetching import Elsewhere, Locked, find_fetcher, resolve, unpack
from sagefix.targets.kept import (
    Removed,
    made_folders,
    make_once,
    read_facts,
    remove_from,
    require_free,
    shelf,
    size_of,
)

SHELF = "platforms"
FORMAT = 1
"""Part of every folder's key: raise it when what stands in the folder changes."""


class Packages(msgspec.Struct, frozen=True, kw_only=True):
    """The lock of a folder of packages: for which platform and Python, what was asked for, and what there is.

    ``closure`` are the exact versions that the requirements come to; ``unpacked`` names those whose files are here.
    ``made`` is the time in UTC (ISO 8601).
    """

    key: str
    platform: str
    glibc: str
    python: str
    requirements: tuple[str, ...]
    closure: tuple[Locked, ...]
    unpacked: tuple[str, ...]
    fetched_by: str
    made: str
    format: int = FORMAT


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Packages in the cache: their folder of files, and its size in bytes."""

    name: str
    packages: Packages
    folder: str
    size: int

    @property
    def site(self) -> Path:
        """The folder that is like a site-packages."""
        return Path(self.folder) / "packages"


def resolve_packages(
    platform: Platform, python: str, requirements: Sequence[str], what: str, *, offline: bool
) -> tuple[Locked, ...]:
    """Return the exact versions that requirements come to on a platform for a Python (``"3.12"``).

    Raises :class:`RemoteIndexError` when the index cannot be reached, :class:`ToolchainError` when it has no such
    wheels.
    """
    return resolve(
        find_fetcher(), requirements, what, offline=offline, elsewhere=_elsewhere(platform, python)
    )


def fetch_packages(
    platform: Platform,
    python: str,
    closure: Sequence[Locked],
    what: str,
    *,
    only: Sequence[str] | None = None,
    requirements: Sequence[str] = (),
    disk: int = 0,
    offline: bool,
) -> Kept:
    """Return a folder of the packages of ``closure``, from the cache or fetched now: all of them, or those that
    ``only`` names.

    ``disk`` are the bytes that they take, where it is known. Raises as :func:`resolve_packages`, and
    :class:`DiskError`.
    """
    names = tuple(each.name for each in closure if only is None or each.name in only)
    key = _key(platform, python, closure, names)
    folder = shelf(SHELF) / f"{platform.machine}-py{python}-{key}"

    def fill(work: Path) -> Packages:
        fetcher = find_fetcher()
        wanted = [each for each in closure if each.name in names]
        unpack(
            fetcher, wanted, work / "packages", what, offline=offline, elsewhere=_elsewhere(platform, python)
        )
        return Packages(
            key=key,
            platform=platform.name,
            glibc=platform.glibc,
            python=python,
            requirements=tuple(requirements),
            closure=tuple(closure),
            unpacked=names,
            fetched_by=fetcher.kind,
            made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )

    if (kept := _read(folder, sizes=False)) is not None:
        return kept
    if disk:
        require_free(shelf(SHELF), disk, what[0].upper() + what[1:])
    note(f"Fetching {what} into {folder}")
    make_once(folder, what, fill)
    kept = _read(folder, sizes=False)
    assert kept is not None
    return kept


def find_packages(
    platform: Platform, python: str, requirements: Sequence[str], *, unpacked: Sequence[str]
) -> Kept | None:
    """Return the packages in the cache that were asked for in these words, with ``unpacked`` among their files, the
    newest; or None. Uses no network.
    """
    fitting = [
        kept
        for kept in list_packages(sizes=False)
        if (kept.packages.platform, kept.packages.glibc, kept.packages.python)
        == (platform.name, platform.glibc, python)
        and kept.packages.requirements == tuple(requirements)
        and set(unpacked) <= set(kept.packages.unpacked)
    ]
    return max(fitting, key=lambda kept: kept.packages.made, default=None)


def list_packages(*, sizes: bool = True) -> tuple[Kept, ...]:
    """Return the packages of other platforms in the cache, by name; ``sizes`` asks for their bytes."""
    return tuple(kept for folder in made_folders(SHELF) if (kept := _read(folder, sizes=sizes)) is not None)


def remove_packages(names: tuple[str, ...] = (), *, everything: bool = False) -> tuple[Removed, ...]:
    """Remove packages by name or key, or all of them with what was never finished; return what was freed.

    Raises :class:`UsageError` for those that are not there, :class:`LockError` for those in the making.
    """
    return remove_from(SHELF, names, everything=everything, what="packages of a platform")


def _elsewhere(platform: Platform, python: str) -> Elsewhere:
    return Elsewhere(python=python, machine=platform.machine, glibc=platform.glibc)


def _key(platform: Platform, python: str, closure: Sequence[Locked], names: Sequence[str]) -> str:
    parts = [FORMAT, platform.name, python, list(closure), list(names)]
    return sha256_bytes(msgspec.json.encode(parts, order="sorted"))[:12]


def _read(folder: Path, *, sizes: bool) -> Kept | None:
    packages = read_facts(folder, Packages)
    if packages is None:
        return None
    return Kept(name=folder.name, packages=packages, folder=str(folder), size=size_of(folder) if sizes else 0)
