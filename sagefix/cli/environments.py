"""``sagefix environments``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.targets.environments import Kept

app = typer.Typer(
    help="Build environments: Pythons and torches that wheels were built for.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list", epilog="Example: sagefix environments list --json")
def list_(json: options.Json = False, quiet: options.Quiet = False, verbose: options.Verbose = False) -> None:
    """List the environments that `build --python 3.12 --torch 2.11` has made."""
    with running("environments list", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.targets.environments import list_environments

        kept = list_environments()
        outcome.result(kept, lambda console: _draw(console, kept))


@app.command("remove", epilog="Example: sagefix environments remove py3.12.1-torch2.11")
def remove(
    names: options.Names = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all of them.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Remove environments from the cache; they are made again when they are needed."""
    with running("environments remove", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.cli.render import removed
        from sagefix.targets.environments import remove_environments

        options.require_names(names, everything)
        gone = remove_environments(tuple(names or ()), everything=everything)
        outcome.result(gone, lambda console: removed(console, gone))


def _draw(console: Console, kept: tuple[Kept, ...]) -> None:
    from sagefix.cli import render as draw
    from sagefix.files import human_size

    drawn = draw.table("name", "Python", "torch", "CUDA", "size", "where")
    for each in kept:
        facts = each.environment
        drawn.add_row(
            each.name, facts.python, facts.torch or "-", facts.cuda or "-", human_size(each.size), each.folder
        )
    console.print(drawn if kept else "There is no build environment.")
