"""Draw what sagefix prints as docs/pictures/*.svg: recorded results, shown by the product itself.

The results stand in docs/results/: what ``sagefix verify --level numerics --json`` printed on an H200.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import msgspec
from rich.console import Console
from rich.terminal_theme import MONOKAI

from sagefix.cli import render
from sagefix.proof.model import Verdict

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "results" / "h200-2026-11-20"
PICTURES = {
    "verify.svg": RESULTS / "verify-numerics-68de379-fix1.json",
    "verify-v2.2.0.svg": RESULTS / "verify-numerics-v2.2.0.json",
}
_WIDTH = 128
_ID = re.compile(r"[^A-Za-z0-9-]+")
# An SVG that is shown as an image loads nothing from elsewhere, and should not ask.
_FONT_FACE = re.compile(r"\s*@font-face \{.*?\}\n", re.DOTALL)


def draw(result: Path) -> str:
    """Return the picture of a recorded verification."""
    recorded = json.loads(result.read_text(encoding="utf-8"))
    verdict = msgspec.convert(recorded["result"], Verdict)
    console = Console(
        record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    render.verdict(console, verdict)
    # The same file from the same result; a dot would end the name of a class.
    picture = console.export_svg(
        title=f"sagefix verify --level {verdict.level}", theme=MONOKAI, unique_id=_ID.sub("-", result.stem)
    )
    # No lines of blanks at their ends: git and editors take them away.
    return "\n".join(line.rstrip() for line in _FONT_FACE.sub("\n", picture).splitlines()) + "\n"


def main() -> None:
    """Write the pictures."""
    for name, result in PICTURES.items():
        (DOCS / "pictures" / name).write_text(draw(result), encoding="utf-8")


if __name__ == "__main__":
    main()
