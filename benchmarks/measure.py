"""Whole processes, timed by turns, and what the times come to."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way to get something done: a command, its whole environment, and what is put right before each run.

    ``before`` is not timed.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    before: Callable[[], object] | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run: seconds on the clock, and seconds of processor time of the process and its children."""

    seconds: float
    cpu: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """sagefix against one other way. Values are medians, in ``unit`` (``s`` or ``bytes``).

    ``ratio`` is the median of the ratios of neighbouring runs, which share what the machine was doing then;
    ``met`` tells whether it is at most ``target``.
    """

    name: str
    ours: str
    theirs: str
    unit: str
    target: float
    ratio: float
    ratio_min: float
    ratio_max: float
    ours_value: float
    ours_min: float
    ours_max: float
    theirs_value: float
    theirs_min: float
    theirs_max: float
    ours_cpu: float = 0.0
    theirs_cpu: float = 0.0
    runs: int = 1
    met: bool = False


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one comparison: its rows and remarks, or why it was skipped (``failed``: by an error)."""

    name: str
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: str = ""
    failed: bool = False


class CommandError(Exception):
    """A measured or preparing command failed, so that there is nothing to compare."""


class NotHereError(Exception):
    """A comparison cannot be made here, and why."""


def alternate(ways: Sequence[Way], *, runs: int, warmup: int = 1) -> dict[str, list[Run]]:
    """Run every way by turns, A B A B, and return the runs of each; those of the warm-up do not count."""
    done: dict[str, list[Run]] = {way.name: [] for way in ways}
    for number in range(warmup + runs):
        for way in ways:
            if way.before is not None:
                way.before()
            run = timed(way)
            if number >= warmup:
                done[way.name].append(run)
    return done


def timed(way: Way) -> Run:
    """Run a way once, as a whole process. Raises :class:`CommandError` with the end of its output."""
    with tempfile.TemporaryFile() as output:
        started, before = time.perf_counter(), os.times()
        code = subprocess.run(
            way.command,
            env=way.env,
            cwd=way.cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
        seconds, after = time.perf_counter() - started, os.times()
        if code != 0:
            output.seek(0)
            raise CommandError(_failure(way.command, code, output.read()))
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(seconds=seconds, cpu=cpu)


def call(*command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command that only prepares something; return its standard output. Raises :class:`CommandError`."""
    words = tuple(map(str, command))
    done = subprocess.run(
        words, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise CommandError(_failure(words, done.returncode, (done.stdout + done.stderr).encode()))
    return done.stdout


def _failure(command: Sequence[str], code: int, output: bytes) -> str:
    tail = output.decode("utf-8", "replace").strip().splitlines()[-12:]
    return f"`{' '.join(command)}` failed with exit status {code}:\n" + "\n".join(tail)


def compare(name: str, ours: str, theirs: str, runs: Mapping[str, Sequence[Run]], *, target: float) -> Row:
    """Make the row of two ways that were timed by turns."""
    mine, other = runs[ours], runs[theirs]
    row = values_row(
        name, ours, theirs, [run.seconds for run in mine], [run.seconds for run in other], target=target
    )
    return msgspec.structs.replace(
        row,
        ours_cpu=statistics.median(run.cpu for run in mine),
        theirs_cpu=statistics.median(run.cpu for run in other),
    )


def values_row(
    name: str,
    ours: str,
    theirs: str,
    mine: Sequence[float],
    other: Sequence[float],
    *,
    target: float,
    unit: str = "s",
) -> Row:
    """Make a row of values that belong together in pairs."""
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    ratio = statistics.median(ratios)
    return Row(
        name=name,
        ours=ours,
        theirs=theirs,
        unit=unit,
        target=target,
        ratio=ratio,
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        ours_value=statistics.median(mine),
        ours_min=min(mine),
        ours_max=max(mine),
        theirs_value=statistics.median(other),
        theirs_min=min(other),
        theirs_max=max(other),
        runs=len(ratios),
        met=ratio <= target,
    )
