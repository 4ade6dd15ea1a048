"""The time of each backend against the length, as a picture (PNG or SVG)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagefix.errors import UsageError
from sagefix.files import aside, disk_errors
from sagefix.proof.benchmark.choosing import short
from sagefix.proof.benchmark.judging import BASE, about
from sagefix.proof.benchmark.model import Bench, Case, Crossover

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")
_INCHES = (6.4, 5.2)
_DPI = 144
# Colours that people who see few can tell apart: https://jfly.uni-koeln.de/color/ (Okabe and Ito). SDPA is black.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#8C6D31")
_MARKERS = "osD^vP*X"


def require_plot(paths: Sequence[Path], lengths: Sequence[Sequence[int]]) -> None:
    """Refuse a plot that could not be drawn, before minutes are spent on measuring.

    ``lengths`` are those of each group of shapes that differ in nothing else. Raises :class:`UsageError`: not a
    PNG or SVG, no matplotlib here, or nowhere two lengths to draw a line between.
    """
    if not paths:
        return
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{path} is neither SVG nor PNG.", hint="Name a file that ends in .svg or .png.")
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise UsageError(
            f"A plot needs matplotlib, which cannot be imported beside sagefix ({error}).",
            hint="Install it: `pip install 'sagefix[plot]'`. Or leave --plot out: --output keeps every number.",
        ) from error
    if not any(len(set(each)) > 1 for each in lengths):
        raise UsageError(
            "A plot shows the time against the length, and no shape is measured at two lengths.",
            hint="Give --shape sweep, or shapes that differ in their tokens alone.",
        )


def draw(bench: Bench, paths: Sequence[Path]) -> None:
    """Write the picture to each path: one panel for each dtype, of the shape with the most lengths."""
    if not paths:
        return
    import matplotlib
    from matplotlib.figure import Figure

    groups = _panels(bench)
    # Text stays text in SVG, and two pictures of one result are the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sagefix", "font.size": 9}):
        figure = Figure(figsize=(_INCHES[0] * len(groups), _INCHES[1]), layout="constrained")
        panels: Any = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
        colours = _colours(bench, groups)
        for axes, cases in zip(panels, groups, strict=True):
            _panel(axes, cases, colours, bench)
        figure.suptitle(_title(bench))
        _legend(figure, panels)
        for path in paths:
            with disk_errors(path, f"write {path.name}"), aside(path) as temporary:
                metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
                figure.savefig(temporary, dpi=_DPI, metadata=metadata)


def _panels(bench: Bench) -> list[list[Case]]:
    """Return the cases of the shape with the most lengths, for each dtype, shortest first."""
    groups: dict[tuple[int, int, int, str], list[Case]] = {}
    for case in bench.cases:
        batch, heads, _, head_dim = case.size
        groups.setdefault((batch, heads, head_dim, case.dtype), []).append(case)
    best: dict[str, list[Case]] = {}
    for (*_, dtype), cases in groups.items():
        if len(cases) > len(best.get(dtype, [])):
            best[dtype] = sorted(cases, key=lambda case: case.size[2])
    return list(best.values())


def _colours(bench: Bench, groups: Sequence[Sequence[Case]]) -> dict[str, str]:
    """Return a colour for each backend that was measured anywhere, the same in every panel."""
    seen = {each.backend for cases in groups for case in cases for each in case.results if each.median}
    others = [name for name in bench.backends if name in seen and name != BASE]
    return {BASE: "#000000"} | {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(others)}


def _panel(axes: Axes, cases: Sequence[Case], colours: Mapping[str, str], bench: Bench) -> None:
    for at, (name, colour) in enumerate(colours.items()):
        rows = [(case.size[2], found) for case in cases if (found := case.of(name)) and found.median]
        if not rows:
            continue
        wrong = any(found.status == "wrong" for _, found in rows)
        axes.plot(
            [length for length, _ in rows],
            [found.median or 0.0 for _, found in rows],
            color=colour,
            marker=_MARKERS[at % len(_MARKERS)],
            markersize=4,
            linewidth=1.8 if name in (BASE, _main(bench)) else 1.1,
            linestyle=":" if wrong else "-",
            label=bench.backends[name] + (" (wrong)" if wrong else ""),
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    lengths = [case.size[2] for case in cases]
    axes.set_xticks(lengths, [str(length) for length in lengths], rotation=60)
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.set_xlabel("tokens")
    axes.set_ylabel("median time, ms")
    batch, heads, _, head_dim = cases[0].size
    axes.set_title(
        f"{short(cases[0].dtype)}, batch {batch}, {heads} heads, head_dim {head_dim}"
        + (", causal" if cases[0].causal else "")
    )
    _mark(axes, _crossover(bench, cases[0]), bench)


def _mark(axes: Axes, crossover: Crossover | None, bench: Bench) -> None:
    """Draw a line where the pin's kernel begins to win; one that always or never wins has none."""
    if crossover is None or crossover.tokens is None or crossover.below is None:
        return
    axes.axvline(crossover.tokens, color="#555555", linestyle="--", linewidth=1)
    axes.annotate(
        f"{bench.backends[crossover.backend]} wins\nfrom about {about(crossover.tokens)} on",
        xy=(crossover.tokens, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=8,
    )


def _crossover(bench: Bench, case: Case) -> Crossover | None:
    batch, heads, _, head_dim = case.size
    return next(
        (
            each
            for each in bench.crossovers
            if (each.size, each.dtype, each.causal) == ((batch, heads, head_dim), case.dtype, case.causal)
        ),
        None,
    )


def _main(bench: Bench) -> str:
    return bench.crossovers[0].backend if bench.crossovers else ""


def _title(bench: Bench) -> str:
    return f"{bench.device.name}, torch {bench.torch}" + (f", {bench.subject}" if bench.subject else "")


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels, below them."""
    entries: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend([*entries.values()], [*entries], loc="outside lower center", ncols=3, frameon=False)
