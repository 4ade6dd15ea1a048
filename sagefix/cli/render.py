"""How results look: tables of checks, wheels and decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sagefix.checks import Check, failures
from sagefix.files import human_size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sagefix.proof.model import Verdict
    from sagefix.targets.kept import Removed
    from sagefix.wheelhouse.model import Decision
    from sagefix.wheels.model import Facts

_STYLES = {"ok": "green", "warning": "yellow", "failure": "bold red", "skipped": "dim"}


def table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table in the house's style."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def checks(console: Console, rows: Iterable[Check], title: str | None = None) -> None:
    """Draw checks, each with its fix where it needs one."""
    from rich.text import Text

    drawn = table("check", "", "found", title=title)
    for check in rows:
        found = Text(check.found)
        if check.fix and check.status in ("warning", "failure"):
            found.append(f"\n→ {check.fix}", style="cyan")
        for link in check.sources if check.status in ("warning", "failure") else ():
            found.append(f"\n  {link}", style="dim")
        drawn.add_row(check.name, Text(check.status, style=_STYLES[check.status]), found)
    console.print(drawn)


def verdict(console: Console, made: Verdict, *, every_case: bool = False) -> None:
    """Draw a verdict: its table, what was computed, then one line that says it."""
    from sagefix.cli import casetable

    checks(console, made.checks, title=f"{made.subject or made.pin} in {made.interpreter}")
    if made.numerics is not None:
        casetable.numerics(console, made.numerics, every_case=every_case)
    for hazard in made.hazards:
        console.print(f"[yellow]hazard[/] {hazard}", highlight=False, soft_wrap=True)
    if (emulated := made.emulated) is not None:
        console.print(
            f"Emulated: {emulated.machine} under {emulated.emulator}, Python {emulated.python}"
            + (", with a stub for the driver's library." if emulated.stub else "."),
            highlight=False,
            soft_wrap=True,
        )
        console.print(
            f"[yellow]Unproven:[/] {', '.join(emulated.unproven)}.", highlight=False, soft_wrap=True
        )
        console.print(
            f"On a machine of its own, proven by: {emulated.command}", highlight=False, soft_wrap=True
        )
    bad = len(failures(made.checks))
    gpus = f" on {', '.join(made.gpus)}" if made.gpus else ""
    gpus += f", without {' and '.join(made.skipped)}" if made.skipped else ""
    if made.passed:
        console.print(f"[green]passed[/] level {made.level}{gpus}", highlight=False)
    else:
        console.print(f"[bold red]failed[/] level {made.level}{gpus}: {bad} of {len(made.checks)} checks")


def wheels(console: Console, rows: Sequence[Facts]) -> None:
    """Draw the wheels of a wheelhouse."""
    from sagefix.wheelhouse.proving import in_words

    drawn = table("wheel", "size", "archs", "torch", "CUDA", "made", "proof")
    for facts in rows:
        record = facts.record
        drawn.add_row(
            facts.filename,
            human_size(facts.size),
            " ".join(facts.label.archs) or "-",
            facts.label.torch or "-",
            facts.label.cuda or "-",
            record.origin if record else "elsewhere",
            in_words(facts.proofs) if facts.proofs else facts.proof or "unproven",
        )
    console.print(drawn)


def decisions(console: Console, rows: Sequence[Decision]) -> None:
    """Draw what was decided about each candidate, and why."""
    drawn = table("candidate", "", "because")
    for decision in rows:
        mark = "[green]fits[/]" if decision.accepted else "[yellow]refused[/]"
        drawn.add_row(decision.facts.filename, mark, "; ".join(decision.reasons))
    console.print(drawn)


def removed(console: Console, rows: Sequence[Removed]) -> None:
    """Say what was removed and what that freed."""
    for row in rows:
        console.print(f"Removed {row.name} ({human_size(row.freed)})", soft_wrap=True)
    if not rows:
        console.print("There was nothing to remove.")
