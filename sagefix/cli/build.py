"""``sagefix build``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.workflows.build import Made


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("build", epilog="Example: sagefix build --arch 9.0 --python .venv")(build)


def build(
    context: typer.Context,
    python: options.Python = None,
    comfyui: options.ComfyUI = None,
    arch: options.ArchList = None,
    torch: options.Torch = None,
    platform: options.Platform = None,
    cuda: options.Cuda = "auto",
    pin: options.Pin = "sageattention",
    ref: options.Ref = None,
    source: options.Source = None,
    kit: options.Kit = None,
    wheelhouse: options.WheelhousePath = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also copy the wheel into this folder.", show_default=False),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Compile even if the same build is kept.")
    ] = False,
    object_cache: options.ObjectCache = "auto",
    allow_known_bad: options.AllowKnownBad = False,
    no_fixes: options.NoFixes = False,
    manylinux: Annotated[
        bool,
        typer.Option(
            "--manylinux",
            help="Tag the wheel with the lowest glibc that it runs on (default: linux_*, which says nothing).",
        ),
    ] = False,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Build the wheel and keep it in the wheelhouse, without installing it.

    The GPU need not be there: --arch names it.
    """
    with running("build", json=json, quiet=quiet, verbose=verbose) as outcome:
        from msgspec import structs

        from sagefix.workflows.build import build as run_build
        from sagefix.workflows.build import copy_out
        from sagefix.workflows.from_kit import served
        from sagefix.workflows.situation import Request, open_wheelhouse, survey

        request = Request(
            pin=options.pin_of(context, pin, kit),
            ref=ref,
            source=source,
            python=options.target(context, python, comfyui),
            arch=arch,
            wheelhouse=wheelhouse,
            offline=offline,
            allow_known_bad=allow_known_bad,
            fixes=not no_fixes,
            cuda=cuda,
            torch=torch,
            manylinux=manylinux,
            object_cache=object_cache,
            platform=platform,
            kit=kit,
        )
        with served(request) as asked:
            made = run_build(
                survey(asked),
                open_wheelhouse(wheelhouse, create=True),
                source=asked.source,
                offline=asked.offline,
                rebuild=rebuild,
            )
        copied = copy_out(made.wheel, output) if output else None
        outcome.result(
            {**structs.asdict(made), "copied": copied}, lambda console: render(console, made, copied)
        )


def render(console: Console, made: Made, copied: Path | None) -> None:
    """Say what was built, how, and where it lies."""
    from sagefix.cli import render as draw
    from sagefix.files import human_size

    if made.checks:
        draw.checks(console, made.checks)
    how = f"Built in {made.seconds:.0f} s" if made.compiled else "Already built"
    if made.objects and made.objects.reused:
        how += f", {made.objects.reused} of {made.objects.reused + made.objects.compiled} steps from the object cache"
    console.print(f"{how}: {made.wheel.where} ({human_size(made.wheel.size)})", soft_wrap=True)
    if copied:
        console.print(f"Copied to {copied}", soft_wrap=True)
