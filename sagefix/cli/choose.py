"""``sagefix wheelhouse choose``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.workflows.choosing import Chosen


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "choose",
        epilog="Example: sagefix wheelhouse choose --platform linux_aarch64 --python 3.12 --torch 2.11 --arch 9.0",
    )(choose)


# What describes the target is named unlike the options of other commands on purpose: a settings file says
# what there is on this machine, and this command asks about another one.
def choose(
    platform: Annotated[
        str | None,
        typer.Option(
            "--platform",
            help="That of the target: linux_aarch64, or with its glibc manylinux_2_39_aarch64. Default: this "
            "machine's.",
            show_default=False,
        ),
    ] = None,
    target_python: Annotated[
        str | None, typer.Option("--python", "-p", help="Its Python: 3.12.", show_default=False)
    ] = None,
    target_torch: Annotated[
        str | None,
        typer.Option("--torch", help="Its torch: 2.11, 2.11.0 or 2.11.0+cu130.", show_default=False),
    ] = None,
    target_cuda: Annotated[
        str | None,
        typer.Option(
            "--cuda",
            help="The CUDA of that torch: 13.0. Default: that of the torch on the package index.",
            show_default=False,
        ),
    ] = None,
    target_arch: Annotated[
        str | None,
        typer.Option("--arch", help="Compute capability of its GPU: 9.0 (lists, too).", show_default=False),
    ] = None,
    pin: options.Pin = "sageattention",
    ref: options.Ref = None,
    source: options.Source = None,
    wheelhouse: options.WheelhousePath = None,
    index: options.Index = None,
    require_proof: Annotated[
        bool,
        typer.Option(
            "--require-proof", help="Only a wheel whose numbers are proven on this kind of GPU fits."
        ),
    ] = False,
    allow_known_bad: options.AllowKnownBad = False,
    no_fixes: options.NoFixes = False,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Say which wheel a machine would take that is not here, and why not the others.

    Nothing is downloaded, built or installed. Exit status 14 when none fits.
    """
    with running("wheelhouse choose", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.choosing import choose as run_choose
        from sagefix.workflows.choosing import nothing_fits
        from sagefix.workflows.situation import Request

        chosen = run_choose(
            Request(
                pin=pin,
                ref=ref,
                source=source,
                python=target_python,
                arch=target_arch,
                wheelhouse=wheelhouse,
                index=tuple(index or ()),
                offline=offline,
                allow_known_bad=allow_known_bad,
                fixes=not no_fixes,
                torch=target_torch,
                platform=platform,
            ),
            target_cuda or "",
            require_proof=require_proof,
        )
        outcome.result(chosen, lambda console: render(console, chosen))
        if chosen.wheel is None:
            raise nothing_fits(chosen)


def render(console: Console, chosen: Chosen) -> None:
    """Say what the target is, what was decided of each wheel, and which it would take."""
    from sagefix.cli.render import decisions

    cuda = f"with CUDA {chosen.cuda}" if chosen.cuda else "for the CPU"
    torch = f", torch {chosen.torch} {cuda} ({chosen.torch_told_by})" if chosen.torch else ""
    archs = f", {', '.join(chosen.archs)}" if chosen.archs else ""
    console.print(
        f"For {chosen.platform} with glibc {chosen.glibc}, Python {chosen.python}{torch}{archs}:",
        soft_wrap=True,
    )
    if chosen.decisions:
        decisions(console, chosen.decisions)
    if chosen.wheel is not None:
        console.print(f"It takes {chosen.wheel.where}", soft_wrap=True)
