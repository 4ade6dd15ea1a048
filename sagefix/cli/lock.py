"""``sagefix lock``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.workflows.lock import Lock


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("lock", epilog="Example: sagefix lock --python ComfyUI/venv --output requirements-sage.txt")(
        lock
    )


def lock(
    python: options.Python = None,
    wheel: Annotated[
        list[str] | None,
        typer.Option(
            "--wheel",
            help="A kept wheel: its path, or its file name, in which * stands for anything. Repeatable. Default: the "
            "one that was installed.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="pylock.toml, pylock.NAME.toml, or a requirements file (.txt); repeatable. Default: pylock.toml.",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a file that something else wrote.")
    ] = False,
    index: options.Index = None,
    pin: options.Pin = "sageattention",
    wheelhouse: options.WheelhousePath = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write down kept wheels with their hashes, as a pylock.toml or as requirements, for pip and uv.

    Wheels for several Pythons and platforms can stand in one lock; what differs in torch or GPU alone cannot.
    """
    with running("lock", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.lock import lock as run_lock
        from sagefix.workflows.situation import Request

        made = run_lock(
            Request(pin=pin, python=python, wheelhouse=wheelhouse, index=tuple(index or ()), offline=offline),
            wheel or (),
            output or (Path("pylock.toml"),),
            replace=replace,
        )
        outcome.result(made, lambda console: render(console, made))


def render(console: Console, made: Lock) -> None:
    """Say what stands in the lock, and how it is used."""
    for group in made.groups:
        for wheel in group.wheels:
            console.print(f"{wheel.filename}\n  sha256 {wheel.sha256}", soft_wrap=True, markup=False)
    from sagefix.process import quote

    for file in made.files:
        command = quote(["uv", "pip", "install", "-r", file.path])
        console.print(f"Wrote {file.path}. To install from it: {command}", soft_wrap=True, markup=False)
