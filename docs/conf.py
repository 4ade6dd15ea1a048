"""How Sphinx makes a site of these pages: `make docs`.

The pages are plain Markdown that GitHub shows as well, so what only the site needs (its navigation) stands here. The
site has the repository's own layout, README and change log included, so that a link is right in both.
Source: https://www.sphinx-doc.org/en/master/usage/configuration.html and
https://myst-parser.readthedocs.io/en/latest/configuration.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# The navigation: a page that does not stand here is an error, and one that is not there is left out.
NAVIGATION = {
    "How to": (
        "h200",
        "install",
        "comfyui",
        "attention",
        "docker",
        "upgrades",
        "lock",
        "ci",
        "offline",
        "build",
        "aarch64",
        "aarch64-gh200",
        "emulation",
        "toolchain",
        "prebuild",
        "wheelhouse",
        "verify",
        "bench",
        "bisect",
        "gpu-checks",
    ),
    "Reference": ("commands", "settings", "exit-codes", "json", "pins", "wheel-names", "failures"),
    "Explanation": (
        "why-2.2.0-is-broken",
        "how-a-proof-works",
        "fixes",
        "threat-model",
        "provenance",
        "architecture",
    ),
    "What was seen": (
        *(f"results/{page.stem}" for page in sorted((ROOT / "docs" / "results").glob("*.md"))),
        "../benchmarks/README",
    ),
    "About": ("index", "../CHANGELOG"),
}

project = "sagefix"
html_title = "sagefix"
html_theme = "furo"
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "benchmarks/README.md", "docs/*.md", "docs/**/*.md"]
# Not looked through: large, and none of ours.
exclude_patterns = [".*", "build", "dist", "site", "tests", "wheels", "**/node_modules"]
# The anchors that GitHub gives to headings, which is what the pages link to.
myst_heading_anchors = 4
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
# Examples are cut ("..."), and so are no whole JSON or TOML.
suppress_warnings = ["misc.highlighting_failure"]
# Warnings are errors (-W), a reference that leads nowhere among them.
nitpicky = True


def navigation(root: Path) -> str:
    """Return the navigation as MyST's directives, without pages that are not there."""
    parts = []
    for title, pages in NAVIGATION.items():
        paths = [page[3:] if page.startswith("../") else f"docs/{page}" for page in pages]
        there = [path for path in paths if (root / f"{path}.md").is_file()]
        if there:
            parts.append("\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *there, "```"]))
    return "\n\n".join(parts)


def add_navigation(app: Any, page: str, source: list[str]) -> None:
    """Put the navigation below the first page."""
    if page == root_doc:
        source[0] += f"\n{navigation(Path(app.srcdir))}\n"


def add_front(app: Any, error: Exception | None) -> None:
    """Lead whoever asks for the root of the site to its first page."""
    if error is None:
        text = f'<!DOCTYPE html><meta http-equiv="refresh" content="0; url={root_doc}.html"><title>{project}</title>\n'
        (Path(app.outdir) / "index.html").write_text(text, encoding="utf-8")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
    app.connect("build-finished", add_front)
