"""``sagefix toolchain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.workflows.toolchain import Installed, Row, Shown

app = typer.Typer(
    help="CUDA toolkits: the system's, and those made of packages.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("show", epilog="Example: sagefix toolchain show --python .venv --arch 9.0")
def show(
    context: typer.Context,
    python: options.Python = None,
    comfyui: options.ComfyUI = None,
    torch: options.Torch = None,
    platform: options.Platform = None,
    arch: options.ArchList = None,
    cuda: options.Cuda = "auto",
    pin: options.Pin = "sageattention",
    ref: options.Ref = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """List the CUDA toolkits here; with --python, say which of them a build for it would use, and why."""
    with running("toolchain show", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.situation import Request
        from sagefix.workflows.toolchain import show as run_show

        shown = run_show(
            Request(
                pin=pin,
                ref=ref,
                python=options.target(context, python, comfyui),
                torch=torch,
                arch=arch,
                cuda=cuda,
                offline=offline,
                platform=platform,
            )
        )
        outcome.result(shown, lambda console: _draw(console, shown, packages=verbose))


@app.command("install", epilog="Example: sagefix toolchain install --python .venv")
def install(
    context: typer.Context,
    python: options.Python = None,
    comfyui: options.ComfyUI = None,
    torch: options.Torch = None,
    platform: options.Platform = None,
    arch: options.ArchList = None,
    pin: options.Pin = "sageattention",
    ref: options.Ref = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Fetch the CUDA compiler for a target's torch from packages now, so that a build needs no network for it."""
    with running("toolchain install", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.situation import Request
        from sagefix.workflows.toolchain import install as run_install

        installed = run_install(
            Request(
                pin=pin,
                ref=ref,
                python=options.target(context, python, comfyui),
                torch=torch,
                arch=arch,
                offline=offline,
                platform=platform,
            )
        )
        outcome.result(installed, lambda console: _draw_installed(console, installed))


@app.command("remove", epilog="Example: sagefix toolchain remove --all")
def remove(
    names: options.Names = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all of ours.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Remove toolkits made of packages, and packages and Pythons of other platforms, from the cache; they are fetched
    again when they are needed.
    """
    with running("toolchain remove", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.cli.render import removed
        from sagefix.workflows.toolchain import remove as run_remove

        options.require_names(names, everything)
        gone = run_remove(tuple(names or ()), everything=everything)
        outcome.result(gone, lambda console: removed(console, gone))


def _draw(console: Console, shown: Shown, *, packages: bool) -> None:
    from sagefix.cli import render as draw
    from sagefix.files import human_size

    drawn = draw.table("CUDA", "from", "size", "where", "name")
    for row in shown.toolkits:
        drawn.add_row(
            _what(row),
            f"{row.origin} ({row.found_in})" if row.found_in else row.origin,
            human_size(row.size),
            row.error or row.home,
            row.name,
        )
        if packages:
            for name, version in row.packages.items():
                drawn.add_row("", "", "", f"  {name} {version}", "")
    console.print(drawn if shown.toolkits else "There is no CUDA toolkit here.")
    if shown.checks:
        draw.checks(console, shown.checks, title=f"For {shown.target}")


def _what(row: Row) -> str:
    if row.kind == "packages":
        return f"packages of {row.machine}"
    if row.kind == "Python":
        return f"Python {row.version} for {row.machine}, emulated"
    return (row.version or "?") + (f" for {row.machine}" if row.machine else "")


def _draw_installed(console: Console, installed: Installed) -> None:
    from sagefix.cli import render as draw

    draw.checks(console, installed.checks)
    how = "is made" if installed.fetched else "was there already"
    console.print(f"CUDA {installed.toolkit.full_version} {how}: {installed.toolkit.home}", soft_wrap=True)
