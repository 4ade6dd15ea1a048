"""What measured times mean: throughput, whether a backend is right, what to use, and where one begins to win."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

import msgspec

from sagefix.proof.benchmark.model import Case, Ceiling, Crossover, Measured, Recommendation

BASE = "sdpa"
"""What everything is compared with: torch's own attention, with torch's own choice among its kernels."""
TIE = 0.03
"""Backends whose medians are within this share of the fastest one's count as equally fast."""


LENGTHS = 3
"""From so many lengths of one shape on a crossover is told; two far apart say little about where it lies."""


def flops(size: tuple[int, int, int, int], causal: bool) -> float:
    """Return the operations of attention at batch, heads, tokens, head_dim: two products of 2 B H N N D.

    Causal: half of it, since half of the scores are masked. The softmax is not counted, as is the custom
    (https://github.com/Dao-AILab/flash-attention/blob/main/benchmarks/benchmark_flash_attention.py).
    """
    batch, heads, tokens, head_dim = size
    return 4.0 * batch * heads * tokens * tokens * head_dim / (2 if causal else 1)


def judge(
    backend: str,
    times: Sequence[float],
    numbers: Mapping[str, float | None],
    *,
    memory: int | None,
    allowed: float | None,
    operations: float,
    ceiling: Ceiling | None,
) -> Measured:
    """Sum up the runs of a backend (ms each) and judge its error against what is allowed (None: not judged).

    An error that is no number (the output holds NaN or infinity) is wrong whatever is allowed.
    """
    median = statistics.median(times)
    # One run is its own quartile.
    spread = times if len(times) > 1 else [*times, *times]
    quarter, _, three_quarters = statistics.quantiles(spread, method="inclusive")
    error = numbers.get("relative_l2")
    text = _wrong(numbers, allowed)
    tflops = operations / (median / 1e3) / 1e12
    return Measured(
        backend=backend,
        status="wrong" if text else "measured",
        text=text,
        runs=len(times),
        median=median,
        fastest=min(times),
        quarter=quarter,
        three_quarters=three_quarters,
        tflops=tflops,
        share=tflops / ceiling.tflops if ceiling else None,
        memory=memory,
        error=error,
        cosine=numbers.get("cosine"),
        allowed=allowed,
    )


def _wrong(numbers: Mapping[str, float | None], allowed: float | None) -> str:
    error = numbers.get("relative_l2")
    if error is None or numbers.get("nan") or numbers.get("inf"):
        return "Its output holds NaN or infinity."
    if allowed is not None and error > allowed:
        return f"Its error is {error:.2g}; up to {allowed:.2g} is right."
    return ""


def with_ratios(results: Iterable[Measured]) -> tuple[Measured, ...]:
    """Set :attr:`Measured.ratio` where there is something to compare with."""
    rows = tuple(results)
    base = next((each.median for each in rows if each.backend == BASE and each.status == "measured"), None)
    return tuple(
        msgspec.structs.replace(each, ratio=each.median / base) if base and each.median else each
        for each in rows
    )


def recommend(results: Sequence[Measured], labels: Mapping[str, str], main: str) -> Recommendation:
    """Say what to use at a shape: the fastest that is right. What is wrong is named and never recommended.

    Among those that are equally fast (:data:`TIE`, or quartiles that overlap) SDPA comes first, since it is exact
    and always there, then ``main`` (the function of the pin that chooses its own kernel), then as they stand.
    """
    right = [each for each in results if each.status == "measured" and each.median]
    wrong = [each for each in results if each.status == "wrong" and each.median]
    if not right:
        words = ["nothing computed this right", *(_named(each, labels) for each in wrong)]
        return Recommendation(backend="", words="; ".join(words))
    fastest = min(right, key=lambda each: each.median or 0.0)
    equal = [each for each in right if _as_fast(each, fastest)]
    best = min(equal, key=lambda each: (each.backend != BASE, each.backend != main))
    words = [_why(best, results, labels, main), *(_named(each, labels, best) for each in wrong)]
    return Recommendation(backend=best.backend, words="; ".join(words))


def _as_fast(each: Measured, fastest: Measured) -> bool:
    within = (each.median or 0.0) <= (fastest.median or 0.0) * (1 + TIE)
    return within or (each.quarter or 0.0) <= (fastest.three_quarters or 0.0)


def _named(wrong: Measured, labels: Mapping[str, str], best: Measured | None = None) -> str:
    fast = best is None or (wrong.median or 0.0) < (best.median or 0.0)
    why = wrong.text[:1].lower() + wrong.text[1:].rstrip(".")
    return f"{labels[wrong.backend]} is {'fast, and ' if fast else ''}wrong: {why}"


def _why(best: Measured, results: Sequence[Measured], labels: Mapping[str, str], main: str) -> str:
    use = f"use {labels[best.backend]}"
    rows = {each.backend: each for each in results}
    base, other = rows.get(BASE), rows.get(main)
    if best.backend == BASE:
        return use + (_not_faster(other, labels[main]) if other is not None else "")
    if best.ratio is None:
        what = f"{labels[BASE]}: {base.status}" if base is not None else "SDPA was not measured"
        return f"{use}, the fastest of what was right; {what}"
    error = f", error {best.error:.2g}" if best.error is not None else ""
    return f"{use}: {best.ratio:.2f} of SDPA's time{error}"


def _not_faster(other: Measured, label: str) -> str:
    """Say why the pin's own function is not what to use; one that is wrong is told of elsewhere."""
    if other.status == "wrong":
        return ""
    if other.ratio is None:
        return f"; {label}: {other.status}"
    if other.ratio > 1 + TIE:
        return f": {label} takes {other.ratio:.2f} times as long"
    if other.ratio >= 1 - TIE:
        return f": {label} is no faster ({other.ratio:.2f} of its time)"
    return f": {label} is not clearly faster ({other.ratio:.2f} of its time, and the runs overlap)"


def crossovers(cases: Iterable[Case], labels: Mapping[str, str], main: str) -> tuple[Crossover, ...]:
    """Return from which length on ``main`` is faster than SDPA, for each shape that was measured at several lengths
    (:data:`LENGTHS` or more).

    Between two lengths the logarithm of the ratio is taken as linear in that of the length.
    """

    def key(case: Case) -> tuple[int, int, int, str, bool]:
        batch, heads, _, head_dim = case.size
        return batch, heads, head_dim, case.dtype, case.causal

    found = []
    for (batch, heads, head_dim, dtype, causal), group in groupby(sorted(cases, key=key), key):
        points = _points(group, main)
        if len(points) >= LENGTHS:
            tokens, below, above = _cross(points)
            found.append(
                Crossover(
                    backend=main,
                    against=BASE,
                    size=(batch, heads, head_dim),
                    dtype=dtype,
                    causal=causal,
                    tokens=tokens,
                    below=below,
                    above=above,
                    lengths=tuple(length for length, _, _ in points),
                    ratios=tuple(ratio for _, ratio, _ in points),
                    words=_crossing(points, labels.get(main, main), tokens, below, above),
                )
            )
    return tuple(found)


_Point = tuple[int, float, bool]
"""A length, the ratio there, and whether that is a win: faster, and right."""


def _points(cases: Iterable[Case], main: str) -> list[_Point]:
    points = {}
    for case in cases:
        found = case.of(main)
        if found is not None and found.ratio is not None:
            points[case.size[2]] = (found.ratio, found.status == "measured" and found.ratio < 1)
    return [(length, *points[length]) for length in sorted(points)]


def _cross(points: Sequence[_Point]) -> tuple[int | None, int | None, int | None]:
    lost = [index for index, (_, _, wins) in enumerate(points) if not wins]
    if not lost:
        return points[0][0], None, points[0][0]
    if lost[-1] == len(points) - 1:
        return None, points[-1][0], None
    (low, slower, _), (high, faster, _) = points[lost[-1]], points[lost[-1] + 1]
    if slower < 1:
        # Fast there already, but wrong: nothing lies between.
        return high, low, high
    part = math.log(slower) / (math.log(slower) - math.log(faster))
    return round(low * (high / low) ** part), low, high


def _crossing(
    points: Sequence[_Point], name: str, tokens: int | None, below: int | None, above: int | None
) -> str:
    ratios = {length: ratio for length, ratio, _ in points}
    shortest, longest = points[0][0], points[-1][0]
    wins = [length for length, _, won in points if won]
    if tokens is None:
        if not wins:
            return f"{name} is not faster than SDPA at any length from {shortest} to {longest}"
        return (
            f"{name} is not faster than SDPA at {longest} tokens, the longest measured, though it is at "
            f"{', '.join(map(str, wins))}"
        )
    if below is None or above is None:
        return f"{name} is faster than SDPA at every length from {shortest} to {longest}"
    also = [length for length in wins if length < below]
    return (
        f"{name} is faster than SDPA from about {about(tokens)} tokens on ({ratios[below]:.2f} of its time at {below}, "
        f"{ratios[above]:.2f} at {above})" + (f", and at {', '.join(map(str, also))}" if also else "")
    )


def about(tokens: int) -> int:
    """Return a number of two digits and zeros: an interpolated length is no more exact."""
    return round(tokens, 2 - len(str(tokens)))
