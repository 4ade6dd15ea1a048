"""What a search for the commits that changed a verdict is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from sagefix.checks import Level
from sagefix.proof.edges import Edge, Judgement, Stretch
from sagefix.proof.findings import Disagreement
from sagefix.proof.reading import Judged
from sagefix.source.lines import Change

Made = Literal["", "built", "grafted", "at hand"]
How = Literal["tested", "inferred", "skipped"]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A search: between which refs, how far to judge, and how to go about it.

    ``first_parent``: walk the main line only. ``share``: compile once for commits with equal native sources, else
    once for each that is tested. ``fresh``: take no verdict and no wheel of an earlier search.
    """

    good: str
    bad: str
    level: Level = "static"
    first_parent: bool = False
    share: bool = True
    fresh: bool = False


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A commit of the history and how its verdict came about.

    ``tested``: judged itself. ``inferred``: what is judged of it is equal, byte for byte, to that of ``equal_to``,
    which was tested; ``because`` says what is equal. ``skipped``: it cannot be judged, and ``words`` say why; it has
    no verdict. ``main``: on the line of first parents. ``outside``: parents that lie before the history.
    ``made`` says how the wheel came about (``built``, ``grafted``, ``at hand``; empty: none was needed, or its verdict
    was ``kept`` from an earlier run). ``seconds`` are those of making and judging it, in that run.
    """

    commit: str
    parents: tuple[str, ...]
    outside: tuple[str, ...]
    date: str
    subject: str
    main: bool
    verdict: Judgement | None
    how: How
    words: str
    equal_to: str = ""
    because: str = ""
    hazards: tuple[str, ...] = ()
    made: Made = ""
    kept: bool = False
    seconds: float = 0.0


class Bisection(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. ``rows`` come in topological order, oldest first; ``edges`` are all changes of the verdict.

    ``walked`` says in words which history that is. ``stretches`` cut the main line into pieces with one verdict.
    ``disagreements`` are with the manifest's list of known commits, which decides nothing here. ``entries`` is TOML
    for that list. ``judged_by`` says with what: the target, its torch, its GPU (empty at level ``static``).
    ``compiled`` and ``grafted`` count wheels, ``seconds`` are by step.
    """

    schema: Literal[1] = 1
    pin: str
    level: Level
    archs: tuple[str, ...]
    good: str
    bad: str
    origin: str
    received: int
    walked: str
    rows: tuple[Row, ...]
    edges: tuple[Edge, ...]
    stretches: tuple[Stretch, ...]
    disagreements: tuple[Disagreement, ...]
    entries: str
    judged_by: str = ""
    compiled: int = 0
    grafted: int = 0
    seconds: dict[str, float] = {}

    def row(self, commit: str) -> Row:
        """Return the row of a commit."""
        return next(row for row in self.rows if row.commit == commit)


class Outcome(NamedTuple):
    """What came of a content: the verdict, how its wheel was made, whether it was kept, the seconds it took."""

    judged: Judged
    made: Made = ""
    kept: bool = False
    seconds: float = 0.0


class Judge(Protocol):
    """Who judges commits at a level. ``equal`` says what commits with one content have in common."""

    judged_by: str
    equal: str

    def content(self, change: Change) -> str:
        """Return a name of what is judged of a commit: equal names, equal verdicts."""

    def judge(self, change: Change, following: Sequence[Change]) -> Outcome:
        """Judge a commit; ``following`` are those that come next."""

    def close(self) -> None:
        """Leave nothing behind but what a later search can use."""
