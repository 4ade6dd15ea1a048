"""``sagefix dockerfile``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.workflows.dockerfile import Dockerfile


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "dockerfile", epilog="Example: sagefix dockerfile --torch 2.11 --arch 9.0 --output image/Dockerfile"
    )(dockerfile)


def dockerfile(
    torch: Annotated[
        str | None, typer.Option("--torch", help="The torch of the image, such as 2.11.", show_default=False)
    ] = None,
    arch: Annotated[
        list[str] | None,
        typer.Option(
            "--arch",
            help="Compute capability of the GPU it will run on, such as 9.0 (repeatable: one wheel for all of them).",
            show_default=False,
        ),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option("--python", "-p", help="The Python of the image. Default: 3.12.", show_default=False),
    ] = None,
    wheel: Annotated[
        Path | None,
        typer.Option(
            "--wheel",
            help="Take this wheel, with the statement and the proofs beside it, in place of a build.",
            show_default=False,
        ),
    ] = None,
    pin: options.Pin = "sageattention",
    ref: options.Ref = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            help="The image to begin with, of Debian or Ubuntu. Default: python:VERSION-slim-bookworm.",
            show_default=False,
        ),
    ] = None,
    exclude_newer: Annotated[
        str | None,
        typer.Option(
            "--exclude-newer",
            help="Take no package that is newer than this day (2026-11-20), or none. Default: today.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write it into this file, and beside it what a build needs. Default: print it.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that sagefix did not write, or that was changed.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write a Dockerfile: a stage that builds the wheel without a GPU, and a small one that runs it.

    Where a container first sees a GPU, the numbers are verified.
    """
    with running("dockerfile", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.dockerfile import ImageRequest, write_dockerfile

        made = write_dockerfile(
            ImageRequest(
                pin=pin,
                ref=ref,
                python=python or "",
                wheel=wheel,
                torch=torch,
                archs=tuple(arch or ()),
                base=base,
                newest=exclude_newer or "",
            ),
            output,
            force=force,
        )
        outcome.result(made, lambda console: render(console, made))


def render(console: Console, made: Dockerfile) -> None:
    """Print the text, or where it was written and how to go on."""
    if not made.file:
        console.print(made.text.rstrip("\n"), markup=False, soft_wrap=True, highlight=False)
        return
    folder = Path(made.file).parent
    console.print(
        f"Wrote {made.file}, and {', '.join(made.context)} beside it.", markup=False, soft_wrap=True
    )
    if made.keeps_compiler:
        console.print(f"The image keeps a C compiler: {made.keeps_compiler}.", markup=False, soft_wrap=True)
    console.print(f"Build it with: docker build --file {made.file} {folder}", markup=False, soft_wrap=True)
