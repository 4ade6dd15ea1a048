"""``sagefix rebuild``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.workflows.rebuild import Rebuilt


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "rebuild", epilog="Example: sagefix rebuild sageattention-2.2.0+68de379...whl --python .venv"
    )(rebuild)


def rebuild(
    context: typer.Context,
    wheel: Annotated[
        str, typer.Argument(help="A wheel's path, or its file name in the wheelhouse.", show_default=False)
    ],
    python: options.Python = None,
    comfyui: options.ComfyUI = None,
    torch: options.Torch = None,
    cuda: options.Cuda = "auto",
    source: options.Source = None,
    wheelhouse: options.WheelhousePath = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Keep the new wheel in this folder.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is different here; build nothing.")
    ] = False,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Build a wheel again from its record, and compare it byte for byte.

    Exit status 0 only if the two are identical.
    """
    with running("rebuild", json=json, quiet=quiet, verbose=verbose) as outcome:
        import msgspec

        from sagefix.errors import RebuildError
        from sagefix.workflows.provenance import find_wheel
        from sagefix.workflows.rebuild import rebuild as run_rebuild
        from sagefix.workflows.situation import Request, open_wheelhouse

        path = find_wheel(wheel, open_wheelhouse(wheelhouse, create=False))
        python = options.target(context, python, comfyui)
        request = Request(
            python=python,
            torch=torch,
            cuda=cuda,
            source=source,
            offline=offline,
        )
        rebuilt = run_rebuild(path, request, dry_run=dry_run, output=output)
        outcome.result(rebuilt, lambda console: render(console, rebuilt))
        comparison = rebuilt.comparison
        if comparison is not None and not comparison.identical:
            raise RebuildError(
                f"{path.name} was built again and is not the same: {len(comparison.members)} of "
                f"{comparison.files} files differ"
                + (", none of which is code." if comparison.same_code else "."),
                hint="The differences of the environment above are where to look first."
                if rebuilt.environment
                else "Nothing that is recorded of the environment differs: a tool is not deterministic, or sagefix "
                "itself was changed.",
                details={
                    "environment": msgspec.to_builtins(rebuilt.environment),
                    "members": msgspec.to_builtins(comparison.members),
                },
            )


def render(console: Console, rebuilt: Rebuilt) -> None:
    """Say what differs, of the environment and of the wheels."""
    from rich.markup import escape

    from sagefix.cli.render import table

    if rebuilt.environment:
        drawn = table("environment", "recorded", "here")
        for each in rebuilt.environment:
            drawn.add_row(each.what, escape(each.recorded) or "-", escape(each.here) or "-")
        console.print(drawn)
    else:
        console.print("The environment is the same in all that is recorded.")
    comparison = rebuilt.comparison
    if comparison is None:
        return
    if comparison.identical:
        console.print(f"[green]identical[/]: sha256 {comparison.sha256[0]}, built in {rebuilt.seconds:.0f} s")
    else:
        drawn = table("file", "", "found")
        for member in comparison.members:
            found = [escape(member.found)]
            for section in member.sections:
                found += [f"{section.name}: {escape(a)} | {escape(b)}" for a, b in section.strings]
            found += [f"line {number}: {escape(a)} | {escape(b)}" for number, a, b in member.lines]
            drawn.add_row(member.path or "(the archive)", member.kind, "\n".join(found))
        console.print(drawn)
    if rebuilt.copied:
        console.print(f"Kept as {rebuilt.copied}", soft_wrap=True)
