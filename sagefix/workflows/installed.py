"""How an installation is asked for, and what it came to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import msgspec

from sagefix.installing.installer import InstallerChoice
from sagefix.proof.model import Verdict
from sagefix.wheelhouse.model import Decision
from sagefix.wheels.model import Proof
from sagefix.workflows.reach import VerifyChoice

if TYPE_CHECKING:
    from sagefix.building.plan import Plan


class InstallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to install: what may be built, what must be verified, and whether to touch anything at all.

    ``require_proof``: only a wheel whose numbers are proven on this kind of GPU; nothing is built then.
    """

    no_build: bool = False
    rebuild: bool = False
    reinstall: bool = False
    dry_run: bool = False
    break_system: bool = False
    require_proof: bool = False
    verify: VerifyChoice = "auto"
    installer: InstallerChoice = "auto"


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """What an install did, or with ``--dry-run`` would do.

    ``action``: ``"installed"``, ``"already installed"`` or ``"planned"``. ``before`` is the version that was there
    (empty: none). ``commands`` are those that were or would be run, a build as one would type it. ``seconds`` per
    step, by name. ``plan`` is what would be built, with ``--dry-run`` alone.

    ``numbers`` says in a sentence what proves the numbers, or why nothing does. ``relies_on`` are earlier proofs of
    this very wheel on this kind of GPU, because of which nothing was computed again.
    """

    action: Literal["installed", "already installed", "planned"]
    project: str
    version: str
    before: str
    interpreter: str
    archs: tuple[str, ...]
    archs_from: str
    wheel: str
    compiled: bool
    level: str
    verdict: Verdict | None
    decisions: tuple[Decision, ...]
    commands: tuple[str, ...]
    seconds: dict[str, float]
    log: str = ""
    key: str = ""
    plan: Plan | None = None
    numbers: str = ""
    relies_on: tuple[Proof, ...] = ()


class Clock:
    """Seconds between laps, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """End a lap; one that was run before is added to."""
        now = time.monotonic()
        self.laps[name] = round(self.laps.get(name, 0.0) + now - self._last, 3)
        self._last = now
