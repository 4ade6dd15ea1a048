"""How a benchmark looks: a table for each shape, one for a shape at many lengths, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sagefix.cli.render import table
from sagefix.files import human_size
from sagefix.proof.benchmark.choosing import short
from sagefix.proof.benchmark.model import Bench, Case, Measured

if TYPE_CHECKING:
    from rich.console import Console

_TEXT = 120
_SWEEP = 3
"""So many lengths of one shape make one table instead of one each, unless the shape has a name."""


def draw(console: Console, bench: Bench) -> None:
    """Draw everything."""
    for line in _about(bench):
        console.print(line, markup=False, soft_wrap=True)
    hidden = _never_there(bench)
    sweeps = _sweeps(bench)
    for case in bench.cases:
        if case.name or not any(case in sweep for sweep in sweeps):
            _draw_case(console, bench, case, hidden)
    for sweep in sweeps:
        _draw_sweep(console, bench, sweep)
    for crossover in bench.crossovers:
        batch, heads, head_dim = crossover.size
        where = f"{short(crossover.dtype)}{', causal' if crossover.causal else ''}"
        console.print(
            f"{crossover.words} ({where}, batch {batch}, {heads} heads, head_dim {head_dim}).",
            markup=False,
            soft_wrap=True,
        )
    for name, found in hidden.items():
        console.print(
            f"{bench.backends[name]}: {found.text or found.status}", style="dim", markup=False, soft_wrap=True
        )


def _about(bench: Bench) -> list[str]:
    method = bench.method
    gpu = f"{bench.device.name} ({bench.device.capability})"
    flushed = (
        f"the level-2 cache overwritten ({human_size(method.l2_flush)}) before each run"
        if method.l2_flush
        else "the cache not emptied between runs"
    )
    alone = "behind other work (launches hidden)" if method.queued else "on an idle GPU (launches count)"
    return [
        f"{bench.subject or f'{bench.pin} (not installed)'} in {bench.interpreter}, torch {bench.torch}, {gpu}"
        + (f", driver {bench.device.driver}" if bench.device.driver else ""),
        f"Medians of {method.least} to {method.most} runs by turns, {flushed}"
        + (f", {alone}." if method.clock == "cuda events" else ", on the processor."),
        _ceiling(bench),
    ]


def _ceiling(bench: Bench) -> str:
    if bench.ceiling is None:
        return "Share of what the GPU can do: not told, since nobody noted what that is for this device."
    more = f"; its 8-bit products reach {bench.ceiling.fp8:g}" if bench.ceiling.fp8 else ""
    return f"Share: of {bench.ceiling.tflops:g} TFLOP/s ({bench.ceiling.precision}){more}."


def _never_there(bench: Bench) -> dict[str, Measured]:
    """Return backends that are missing everywhere for one and the same reason: they are told once."""
    found = {}
    for name in bench.backends:
        rows = [each for case in bench.cases if (each := case.of(name)) is not None]
        reasons = {(each.status, each.text) for each in rows}
        if (
            rows
            and len(reasons) == 1
            and rows[0].median is None
            and rows[0].status in ("not installed", "no kernel")
        ):
            found[name] = rows[0]
    return found


def _sweeps(bench: Bench) -> list[list[Case]]:
    groups: dict[tuple[int, int, int, str], list[Case]] = {}
    for case in bench.cases:
        batch, heads, _, head_dim = case.size
        groups.setdefault((batch, heads, head_dim, case.dtype), []).append(case)
    return [cases for cases in groups.values() if len(cases) >= _SWEEP]


def _draw_case(console: Console, bench: Bench, case: Case, hidden: dict[str, Measured]) -> None:
    title = f"{case.name}  {' x '.join(map(str, case.size))} {short(case.dtype)}{' causal' if case.causal else ''}"
    drawn = table(
        "backend",
        "ms",
        "quartiles",
        "least",
        "of SDPA",
        "TFLOP/s",
        "share",
        "memory",
        "error",
        "",
        title=title.strip(),
    )
    for column in drawn.columns[1:-1]:
        column.justify = "right"
    for column in drawn.columns[:-1]:
        column.no_wrap = True
    shown = [each for each in case.results if each.backend not in hidden]
    for each in sorted(shown, key=lambda each: each.median or float("inf")):
        drawn.add_row(*_row(bench, case, each), style=_style(each))
    console.print(drawn)
    console.print(f"  → {case.recommendation.words}{_state(case)}", markup=False, soft_wrap=True)
    console.print()


def _row(bench: Bench, case: Case, each: Measured) -> list[str]:
    label = bench.backends[each.backend]
    if each.median is None:
        return [label, *[""] * 8, _status(each)]
    words = "" if each.status == "measured" else _status(each)
    return [
        label,
        _ms(each.median),
        f"{_ms(each.quarter)}-{_ms(each.three_quarters)}",
        _ms(each.fastest),
        f"{each.ratio:.2f}" if each.ratio is not None else "",
        f"{each.tflops:.3g}" if (each.tflops or 0) < 1 else f"{each.tflops:.0f}",
        f"{each.share:.0%}" if each.share is not None else "",
        human_size(each.memory) if each.memory is not None else "",
        f"{each.error:.2g}" if each.error is not None else "NaN",
        ("← use this. " if case.recommendation.backend == each.backend else "") + words,
    ]


def _status(each: Measured) -> str:
    """The JSON has the whole text; how much memory there was not, and where, is for nobody's table."""
    text = "" if each.status == "out of memory" else each.text
    return f"{each.status}: {text[:_TEXT]}{'...' if len(text) > _TEXT else ''}" if text else each.status


def _style(each: Measured) -> str:
    if each.status == "wrong":
        return "red"
    return "dim" if each.median is None else ""


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value < 10 else f"{value:.2f}" if value < 100 else f"{value:.1f}"


def _state(case: Case) -> str:
    state = case.state
    if state is None:
        return ""
    parts = [
        f"{state.clock} of {state.max_clock} MHz",
        f"{state.power:.0f} of {state.power_limit:.0f} W",
        f"{state.temperature} °C",
    ]
    held = f", held down by {' and '.join(state.limits)}" if state.limits else ""
    return f" (GPU at {', '.join(parts)}{held})"


def _draw_sweep(console: Console, bench: Bench, cases: Sequence[Case]) -> None:
    """Medians in ms: a row for each length, a column for each backend that was measured anywhere."""
    names = [
        name for name in bench.backends if any((found := case.of(name)) and found.median for case in cases)
    ]
    batch, heads, _, head_dim = cases[0].size
    title = f"ms by length, batch {batch}, {heads} heads, head_dim {head_dim}, {short(cases[0].dtype)}"
    drawn = table("tokens", *(_narrow(bench.backends[name]) for name in names), "use", title=title)
    for column in drawn.columns[:-1]:
        column.justify = "right"
    for case in cases:
        cells = []
        for name in names:
            found = case.of(name)
            wrong = found is not None and found.status == "wrong"
            cells.append(
                f"{_ms(found.median)}{' wrong' if wrong else ''}"
                if found and found.median
                else found.status
                if found
                else ""
            )
        use = bench.backends.get(case.recommendation.backend, "-")
        drawn.add_row(str(case.size[2]), *cells, use)
    console.print(drawn)


def _narrow(label: str) -> str:
    """Names of kernels share their beginning, which a narrow column has no room for."""
    return label.replace("sageattn_qk_int8_pv_", "..")
