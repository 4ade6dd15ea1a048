"""Pythons of another architecture in the cache, for an emulator to run.

Taken from packages: Debian's or Ubuntu's (:mod:`sagefix.targets.cross.debs`), else uv's, which are those of
python-build-standalone (https://docs.astral.sh/uv/concepts/python-versions/) and need the C library of the cross
compiler beside them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sagefix.errors import ProcessError, RemoteIndexError, SagefixError, TargetError
from sagefix.process import run
from sagefix.progress import note, task, warn
from sagefix.targets.cross.debs import Deb, archives_for, unpack_python
from sagefix.targets.cross.platforms import Platform, load_platforms
from sagefix.targets.fetching import find_uv
from sagefix.targets.kept import (
    made_folders,
    make_once,
    read_facts,
    remove_kept,
    require_free,
    shelf,
    size_of,
)

SHELF = "emulated"
FORMAT = 1
ROOT = "root"
"""The folder that is like the root of a file system; beside it Python keeps its bytecode."""
BYTECODE = "bytecode"
# 39 packages of Debian 12, unpacked, with what apt keeps in between; measured.
DISK = 250_000_000
_UV_TIMEOUT_S = 600.0


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """A Python of another platform: which, where it came from, and what it is made of.

    ``python`` is what was asked for (``3.11``), ``program`` the path of its program below the folder, ``sysroot`` that
    of the folder with its C library (absolute when it is one of this machine's). ``bytes`` is the size of the files as
    they were unpacked, by which damage is seen. ``made`` is the time in UTC (ISO 8601).
    """

    platform: str
    python: str
    origin: str
    program: str
    sysroot: str
    packages: tuple[Deb, ...] = ()
    bytes: int
    made: str
    format: int = FORMAT


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A Python of another platform in the cache: its folder, and its size in bytes."""

    name: str
    root: Root
    folder: str
    size: int

    @property
    def program(self) -> Path:
        """The program of the Python; this machine cannot run it by itself."""
        return Path(self.folder) / self.root.program

    @property
    def sysroot(self) -> Path:
        """The folder with its C library."""
        return Path(self.folder) / self.root.sysroot

    @property
    def bytecode(self) -> Path:
        """Where Python keeps what it compiled: under emulation that takes longer than anything else."""
        return Path(self.folder) / BYTECODE


def make_root(platform: Platform, python: str, *, offline: bool) -> Kept:
    """Return a Python (``"3.11"``) of a platform, from the cache or fetched now.

    One that lost or changed files is made anew. Raises :class:`TargetError` that says why it cannot be had,
    :class:`RemoteIndexError` when nothing that has it can be reached, :class:`DiskError`.
    """
    name = f"{platform.machine}-py{python}"
    folder = shelf(SHELF) / name
    what = f"Python {python} for {platform.machine}"
    if (kept := _read(folder)) is not None:
        if not (damage := _damage(kept)):
            return kept
        if offline:
            raise TargetError(
                f"{what} in {folder} is damaged: {damage}.",
                hint="Run the command once without --offline; it is made anew then.",
            )
        warn(f"{what} in {folder} is damaged ({damage}); it is made anew.")
        remove_kept(folder, what)
    elif offline:
        raise TargetError(
            f"{what} is not at hand, and --offline forbids to fetch it.",
            hint="Run the command once without --offline.",
        )
    require_free(shelf(SHELF), DISK, what)
    note(f"Making {what} in {folder}")
    make_once(folder, what, lambda work: _make(platform, python, work))
    made = _read(folder)
    assert made is not None
    return made


def forget_bytecode(kept: Kept, folder: Path) -> None:
    """Remove what Python compiled of the modules in a folder that goes away."""
    shutil.rmtree(kept.bytecode / folder.relative_to("/"), ignore_errors=True)


def list_roots(*, sizes: bool = True) -> tuple[Kept, ...]:
    """Return the Pythons of other platforms in the cache, by name; ``sizes`` asks for their bytes."""
    found = (_read(folder) for folder in made_folders(SHELF))
    return tuple(
        msgspec.structs.replace(kept, size=size_of(Path(kept.folder)) if sizes else 0)
        for kept in found
        if kept is not None
    )


def _make(platform: Platform, python: str, work: Path) -> Root:
    """Try every source in turn; each that fails says why."""
    archives, why = archives_for(platform, python)
    reasons: list[SagefixError] = [TargetError(text) for text in why]
    root = work / ROOT
    for archive in archives:
        scratch = work / "apt"
        try:
            debs = unpack_python(archive, platform, python, root, scratch)
        except SagefixError as error:
            reasons.append(error)
            shutil.rmtree(root, ignore_errors=True)
            continue
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        origin = archive.name if archive is not None else "this machine's apt sources"
        return _root(
            platform, python, work, f"{len(debs)} packages of {origin}", f"usr/bin/python{python}", debs
        )
    try:
        program = _fetch_with_uv(platform, python, root)
        return _root(platform, python, work, "python-build-standalone, by uv", program, libc=_libc(platform))
    except SagefixError as error:
        reasons.append(error)
    raise _not_to_be_had(platform, python, reasons)


def _root(
    platform: Platform,
    python: str,
    work: Path,
    origin: str,
    program: str,
    debs: tuple[Deb, ...] = (),
    libc: str = "",
) -> Root:
    (work / BYTECODE).mkdir()
    if not (work / ROOT / program).is_file():
        raise TargetError(f"{origin} were unpacked, and there is no {program} among them.")
    return Root(
        platform=platform.name,
        python=python,
        origin=origin,
        program=f"{ROOT}/{program}",
        sysroot=libc or ROOT,
        packages=debs,
        bytes=size_of(work / ROOT),
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


def _libc(platform: Platform) -> str:
    """Return the folder of the cross compiler's C library, which a Python without packages of its own needs.

    Raises :class:`TargetError` when it is not on this machine.
    """
    folders = [Path("/usr") / triplet for triplet in (platform.triplet, *platform.other_triplets)]
    for folder in folders:
        if any((folder / "lib").glob("ld-linux*")):
            return str(folder)
    commands = "; ".join(f"{name}: {command}" for name, command in platform.packages.items())
    raise TargetError(
        f"uv's Python needs the C library for {platform.machine}, and {' and '.join(map(str, folders))} have none (it "
        f"comes with the cross compiler: {commands})"
    )


def _fetch_with_uv(platform: Platform, python: str, root: Path) -> str:
    """Let uv install a Python for the platform into ``root``; return the path of its program there."""
    uv = find_uv()
    if uv is None:
        raise TargetError("uv is not on this machine")
    _libc(platform)
    request = f"cpython-{python}-linux-{platform.machine}-gnu"
    env = {**os.environ, "UV_NO_PROGRESS": "1", "NO_COLOR": "1", "UV_PYTHON_INSTALL_BIN": "0"}
    try:
        with task(f"Fetching {request} with uv"):
            run(
                [uv, "python", "install", "--install-dir", root, request], env=env, timeout=_UV_TIMEOUT_S,
                watched=True,
            )  # fmt: skip
    except ProcessError as error:
        lines = [line.strip() for line in str(error.details.get("tail") or error.message).splitlines()]
        said = (lines or [error.message])[-1].removeprefix("error: ").removeprefix("cause: ").rstrip(".")
        raise RemoteIndexError(f"uv cannot fetch {request}: {said}", details=error.details) from error
    # uv's own link from the minor version names a folder that is moved.
    for link in (path for path in root.iterdir() if path.is_symlink()):
        link.unlink()
    found = sorted(root.glob(f"*/bin/python{python}"))
    if not found:
        raise TargetError(f"uv said that it installed {request}, and it is not there")
    return found[0].relative_to(root).as_posix()


def _not_to_be_had(platform: Platform, python: str, reasons: Sequence[SagefixError]) -> SagefixError:
    others = sorted(
        {
            version
            for archive in load_platforms().archive
            if platform.machine in archive.machines and Path(archive.keyring).is_file()
            for version in archive.pythons
        }
    )
    message = f"Python {python} for {platform.machine} cannot be had: {'; '.join(map(str, reasons))}."
    hint = (
        "The build looked up every undefined symbol of its wheel in the libraries of that platform all the same. "
        + (
            f"A wheel of the same commit for Python {' or '.join(others)} can be imported here."
            if others
            else ""
        )
    ).strip()
    details = {"reasons": [str(reason) for reason in reasons]}
    if all(isinstance(reason, RemoteIndexError) for reason in reasons):
        return RemoteIndexError(message, hint=f"Check the network. {hint}", details=details)
    return TargetError(message, hint=hint, details=details)


def _read(folder: Path) -> Kept | None:
    root = read_facts(folder, Root)
    if root is None or root.format != FORMAT:
        return None
    return Kept(name=folder.name, root=root, folder=str(folder), size=root.bytes)


def _damage(kept: Kept) -> str:
    """Say how a Python is not any more as it was unpacked, or nothing."""
    if not kept.program.is_file():
        return f"{kept.program} is missing"
    if not kept.sysroot.is_dir():
        return f"{kept.sysroot} is missing"
    there = size_of(Path(kept.folder) / ROOT)
    return "" if there == kept.root.bytes else f"its files have {there} bytes and had {kept.root.bytes}"
