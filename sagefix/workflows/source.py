"""The source alone: fetched into the cache, or written into a bundle."""

from __future__ import annotations

from pathlib import Path

import msgspec

from sagefix.pins.load import load_pin
from sagefix.pins.refs import resolve_ref
from sagefix.source.fetch import fetch, resolve, write_bundle
from sagefix.source.history import read_history, write_range
from sagefix.source.model import Fetched
from sagefix.workflows.situation import Request, find_revision


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle: where, how large (bytes), the commit in it, and how many there are with those before it."""

    file: str
    size: int
    commit: str
    commits: int = 1


def fetch_source(request: Request) -> Fetched:
    """Bring the commit of a request into the cache; raises :class:`SourceError` or :class:`PinError`."""
    pin = load_pin(request.pin)
    revision, fetched = find_revision(pin, request)
    return fetched or fetch(
        pin, revision.commit, tree=revision.tree, origin=request.source, offline=request.offline
    )


def bundle_source(request: Request, file: Path) -> Written:
    """Write the commit of a request into one file that ``--source`` takes on a machine without network."""
    pin = load_pin(request.pin)
    revision, _ = find_revision(pin, request)
    size = write_bundle(
        pin, revision.commit, revision.tree, file, origin=request.source, offline=request.offline
    )
    return Written(file=str(file), size=size, commit=revision.commit)


def bundle_history(request: Request, since: str, file: Path) -> Written:
    """Write the commits from ``since`` to that of a request into one file, for `sagefix bisect --source FILE`."""
    pin = load_pin(request.pin)
    known, last = resolve_ref(pin, since), resolve_ref(pin, request.ref)
    first, end = (
        found.commit if found else resolve(pin, ref or "", request.source, offline=request.offline)
        for found, ref in ((known, since), (last, request.ref))
    )
    history = read_history(pin, first, end, origin=request.source, offline=request.offline)
    size = write_range(pin, history, file)
    return Written(file=str(file), size=size, commit=end, commits=len(history.changes))
