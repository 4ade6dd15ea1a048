"""``sagefix gather``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.workflows.gather import Gathered


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
        outcome.result(gathered, lambda console: render(console, gathered))


def render(console: Console, gathered: Gathered) -> None:
    """Say what the index has, and of each wheel what is proven."""
    from sagefix.wheelhouse.proving import in_words, numbers_of

    for facts in gathered.wheels:
        console.print(f"{facts.filename}: {in_words(facts.proofs)}", soft_wrap=True)
    proven = sum(bool(numbers_of(facts.proofs)) for facts in gathered.wheels)
    console.print(
        f"{gathered.site}: {len(gathered.wheels)} wheels, {gathered.added} of them new, {proven} with proven numbers",
        soft_wrap=True,
    )
