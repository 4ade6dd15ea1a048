"""How the library tells of long work without printing.

Rooms call :func:`task`, :func:`note` and :func:`warn`; who listens is decided by the command line with
:func:`reporting`. The reporter travels in a context variable, so no function has to pass it on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Task(Protocol):
    """One piece of long work with a known or unknown total."""

    def update(self, done: float | None = None, total: float | None = None, text: str | None = None) -> None:
        """Set how much is done, of how much, and what is being worked on; what is not given stays."""


class Reporter(Protocol):
    """Who hears of progress. ``unit`` is ``"bytes"``, ``"objects"`` or ``""`` and only affects display."""

    def start(self, name: str, total: float | None, unit: str) -> Task: ...
    def finish(self, task: Task) -> None: ...
    def note(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...


class _SilentTask:
    def update(self, done: float | None = None, total: float | None = None, text: str | None = None) -> None:
        pass


class SilentReporter:
    """Hears everything, says nothing; the default when sagefix is used as a library."""

    def start(self, name: str, total: float | None, unit: str) -> Task:
        del name, total, unit
        return _SilentTask()

    def finish(self, task: Task) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass


_current: ContextVar[Reporter] = ContextVar("sagefix_reporter")
_SILENT = SilentReporter()


def reporter() -> Reporter:
    """Return the reporter of the running context."""
    return _current.get(_SILENT)


@contextmanager
def reporting(to: Reporter) -> Iterator[Reporter]:
    """Let ``to`` hear of everything that happens inside the block."""
    token = _current.set(to)
    try:
        yield to
    finally:
        _current.reset(token)


@contextmanager
def task(name: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
    """Announce long work; the block gets a :class:`Task` to update."""
    heard_by = reporter()
    running = heard_by.start(name, total, unit)
    try:
        yield running
    finally:
        heard_by.finish(running)


def note(text: str) -> None:
    """Tell of something that happened and is fine."""
    reporter().note(text)


def warn(text: str) -> None:
    """Tell of something that is not fine but does not stop the work."""
    reporter().warn(text)
