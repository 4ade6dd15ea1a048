"""``sagefix kit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.workflows.kit import Kit


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("kit", epilog="Example: sagefix kit --python 3.12 --torch 2.11 --arch 9.0")(kit)


def _listed(name: str, text: str) -> typer.models.OptionInfo:
    made: typer.models.OptionInfo = typer.Option(name, help=f"{text} (repeatable).", show_default=False)
    return made


def kit(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write, or its folder. Default: PIN-COMMIT.kit.tar here.",
            show_default=False,
        ),
    ] = None,
    wheel: Annotated[list[str] | None, _listed("--wheel", "Take this wheel of the wheelhouse along")] = None,
    python: Annotated[
        list[str] | None, _listed("--python", "Only wheels for this Python, such as 3.12")
    ] = None,
    torch: Annotated[list[str] | None, _listed("--torch", "Only wheels for this torch, such as 2.11")] = None,
    arch: Annotated[
        list[str] | None, _listed("--arch", "Only wheels with code for this arch, such as 9.0")
    ] = None,
    host_python: Annotated[
        list[str] | None,
        _listed("--host-python", "Bring sagefix for this Python; without it for those of the wheels"),
    ] = None,
    platform: Annotated[
        list[str] | None,
        _listed(
            "--platform",
            "Bring sagefix for this machine, x86_64 or aarch64; without it for those of the wheels",
        ),
    ] = None,
    source_only: Annotated[
        bool, typer.Option("--source-only", help="Take no wheels along: the other machine compiles.")
    ] = False,
    pin: options.Pin = "sageattention",
    ref: options.Ref = None,
    source: options.Source = None,
    wheelhouse: options.WheelhousePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Pack one file for a machine without a network: wheels and their proofs, the source, and sagefix itself.

    `sagefix install --kit FILE` uses nothing else.
    """
    with running("kit", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.kit import KitRequest, make_kit
        from sagefix.workflows.situation import Request

        made = make_kit(
            KitRequest(
                request=Request(pin=pin, ref=ref, source=source, wheelhouse=wheelhouse),
                wheels=tuple(wheel or ()),
                pythons=tuple(python or ()),
                torch=tuple(torch or ()),
                archs=tuple(arch or ()),
                hosts=tuple(host_python or ()),
                machines=tuple(platform or ()),
                source_only=source_only,
            ),
            output,
        )
        outcome.result(made, lambda console: render(console, made))


def render(console: Console, made: Kit) -> None:
    """Say what is in the kit, and how to use it."""
    from sagefix.files import human_size

    manifest = made.manifest
    for name in manifest.wheels:
        console.print(name, markup=False, soft_wrap=True)
    if not manifest.wheels:
        console.print("no wheels: the other machine compiles", markup=False, soft_wrap=True)
    hosts = ", ".join(f"Python {host.python} on {host.machine}" for host in manifest.hosts)
    console.print(
        f"the source of {manifest.commit[:7]}, and sagefix for {hosts}", markup=False, soft_wrap=True
    )
    console.print(f"{made.file}: {human_size(made.size)}, sha256 {made.sha256}", markup=False, soft_wrap=True)
    name = Path(made.file).name
    console.print(
        f"There: tar -xf {name} bootstrap.sh bootstrap.py && sh bootstrap.sh {name} install --python PYTHON",
        markup=False,
        soft_wrap=True,
    )
