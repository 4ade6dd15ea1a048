"""Progress on stderr: bars on a terminal, short lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from sagefix.progress import Reporter, SilentReporter, Task

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class PlainTask:
    """A task in a log file: its start, and for long ones a line from time to time."""

    _EVERY_S = 15.0

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name = name
        self.stream = stream
        self.started = self.told = time.monotonic()
        self.done: float | None = None
        self.total: float | None = None

    def update(self, done: float | None = None, total: float | None = None, text: str | None = None) -> None:
        del text
        self.done = self.done if done is None else done
        self.total = self.total if total is None else total
        if time.monotonic() - self.told >= self._EVERY_S and self.total and self.done is not None:
            self.told = time.monotonic()
            print(f"{self.name}: {self.done / self.total:.0%}", file=self.stream, flush=True)


class PlainReporter:
    """For logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def start(self, name: str, total: float | None, unit: str) -> Task:
        del unit
        print(f"{name} ...", file=self.stream, flush=True)
        task = PlainTask(name, self.stream)
        task.total = total
        return task

    def finish(self, task: Task) -> None:
        if isinstance(task, PlainTask) and (seconds := time.monotonic() - task.started) >= 1:
            print(f"{task.name}: {seconds:.0f} s", file=self.stream, flush=True)

    def note(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def warn(self, text: str) -> None:
        print(f"warning: {text}", file=self.stream, flush=True)


class QuietReporter(SilentReporter):
    """Warnings only."""

    def warn(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr, flush=True)


class RichTask:
    """One bar."""

    def __init__(self, progress: Progress, row: TaskID, name: str) -> None:
        self.progress = progress
        self.row = row
        self.name = name

    def update(self, done: float | None = None, total: float | None = None, text: str | None = None) -> None:
        self.progress.update(
            self.row, completed=done, total=total, description=f"{self.name} [dim]{text}[/]" if text else None
        )


class RichReporter:
    """Bars on a terminal; they vanish when their work is done, notes stay."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)
        self.progress: Progress | None = None
        self.running = 0

    def start(self, name: str, total: float | None, unit: str) -> Task:
        from rich import progress as bars

        if self.progress is None:
            self.progress = bars.Progress(
                bars.SpinnerColumn(),
                bars.TextColumn("{task.description}"),
                bars.BarColumn(),
                bars.TextColumn("{task.fields[counted]}"),
                bars.TimeElapsedColumn(),
                console=self.console,
                transient=True,
            )
            self.progress.start()
        self.running += 1
        row = self.progress.add_task(name, total=total, counted="")
        return _CountingTask(self.progress, row, name, unit)

    def finish(self, task: Task) -> None:
        self.running -= 1
        if self.progress is not None and isinstance(task, RichTask):
            self.progress.remove_task(task.row)
        if self.running == 0 and self.progress is not None:
            self.progress.stop()
            self.progress = None

    def note(self, text: str) -> None:
        self.console.print(text, markup=False)

    def warn(self, text: str) -> None:
        self.console.print("warning:", text, style="yellow", markup=False)


class _CountingTask(RichTask):
    """A bar with ``3/6`` or ``1.2/11.7 MB`` behind it."""

    def __init__(self, progress: Progress, row: TaskID, name: str, unit: str) -> None:
        super().__init__(progress, row, name)
        self.unit = unit

    def update(self, done: float | None = None, total: float | None = None, text: str | None = None) -> None:
        super().update(done, total, text)
        shown = next(task for task in self.progress.tasks if task.id == self.row)
        if self.unit == "bytes":
            counted = f"{shown.completed / 1e6:.1f}" + (
                f"/{shown.total / 1e6:.1f} MB" if shown.total else " MB"
            )
        else:
            counted = f"{shown.completed:.0f}/{shown.total:.0f}" if shown.total else ""
        self.progress.update(self.row, counted=counted)


def make_reporter(*, quiet: bool) -> Reporter:
    """Choose the reporter for this run."""
    if quiet:
        return QuietReporter()
    return RichReporter() if sys.stderr.isatty() else PlainReporter(sys.stderr)
