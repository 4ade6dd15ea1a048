"""What the cases mean, in sentences: what the wrong ones have in common that the right ones have not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from sagefix.proof.model import CaseResult
from sagefix.proof.numerics.model import Proofs, Unwritten

BAD = ("wrong", "crashed")
"""What is broken; a hazard is not."""
# Beyond this an output has nothing to do with its inputs.
_NOISE = 0.1
_SHOWN = 3


def named_kind(capability: str) -> str:
    """Name a kind of device: ``the processor``, ``GPUs of compute capability 9.0``."""
    return "the processor" if capability == "cpu" else f"GPUs of compute capability {capability}"


def plain(case: CaseResult) -> bool:
    """Tell whether a case is about plain use: what is wrong here is broken."""
    return case.group not in ("stream", "graph", "hazard", "refusal") and (
        case.options.get("mode") != "reduce-overhead"
    )


def explain_function(
    proofs: Proofs, name: str, capability: str, cases: Sequence[CaseResult]
) -> tuple[str, ...]:
    """Say what is wrong with a function on one kind of GPU; nothing if its plain cases are right.

    ``cases`` are those of the function on GPUs of this ``capability``.
    """
    judged = [case for case in cases if plain(case) and case.status not in ("skipped", "hazard")]
    bad = [case for case in judged if case.status in BAD]
    if not bad:
        return ()
    good = [case for case in judged if case.status == "right"]
    return (f"{name}: {_what(proofs, capability, bad, good)}",)


def _what(proofs: Proofs, capability: str, bad: list[CaseResult], good: list[CaseResult]) -> str:
    known = next((row for row in proofs.unwritten if capability in row.archs), None)
    if not good:
        return f"{_everywhere(bad, known)}."
    where = _where(bad, good)
    how = _how(bad, known)
    if where is None:
        names = ", ".join(case.id for case in bad[:_SHOWN]) + (
            f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        )
        return f"{how} in {len(bad)} of {len(bad) + len(good)} cases ({names})."
    return f"{where.format(how=how)}."


def _everywhere(bad: list[CaseResult], known: Unwritten | None) -> str:
    if all(case.status == "crashed" for case in bad):
        return f"every call ends the process: {bad[0].text.rstrip('.')}"
    if all(case.numbers is None for case in bad):
        return f"no call works: {bad[0].text.rstrip('.')}"
    if all(_unwritten(case) for case in bad):
        return f"the output was never written{f': {known.name}' if known else ''}"
    if all(_noise(case) for case in bad):
        return f"noise in every case: the output has nothing to do with the inputs{_like(known)}"
    return f"wrong in all {len(bad)} cases: {bad[0].text.rstrip('.')}"


def _like(known: Unwritten | None) -> str:
    return f", as if it were never written ({known.name})" if known else ""


def _unwritten(case: CaseResult) -> bool:
    return case.measured.get("unwritten", 0.0) > 0.5 or case.measured.get("zeros", 0.0) == 1.0


def _noise(case: CaseResult) -> bool:
    numbers = case.numbers
    return numbers is not None and (numbers.cosine is None or abs(numbers.cosine) < _NOISE)


def _how(bad: list[CaseResult], known: Unwritten | None) -> str:
    """Return the word for what is wrong: ``NaN``, ``never written``, ``noise``, ``wrong`` ..."""
    if all(case.status == "crashed" for case in bad):
        return "ends the process"
    if all(case.numbers is None for case in bad):
        return f"raises {bad[0].text.removeprefix('It raises ').rstrip('.')}"
    if all(_unwritten(case) for case in bad):
        return f"never written{f' ({known.name})' if known else ''}"
    if all(case.numbers is not None and case.numbers.nan for case in bad):
        return "NaN"
    return "noise" if all(_noise(case) for case in bad) else "wrong"


def _where(bad: list[CaseResult], good: list[CaseResult]) -> str | None:
    """Return what every bad case has and no good one, as a sentence with ``{how}`` in it; None: no one thing."""
    return next(_rules(bad, good), None)


def _rules(bad: list[CaseResult], good: list[CaseResult]) -> Iterator[str]:
    for title, value in _BEFORE_LENGTHS:
        if values := _only(bad, good, value):
            yield f"{{how}} for {title}{values} only"
    yield from _lengths(bad, good)
    for sentence, holds in _FEATURES:
        if all(map(holds, bad)) and not any(map(holds, good)):
            yield f"{{how}} {sentence} only"
    for title, value in _AFTER_LENGTHS:
        if values := _only(bad, good, value):
            yield f"{{how}} for {title}{values} only"


def _lengths(bad: list[CaseResult], good: list[CaseResult]) -> Iterator[str]:
    longest, shortest = max(map(_tokens, good)), min(map(_tokens, good))
    if longest < min(map(_tokens, bad)):
        yield f"right up to {longest:,} tokens, {{how}} beyond"
    for word, sides in (("lengths", (3, 4)), ("numbers of keys", (4,)), ("numbers of queries", (3,))):
        for divisor in (2, 8, 16, 64, 128):
            if all(_ragged(case, divisor, sides) for case in bad) and not any(
                _ragged(case, divisor, sides) for case in good
            ):
                yield f"{{how}} at {_not_divided(word, divisor)}"
    if shortest > max(map(_tokens, bad)):
        yield f"right from {shortest:,} tokens on, {{how}} below"


def _tokens(case: CaseResult) -> int:
    return max(case.shape[3], case.shape[4])


def _ragged(case: CaseResult, divisor: int, sides: Sequence[int]) -> bool:
    return any(case.shape[side] % divisor for side in sides)


def _not_divided(word: str, divisor: int) -> str:
    return f"odd {word}" if divisor == 2 else f"{word} that {divisor} does not divide"


def _only(bad: Iterable[CaseResult], good: Iterable[CaseResult], value: Callable[[CaseResult], str]) -> str:
    """Return the values that only bad cases have, if every bad case has one of them."""
    inside, outside = {value(case) for case in bad}, {value(case) for case in good}
    return " and ".join(sorted(inside)) if not inside & outside and "" not in inside else ""


def _option(name: str) -> Callable[[CaseResult], str]:
    return lambda case: case.options.get(name, "")


_BEFORE_LENGTHS: tuple[tuple[str, Callable[[CaseResult], str]], ...] = (("", lambda case: case.dtype),)
_FEATURES: tuple[tuple[str, Callable[[CaseResult], bool]], ...] = (
    ("with causal attention", lambda case: case.options.get("causal") == "true"),
    ("without causal attention", lambda case: case.options.get("causal") != "true"),
    ("with fewer key heads than query heads (GQA)", lambda case: case.shape[1] != case.shape[2]),
    (
        "with another number of keys than of queries (cross attention)",
        lambda case: case.shape[3] != case.shape[4],
    ),
)
_AFTER_LENGTHS: tuple[tuple[str, Callable[[CaseResult], str]], ...] = (
    ("head_dim ", lambda case: str(case.shape[5])),
    ("layout ", _option("layout")),
    ("input ", _option("input")),
    ("memory ", _option("memory")),
    ("mode ", _option("mode")),
    ("GPU ", lambda case: str(case.device)),
)
