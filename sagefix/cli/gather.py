"""``sagefix gather``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("gather", epilog="Example: sagefix gather --output site artifacts/*")(gather)


def gather(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders with wheels and their records.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The index to write or add to.", show_default=False)
    ],
    expect: Annotated[
        Path | None,
        typer.Option(
            "--expect",
            help="Cells that must be there: what `sagefix matrix --format github` printed.",
            show_default=False,
        ),
    ] = None,
    ref: options.Ref = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Put the wheels of several machines into one index, if every one of them passed its verification."""
    with running("gather", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.gather import gather as run_gather

        gathered = run_gather(folders, output, expected=expect, ref=ref)
        outcome.result(
            gathered,
            lambda console: console.print(
                f"{gathered.site}: {len(gathered.wheels)} wheels, {gathered.added} of them new",
                soft_wrap=True,
            ),
        )
