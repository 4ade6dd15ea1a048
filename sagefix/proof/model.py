"""What a verification says: checks, and a verdict made of them."""

from __future__ import annotations

from typing import Literal

import msgspec

from sagefix.checks import Check, failures

Level = Literal["static", "import"]
LEVELS: tuple[Level, ...] = ("static", "import")
"""Each level includes those before it."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a verification at a level, of what, where and when (UTC, ISO 8601).

    ``subject`` is the installed version or wheel; ``wheel_sha256`` is empty when no wheel is known to be the
    origin of what is installed.
    """

    schema: Literal[1] = 1
    pin: str
    level: Level
    subject: str
    wheel_sha256: str
    interpreter: str
    gpus: tuple[str, ...]
    torch: str
    when: str
    checks: tuple[Check, ...]
    sagefix: str

    @property
    def passed(self) -> bool:
        """True when nothing failed; warnings and skipped checks are told, not counted."""
        return not failures(self.checks)
