"""``sagefix outdated``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.workflows.outdated import Outdated


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("outdated", epilog="Example: sagefix outdated --python ComfyUI/venv --exit-code")(outdated)


def outdated(
    python: options.Python = None,
    exit_code: Annotated[
        bool,
        typer.Option(
            "--exit-code",
            help="End with status 25 unless what is installed is up to date. Default: 0 either way.",
        ),
    ] = False,
    arch: options.ArchList = None,
    pin: options.Pin = "sageattention",
    source: options.Source = None,
    wheelhouse: options.WheelhousePath = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Compare what is installed with the pin and with upstream: commit, fixes, torch, proofs.

    Nothing is changed. A source that cannot be reached is told, and is no error.
    """
    with running("outdated", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.errors import OutdatedError
        from sagefix.workflows.outdated import outdated as run_outdated
        from sagefix.workflows.situation import Request

        found = run_outdated(
            Request(pin=pin, source=source, python=python, arch=arch, wheelhouse=wheelhouse, offline=offline)
        )
        outcome.result(found, lambda console: render(console, found))
        if exit_code and found.status != "up to date":
            raise OutdatedError(
                f"{found.project} is {found.status} in {found.interpreter}.", hint="Run `sagefix install`."
            )


def render(console: Console, found: Outdated) -> None:
    """Say what is there, what each comparison came to, and what to do."""
    from sagefix.cli import render as draw

    where = f" for {', '.join(found.archs)} (from {found.archs_from})" if found.archs else ""
    console.print(f"{found.project} in {found.interpreter}{where}", soft_wrap=True, markup=False)
    draw.checks(console, found.checks)
    colour = "green" if found.status == "up to date" else "yellow"
    console.print(f"[{colour}]{found.status}[/]", highlight=False)
    for line in found.advice:
        console.print(line, markup=False, soft_wrap=True)
