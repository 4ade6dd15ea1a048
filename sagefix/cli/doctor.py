"""``sagefix doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", epilog="Example: sagefix doctor --python ComfyUI/venv --arch 9.0")(doctor)


def doctor(
    context: typer.Context,
    python: options.Python = None,
    comfyui: options.ComfyUI = None,
    program: Annotated[
        list[Path] | None,
        typer.Option(
            "--program",
            help="Read this program (a file or a folder) for attention that is replaced outright; repeatable.",
            show_default=False,
        ),
    ] = None,
    arch: options.ArchList = None,
    cuda: options.Cuda = "auto",
    pin: options.Pin = "sageattention",
    ref: options.Ref = None,
    source: options.Source = None,
    wheelhouse: options.WheelhousePath = None,
    object_cache: options.ObjectCache = "auto",
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Look at everything that decides whether `install` will succeed, before ten minutes are spent."""
    with running("doctor", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.checks import failures
        from sagefix.cli import render as draw
        from sagefix.errors import DoctorError
        from sagefix.workflows.doctor import examine
        from sagefix.workflows.situation import Request

        found = examine(
            Request(
                pin=pin,
                ref=ref,
                source=source,
                python=options.target(context, python, comfyui),
                arch=arch,
                wheelhouse=wheelhouse,
                offline=offline,
                cuda=cuda,
                object_cache=object_cache,
            ),
            tuple(program or ()),
        )
        outcome.result(found, lambda console: draw.checks(console, found))
        if bad := failures(found):
            raise DoctorError(
                f"{len(bad)} of {len(found)} checks failed: " + ", ".join(check.name for check in bad) + "."
            )
