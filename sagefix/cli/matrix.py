"""``sagefix matrix``."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.workflows.coverage import Found, Surveyed

# Named unlike the options of other commands on purpose: `python = ...` in a settings file is one Python to work
# on, not all there are in the matrix.
Pythons = Annotated[
    list[str] | None,
    typer.Option(
        "--python", "-p", help="Python 3.12, a list of versions, or a path (repeatable).", show_default=False
    ),
]
Torches = Annotated[
    list[str] | None, typer.Option("--torch", help="torch 2.11, or a list (repeatable).", show_default=False)
]
Archs = Annotated[
    list[str] | None,
    typer.Option(
        "--arch", help="One wheel for each --arch; 8.0;9.0 is one wheel with both.", show_default=False
    ),
]
Platforms = Annotated[
    list[str] | None, typer.Option("--platform", help="x86_64 or aarch64 (repeatable).", show_default=False)
]
Native = Annotated[
    bool,
    typer.Option("--native", help="Build each wheel on a machine of its own kind, none by cross build."),
]
Cells = Annotated[
    list[str] | None, typer.Option("--cell", help="Only this cell (repeatable).", show_default=False)
]
Index = Annotated[
    list[str] | None,
    typer.Option(
        "--index",
        envvar="SAGEFIX_INDEX",
        help="What this index has is not missing (repeatable).",
        show_default=False,
    ),
]


class Format(str, Enum):
    """How to print."""

    TABLE = "table"
    GITHUB = "github"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("matrix", epilog="Example: sagefix matrix --python 3.12 --arch 9.0")(matrix)


def matrix(
    pin: options.Pin = "sageattention",
    ref: options.Ref = None,
    source: options.Source = None,
    pythons: Pythons = None,
    torches: Torches = None,
    archs: Archs = None,
    platforms: Platforms = None,
    cells: Cells = None,
    native: Native = False,
    wheelhouse: options.WheelhousePath = None,
    index: Index = None,
    here: Annotated[
        bool, typer.Option("--here", help="Only what this machine can build; others are impossible.")
    ] = False,
    cuda: options.Cuda = "auto",
    allow_known_bad: options.AllowKnownBad = False,
    no_fixes: options.NoFixes = False,
    offline: options.Offline = False,
    form: Annotated[
        Format, typer.Option("--format", help="github: the missing cells as a GitHub Actions matrix.")
    ] = Format.TABLE,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Say which wheels are there, which are missing, and which cannot be, for every Python, torch and arch."""
    with running("matrix", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.errors import UsageError
        from sagefix.workflows.coverage import MatrixRequest, github_matrix, survey_matrix

        if json and form is Format.GITHUB:
            raise UsageError("--json and --format github exclude each other.", hint="Leave one of them out.")
        surveyed = survey_matrix(
            MatrixRequest(
                pin=pin,
                ref=ref,
                source=source,
                offline=offline,
                pythons=tuple(pythons or ()),
                torch=tuple(torches or ()),
                archs=tuple(archs or ()),
                platforms=tuple(platforms or ()),
                cells=tuple(cells or ()),
                wheelhouse=wheelhouse,
                index=tuple(index or ()),
                here=here,
                native=native,
                cuda=cuda,
                allow_known_bad=allow_known_bad,
                fixes=not no_fixes,
            )
        )
        if form is Format.GITHUB:
            import msgspec

            # The one answer of this format, so it is printed even with --quiet.
            typer.echo(msgspec.json.encode(github_matrix(surveyed.found)).decode())
            return
        outcome.result(
            {"pin": pin, "commit": surveyed.revision.commit, "cells": surveyed.found},
            lambda console: render(console, surveyed),
        )


_STYLES = {"have": "green", "missing": "yellow", "impossible": "dim"}


def render(console: Console, surveyed: Surveyed) -> None:
    """Draw every cell, then how many there are of each kind."""
    from rich.text import Text

    from sagefix.cli.render import table

    drawn = table("cell", "Python", "torch", "CUDA", "archs", "platform", "", "wheel or reason")
    for found in surveyed.found:
        cell = found.cell
        drawn.add_row(
            cell.id,
            cell.python,
            cell.torch or "-",
            cell.cuda or "-",
            cell.archs or "-",
            f"{cell.platform} on {cell.host}" if cell.cross else cell.platform,
            Text(found.status, style=_STYLES[found.status]),
            Text(_said(found)),
        )
    console.print(drawn)
    counts = {status: sum(each.status == status for each in surveyed.found) for status in _STYLES}
    console.print(", ".join(f"{count} {status}" for status, count in counts.items()))


def _said(found: Found) -> str:
    from sagefix.wheelhouse.proving import in_words

    if found.wheel is None:
        return found.reason
    known = in_words(found.wheel.proofs)
    if "://" in found.wheel.where:
        known = f"on an index; {known}" if found.wheel.proofs else "on an index"
    return f"{found.wheel.filename} ({known})"
