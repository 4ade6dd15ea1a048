"""How computed cases look: a row for each function and group, or for each case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sagefix.cli.render import table

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.proof.model import CaseResult, Numbers, Numerics

_STYLES = {"right": "green", "wrong": "bold red", "crashed": "bold red", "hazard": "yellow", "skipped": "dim"}


def numerics(console: Console, made: Numerics, *, every_case: bool) -> None:
    """Draw what was computed: compact, or every case with its figures and words."""
    where = ", ".join(f"{device.index}: {device.name}" for device in made.devices)
    title = f"{len(made.cases)} cases on {where} in {made.seconds:.1f} s"
    if every_case:
        _cases(console, made.cases, title)
    else:
        _groups(console, made.cases, title)


def _cases(console: Console, cases: Sequence[CaseResult], title: str) -> None:
    from rich.text import Text

    drawn = table("case", "GPU", "", "error", "cosine", "worst row", "SDPA", "s", "found", title=title)
    for case in cases:
        drawn.add_row(
            case.id,
            str(case.device),
            Text(case.status, style=_STYLES[case.status]),
            *_figures(case.numbers),
            _figures(case.sdpa)[0],
            f"{case.seconds:.2f}",
            Text("" if case.status == "right" else case.text),
        )
    console.print(drawn)


def _figures(numbers: Numbers | None) -> tuple[str, str, str]:
    if numbers is None:
        return "-", "-", "-"
    error, cosine, worst = numbers.relative_l2, numbers.cosine, numbers.worst_row
    return (
        "NaN" if error is None else f"{error:.2g}",
        "NaN" if cosine is None else f"{cosine:.5f}",
        "NaN" if worst is None else f"{worst:.2g}",
    )


def _groups(console: Console, cases: Sequence[CaseResult], title: str) -> None:
    from rich.text import Text

    rows: dict[tuple[str, str], list[CaseResult]] = {}
    for case in cases:
        rows.setdefault((case.function.partition(":")[2], case.group), []).append(case)
    drawn = table("function", "group", "cases", "largest error", "SDPA", title=title)
    for (function, group), mine in rows.items():
        counts = Text(", ").join(
            Text(f"{number} {status}", style=_STYLES[status])
            for status in _STYLES
            if (number := sum(case.status == status for case in mine))
        )
        # The input decides what can be reached, so each kind has its own figure.
        drawn.add_row(function, group, counts, _largest(mine), _largest_of([case.sdpa for case in mine]))
    console.print(drawn)


def _largest(cases: Sequence[CaseResult]) -> str:
    kinds = dict.fromkeys(case.options.get("input", "") for case in cases)
    figures = {
        kind: _largest_of([case.numbers for case in cases if case.options.get("input", "") == kind])
        for kind in kinds
    }
    if len(figures) == 1:
        return next(iter(figures.values()))
    return ", ".join(f"{figure} {kind}" for kind, figure in figures.items())


def _largest_of(numbers: Sequence[Numbers | None]) -> str:
    there = [each for each in numbers if each is not None]
    if any(each.relative_l2 is None for each in there):
        return "NaN"
    return f"{max(each.relative_l2 or 0.0 for each in there):.2g}" if there else "-"
