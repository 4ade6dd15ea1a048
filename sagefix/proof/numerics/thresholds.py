"""Which errors count as right: the limits of an accuracy, by dtype and kind of input."""

from __future__ import annotations

from typing import Literal

from sagefix.proof.model import Numbers, Threshold
from sagefix.proof.numerics.model import Case, Limit, Proofs

Nearness = Literal["right", "another accuracy", "wrong"]


def limit_of(proofs: Proofs, case: Case) -> Limit:
    """Return the limit that a case is judged by; loading has checked that there is one for normal input."""
    rows = [row for row in proofs.limit if row.accuracy == case.accuracy and case.dtype in row.dtypes]
    return next((row for row in rows if case.input in row.inputs), rows[0])


def as_threshold(limit: Limit) -> Threshold:
    """Return a limit as it stands in a verdict."""
    return Threshold(
        name=limit.name,
        relative_l2=limit.relative_l2,
        cosine=limit.cosine,
        worst_row=limit.worst_row,
        derived=limit.derived,
        sources=limit.sources,
    )


def nearness(numbers: Numbers, limit: Limit, proofs: Proofs) -> Nearness:
    """Tell right from wrong; NaN and infinity are wrong, and so is what has no finite error."""
    if numbers.nan or numbers.inf or numbers.relative_l2 is None or numbers.cosine is None:
        return "wrong"
    if numbers.relative_l2 <= limit.relative_l2 and numbers.cosine >= limit.cosine:
        if limit.worst_row is None or (numbers.worst_row or 0.0) <= limit.worst_row:
            return "right"
        return "wrong"
    coarsest = proofs.coarsest
    if numbers.relative_l2 <= coarsest.relative_l2 and numbers.cosine >= coarsest.cosine:
        return "another accuracy"
    return "wrong"


def describe(numbers: Numbers, limit: Limit, sdpa: Numbers | None) -> str:
    """Say the figures of a case beside what it was judged by."""
    if numbers.relative_l2 is None:
        parts = ["not a finite number"]
    else:
        parts = [f"relative error {numbers.relative_l2:.2g} (limit {limit.relative_l2:g})"]
    if numbers.cosine is not None:
        parts.append(f"cosine {numbers.cosine:.4f}")
    if numbers.worst_row is not None and limit.worst_row is not None and numbers.worst_row > limit.worst_row:
        parts.append(f"worst row {numbers.worst_row:.2g} (limit {limit.worst_row:g})")
    parts += [f"{count} {word}" for count, word in ((numbers.nan, "NaN"), (numbers.inf, "infinite")) if count]
    if sdpa is not None and sdpa.relative_l2 is not None:
        parts.append(f"SDPA {sdpa.relative_l2:.2g}")
    return ", ".join(parts)
