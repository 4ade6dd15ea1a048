"""Folders of the cache that take minutes to make: made once, by one process, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from sagefix.errors import DiskError, LockError, UsageError
from sagefix.files import disk_errors, human_size, make_cache_dir, remove_tree, write_bytes
from sagefix.progress import note
from sagefix.settings import cache_dir, cache_path
from sagefix.targets.host import disk_free

MARKER = "sagefix.json"
"""Written last: a folder without it is not finished."""
_PARTIAL = ".partial"
T = TypeVar("T")


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that was removed, and the bytes of its files."""

    name: str
    freed: int


def shelf(name: str) -> Path:
    """Return the folder of the cache that holds all things of one kind, made and tagged."""
    return make_cache_dir(cache_dir() / name)


def make_once(
    folder: Path, what: str, make: Callable[[Path], msgspec.Struct], *, in_place: bool = False
) -> None:
    """Make ``folder`` unless it is made already; ``what`` names it in messages.

    ``make`` fills the folder it is given and returns what is to be known of it, which is written as the last
    step. That folder is another one, moved into place when it is done, but for ``in_place``: what writes its
    own path into its files, as virtual environments do. What a killed process left is cleared away.
    """
    if is_made(folder):
        return
    with _locked(folder, what, wait=True), disk_errors(folder, f"make {what}"):
        if is_made(folder):
            return
        work = folder if in_place else folder.with_name(f"{folder.name}{_PARTIAL}")
        remove_tree(work)
        work.mkdir(parents=True)
        try:
            facts = make(work)
            write_bytes(work / MARKER, msgspec.json.format(msgspec.json.encode(facts), indent=1) + b"\n")
            if not in_place:
                remove_tree(folder)
                work.rename(folder)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise


def is_made(folder: Path) -> bool:
    """Say whether a folder was made to its end."""
    return (folder / MARKER).is_file()


def read_facts(folder: Path, kind: type[T]) -> T | None:
    """Return what is known of a folder; None when it is not finished or was made by another sagefix."""
    try:
        return msgspec.json.decode((folder / MARKER).read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def made_folders(name: str) -> list[Path]:
    """Return the finished folders of a shelf, by name; makes nothing."""
    try:
        return sorted(path for path in (cache_path() / name).iterdir() if is_made(path))
    except OSError:
        return []


def remove_kept(folder: Path, what: str) -> int:
    """Remove a folder of the cache and what a killed process left of it; return the bytes that were freed.

    Raises :class:`LockError` when another process is making it just now.
    """
    with _locked(folder, what, wait=False), disk_errors(folder, f"remove {what}"):
        freed = 0
        # The marker first: a removal that is interrupted leaves something unfinished, not something damaged.
        (folder / MARKER).unlink(missing_ok=True)
        for path in (folder, folder.with_name(f"{folder.name}{_PARTIAL}")):
            freed += size_of(path)
            remove_tree(path)
    return freed


def remove_from(
    shelves: str | Sequence[str], names: Sequence[str], *, everything: bool, what: str
) -> tuple[Removed, ...]:
    """Remove folders of one or several shelves by name, or by any part of it that only one has; ``everything`` takes
    all, unfinished ones as well. ``what`` is what they are called: ``"a toolchain"``.

    Raises :class:`UsageError` for one that is not there, :class:`LockError` for one in the making.
    """
    each_shelf = [shelves] if isinstance(shelves, str) else shelves
    folders = [folder for name in each_shelf for folder in _all_folders(name)]
    chosen = folders if everything else [_named(each, folders, what) for each in names]
    return tuple(
        Removed(name=folder.name, freed=remove_kept(folder, folder.name)) for folder in dict.fromkeys(chosen)
    )


def _all_folders(name: str) -> list[Path]:
    """Return the folders of a shelf, finished or not; the work on one counts as that one."""
    try:
        there = sorted(path for path in (cache_path() / name).iterdir() if path.is_dir())
    except OSError:
        return []
    return list(dict.fromkeys(path.with_name(path.name.removesuffix(_PARTIAL)) for path in there))


def _named(name: str, folders: list[Path], what: str) -> Path:
    found = [each for each in folders if each.name == name] or [each for each in folders if name in each.name]
    if len(found) == 1:
        return found[0]
    known = ", ".join(each.name for each in (found or folders)) or "none"
    raise UsageError(
        f"{name!r} stands for several: {known}." if found else f"{name!r} is not the name of {what}.",
        hint="Write more of the name." if found else f"There are: {known}.",
    )


def size_of(folder: Path) -> int:
    """Return the bytes of the files below a folder; links are not followed."""
    total = 0
    for above, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(above, name))  # noqa: PTH118 - thousands of files
            except OSError:
                continue
            total += status.st_size
    return total


def require_free(folder: Path, needed: int, what: str) -> None:
    """Raise :class:`DiskError` when the disk that holds ``folder`` has less than ``needed`` bytes free."""
    free = disk_free(folder)
    if free < needed:
        raise DiskError(
            f"{what} needs {human_size(needed)} below {folder}; {human_size(free)} are free.",
            hint="Free some space (`sagefix environments remove`, `sagefix toolchain remove`), or point "
            "SAGEFIX_CACHE_DIR at another disk.",
        )


@contextmanager
def _locked(folder: Path, what: str, *, wait: bool) -> Iterator[None]:
    """Hold the lock beside ``folder``. The operating system lets go of it when its holder dies."""
    import filelock

    lock = filelock.FileLock(f"{folder}.lock")
    with disk_errors(folder, f"lock {what}"):
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            if not wait:
                raise LockError(
                    f"Another sagefix process is making {what} just now.", hint="Wait for it, or end it."
                ) from error
            note(f"Another sagefix process is making {what}; waiting for it.")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
