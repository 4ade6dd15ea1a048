"""Which of the wheels at hand a target can use, which is best, and why each was taken or refused.

Nothing is inferred from what a wheel does not say: see :func:`select` for what happens with unknown facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sagefix.archs import sort_archs
from sagefix.checks import LEVELS, NUMBERS
from sagefix.pins.model import Pin, Revision
from sagefix.targets.model import Target
from sagefix.wheelhouse.fitting import Finding, Question, archs_of, findings
from sagefix.wheelhouse.model import Decision
from sagefix.wheelhouse.proving import CPU, FAILED, emulated_alone, named, numbers_of, standing_on
from sagefix.wheels.model import Facts, Proof


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

    ``fixes``: the level of the pin's fixes that is wanted, exactly. ``require_proof`` refuses a wheel whose numbers
    are not proven (``numerics`` or ``full`` passed) on every kind of GPU of the target: the same compute capability,
    or a processor for a pin that needs no GPU. A wheel that failed any verification there is always refused; one
    that failed on other kinds alone is not.

    Unknown facts are told, and rank a wheel behind those that tell. A wheel is refused when it tells nothing
    of torch or archs, without which nobody can say that it loads and runs, or of its commit, unless sagefix
    saved it from an installation of the pin's version; ``allow_unknown`` takes them all.

    Among accepted wheels come first those that passed the higher level of verification on these kinds; then
    built before saved ones; then those with no more archs than wanted; then in the order of ``candidates``, so
    give the newest first, and what is on this machine before what has to be downloaded.
    """
    question = Question(
        target=target,
        pin=pin,
        revision=revision,
        fixes=fixes,
        allow_known_bad=allow_known_bad,
        allow_unknown=allow_unknown,
    )
    kinds = kinds_of(target, pin)
    accepted: list[tuple[tuple[int, ...], Decision]] = []
    refused: list[tuple[int, Decision]] = []
    for facts in candidates:
        found = [*findings(facts, question), _proof(facts, kinds, require_proof)]
        against = tuple(finding.text for finding in found if not finding.fits)
        if against:
            refused.append((len(against), Decision(facts=facts, accepted=False, reasons=against)))
        else:
            reasons = tuple(finding.text for finding in found)
            accepted.append(
                (_rank(facts, found, target, kinds), Decision(facts=facts, accepted=True, reasons=reasons))
            )
    accepted.sort(key=lambda row: row[0])
    refused.sort(key=lambda row: row[0])
    return [decision for _, decision in (*accepted, *refused)]


def kinds_of(target: Target, pin: Pin) -> tuple[str, ...]:
    """Return the compute capabilities that a proof has to be about, ``cpu`` for a pin that needs no GPU."""
    return (CPU,) if pin.device == "cpu" else tuple(arch.capability for arch in sort_archs(target.archs))


def _rank(facts: Facts, found: Sequence[Finding], target: Target, kinds: tuple[str, ...]) -> tuple[int, ...]:
    unknown = sum(finding.unknown for finding in found)
    told = standing_on(facts, kinds)
    level = LEVELS.index(told) if told in LEVELS else -1
    origin = 0 if facts.record is not None and facts.record.origin == "built" else 1
    more = len(archs_of(facts)) - len(sort_archs(target.archs)) if target.archs else 0
    return unknown, -level, origin, more


def _proof(facts: Facts, kinds: tuple[str, ...], require_proof: bool) -> Finding:
    told = standing_on(facts, kinds)
    if told.startswith(FAILED):
        where = _where(facts.proofs, kinds, passed=False)
        return Finding(fits=False, text=f"it failed the {told.removeprefix(FAILED)} check{where}")
    if require_proof and not (facts.proofs and told in NUMBERS):
        elsewhere = numbers_of(facts.proofs)
        text = f"its numbers are not proven on {' and '.join(kinds)}"
        return Finding(fits=False, text=text + (f", only {elsewhere}" if elsewhere else ""))
    if not told:
        return Finding(fits=True, text="it is unproven: no verification of it has passed yet")
    how = emulated_alone(facts.proofs) if told not in NUMBERS else ""
    return Finding(
        fits=True, text=f"it passed the {told} check{how}{_where(facts.proofs, kinds, passed=True)}"
    )


def _where(proofs: Iterable[Proof], kinds: tuple[str, ...], *, passed: bool) -> str:
    """Say on which GPUs of these kinds the numbers passed or failed: `` on NVIDIA H200 (9.0)``."""
    names = [
        named(proof).partition(" on ")[2]
        for proof in proofs
        if proof.capability in kinds and proof.passed == passed
    ]
    return f" on {', '.join(dict.fromkeys(names))}" if names else ""
