"""A ``--source`` that is a plain folder: it cannot show a commit, unless its content does.

Two things show it: all files together make the tree that the pin gives for the commit (an unpacked archive
of it), or the selected files are those of the commit in the cache. Otherwise the source gets a name made from
its own content, so that no label ever says a commit that nobody has seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sagefix.errors import SourceError
from sagefix.files import disk_errors
from sagefix.pins.model import Pin
from sagefix.progress import warn
from sagefix.source.cache import Cache, Held, as_fetched
from sagefix.source.folders import UNKNOWN_TIME, Signature, commit_folder, list_files
from sagefix.source.model import Fetched, Origin
from sagefix.source.repository import Repository
from sagefix.source.trees import Patterns, read_commit, select

_SIGNATURE = Signature(message="Files without history\n", time=UNKNOWN_TIME)
# Beyond this a folder is more than an unpacked archive, and hashing all of it would take long.
_LARGEST_ARCHIVE = 500_000_000


def fetch_folder(pin: Pin, cache: Cache, where: Origin, commit: str, tree: str) -> Fetched:
    """Bring the selected files of a folder into the cache, as the commit asked for if that can be shown."""
    wanted = Patterns(pin.source.files)
    paths = list_files(where.path)
    chosen = [path for path in paths if wanted.selects_file(tuple(path.split("/")))]
    if not chosen:
        raise SourceError(
            f"{where.shown} holds none of the files that {pin.name} is built from.",
            hint=f"They are {', '.join(pin.source.files)}.",
        )
    if tree and _size(where.path, paths) < _LARGEST_ARCHIVE:
        with _committed(cache, where.path, paths) as (repository, content):
            if content == tree:
                return _keep(cache, repository, where, commit, tree)
    with _committed(cache, where.path, chosen) as (repository, content):
        held = cache.holding(commit, tree)
        if held is not None and held.selection.files == select(repository, content, pin.source.files).files:
            return _keep(cache, repository, where, commit, held.tree)
        label = f"dir{content[:12]}"
        if commit != label:
            warn(f"{where.shown} cannot be shown to be commit {commit[:12]}; it is called {label}.")
        return _keep(cache, repository, where, label, content)


@contextmanager
def _committed(cache: Cache, folder: Path, paths: list[str]) -> Iterator[tuple[Repository, str]]:
    """Give a repository that holds these files, and the id of their tree."""
    with cache.scratch() as repository:
        made = commit_folder(repository, folder, paths, _SIGNATURE)
        yield repository, read_commit(repository, made).tree


def _keep(cache: Cache, repository: Repository, where: Origin, commit: str, tree: str) -> Fetched:
    held, moved = cache.holding("", tree), 0
    if held is None:
        selection = select(repository, tree, cache.patterns)
        moved = cache.take(repository, tree, selection)
        held = Held(tree=tree, selection=selection, by_commit=False)
    return as_fetched(cache, where, commit, held, received=moved)


def _size(folder: Path, paths: list[str]) -> int:
    with disk_errors(folder, "read the source"):
        return sum((folder / path).lstat().st_size for path in paths)
