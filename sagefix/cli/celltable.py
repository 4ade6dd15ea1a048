"""How a prebuild looks: a live table on a terminal, lines elsewhere, a summary for people and for CI."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from sagefix.files import human_size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sagefix.workflows.book import Listener
    from sagefix.workflows.cells import Row
    from sagefix.workflows.prebuild import Report

_STYLES = {
    "waiting": "dim",
    "running": "cyan",
    "have": "green",
    "built": "bold green",
    "failed": "bold red",
    "interrupted": "yellow",
    "impossible": "dim",
}
# Told first in a live table that is higher than the terminal.
_URGENT = ("running", "failed", "interrupted", "built", "waiting", "have", "impossible")
_GIB = 1 << 30
_TAIL_BYTES = 4096


@contextmanager
def listening(*, quiet: bool) -> Iterator[Listener | None]:
    """Give a listener for a prebuild: a live table on a terminal, a line for each change elsewhere."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _live() as listener:
            yield listener
    else:
        yield PlainCells(sys.stderr)


class PlainCells:
    """Writes a line when a cell begins or ends."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.told: dict[str, str] = {}

    def __call__(self, rows: Sequence[Row]) -> None:
        for row in rows:
            before = self.told.get(row.cell.id)
            self.told[row.cell.id] = row.status
            if before is not None and before != row.status:
                print(f"{row.cell.id}: {line(row)}", file=self.stream, flush=True)


def line(row: Row) -> str:
    """Say in a line how far a cell is."""
    if row.status in ("built", "have") and row.wheel:
        return f"{row.status} in {row.seconds:.0f} s: {row.wheel} ({human_size(row.size)})"
    if row.status == "failed":
        return f"failed after {row.seconds:.0f} s: {first_line(row.reason)} (log: {row.log})"
    return row.status


def first_line(text: str) -> str:
    """Return the first line that says something, and the next after one that ends in a colon."""
    lines = [part.strip() for part in text.splitlines() if part.strip()]
    return " ".join(lines[:2]) if lines and lines[0].endswith(":") else (lines or [""])[0]


@contextmanager
def _live() -> Iterator[Listener]:
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    started: dict[str, float] = {}
    with Live(console=console, refresh_per_second=4, transient=True) as live:

        def hear(rows: Sequence[Row]) -> None:
            now = time.monotonic()
            for row in rows:
                if row.status == "running":
                    started.setdefault(row.cell.id, now)
            live.update(_table(rows, started, now, height=max(3, console.height - 5)))

        yield hear


def _table(rows: Sequence[Row], started: dict[str, float], now: float, *, height: int) -> Table:
    from rich.text import Text

    from sagefix.cli.render import table

    drawn = table("cell", "", "time", "", title=counts(rows))
    urgent = sorted(rows, key=lambda row: _URGENT.index(row.status))[:height]
    shown = {row.cell.id for row in urgent}
    for row in (each for each in rows if each.cell.id in shown):
        running = row.status == "running"
        seconds = now - started.get(row.cell.id, now) if running else row.seconds
        said = last_line(Path(row.log)) if running else row.reason if row.status == "failed" else row.wheel
        drawn.add_row(
            row.cell.id,
            Text(row.status, style=_STYLES[row.status]),
            f"{seconds:.0f} s" if seconds else "",
            Text(first_line(said), overflow="ellipsis", no_wrap=True),
        )
    return drawn


def counts(rows: Sequence[Row]) -> str:
    """Write how many cells are in which state: ``4 cells: 2 built, 1 running, 1 waiting``."""
    numbers = {status: sum(row.status == status for row in rows) for status in _STYLES}
    told = [f"{count} {status}" for status, count in numbers.items() if count]
    return f"{len(rows)} {'cell' if len(rows) == 1 else 'cells'}: {', '.join(told) or 'none'}"


def last_line(log: Path) -> str:
    """Return the last line of a log that is being written; empty when there is none."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - _TAIL_BYTES))
            lines = stream.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((text.strip() for text in reversed(lines) if text.strip()), "")


def summary(console: Console, report: Report) -> None:
    """Draw what a prebuild came to."""
    from rich.text import Text

    from sagefix.cli.render import table

    drawn = table("cell", "", "time", "memory", "size", "sha256", "proof", "wheel, or why not")
    for row in report.rows:
        said = Text(row.wheel if row.wheel and row.status != "failed" else row.reason.strip())
        if row.status == "failed":
            said.append(f"\n→ {row.hint}" if row.hint else "", style="cyan")
            said.append(f"\n  {row.log}", style="dim")
        drawn.add_row(
            row.cell.id,
            Text(row.status, style=_STYLES[row.status]),
            _seconds(row),
            _memory(row),
            human_size(row.size) if row.size else "",
            row.sha256[:12],
            row.proven,
            said,
        )
    console.print(drawn)
    console.print(totals(report), soft_wrap=True)


def totals(report: Report) -> str:
    """Say in a sentence or two how many, how long and how much memory."""
    said = f"{counts(report.rows)}, in {report.seconds:.0f} s"
    if report.memory.size:
        limit = f" of {report.max_memory / _GIB:.1f} GiB" if report.max_memory else ""
        how = "by the kernel's count" if report.memory.source == "cgroup" else "sampled"
        said += f"; at most {report.memory.size / _GIB:.2f} GiB{limit} at once, {how}"
    return f"{said}."


def markdown(report: Report, title: str) -> str:
    """Write a summary for a CI job (https://docs.github.com/en/actions/reference/workflows-and-actions: job
    summaries are GitHub-flavoured Markdown)."""
    lines = [f"### {_plain(title)}", "", totals(report), ""]
    lines += [
        "| cell | | time | memory | size | sha256 | proof | wheel, or why not |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report.rows:
        said = f"`{row.wheel}`" if row.wheel and row.status != "failed" else _plain(first_line(row.reason))
        if row.status == "failed":
            said += f" (log: `{Path(row.log).name}`)"
        size = human_size(row.size) if row.size else ""
        lines.append(
            f"| {row.cell.id} | {row.status} | {_seconds(row)} | {_memory(row)} | {size} "
            f"| {f'`{row.sha256}`' if row.sha256 else ''} | {_plain(row.proven)} | {said} |"
        )
    return "\n".join(lines) + "\n"


def _seconds(row: Row) -> str:
    return f"{row.seconds:.1f} s" if row.seconds else ""


def _memory(row: Row) -> str:
    if row.memory is None or not row.memory.size:
        return ""
    return human_size(row.memory.size) + ("" if row.memory.source == "cgroup" else " ~")


def _plain(text: str) -> str:
    """Write text so that it cannot be Markdown or HTML: it may come from a compiler."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text
