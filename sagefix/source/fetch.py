"""The door of the room: a commit by name, fetched, checked, written out as files or as a bundle.

Commits and trees are named by hashes of their content, so where they come from does not matter once the
hashes are found right. A commit that is in the cache is therefore taken from there; only what lies on this
machine (a folder, a repository, a bundle that was named) is looked at each time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from sagefix.errors import SourceError
from sagefix.files import aside, disk_errors
from sagefix.pins.model import Pin
from sagefix.progress import note, task, warn
from sagefix.source.bundles import opened_bundle, put_bundle, read_header
from sagefix.source.cache import Cache, Held, as_fetched, open_cache
from sagefix.source.export import commit_time, export
from sagefix.source.failures import Damaged, Missing
from sagefix.source.folders import EMBEDDED, commit_folder, list_files
from sagefix.source.model import Fetched, Origin
from sagefix.source.origins import find_origin
from sagefix.source.plain import fetch_folder
from sagefix.source.remote import Server
from sagefix.source.repository import Repository
from sagefix.source.trees import check_blobs, is_full_commit, read_commit, select

__all__ = ["Fetched", "commit_time", "export", "fetch", "resolve", "write_bundle"]

_SHORT = re.compile(r"^[0-9a-f]{4,39}$")
_REF = re.compile(r"^(?!-)(?!.*(?:\.\.|//|@\{|\.lock$|/$))[^\s~^:?*\[\\\x00-\x1f\x7f]+$")
_BUNDLE_HINT = (
    "On a machine with network run `sagefix source bundle FILE` with the same --ref, bring the file here and "
    "add --source FILE."
)


def resolve(pin: Pin, ref: str, origin: str | None = None, *, offline: bool = False) -> str:
    """Return the full commit of a branch, tag or short hash that the pin does not know.

    A full commit is returned as it is. Servers are asked for names only, since they do not look up short
    hashes; repositories, bundles and the cache know both. Raises :class:`SourceError`.
    """
    ref = ref.strip()
    if is_full_commit(ref.lower()):
        return ref.lower()
    if not _REF.match(ref):
        raise SourceError(f"{ref!r} is not a ref.", hint="Give a branch, a tag or a commit.")
    where = find_origin(pin, origin)
    if where.kind == "folder":
        raise SourceError(
            f"{where.shown} is a folder without git history, so {ref!r} cannot be looked up in it.",
            hint="Leave --ref out, or give a full commit.",
        )
    with open_cache(pin) as cache:
        if where.kind == "url":
            return _resolve_remote(cache, where, ref, offline)
        with _opened(where, cache) as repository:
            if found := repository.rev_parse(ref) or repository.rev_parse(f"refs/remotes/origin/{ref}"):
                return found
    contents = f" It holds {read_header(where.path).contents()}." if where.kind == "bundle" else ""
    raise SourceError(f"{where.shown} has no ref {ref!r}.{contents}", hint="Check --ref and --source.")


def _resolve_remote(cache: Cache, where: Origin, ref: str, offline: bool) -> str:
    short = _SHORT.match(ref.lower()) is not None
    if short and cache.path.is_dir():
        with cache.repository() as repository:
            if found := repository.rev_parse(ref.lower()):
                return found
    if offline and where.protocol != "file":
        raise SourceError(
            f"Offline, the ref {ref!r} cannot be looked up.", hint="Give the full commit of 40 digits."
        )
    with task(f"Looking up {ref}") as running, cache.scratch() as repository:
        refs = Server(where, running).refs(repository, ref)
    if refs:
        return next(iter(refs.values()))
    if short:
        raise SourceError(
            f"{where.shown} has no branch or tag {ref!r}, and a remote serves full 40-digit commits only.",
            hint="Give the full commit, or --source with a clone of the repository.",
        )
    raise SourceError(f"{where.shown} has no ref {ref!r}.", hint="Check --ref and --source.")


def fetch(
    pin: Pin, commit: str, *, tree: str = "", origin: str | None = None, offline: bool = False
) -> Fetched:
    """Bring a commit and the files that the pin selects into the cache, and check them.

    ``commit`` is a full one; ``tree``, when given, has to be its tree. ``origin`` is what the user gave as
    ``--source`` (see :mod:`sagefix.source.origins`), None for the pin's own source. A plain folder that
    cannot be shown to hold the commit is taken under a name of its own, with a warning.

    Raises :class:`SourceError`: not reachable, not there, not what it should be; :class:`LockError`,
    :class:`DiskError`.
    """
    where = find_origin(pin, origin)
    commit = commit.lower()
    if where.kind != "folder" and not is_full_commit(commit):
        raise SourceError(f"{commit!r} is not a full commit.", hint="A commit has 40 hexadecimal digits.")
    job = _Job(pin=pin, where=where, commit=commit, tree=tree)
    with open_cache(pin) as cache:
        if where.kind == "folder":
            return fetch_folder(pin, cache, where, commit, tree)
        if where.kind == "url":
            return _fetch_remote(job, cache, offline)
        with _opened(where, cache) as repository:
            if where.kind == "embedded":
                _check_embedded(job, repository)
            return _take(job, cache, repository)


class _Job(msgspec.Struct, frozen=True, kw_only=True):
    pin: Pin
    where: Origin
    commit: str
    tree: str

    def contents(self) -> str:
        """Say what is in a bundle that does not hold what was asked for."""
        if self.where.kind != "bundle":
            return ""
        return f" It holds {read_header(self.where.path).contents()}."


def _fetch_remote(job: _Job, cache: Cache, offline: bool) -> Fetched:
    held = cache.holding(job.commit, job.tree)
    if held is not None:
        _compare(job, held.tree)
        if offline:
            note(f"Offline: {job.pin.name} {job.commit[:7]} comes from the cache.")
        return as_fetched(cache, job.where, job.commit, held, received=0)
    if offline and job.where.protocol != "file":
        raise SourceError(
            f"Offline, and commit {job.commit} of {job.pin.name} is not in the cache.", hint=_BUNDLE_HINT
        )
    with task(f"Fetching {job.pin.name} {job.commit[:7]}", unit="objects") as running:
        server = Server(job.where, running)
        with server.commit(cache.scratch, job.commit, job.pin.source.files) as repository:
            return _take(job, cache, repository, received=server.received)


def _take(job: _Job, cache: Cache, repository: Repository, received: int | None = None) -> Fetched:
    """Check a commit in a repository and copy what is selected of it into the cache, unless it is there."""
    where, commit = job.where, job.commit
    try:
        tree = read_commit(repository, commit).tree
    except (Missing, Damaged) as error:
        unless = ", or cannot read it" if isinstance(error, Damaged) else ""
        raise SourceError(
            f"{where.shown} does not hold commit {commit}{unless}.{job.contents()}",
            hint="Check --ref and --source.",
        ) from error
    _compare(job, tree)
    try:
        selection = select(repository, tree, job.pin.source.files)
        check_blobs(repository, selection)
    except (Missing, Damaged) as error:
        raise SourceError(
            f"{where.shown} has commit {commit}, but not all of its files: {error} is missing or damaged.",
            hint="In a partial clone check the commit out first; `git fsck` says more about damage.",
        ) from error
    if selection.submodules:
        warn(f"Submodules are not fetched: {', '.join(selection.submodules)}.")
    held = cache.holding(commit)
    if held is not None:
        return as_fetched(cache, where, commit, held, received=0)
    moved = cache.take(repository, tree, selection, commit)
    held = Held(tree=tree, selection=selection, by_commit=True)
    return as_fetched(cache, where, commit, held, received=moved if received is None else received)


def _compare(job: _Job, tree: str) -> None:
    if job.tree and tree != job.tree:
        raise SourceError(
            f"Commit {job.commit} of {job.where.shown} has the tree {tree}, and the pin says {job.tree}.",
            hint="One of the two is wrong: do not build it before you know which.",
            details={"commit": job.commit, "tree": tree, "expected_tree": job.tree},
        )


@contextmanager
def _opened(where: Origin, cache: Cache) -> Iterator[Repository]:
    """Give the repository behind an origin on this machine."""
    if where.kind == "repository":
        with Repository.find(where.path) as repository:
            yield repository
    elif where.kind == "bundle":
        with opened_bundle(where.path, cache) as repository:
            yield repository
    else:
        with cache.scratch() as repository:
            commit_folder(repository, where.path, list_files(where.path), EMBEDDED, modes=False)
            yield repository


def _check_embedded(job: _Job, repository: Repository) -> None:
    built = repository.rev_parse("HEAD")
    if job.commit == built:
        return
    pin = job.pin
    if built == pin.source.commit:
        raise SourceError(
            f"The embedded source of {pin.name} has the commit {built} only, not {job.commit}.",
            hint="Leave --ref out.",
        )
    tree = read_commit(repository, built).tree
    raise SourceError(
        f"The embedded source was changed: {job.where.path} makes commit {built} with tree {tree}, "
        f"and the pin says {job.commit} with tree {job.tree or pin.source.tree}.",
        hint=f"Undo the change; or, if it is meant, write the new ids into the manifest of {pin.name}.",
        details={"commit": built, "tree": tree},
    )


def write_bundle(
    pin: Pin, commit: str, tree: str, file: Path, *, origin: str | None = None, offline: bool = False
) -> int:
    """Write a commit and its selected files into a git bundle; return its size in bytes.

    ``fetch(origin=FILE)`` needs no network. The file is read back before it is moved into place. Raises what
    :func:`fetch` raises, and :class:`SourceError` for a source that has no commit to show.
    """
    if file.is_dir():
        raise SourceError(f"{file} is a folder.", hint="Name the file to write.")
    fetched = fetch(pin, commit, tree=tree, origin=origin, offline=offline)
    with open_cache(pin) as cache, disk_errors(file, "write the bundle"), aside(file) as temporary:
        held = cache.holding(fetched.commit)
        if held is None or not held.by_commit:
            raise SourceError(
                f"{fetched.origin} is a folder without git history; a bundle holds a commit.",
                hint="Write it from a repository, or copy the folder itself.",
            )
        objects = [commit, *held.selection.trees, *(file.blob for file in held.selection.files)]
        with cache.repository() as repository:
            parents = read_commit(repository, fetched.commit).parents
            put_bundle(
                temporary, repository, name=f"refs/sagefix/{pin.name}", parents=parents, objects=objects
            )
        with opened_bundle(temporary, cache) as copy:
            if select(copy, read_commit(copy, fetched.commit).tree, pin.source.files) != held.selection:
                raise SourceError(f"The bundle that was written to {file} cannot be read back.")
            check_blobs(copy, held.selection)
        return temporary.stat().st_size
