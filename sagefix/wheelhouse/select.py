"""Which of the wheels at hand a target can use, which is best, and why each was taken or refused.

Nothing is inferred from what a wheel does not say: see :func:`select` for what happens with unknown facts.
"""

from __future__ import annotations

from collections.abc import Sequence

from sagefix.archs import sort_archs
from sagefix.pins.model import Pin, Revision
from sagefix.targets.model import Target
from sagefix.wheelhouse.fitting import Finding, Question, archs_of, findings
from sagefix.wheelhouse.model import LEVELS, Decision
from sagefix.wheels.model import Facts

_FAILED = "failed:"


def select(
    candidates: Sequence[Facts],
    target: Target,
    pin: Pin,
    revision: Revision,
    *,
    fixes: int = 0,
    allow_known_bad: bool = False,
    allow_unknown: bool = False,
    require_proof: bool = False,
) -> list[Decision]:
    """Judge wheels for a target; accepted ones first, best first, then the refused, nearest miss first.

    ``fixes``: the level of the pin's fixes that is wanted, exactly. ``require_proof`` refuses what passed no
    verification. A wheel that failed one is always refused.

    Unknown facts are told, and rank a wheel behind those that tell. A wheel is refused when it tells nothing
    of torch or archs, without which nobody can say that it loads and runs, or of its commit, unless sagefix
    saved it from an installation of the pin's version; ``allow_unknown`` takes them all.

    Among accepted wheels come first those that passed the higher level of verification; then built before
    saved ones; then those with no more archs than wanted; then in the order of ``candidates``, so give the
    newest first, and what is on this machine before what has to be downloaded.
    """
    question = Question(
        target=target,
        pin=pin,
        revision=revision,
        fixes=fixes,
        allow_known_bad=allow_known_bad,
        allow_unknown=allow_unknown,
    )
    accepted: list[tuple[tuple[int, ...], Decision]] = []
    refused: list[tuple[int, Decision]] = []
    for facts in candidates:
        found = [*findings(facts, question), _proof(facts, require_proof)]
        against = tuple(finding.text for finding in found if not finding.fits)
        if against:
            refused.append((len(against), Decision(facts=facts, accepted=False, reasons=against)))
        else:
            reasons = tuple(finding.text for finding in found)
            accepted.append(
                (_rank(facts, found, target), Decision(facts=facts, accepted=True, reasons=reasons))
            )
    accepted.sort(key=lambda row: row[0])
    refused.sort(key=lambda row: row[0])
    return [decision for _, decision in (*accepted, *refused)]


def _rank(facts: Facts, found: Sequence[Finding], target: Target) -> tuple[int, ...]:
    unknown = sum(finding.unknown for finding in found)
    level = LEVELS.index(facts.proof) if facts.proof in LEVELS else -1
    origin = 0 if facts.record is not None and facts.record.origin == "built" else 1
    more = len(archs_of(facts)) - len(sort_archs(target.archs)) if target.archs else 0
    return unknown, -level, origin, more


def _proof(facts: Facts, require_proof: bool) -> Finding:
    if facts.proof.startswith(_FAILED):
        return Finding(fits=False, text=f"it failed the {facts.proof.removeprefix(_FAILED)} check")
    if facts.proof:
        return Finding(fits=True, text=f"it passed the {facts.proof} check")
    return Finding(fits=not require_proof, text="it is unproven: no verification of it has passed yet")
