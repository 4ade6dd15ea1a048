"""Draw the error of each commit as docs/pictures/error-per-commit.svg; needs matplotlib (``sagefix[plot]``).

The figures stand in docs/results/h200-2026-11-20/errors.json: for each commit of 68de379..d1a57a5 the verdict of
``sagefix bisect --level numerics`` on an H200, and the median relative L2 error of ``sageattn`` over the cases of that
level, where it was kept.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Patch

DOCS = Path(__file__).parents[1] / "docs"
FIGURES = DOCS / "results" / "h200-2026-11-20" / "errors.json"
PICTURE = DOCS / "pictures" / "error-per-commit.svg"
COLOURS = {"good": "#009E73", "bad": "#D55E00", "unparsable": "#999999"}
NAMED = ("68de379", "15c0e22", "eb615cf", "795ca0c", "c03f15f", "d970424", "d1a57a5")


def main() -> None:
    """Write the picture."""
    commits = json.loads(FIGURES.read_text(encoding="utf-8"))
    # The same file from the same figures: no date, no random names.
    matplotlib.rcParams.update({"svg.hashsalt": "sagefix", "font.size": 9})
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    axes = figure.subplots()
    for place, commit in enumerate(commits):
        colour = COLOURS[commit["verdict"]]
        axes.axvspan(place - 0.5, place + 0.5, color=colour, alpha=0.18, linewidth=0)
        if commit["error"] is not None:
            axes.plot(place, commit["error"], "o", color=colour, markersize=4)
    axes.axhline(0.08, color="black", linewidth=0.8, linestyle=":")
    axes.text(len(commits) - 0.6, 0.087, "limit", ha="right", va="bottom")
    axes.set_yscale("log")
    axes.set_xlim(-0.5, len(commits) - 0.5)
    axes.set_ylabel("relative L2 error of sageattn")
    places = [place for place, commit in enumerate(commits) if commit["commit"][:7] in NAMED]
    axes.set_xticks(places, [commits[place]["commit"][:7] for place in places], rotation=60, ha="right")
    axes.set_title("SageAttention on an H200, commit by commit: the version says 2.2.0 at every one of them")
    axes.legend(handles=[Patch(color=colour, alpha=0.5, label=name) for name, colour in COLOURS.items()])
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
