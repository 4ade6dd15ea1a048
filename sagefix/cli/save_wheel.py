"""``sagefix save-wheel``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.workflows.save import Saved


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("save-wheel", epilog="Example: sagefix save-wheel --python ComfyUI/venv")(save_wheel)


def save_wheel(
    context: typer.Context,
    python: options.Python = None,
    comfyui: options.ComfyUI = None,
    pin: options.Pin = "sageattention",
    wheelhouse: options.WheelhousePath = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also copy the wheel into this folder.", show_default=False),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace another wheel of the same name in the wheelhouse.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Turn what is installed, however it got there, into a wheel in the wheelhouse."""
    with running("save-wheel", json=json, quiet=quiet, verbose=verbose) as outcome:
        from msgspec import structs

        from sagefix.workflows.build import copy_out
        from sagefix.workflows.save import save
        from sagefix.workflows.situation import open_wheelhouse

        python = options.target(context, python, comfyui)
        saved = save(
            pin,
            python,
            open_wheelhouse(wheelhouse, create=True),
            replace=replace,
        )
        copied = copy_out(saved.wheel, output) if output else None
        outcome.result(
            {**structs.asdict(saved), "copied": copied}, lambda console: render(console, saved, copied)
        )


def render(console: Console, saved: Saved, copied: Path | None) -> None:
    """Say what was saved and what could not be found out."""
    from sagefix.files import human_size

    console.print(f"Saved {saved.wheel.where} ({human_size(saved.wheel.size)})", soft_wrap=True)
    if saved.unknown:
        console.print(f"Not known: {', '.join(saved.unknown)}")
    if copied:
        console.print(f"Copied to {copied}", soft_wrap=True)
