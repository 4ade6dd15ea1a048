"""What every command has in common: progress, one envelope for machines, one clear error for people."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import typer

from sagefix.errors import InterruptedByUser, SagefixError

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 1
"""Version of the envelope; raised when a field changes its meaning or goes away."""


class Outcome:
    """Where a command puts its result; drawn by ``render`` unless ``--json`` was given."""

    def __init__(self) -> None:
        self.value: Any = None
        self.render: Callable[[Console], None] | None = None

    def result(self, value: Any, render: Callable[[Console], None] | None = None) -> None:
        """Set the result (anything msgspec can encode) and how people see it."""
        self.value, self.render = value, render


def envelope(command: str, value: Any, error: SagefixError | None) -> bytes:
    """Return the one JSON document that ``--json`` prints."""
    import msgspec

    document = msgspec.to_builtins(
        {
            "schema": SCHEMA,
            "command": command,
            "ok": error is None,
            "result": value,
            "error": None
            if error is None
            else {
                "name": error.name,
                "exit_code": error.exit_code,
                "message": error.message,
                "hint": error.hint,
                "details": error.details,
            },
        },
        enc_hook=str,
    )
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:
        # A path that is not UTF-8; JSON has no way to write its bytes, so they are shown as \\udcff.
        return msgspec.json.encode(_encodable(document))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    return [_encodable(each) for each in value] if isinstance(value, list | tuple) else value


def prepare_streams() -> None:
    """Make standard output and error usable whatever the caller made of them: closed, or not for UTF-8."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open until the end
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            # In the C locale an arrow in a table must not end a command.
            stream.reconfigure(errors="replace")


def leave_stdout() -> None:
    """Point standard output at nothing: what it still holds cannot be written, so exit must not try to."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


def print_envelope(command: str, value: Any, error: SagefixError | None) -> None:
    """Write the envelope as one line."""
    sys.stdout.buffer.write(envelope(command, value, error) + b"\n")
    sys.stdout.flush()


def print_error(error: SagefixError) -> None:
    """Write what happened and what to do to stderr."""
    for word, colour, text in (("error:", "red", error.message), ("hint:", "cyan", error.hint)):
        if text:
            shown = typer.style(word, fg=colour, bold=True) if sys.stderr.isatty() else word
            typer.echo(f"{shown} {text}", err=True)


@contextmanager
def running(command: str, *, json: bool, quiet: bool, verbose: bool) -> Iterator[Outcome]:
    """Run the body of a command; at the end print its result, or its error and exit with the error's code."""
    from sagefix.cli.reporters import make_reporter
    from sagefix.progress import reporting

    _set_up_logging(verbose=verbose)
    previous = signal.signal(signal.SIGTERM, _on_sigterm)
    outcome = Outcome()
    error: SagefixError | None = None
    try:
        with reporting(make_reporter(quiet=quiet)):
            yield outcome
    except SagefixError as raised:
        error = raised
    except KeyboardInterrupt:
        error = InterruptedByUser("Interrupted.", hint="The same command goes on where it can.")
    except BrokenPipeError:
        raise typer.Exit(1) from None
    except Exception as raised:  # noqa: BLE001 - the last line before the user: a bug becomes a report, not a traceback
        error = unexpected(raised)
    finally:
        signal.signal(signal.SIGTERM, previous)
    if json:
        print_envelope(command, outcome.value, error)
    elif outcome.render is not None and not (quiet and error is None):
        outcome.render(cast("Console", Screen()))
    if error is not None:
        if not json:
            print_error(error)
        raise typer.Exit(error.exit_code)


class Screen:
    """The console for results. A line without markup goes out as it is: rich is imported for the others alone,
    since that takes longer than most commands have to say.
    """

    def __init__(self) -> None:
        self._console: Console | None = None

    def print(self, *drawn: Any, **options: Any) -> None:
        """Print as rich's console does."""
        plain = len(drawn) == 1 and isinstance(drawn[0], str) and "[" not in drawn[0]
        if plain and options.keys() <= {"soft_wrap", "highlight"}:
            typer.echo(drawn[0])
            return
        if self._console is None:
            from rich.console import Console

            # Wide when nobody's terminal sets a width.
            self._console = Console(
                highlight=False, width=None if sys.stdout.isatty() else 140, soft_wrap=False
            )
        self._console.print(*drawn, **options)


def _set_up_logging(*, verbose: bool) -> None:
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(message)s" if not verbose else "%(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )
    for noisy in ("git", "httpx", "httpcore", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def unexpected(raised: Exception) -> SagefixError:
    """Turn an error that nobody foresaw into one that says where its traceback is."""
    import time

    from sagefix.settings import cache_dir

    text = "".join(traceback.format_exception(raised))
    where = ""
    try:
        path = cache_dir() / f"crash-{time.strftime('%Y%m%d-%H%M%S')}.txt"
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
        where = f" The traceback is in {path}."
    except (OSError, SagefixError):
        logging.getLogger(__name__).warning("%s", text)
    return SagefixError(
        f"sagefix met something it did not expect: {type(raised).__name__}: {raised}.{where}",
        hint="This is a bug: please report it with that file.",
    )
