"""``sagefix pins``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.pins.model import Pin

app = typer.Typer(
    help="What can be installed, and what is known about it.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list", epilog="Example: sagefix pins list --json")
def list_(json: options.Json = False, quiet: options.Quiet = False, verbose: options.Verbose = False) -> None:
    """List the pins."""
    with running("pins list", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.cli.render import table
        from sagefix.pins.load import list_pins

        pins = list_pins()

        def render(console: Console) -> None:
            drawn = table("pin", "commit", "version", "archs", "")
            for pin in pins:
                drawn.add_row(
                    pin.name,
                    pin.source.commit[:7],
                    pin.version,
                    " ".join(_archs(pin)) or pin.device,
                    pin.summary,
                )
            console.print(drawn)

        rows = [
            {
                "name": pin.name,
                "commit": pin.source.commit,
                "version": pin.version,
                "archs": _archs(pin),
                "device": pin.device,
                "summary": pin.summary,
            }
            for pin in pins
        ]
        outcome.result(rows, render)


@app.command("show", epilog="Example: sagefix pins show sageattention")
def show(
    name: Annotated[str, typer.Argument(help="The pin's name.")] = "sageattention",
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show a pin: what it builds for which arch, and which commits are known to be good or bad."""
    with running("pins show", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.pins.load import load_pin

        pin = load_pin(name)
        outcome.result(pin, lambda console: _render(console, pin))


def _archs(pin: Pin) -> list[str]:
    """The archs that the pinned commit builds and dispatches."""
    ref = pin.ref_of(pin.source.commit)
    recipe = pin.recipe_named(ref.recipe) if ref else pin.recipe[0]
    return [row.arch for row in recipe.capability if row.extensions and row.dispatch]


def _render(console: Console, pin: Pin) -> None:
    from sagefix.cli.render import table

    console.print(f"{pin.name}: {pin.summary}")
    console.print(f"  {pin.source.url or 'embedded'} at {pin.source.commit} (tree {pin.source.tree[:12]})")
    console.print(f"  {pin.project} {pin.version}, {pin.license}; Python {pin.build.python}")
    for recipe in pin.recipe:
        if not recipe.capability:
            continue
        drawn = table("arch", "built as", "min. CUDA", "extensions", "calls", title=f"recipe {recipe.name}")
        for row in recipe.capability:
            built = f"sm_{row.gencode}" if row.extensions else "not built"
            names = ", ".join(name.rpartition(".")[2] for name in row.extensions)
            drawn.add_row(row.arch, built, row.min_cuda, names, row.dispatch or row.reason)
        console.print(drawn)
    if pin.fix:
        drawn = table("fix", "how", "what it cures", title=f"fixes (level {pin.fix_level}, on by default)")
        for fix in pin.fix:
            drawn.add_row(fix.name, f"{fix.kind}: {', '.join(fix.wraps)}", fix.cures)
        console.print(drawn)
    if pin.known:
        drawn = table("status", "archs", "commits", "why", title="known commits")
        for known in pin.known:
            commits = " ".join(commit[:7] for commit in known.commits)
            drawn.add_row(known.status, " ".join(known.archs), commits, known.reason)
        console.print(drawn)
