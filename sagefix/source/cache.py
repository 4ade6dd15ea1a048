"""The bare repository of a pin in the cache: objects only, no refs, no remotes, nothing half done.

What is fetched comes into a scratch repository first; the selected objects are then packed into this one, so
a process that is killed leaves either a whole pack or none. Everything is read back before it is relied upon,
and a repository that does not give what it should is made anew.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from sagefix.errors import LockError, SourceError
from sagefix.files import aside, disk_errors, remove_tree
from sagefix.pins.model import Pin
from sagefix.progress import note, warn
from sagefix.source.environment import source_folder
from sagefix.source.failures import Damaged, GitFailed, Missing, reason
from sagefix.source.model import Fetched, Origin, Selection
from sagefix.source.repository import Repository
from sagefix.source.trees import check_blobs, is_full_commit, read_commit, select

_PATIENCE_S = 600.0


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A tree whose selected files are all in the cache. ``by_commit``: the commit object is there, too."""

    tree: str
    selection: Selection
    by_commit: bool


class Cache:
    """The cached repository of one pin; made by :func:`open_cache`, which locks it."""

    def __init__(self, pin: Pin, folder: Path) -> None:
        self.path = folder / f"{pin.name}.git"
        self.patterns = pin.source.files
        self._scratch = folder / f"{pin.name}.scratch"
        # Left behind by a process that was killed: the lock is ours, so nobody is using them.
        remove_tree(self._scratch)
        for leftover in (*self.path.glob("*.lock"), *self.path.glob("objects/pack/tmp_*")):
            leftover.unlink(missing_ok=True)

    def holding(self, commit: str, tree: str = "") -> Held | None:
        """Return what the cache holds of a commit, or None unless it is whole and sound.

        ``tree`` is what the commit is known to stand for; it is enough, since a tree's name says all of its
        content.
        """
        if not self.path.is_dir():
            return None
        try:
            with Repository(self.path) as repository:
                by_commit = is_full_commit(commit) and not repository.lacks([commit])
                if by_commit:
                    tree = read_commit(repository, commit).tree
                if not tree:
                    return None
                selection = select(repository, tree, self.patterns)
                check_blobs(repository, selection)
                return Held(tree=tree, selection=selection, by_commit=by_commit)
        except Missing:
            return None
        except (Damaged, GitFailed):
            warn(f"The cached repository {self.path} is damaged and is made anew.")
            remove_tree(self.path)
            return None

    def take(self, origin: Repository, tree: str, selection: Selection, commit: str = "") -> int:
        """Copy a tree, or a commit, with its selected files into the cache; return the bytes moved.

        They are checked in the cache; the caller has checked that the origin holds them.
        """
        names = [*([commit] if commit else []), *selection.trees, *(file.blob for file in selection.files)]
        pack = origin.pack(dict.fromkeys(names))
        why = "it is damaged"
        for _ in range(2):
            try:
                with self.repository() as repository:
                    repository.unpack_bytes(pack)
            except GitFailed as failure:
                why = reason(failure.said)
                remove_tree(self.path)
                continue
            if self.holding(commit, tree) is not None:
                return len(pack)
            # A pack of the same name was there already, and damaged: git keeps the one that it has.
            remove_tree(self.path)
        raise SourceError(
            f"What is written to the cached repository {self.path} does not come back: {why}.",
            hint="Check the disk, or point SAGEFIX_CACHE_DIR at another one.",
        )

    def repository(self) -> Repository:
        """Open the cached repository, which is made when it is not there."""
        if not self.path.is_dir():
            with disk_errors(self.path, "make the cached repository"), aside(self.path) as temporary:
                Repository.create(temporary)
        return Repository(self.path)

    @contextmanager
    def scratch(self) -> Iterator[Repository]:
        """Give an empty repository that is gone afterwards."""
        with disk_errors(self._scratch, "make a temporary repository"):
            self._scratch.mkdir(exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self._scratch))
        try:
            with Repository.create(folder / "repository.git") as repository:
                yield repository
        finally:
            remove_tree(folder)


@contextmanager
def open_cache(pin: Pin) -> Iterator[Cache]:
    """Lock the cache of a pin for this process. Raises :class:`LockError` after ten minutes of waiting."""
    from filelock import FileLock, Timeout

    folder = source_folder()
    lock = FileLock(folder / f"{pin.name}.lock")
    with disk_errors(folder, "lock the cache of the source"):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            note(f"Waiting for another sagefix process that is fetching {pin.name}.")
            try:
                lock.acquire(timeout=_PATIENCE_S)
            except Timeout as error:
                raise LockError(
                    f"Another sagefix process has been fetching {pin.name} for over {_PATIENCE_S:.0f} s.",
                    hint=f"End it; if there is none, delete {lock.lock_file}.",
                ) from error
    try:
        yield Cache(pin, folder)
    except GitFailed as failure:
        raise SourceError(
            f"git failed in the cache {folder}: {reason(failure.said)}",
            hint="Delete that folder, which is made anew; `git --version` has to work.",
        ) from failure
    finally:
        lock.release()


def as_fetched(cache: Cache, where: Origin, commit: str, held: Held, *, received: int) -> Fetched:
    """Write down what the cache holds of a commit, and where it was asked for."""
    return Fetched(
        commit=commit,
        tree=held.tree,
        setup_py=held.selection.blob_of("setup.py"),
        origin=where.shown,
        from_cache=received == 0,
        received=received,
        repository=str(cache.path),
    )
