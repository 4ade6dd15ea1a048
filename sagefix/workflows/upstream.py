"""What upstream has that the pin has not, and what is known of it for some GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from sagefix.archs import Arch, join_archs
from sagefix.errors import SagefixError, SourceError
from sagefix.pins.model import Known, Pin
from sagefix.proof.edges import Node, main_line
from sagefix.proof.identity import on_archs
from sagefix.proof.reading import judge_sources
from sagefix.source.fetch import resolve
from sagefix.source.history import History, read_files, read_history
from sagefix.source.lines import Change
from sagefix.source.origins import find_origin

Standing = Literal["good", "bad", "unparsable", "unknown"]


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """A commit, and what is known of it for the GPUs in question: the worst that is known, in words as well.

    ``read``: nothing is known, and it was judged by reading its Python files. ``date`` (ISO 8601) and ``subject`` are
    empty where only the pin was asked.
    """

    commit: str
    standing: Standing
    words: str
    read: bool = False
    date: str = ""
    subject: str = ""
    sources: tuple[str, ...] = ()


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """What a source has. ``why_not`` says why that is not known (empty: it is).

    ``head`` is its newest commit. ``after_pin`` counts the commits that it has and the pin has not, ``after_installed``
    those that what is installed has not (None: they do not follow each other, or nobody knows which commit that is).
    ``newest_good`` is the last commit of the main line that is known to be good and comes after both.
    """

    source: str
    head: Commit | None = None
    after_pin: int | None = None
    after_installed: int | None = None
    newest_good: Commit | None = None
    why_not: str = ""


def ask_upstream(
    pin: Pin, installed: Sequence[str], archs: tuple[Arch, ...], *, source: str | None, offline: bool
) -> Upstream:
    """Ask a source (None: the pin's own) for its newest commit and the history since the pin.

    ``installed`` are the commits that what is installed may be of. A source that does not answer is part of the
    answer, and no error.
    """
    shown = source or pin.source.url
    try:
        where = find_origin(pin, source)
        shown = where.shown
        if where.kind == "embedded":
            only = pin.source.commit
            return Upstream(
                source=shown,
                head=standing_of(pin, only, archs),
                after_pin=0,
                after_installed=_same(only, installed),
            )
        if where.kind == "folder":
            return Upstream(source=shown, why_not=f"{shown} is a folder without history.")
        return _answer(pin, installed, archs, source, offline=offline, shown=shown)
    except SagefixError as error:
        return Upstream(source=shown, why_not=error.message)


def standing_of(pin: Pin, commit: str, archs: tuple[Arch, ...]) -> Commit:
    """Say what the pin knows of a commit on some archs (none: on any); what is bad on one of them is bad."""
    known = pin.known_about(commit, archs)
    found = next((each for each in known if each.status != "good"), known[0] if known else None)
    if found is None:
        where = f" on {join_archs(archs)}" if archs else ""
        return Commit(
            commit=commit,
            standing="unknown",
            words=f"Nothing is known of it{where}.",
            date=_date(pin, commit),
        )
    return Commit(
        commit=commit,
        standing=found.status,
        words=_words(found, archs),
        date=_date(pin, commit),
        sources=found.sources,
    )


def _words(known: Known, archs: tuple[Arch, ...]) -> str:
    word = {"good": "Known to be good", "bad": "Known to be broken", "unparsable": "Does not parse"}
    return f"{word[known.status]} {on_archs(known, archs)}: {known.reason}"


def _date(pin: Pin, commit: str) -> str:
    ref = pin.ref_of(commit)
    return ref.date if ref is not None else ""


def _answer(
    pin: Pin,
    installed: Sequence[str],
    archs: tuple[Arch, ...],
    source: str | None,
    *,
    offline: bool,
    shown: str,
) -> Upstream:
    head = resolve(pin, "HEAD", source, offline=offline)
    if head == pin.source.commit:
        return Upstream(
            source=shown,
            head=standing_of(pin, head, archs),
            after_pin=0,
            after_installed=_same(head, installed),
        )
    try:
        history = read_history(
            pin, pin.source.commit, head, files=(f"/{pin.package}/",), origin=source, offline=offline
        )
    except SourceError as error:
        # The newest commit is known all the same; only what lies between is not.
        return Upstream(
            source=shown,
            head=standing_of(pin, head, archs),
            after_installed=_same(head, installed),
            why_not=error.message,
        )
    line = _main(history)
    position = next((place for place, change in enumerate(line) if change.commit in installed), None)
    pinned = next((place for place, change in enumerate(line) if change.commit == history.first), -1)
    newer = line[(pinned if position is None else position) + 1 :]
    good = next((change for change in reversed(newer) if _good(pin, change, archs)), None)
    return Upstream(
        source=shown,
        head=_told(pin, history, history.changes[-1], archs),
        after_pin=len(history.changes) - 1,
        after_installed=len(line) - 1 - position if position is not None else None,
        newest_good=_told(pin, history, good, archs) if good is not None else None,
    )


def _main(history: History) -> list[Change]:
    """Return the commits that follow first parents back from the last one, oldest first."""
    changes = {change.commit: change for change in history.changes}
    nodes = [Node(commit=each.commit, parents=each.parents, verdict=None) for each in history.changes]
    return [changes[commit] for commit in main_line(nodes)]


def _same(head: str, installed: Sequence[str]) -> int | None:
    return 0 if head in installed else None


def _good(pin: Pin, change: Change, archs: tuple[Arch, ...]) -> bool:
    return standing_of(pin, change.commit, archs).standing == "good"


def _told(pin: Pin, history: History, change: Change, archs: tuple[Arch, ...]) -> Commit:
    """Say what is known of a commit; one of which nothing is known is read."""
    told = standing_of(pin, change.commit, archs)
    told = msgspec.structs.replace(told, date=change.date, subject=change.subject)
    if told.standing != "unknown":
        return told
    python = change.python_files(pin.package)
    contents = read_files(history, {file.blob for file in python})
    judged = judge_sources(pin, {file.path: contents[file.blob] for file in python}, archs)
    # Reading finds the known faults; that none is there does not make a commit good.
    standing: Standing = "unknown" if judged.verdict in ("good", None) else judged.verdict
    return msgspec.structs.replace(told, standing=standing, words=f"{told.words} {judged.words}", read=True)
