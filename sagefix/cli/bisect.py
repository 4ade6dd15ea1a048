"""``sagefix bisect``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.proof.edges import Edge
    from sagefix.workflows.bisection import Bisection, Row

_STYLES = {"good": "green", "bad": "bold red", "unparsable": "yellow", None: "dim"}


class BisectLevel(str, Enum):
    """How far to judge each commit."""

    STATIC = "static"
    IMPORT = "import"
    NUMERICS = "numerics"
    FULL = "full"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bisect", epilog="Example: sagefix bisect --good 68de379 --bad d1a57a5 --arch 9.0")(bisect)


def bisect(
    context: typer.Context,
    good: Annotated[
        str, typer.Option("--good", help="A commit, tag or branch that is good.", show_default=False)
    ],
    bad: Annotated[
        str, typer.Option("--bad", help="A later one, the end of the search.", show_default=False)
    ],
    arch: options.ArchList = None,
    level: Annotated[
        BisectLevel,
        typer.Option(
            "--level",
            help="static: read the Python files, no GPU, no build. import, numerics, full: build, install into a "
            "throw-away environment and verify at that level.",
        ),
    ] = BisectLevel.STATIC,
    first_parent: Annotated[
        bool, typer.Option("--first-parent", help="Walk the main line only, and no merged branch.")
    ] = False,
    toml: Annotated[
        str | None,
        typer.Option(
            "--toml",
            help="Write entries for the pin's list of known commits here (-: below the table).",
            show_default=False,
        ),
    ] = None,
    python: options.Python = None,
    comfyui: options.ComfyUI = None,
    torch: options.Torch = None,
    cuda: options.Cuda = "auto",
    pin: options.Pin = "sageattention",
    source: options.Source = None,
    wheelhouse: options.WheelhousePath = None,
    no_fixes: options.NoFixes = False,
    object_cache: options.ObjectCache = "auto",
    no_share: Annotated[
        bool, typer.Option("--no-share", help="Compile for every commit that is tested, to compare.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Use no verdict and no wheel of an earlier search.")
    ] = False,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find the commits at which a verdict changes: every commit is judged, none is guessed.

    The history may break, be repaired and break again; each change is listed. A search that was interrupted goes on.
    """
    with running("bisect", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.bisect import bisect as run_bisect
        from sagefix.workflows.bisect import require_edges
        from sagefix.workflows.bisection import Asked
        from sagefix.workflows.situation import Request

        asked = Asked(
            good=good, bad=bad, level=level.value, first_parent=first_parent, share=not no_share, fresh=fresh
        )
        request = Request(
            pin=pin,
            source=source,
            python=options.target(context, python, comfyui),
            arch=arch,
            wheelhouse=wheelhouse,
            offline=offline,
            fixes=not no_fixes,
            cuda=cuda,
            torch=torch,
            object_cache=object_cache,
        )
        result = run_bisect(request, asked)
        outcome.result(result, lambda console: render(console, result, entries=toml == "-"))
        if toml not in (None, "-"):
            _write(Path(str(toml)), result)
        require_edges(result)


def _write(file: Path, result: Bisection) -> None:
    from sagefix.errors import UsageError
    from sagefix.files import disk_errors, write_text

    if file.is_dir() or not file.absolute().parent.is_dir():
        raise UsageError(
            f"--toml {file} is not a file that can be written.", hint="Name a file in a folder that exists."
        )
    with disk_errors(file, "write the entries"):
        write_text(file, result.entries)


def render(console: Console, result: Bisection, *, entries: bool) -> None:
    """Draw the commits, then say what changed, in words."""
    from rich.markup import escape

    from sagefix.cli.render import table

    drawn = table("commit", "date", "", "verdict", "", "from", "subject")
    for row in result.rows:
        drawn.add_row(
            row.commit[:7],
            row.date[:10],
            "" if row.main else "branch",
            f"[{_STYLES[row.verdict]}]{row.verdict or '-'}[/]",
            row.how,
            row.equal_to[:7]
            or (f"{row.made} {row.seconds:.0f} s" if row.made else "kept" if row.kept else ""),
            escape(row.subject[:60]),
        )
    console.print(drawn)
    for line in sentences(result):
        console.print(line, markup=False, soft_wrap=True)
    if entries:
        console.print()
        console.print(result.entries, markup=False, soft_wrap=True)


def sentences(result: Bisection) -> list[str]:
    """Say what was walked, judged and found."""
    counts = {how: sum(row.how == how for row in result.rows) for how in ("tested", "inferred", "skipped")}
    archs = f" for {', '.join(result.archs)}" if result.archs else ""
    by = f" by {result.judged_by}" if result.judged_by else ""
    lines = [
        f"Walked {result.walked}",
        f"Judged at level {result.level}{archs}{by}: {counts['tested']} commits tested, {counts['inferred']} inferred "
        f"from an equal one, {counts['skipped']} skipped; none guessed.",
    ]
    if result.level != "static":
        lines.append(f"{result.compiled} wheels compiled, {result.grafted} grafted.")
    main = [edge for edge in result.edges if edge.main]
    lines += ["", *_headline(main, result)]
    lines += [_sentence(edge, result) for edge in main]
    if side := [edge for edge in result.edges if not edge.main]:
        lines += ["", "Changes on branches, and where they meet the main line:"]
        lines += [_sentence(edge, result) for edge in side]
    lines += ["", "The main line, oldest first:"]
    for stretch in result.stretches:
        first, last = stretch.commits[0][:7], stretch.commits[-1][:7]
        span = first if len(stretch.commits) == 1 else f"{first} to {last} ({len(stretch.commits)} commits)"
        lines.append(f"  {stretch.verdict or 'not judged'}: {span}")
    told: dict[str, list[str]] = {}
    for row in result.rows:
        if row.how != "inferred" and row.verdict != "good":
            told.setdefault(f"{row.verdict or 'skipped'}: {row.words}", []).append(row.commit[:7])
    lines += (
        ["", "Why:", *(f"  {', '.join(commits)} {words}" for words, commits in told.items())] if told else []
    )
    if hazards := [row for row in result.rows if row.how == "tested" and row.hazards]:
        lines += ["", "Hazards, which plain use never meets:"]
        lines += [f"  {row.commit[:7]}: {'; '.join(row.hazards)}" for row in hazards]
    lines += [""] if result.disagreements else []
    lines += [
        f"The manifest says that {each.commit[:7]} is {each.known}, and {_instead(result, each.found)}: {each.reason}"
        for each in result.disagreements
    ]
    return lines


def _instead(result: Bisection, found: str) -> str:
    """Say what was found; what reads sources alone cannot contradict what was measured."""
    return "its source shows none of it" if result.level == "static" and found == "good" else f"it is {found}"


def _headline(main: list[Edge], result: Bisection) -> list[str]:
    """Name the first bad commit of the main line, and say when the last commit is a good one."""
    if not main:
        return ["The verdict does not change on the main line."]
    lines = []
    if (first := next((edge for edge in main if edge.after != "good"), None)) is not None:
        sure = "" if not first.through else " (or one of the skipped before it)"
        lines.append(f"The first commit on the main line that is not good is {first.child[:7]}{sure}.")
    if result.row(result.bad).verdict == "good":
        lines.append(f"--bad {result.bad[:7]} is good itself: what was broken was repaired on the way.")
    return [*lines, "Changes on the main line:"]


def _sentence(edge: Edge, result: Bisection) -> str:
    row: Row = result.row(edge.child)
    text = f"  {edge.parent[:7]} {edge.before} -> {edge.child[:7]} {edge.after}"
    if edge.through:
        text += f", at it or at one of {', '.join(name[:7] for name in edge.through)}, which cannot be judged"
    elif edge.merged_from:
        text += f", merged from {edge.merged_from[:7]}"
    return f"{text}: {row.subject}"
