"""A stretch of history: its commits, how they follow each other, and the selected files of each.

What is fetched goes into the cached repository of the pin, one pack for the whole stretch, with a list of its
commits beside it. So the same stretch is read from the cache the next time, and every commit of it can be built
without a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from sagefix.errors import SourceError
from sagefix.files import sha256_bytes, write_bytes
from sagefix.pins.model import Pin
from sagefix.progress import task
from sagefix.source.bundles import opened_bundle, put_bundle
from sagefix.source.cache import Cache, open_cache
from sagefix.source.environment import source_folder
from sagefix.source.failures import Damaged, GitFailed, Missing
from sagefix.source.lines import Change, read_header_of, walk
from sagefix.source.model import Origin
from sagefix.source.origins import find_origin
from sagefix.source.remote import Server
from sagefix.source.repository import Repository
from sagefix.source.trees import check_blobs, is_full_commit, select

_BUNDLE = "`sagefix source bundle FILE --since GOOD --ref BAD` writes one where the source can be reached."


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The commits that ``last`` is built upon and ``first`` is not, and ``first`` itself.

    ``changes`` come in topological order: ``first`` at the beginning, parents before children, ``last`` at the
    end. Parents that are not among them were there before ``first``. ``received`` are bytes of packs moved, 0 from
    the cache; ``repository`` is the cached one, which holds every object that is named here.
    """

    first: str
    last: str
    changes: tuple[Change, ...]
    origin: str
    received: int
    repository: str


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    commits: tuple[str, ...]


def read_history(
    pin: Pin,
    first: str,
    last: str,
    *,
    files: Sequence[str] = (),
    origin: str | None = None,
    offline: bool = False,
) -> History:
    """Bring the commits from ``first`` to ``last`` (full ids) with their selected files into the cache.

    ``files`` are patterns as in a pin (default: the pin's own), ``origin`` is what the user gave as ``--source``.

    Raises :class:`SourceError`: not reachable, not there, without history, or no line of commits leads from
    ``first`` to ``last``.
    """
    where = find_origin(pin, origin)
    if where.kind in ("folder", "embedded"):
        raise SourceError(
            f"{where.shown} has no history, only the files of one commit.",
            hint="Give --source a repository, its URL, or a bundle with the commits between.",
        )
    for commit in (first, last):
        if not is_full_commit(commit):
            raise SourceError(f"{commit!r} is not a full commit.", hint="A commit has 40 hexadecimal digits.")
    patterns = tuple(files) or pin.source.files
    with open_cache(pin) as cache:
        if (kept := _kept(cache, where, first, last, patterns)) is not None:
            return kept
        if where.kind == "url":
            if offline and where.protocol != "file":
                raise SourceError(
                    f"Offline, and the history from {first[:7]} to {last[:7]} is not in the cache.",
                    hint=f"Give --source a repository or a bundle on this machine. {_BUNDLE}",
                )
            with task(f"Fetching {pin.name} {first[:7]} to {last[:7]}", unit="objects") as running:
                server = Server(where, running)
                with server.history(
                    cache.scratch, (first, last), lambda found: [one.tree for one in walk(found, where, first, last)],
                    patterns,
                ) as repository:  # fmt: skip
                    return _take(cache, repository, where, first, last, patterns, server.received)
        opened = (
            Repository.find(where.path) if where.kind == "repository" else opened_bundle(where.path, cache)
        )
        with opened as repository:
            return _take(cache, repository, where, first, last, patterns, 0)


def read_files(history: History, blobs: Iterable[str]) -> dict[str, bytes]:
    """Return the contents of blobs of a history. Raises :class:`SourceError` when the cache was damaged since."""
    with Repository(Path(history.repository)) as repository:
        try:
            return {blob: repository.read(blob)[1] for blob in blobs}
        except (Missing, Damaged) as error:
            raise SourceError(
                f"The cached repository {history.repository} lost {error}.",
                hint="Delete that folder; the next command fetches it anew.",
            ) from error


def write_range(pin: Pin, history: History, file: Path) -> int:
    """Write a history with the files it was read with into a git bundle; return its size in bytes.

    The parents before its first commit are not inside. Raises :class:`SourceError`.
    """
    from sagefix.files import aside, disk_errors

    if file.is_dir():
        raise SourceError(f"{file} is a folder.", hint="Name the file to write.")
    inside = {change.commit for change in history.changes}
    outside = sorted({parent for change in history.changes for parent in change.parents} - inside)
    with open_cache(pin) as cache, disk_errors(file, "write the bundle"), aside(file) as temporary:
        with cache.repository() as repository:
            names = _objects(repository, history.changes, pin.source.files)
            put_bundle(
                temporary,
                repository,
                name=f"refs/sagefix/{pin.name}",
                parents=outside,
                objects=list(dict.fromkeys([history.last, *names])),
            )
        with opened_bundle(temporary, cache) as copy:
            if copy.lacks([*inside]):
                raise SourceError(f"The bundle that was written to {file} cannot be read back.")
        return temporary.stat().st_size


def _kept(cache: Cache, where: Origin, first: str, last: str, patterns: Sequence[str]) -> History | None:
    """Return the history if the cache holds all of it, read anew from its objects."""
    try:
        listed = msgspec.json.decode(_list_of(cache, first, last, patterns).read_bytes(), type=_Kept)
        with cache.repository() as repository:
            changes = _read(
                repository, [read_header_of(repository, name) for name in listed.commits], patterns
            )
    except (OSError, msgspec.DecodeError, Missing, Damaged, GitFailed):
        return None
    return _history(cache, where, first, last, changes, 0)


def _take(
    cache: Cache,
    repository: Repository,
    where: Origin,
    first: str,
    last: str,
    patterns: Sequence[str],
    received: int,
) -> History:
    """Check a history in a repository and copy it into the cache."""
    headers = walk(repository, where, first, last)
    try:
        changes = _read(repository, headers, patterns)
        names = _objects(repository, changes, patterns)
    except (Missing, Damaged) as error:
        raise SourceError(
            f"{where.shown} has the commits, but not all of their files: {error} is missing or damaged.",
            hint="In a partial or shallow clone fetch them first; `git fsck` says more about damage.",
        ) from error
    pack = repository.pack(names)
    with cache.repository() as kept:
        kept.unpack_bytes(pack)
    listed = _Kept(commits=tuple(change.commit for change in changes))
    write_bytes(_list_of(cache, first, last, patterns), msgspec.json.encode(listed))
    return _history(cache, where, first, last, changes, received or len(pack))


def _history(
    cache: Cache, where: Origin, first: str, last: str, changes: tuple[Change, ...], received: int
) -> History:
    return History(
        first=first,
        last=last,
        changes=changes,
        origin=where.shown,
        received=received,
        repository=str(cache.path),
    )


def _list_of(cache: Cache, first: str, last: str, patterns: Sequence[str]) -> Path:
    what = sha256_bytes(msgspec.json.encode([first, last, sorted(patterns)]))[:16]
    return source_folder() / f"{cache.path.stem}.histories" / f"{what}.json"


def _objects(repository: Repository, changes: Iterable[Change], patterns: Sequence[str]) -> list[str]:
    names: dict[str, None] = {}
    for change in changes:
        names[change.commit] = None
        names.update(dict.fromkeys(select(repository, change.tree, patterns).trees))
        names.update(dict.fromkeys(file.blob for file in change.files))
    return list(names)


def _read(repository: Repository, headers: Sequence[Change], patterns: Sequence[str]) -> tuple[Change, ...]:
    """Add the selected files to commits; each blob is read and its hash checked, once."""
    found, checked = [], set()
    for header in headers:
        selection = select(repository, header.tree, patterns)
        fresh = tuple(file for file in selection.files if file.blob not in checked)
        check_blobs(repository, msgspec.structs.replace(selection, files=fresh))
        checked |= {file.blob for file in fresh}
        found.append(msgspec.structs.replace(header, files=selection.files))
    return tuple(found)
