"""The wheels at hand for an installation: judged, chosen, and taken into the wheelhouse."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sagefix.checks import NUMBERS
from sagefix.errors import NoWheelError, RemoteIndexError
from sagefix.progress import task, warn
from sagefix.wheelhouse.model import PROOFS_SUFFIX, Decision
from sagefix.wheelhouse.proving import standing_on
from sagefix.wheelhouse.select import kinds_of, select
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.model import Facts
from sagefix.workflows.situation import Request, Situation


def decide(
    situation: Situation, request: Request, wheelhouse: Wheelhouse, *, require_proof: bool
) -> tuple[Decision, ...]:
    """Judge every wheel at hand, those of the wheelhouse and those of the indexes; see :func:`select`.

    Raises :class:`RemoteIndexError` when an index does not answer and nothing else fits.
    """
    pin = situation.pin
    facts = list(wheelhouse.entries(pin.project))
    unreachable: RemoteIndexError | None = None
    for url in request.index:
        if request.offline and not url.startswith("file:"):
            raise RemoteIndexError(
                f"--offline and the index {url} exclude each other.", hint="Leave one of them out."
            )
        from sagefix.wheelhouse.remote import candidates

        try:
            with task(f"Reading {url}"):
                facts.extend(candidates(url, pin.project, tags=situation.target.interpreter.tags))
        except RemoteIndexError as error:
            unreachable = unreachable or error
    decisions = tuple(
        select(
            facts,
            situation.target,
            pin,
            situation.revision,
            fixes=situation.fix_level,
            allow_known_bad=request.allow_known_bad,
            require_proof=require_proof,
        )
    )
    if unreachable is not None:
        # Who names an index does not want to compile for minutes because it did not answer.
        if best(decisions) is None:
            raise unreachable
        warn(f"{unreachable} A wheel at hand fits all the same.")
    return decisions


def best(decisions: Iterable[Decision]) -> Decision | None:
    """Return the decision for the wheel to take, or None when none fits."""
    return next((decision for decision in decisions if decision.accepted), None)


def no_wheel(decisions: tuple[Decision, ...], *, require_proof: bool) -> NoWheelError:
    """Return the error that no wheel fits and none may be built, with the reasons."""
    if require_proof:
        what = "No wheel at hand fits and is proven for this kind of GPU, and --require-proof takes no other."
        hint = (
            "Leave --require-proof out: where the GPU is, install proves what it installs. Or take a proof in with "
            "`sagefix wheelhouse prove`, or name an index that has a proven one with --index URL."
        )
    else:
        what = "No wheel at hand fits, and --no-build forbids to build one."
        hint = "Leave --no-build out, or name an index that has it with --index URL."
    return NoWheelError(
        f"{what} {refusals(decisions)}",
        hint=hint,
        details={"decisions": msgspec.to_builtins(decisions, enc_hook=str)},
    )


def refusals(decisions: tuple[Decision, ...]) -> str:
    """Say of each wheel why it does not fit; of many, the nearest misses."""
    if not decisions:
        return "There is none of this project at hand."
    shown = [f"{decision.facts.filename}: {'; '.join(decision.reasons)}" for decision in decisions[:5]]
    more = f" (and {len(decisions) - 5} more)" if len(decisions) > 5 else ""
    return "Refused: " + " | ".join(shown) + more


def take_in(wheelhouse: Wheelhouse, facts: Facts, situation: Situation, *, require_proof: bool) -> Facts:
    """Download a wheel of an index into the wheelhouse, with its proofs.

    Raises :class:`RemoteIndexError`, also when with ``require_proof`` the proofs that the index told of are not
    there; what :meth:`Wheelhouse.add` raises.
    """
    from sagefix.settings import cache_dir
    from sagefix.wheelhouse.remote import download

    path = download(facts, cache_dir() / "downloads")
    try:
        kept = wheelhouse.add(path, replace=True)
    finally:
        path.unlink(missing_ok=True)
        path.with_name(path.name + PROOFS_SUFFIX).unlink(missing_ok=True)
    if require_proof and standing_on(kept, kinds_of(situation.target, situation.pin)) not in NUMBERS:
        raise RemoteIndexError(
            f"The index says that {facts.filename} is proven, and the proofs did not come with it.",
            hint="Tell whoever runs the index, or leave --require-proof out.",
        )
    return kept
