"""``sagefix explain``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.building.failures import Match
    from sagefix.workflows.explain import Explained


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain", epilog="Example: sagefix explain build.log")(explain)


def explain(
    context: typer.Context,
    log: Annotated[
        str | None,
        typer.Argument(
            help="The log of a build, or - to read it (or any error) from standard input. Default: the newest log "
            "of a build that failed.",
            show_default=False,
        ),
    ] = None,
    python: options.Python = None,
    comfyui: options.ComfyUI = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Say what a failed build or an error means, what to do, and what was different then; exit status 22 if unknown."""
    with running("explain", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.errors import UnexplainedError
        from sagefix.progress import note
        from sagefix.workflows.explain import decode, newest_log, read_log
        from sagefix.workflows.explain import explain as run_explain

        if log == "-":
            if sys.stdin.isatty():
                note("Paste the error, then press Ctrl-D.")
            text, name = decode(sys.stdin.buffer.read()), ""
        else:
            path = Path(log).expanduser() if log else newest_log()
            text, name = read_log(path), str(path)
        found = run_explain(text, name, options.target(context, python, comfyui))
        outcome.result(found, lambda console: _draw(console, found))
        if not found.explained:
            raise UnexplainedError(
                "This is not a failure that sagefix knows.",
                hint="Paste the report above where you ask for help. User names, home folders and tokens were taken "
                "out of it; look it over once.",
                details={"first_error": found.first_error},
            )


def _draw(console: Console, found: Explained) -> None:
    if not found.explained:
        console.print(found.report, markup=False, soft_wrap=True)
        return
    best, others = found.matches[0], found.matches[1:]
    if found.log:
        console.print(found.log, style="dim", markup=False, soft_wrap=True)
    _draw_match(console, best)
    console.print("first error", style="bold")
    _indented(console, found.first_error or best.line)
    if found.different:
        _draw_differences(console, found)
    for other in others:
        how = "may be instead" if other.line == best.line else "is in the log, too"
        console.print(f"{other.name} {how}: {other.means}. {other.fix}", markup=False, soft_wrap=True)


def _draw_match(console: Console, match: Match) -> None:
    from rich.text import Text

    console.print(
        Text.assemble((f"{match.means}", "bold yellow"), (f"  ({match.name})", "dim")), soft_wrap=True
    )
    for word, text, style in (("why", match.cause, ""), ("fix", match.fix, "cyan")):
        console.print(Text.assemble((f"{word:5}", "bold"), (text, style)), soft_wrap=True)
    if not match.certain:
        console.print("     (if its condition holds: what it depends on is not in the log)", style="dim")
    for source in match.sources:
        console.print(f"     {source}", style="dim", markup=False, soft_wrap=True)


def _draw_differences(console: Console, found: Explained) -> None:
    from sagefix.cli.render import table

    console.print("different from what is here now", style="bold")
    drawn = table("", "in the log", "now")
    for each in found.different:
        drawn.add_row(each.what, each.log, each.now)
    console.print(drawn)


def _indented(console: Console, text: str) -> None:
    for line in text.splitlines():
        console.print(f"     {line}", markup=False, highlight=False, soft_wrap=True)
