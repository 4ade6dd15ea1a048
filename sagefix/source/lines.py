"""Lines of commits: read from their objects, walked from the last to the first, put in order."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import msgspec

from sagefix.errors import SourceError
from sagefix.source.failures import Missing
from sagefix.source.model import File, Origin
from sagefix.source.repository import Repository

_PERSON = re.compile(rb"^committer .* (\d+) ([+-])(\d\d)(\d\d)$", re.MULTILINE)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A commit of a history. ``date`` is the committer's (ISO 8601, with its offset), ``subject`` its first line.

    ``files`` are what was selected of it, by path.
    """

    commit: str
    parents: tuple[str, ...]
    tree: str
    date: str
    subject: str
    files: tuple[File, ...] = ()

    def below(self, folder: str) -> tuple[File, ...]:
        """Return the selected files in a folder of the root."""
        return tuple(file for file in self.files if file.path.startswith(f"{folder}/"))

    def python_files(self, folder: str) -> tuple[File, ...]:
        """Return the selected Python files in a folder of the root."""
        return tuple(file for file in self.below(folder) if file.path.endswith(".py"))

    def blob_of(self, path: str) -> str:
        """Return the blob of a file, or an empty string."""
        return next((file.blob for file in self.files if file.path == path), "")


def walk(repository: Repository, where: Origin, first: str, last: str) -> list[Change]:
    """Return the commits of the history, oldest first, their files not yet read.

    Commits that a bundle or a shallow clone leaves out end the walk: they lie before the first one or nobody can
    tell.
    """
    for commit in (first, last):
        if repository.lacks([commit]):
            raise SourceError(
                f"{where.shown} does not hold commit {commit}.", hint="Check the refs and --source."
            )
    before = _ancestors(repository, first)
    after = _ancestors(repository, last)
    if first not in after:
        raise _no_way(where, first, last, before, after)
    return [after[name] for name in _in_order(last, {**after}, leave={*before} - {first})]


def _no_way(
    where: Origin, first: str, last: str, before: dict[str, Change], after: dict[str, Change]
) -> SourceError:
    if last in before:
        return SourceError(
            f"{last[:7]} comes before {first[:7]}, not after it: no line of commits leads from the one to the other.",
            hint="The good commit has to be an ancestor of the bad one; every later repair is found on the way.",
        )
    common = [change for name, change in after.items() if name in before]
    text = f"{first[:7]} is not an ancestor of {last[:7]}: no line of commits leads from the one to the other"
    if not common:
        cut = any(parent not in after for change in after.values() for parent in change.parents)
        more = (
            f", and {where.shown} does not hold the whole history"
            if cut
            else ", and they have no common ancestor"
        )
        return SourceError(f"{text}{more}.", hint="Choose two commits of one line.")
    meeting = max(common, key=lambda change: datetime.fromisoformat(change.date)).commit
    return SourceError(
        f"{text}. They part at {meeting[:7]}.", hint=f"Try --good {meeting}, if that commit is good."
    )


def _ancestors(repository: Repository, start: str) -> dict[str, Change]:
    """Return a commit and all before it that are there."""
    found: dict[str, Change] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = read_header_of(repository, name)
        except Missing:
            continue
        waiting += found[name].parents
    return found


def _in_order(last: str, changes: dict[str, Change], leave: set[str]) -> list[str]:
    """Return commits with parents before children, first parents first, each line of commits in one piece."""
    order: list[str] = []
    seen = set(leave)
    waiting: list[tuple[str, bool]] = [(last, False)]
    while waiting:
        name, parents_done = waiting.pop()
        if parents_done:
            order.append(name)
        elif name in changes and name not in seen:
            seen.add(name)
            waiting.append((name, True))
            waiting += [(parent, False) for parent in reversed(changes[name].parents)]
    return order


def read_header_of(repository: Repository, name: str) -> Change:
    """Read a commit object: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects"""
    kind, data = repository.read(name)
    if kind != "commit":
        raise SourceError(f"{name} is a {kind}, not a commit.", hint="Give the commit that it belongs to.")
    head, _, message = data.partition(b"\n\n")
    lines = [line.split(" ", 1) for line in head.decode("utf-8", "replace").splitlines() if " " in line]
    when = _PERSON.search(head)
    return Change(
        commit=name,
        parents=tuple(rest for word, rest in lines if word == "parent"),
        tree=next(rest for word, rest in lines if word == "tree"),
        date=_date(when) if when else "",
        subject=message.lstrip(b"\n").partition(b"\n")[0].decode("utf-8", "replace").strip(),
    )


def _date(found: re.Match[bytes]) -> str:
    sign = -1 if found[2] == b"-" else 1
    offset = timezone(sign * timedelta(hours=int(found[3]), minutes=int(found[4])))
    return datetime.fromtimestamp(int(found[1]), offset).isoformat()
