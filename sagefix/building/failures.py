"""The table of known failures: the types and the loading of ``manifests/failures.toml``, and matching."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from sagefix import settings
from sagefix.building.facts import Facts
from sagefix.pins.load import convert_table, read_table
from sagefix.pins.locate import KeyPath
from sagefix.pins.rules import Problem

NAME = "failures.toml"
Stage = Literal["build", "install", "run"]

_ROW = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_FLAGS = re.MULTILINE


class When(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What has to be so for a row to be the one, beside its patterns. All that is given has to hold.

    ``torch_cuda``: torch was built with CUDA. ``toolkit``: there is a CUDA compiler. ``torch`` and ``cuda`` (that of
    nvcc) are version specifiers (``">=2.14"``). ``memory_gib_below``: the machine or container has less than this.
    """

    torch_cuda: bool | None = None
    toolkit: bool | None = None
    torch: str = ""
    cuda: str = ""
    machine: str = ""
    system: Literal["", "linux", "windows"] = ""
    memory_gib_below: float | None = None
    exit_status: tuple[int, ...] = ()


class Failure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A known failure.

    ``patterns`` are regular expressions (``^`` and ``$`` at lines); one of them has to match the first error, or any
    line of the log if the row is ``anywhere``. Each of ``also`` has to match somewhere in the log. Without patterns
    the condition alone decides. What the matching pattern captured stands for ``{0}``, ``{1}`` ... in the sentences.

    ``means`` says in a few words what it comes to, without a full stop; ``cause`` how it comes about; ``fix`` what to
    do. ``strikes``: when it is met. ``seen``: the message was provoked by this project, as ``provoked`` says, and
    ``example`` is what was printed then; else ``example`` is from the report that ``sources`` begin with.
    """

    name: str
    strikes: tuple[Stage, ...]
    means: str
    cause: str
    fix: str
    sources: tuple[str, ...]
    example: str
    patterns: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    anywhere: bool = False
    when: When = When()
    seen: bool = False
    provoked: str = ""


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``manifests/failures.toml`` says. The order counts: of several rows that fit, the first is taken."""

    schema: Literal[1]
    failure: tuple[Failure, ...]

    def named(self, name: str) -> Failure | None:
        """Return a row by its name, or None."""
        return next((row for row in self.failure if row.name == name), None)


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A row that fits, with its sentences filled in.

    ``line`` is what it was recognised by (empty: by its condition). ``certain`` is False when the row has a condition
    and nothing is known that it could be judged by.
    """

    name: str
    strikes: tuple[Stage, ...]
    means: str
    cause: str
    fix: str
    sources: tuple[str, ...]
    line: str
    certain: bool
    seen: bool


def load_failures(folder: Path | None = None) -> Table:
    """Read the table of a folder of manifests; where it has none, the one sagefix comes with.

    Raises :class:`~sagefix.errors.PinError` with the line and key of what is wrong.
    """
    own = (settings.manifests_dir() if folder is None else folder) / NAME
    path = own if own.is_file() or folder is not None else settings.shipped_manifests() / NAME
    return _load(path)


@lru_cache(maxsize=4)
def _load(path: Path) -> Table:
    return convert_table(
        path, read_table(path), Table, _problems, described_in="sagefix/building/failures.py"
    )


def find_matches(
    rows: Iterable[Failure], text: str, facts: Facts, *, first: str, strict: bool
) -> tuple[Match, ...]:
    """Return the rows that fit, the most telling one first.

    ``first`` is the first error in ``text``. With ``strict`` (a compiler said it) a row has to match that one, unless
    it counts anywhere; else rows for what happens at run time count wherever they are met.
    """
    found: list[tuple[tuple[bool, bool, int], Match]] = []
    for index, row in enumerate(rows):
        holds = judge(row.when, facts)
        if holds is False or not all(re.search(pattern, text, _FLAGS) for pattern in row.also):
            continue
        hit = _search(row, first)
        inside = hit is not None
        if hit is None and (not first or row.anywhere or (not strict and "run" in row.strikes)):
            hit = _search(row, text)
        if hit is None and (row.patterns or holds is not True):
            continue
        found.append(((not inside, holds is None, index), _filled(row, hit, certain=holds is not None)))
    kept: list[Match] = []
    for _, match in sorted(found, key=lambda pair: pair[0]):
        # A general row says of the same line what a special one has said better.
        if not match.certain or all(match.line != other.line for other in kept):
            kept.append(match)
    return tuple(kept)


def match_text(rows: Iterable[Failure], text: str) -> Match | None:
    """Return the first row whose patterns match a message of one error, whatever its condition."""
    for row in rows:
        if not row.also and (hit := _search(row, text)) is not None:
            return _filled(row, hit, certain=row.when == When())
    return None


def judge(when: When, facts: Facts) -> bool | None:
    """Say whether a condition holds; None when it cannot be known, True when there is none."""
    answers = [
        _equal(when.torch_cuda, None if facts.torch_cuda is None else facts.torch_cuda != ""),
        _equal(when.toolkit, facts.toolkit),
        _version(when.torch, facts.torch),
        _version(when.cuda, facts.nvcc),
        _equal(when.machine or None, facts.machine or None),
        _equal(when.system or None, facts.system or None),
        True if when.memory_gib_below is None
        else None if facts.memory_gib is None
        else facts.memory_gib < when.memory_gib_below,
        True if not when.exit_status
        else None if facts.exit_status is None
        else facts.exit_status in when.exit_status,
    ]  # fmt: skip
    if False in answers:
        return False
    return None if None in answers else True


def _equal(wanted: object, have: object) -> bool | None:
    return True if wanted is None else None if have is None else wanted == have


def _version(specifier: str, version: str) -> bool | None:
    if not specifier:
        return True
    try:
        return SpecifierSet(specifier).contains(Version(version).base_version, prereleases=True)
    except InvalidVersion:
        return None


def _search(row: Failure, text: str) -> re.Match[str] | None:
    hits = [hit for pattern in row.patterns if (hit := re.search(pattern, text, _FLAGS)) is not None]
    return min(hits, key=lambda hit: hit.start(), default=None)


def _filled(row: Failure, hit: re.Match[str] | None, *, certain: bool) -> Match:
    groups = [group or "" for group in hit.groups()] if hit is not None else []
    line = ""
    if hit is not None:
        start = hit.string.rfind("\n", 0, hit.start()) + 1
        line = hit.string[start : max(hit.end(), hit.string.find("\n", hit.end()))].strip()
    return Match(
        name=row.name,
        strikes=row.strikes,
        means=row.means.format(*groups),
        cause=row.cause.format(*groups),
        fix=row.fix.format(*groups),
        sources=row.sources,
        line=line,
        certain=certain,
        seen=row.seen,
    )


def _problems(table: Table, path: Path) -> Iterator[Problem]:
    del path
    names: set[str] = set()
    for index, row in enumerate(table.failure):
        at = ("failure", index)
        if not _ROW.fullmatch(row.name):
            yield (*at, "name"), f"{row.name!r} has to be lower-case words joined by -"
        if row.name in names:
            yield (*at, "name"), f"{row.name!r} is there twice"
        names.add(row.name)
        for field in ("strikes", "sources"):
            if not getattr(row, field):
                yield (*at, field), "must name at least one"
        for position, source in enumerate(row.sources):
            if not source.startswith("https://"):
                yield (*at, "sources", position), f"{source!r} is not an https address"
        if row.means.endswith("."):
            yield (*at, "means"), "must not end with a full stop"
        if row.seen != bool(row.provoked):
            yield (*at, "provoked"), "must say how it was provoked if it was seen, and only then"
        if not row.patterns and row.when == When():
            yield at, "needs patterns or a condition"
        yield from _specifiers(at, row.when)
        yield from _patterns(at, row)


def _specifiers(at: KeyPath, when: When) -> Iterator[Problem]:
    for field in ("torch", "cuda"):
        try:
            SpecifierSet(getattr(when, field))
        except InvalidSpecifier:
            yield (*at, "when", field), f"{getattr(when, field)!r} is not a version specifier"


def _patterns(at: KeyPath, row: Failure) -> Iterator[Problem]:
    fewest: int | None = None
    for field, patterns in (("patterns", row.patterns), ("also", row.also)):
        for position, pattern in enumerate(patterns):
            try:
                groups = re.compile(pattern, _FLAGS).groups
            except re.error as error:
                yield (*at, field, position), f"not a regular expression: {error}"
                return
            if field == "patterns":
                fewest = groups if fewest is None else min(fewest, groups)
    for field in ("means", "cause", "fix"):
        try:
            used = [
                name for _, name, _, _ in string.Formatter().parse(getattr(row, field)) if name is not None
            ]
        except ValueError as error:
            yield (*at, field), f"its braces are wrong: {error}"
            continue
        for name in used:
            if not name.isdigit() or int(name) >= (fewest or 0):
                yield (*at, field), f"no pattern of the row, or not each, captures {{{name}}}"
