"""``sagefix wheelhouse compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.workflows.opinion import Opinion


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare", epilog="Example: sagefix wheelhouse compare wheels native-wheels")(compare)


def compare(
    first: Annotated[Path, typer.Argument(help="A wheel, or a folder of wheels.", show_default=False)],
    second: Annotated[
        Path, typer.Argument(help="The same from another machine: a wheel, or a folder.", show_default=False)
    ],
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Hold builds of one wheel from two kinds of machines against each other: cross built and native.

    What has to be the same: the code for the GPU, the extensions, what they need, and what the wheel says it is.
    """
    with running("wheelhouse compare", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.checks import failures
        from sagefix.errors import WheelError
        from sagefix.workflows.opinion import second_opinions

        opinions = second_opinions(first, second)
        outcome.result(opinions, lambda console: render(console, opinions))
        if bad := [(each.names[0], failures(each.checks)) for each in opinions if failures(each.checks)]:
            name, failed = bad[0]
            raise WheelError(
                f"{len(bad)} of {len(opinions)} wheels are not the same in both builds. {name}: {failed[0].found}.",
                hint=failed[0].fix,
            )


def render(console: Console, opinions: Sequence[Opinion]) -> None:
    """Draw the checks of each pair."""
    from sagefix.cli.render import checks

    for opinion in opinions:
        checks(console, opinion.checks, title=opinion.names[0])
