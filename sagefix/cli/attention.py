"""``sagefix attention``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.workflows.attention import Attention

app = typer.Typer(
    help="sagefix.attention in a target: torch's attention routed to SageAttention where that is faster.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("install", epilog="Example: sagefix attention install --python venv --bench attention.json")
def install(
    python: options.Python = None,
    proof: Annotated[
        list[Path] | None,
        typer.Option(
            "--proof",
            help="A proof of what is installed, from `verify --proof`; repeatable.",
            show_default=False,
        ),
    ] = None,
    bench: Annotated[
        list[Path] | None,
        typer.Option(
            "--bench", help="A benchmark of this GPU, from `bench --output`; repeatable.", show_default=False
        ),
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Compute nothing: rely on the proofs there are.")
    ] = False,
    wheelhouse: options.WheelhousePath = None,
    break_system_packages: options.BreakSystem = False,
    pin: options.Pin = "sageattention",
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write down what is proven and faster in a target, and install it there with the package."""
    with running("attention install", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.attention import AttentionOptions
        from sagefix.workflows.attention import install as run_install
        from sagefix.workflows.situation import Request

        made = run_install(
            Request(pin=pin, python=python, wheelhouse=wheelhouse),
            AttentionOptions(
                verify=not no_verify,
                proofs=tuple(proof or ()),
                benches=tuple(bench or ()),
                break_system=break_system_packages,
            ),
        )
        outcome.result(made, lambda console: _draw(console, made))


@app.command("status", epilog="Example: sagefix attention status --python venv")
def status(
    python: options.Python = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Say what a target knows: proofs and crossovers by GPU, and whether they are about what is installed."""
    with running("attention status", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.attention import show

        found = show(python)
        outcome.result(found, lambda console: _draw(console, found))


@app.command("remove", epilog="Example: sagefix attention remove --python venv")
def remove(
    python: options.Python = None,
    break_system_packages: options.BreakSystem = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Remove the package and what it knows from a target."""
    with running("attention remove", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.attention import remove as run_remove

        left = run_remove(python, break_system=break_system_packages)
        outcome.result(left, lambda console: _draw(console, left))


def _draw(console: Console, found: Attention) -> None:
    from sagefix.cli import render as draw

    if not found.version:
        console.print(f"sagefix-attention is not installed in {found.interpreter}.", soft_wrap=True)
        return
    console.print(
        f"sagefix-attention {found.version} in {found.interpreter}, for {found.of or 'nothing'}",
        soft_wrap=True,
    )
    if found.stale:
        console.print(f"{found.stale} Run `sagefix attention install` again.", soft_wrap=True)
    if found.facts is None:
        return
    if found.facts.wrong:
        console.print(f"Nothing is routed: {found.facts.wrong}", soft_wrap=True)
    drawn = draw.table("device", "proof", "dtype", "head_dim", "causal", "from tokens", "source")
    for device in found.facts.devices:
        name = f"{device.name if device.name != '*' else 'any'} ({device.capability})"
        proof = device.proof or f"none: {device.unproven}"
        for each in device.crossovers:
            drawn.add_row(
                name,
                proof,
                each.dtype,
                str(each.head_dim),
                "yes" if each.causal else "no",
                f"{each.tokens} (x {each.sequences})",
                each.source,
            )
            name = proof = ""
        if not device.crossovers:
            drawn.add_row(name, proof, "", "", "", "never: nobody measured it", "")
    console.print(drawn)
