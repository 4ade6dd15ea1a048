"""One thing that was looked at, and what came of it: the word that every room answers questions with; and how far
a verification looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Status = Literal["ok", "warning", "failure", "skipped"]

Level = Literal["static", "import", "numerics", "full"]
LEVELS: tuple[Level, ...] = ("static", "import", "numerics", "full")
"""Levels of verification, weakest first; each includes those before it."""
NumbersLevel = Literal["numerics", "full"]
NUMBERS: tuple[NumbersLevel, ...] = ("numerics", "full")
"""The levels that compute, and are about a kind of GPU."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    ``found`` is what was seen, ``fix`` what to do unless all is well, ``sources`` where the rule comes from.
    """

    name: str
    status: Status
    found: str
    fix: str = ""
    sources: tuple[str, ...] = ()


def failures(checks: Iterable[Check]) -> list[Check]:
    """Return the checks that failed; warnings and skipped ones are told, not counted."""
    return [check for check in checks if check.status == "failure"]
