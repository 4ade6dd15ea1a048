"""Runs a script of :mod:`sagefix.guest` inside a target interpreter and reads its answer."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sagefix.errors import ProcessError, TargetError
from sagefix.process import run
from sagefix.settings import PACKAGE

GUEST = PACKAGE / "guest"
BEGIN, END = "<<<sagefix", "sagefix>>>"
MARK = "<<<sagefix case>>>"
"""What stands before each event in the answer of a script that works through cases: ``guest/numerics.py``."""
_TAIL_LINES = 20
# How the words of Python's faulthandler begin when it ends a process whose time is up.
_TIME_UP = "Timeout ("


class Ended(NamedTuple):
    """How a script ended that works through cases: its exit status (None: the time for one case was up), and the last
    line that was no event, which often says why."""

    returncode: int | None
    said: str


def guest_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a target interpreter: the user's, without what belongs to sagefix itself.

    The user's ``PYTHONPATH`` counts, since it counts when the program starts that will import the wheel; the
    folder that holds sagefix is taken out of it, or the target would see sagefix's packages as its own.
    ``__PYVENV_LAUNCHER__`` (macOS) and ``PYTHONINSPECT`` speak of this process and not of the target.
    """
    environment = dict(os.environ if env is None else env)
    for name in ("__PYVENV_LAUNCHER__", "PYTHONINSPECT"):
        environment.pop(name, None)
    if "PYTHONPATH" in environment:
        ours = PACKAGE.parent.resolve()
        kept = [
            entry
            for entry in environment["PYTHONPATH"].split(os.pathsep)
            if entry and Path(entry).resolve() != ours
        ]
        if kept:
            environment["PYTHONPATH"] = os.pathsep.join(kept)
        else:
            del environment["PYTHONPATH"]
    return environment


def ask(
    python: str | Path,
    script: str,
    *arguments: str,
    timeout: float,
    env: Mapping[str, str] | None = None,
    on_start: Callable[[int], None] | None = None,
) -> Any:
    """Run ``guest/<script>`` with a Python and return the JSON value of its answer.

    ``timeout`` is in seconds, ``env`` the whole environment (default: :func:`guest_environment`),
    ``on_start`` as in :func:`sagefix.process.run`. What the interpreter prints beside the answer is
    ignored.

    Raises :class:`ProcessError`: not startable, out of time, failed, or no answer; ``details["tail"]`` holds
    the last lines of its output. :class:`TargetError`: the target is described, and there is no Python.
    """
    _require_here(python)
    environment = guest_environment() if env is None else dict(env)
    command = [python, str(GUEST / script), *arguments]
    done = run(command, env=environment, timeout=timeout, check=False, on_start=on_start)
    # An answer that came counts, whatever happened at exit (CUDA libraries are known to crash there).
    body = done.stdout.rpartition(f"\n{BEGIN}\n")[2].partition(f"\n{END}")[0] if BEGIN in done.stdout else ""
    try:
        return json.loads(body)
    except ValueError as error:
        output = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ProcessError(
            f"{python} {describe_exit(done.returncode)}" + (f": {output[-1].strip()}" if output else "."),
            details={
                "command": done.command,
                "returncode": done.returncode,
                "tail": "\n".join(output[-_TAIL_LINES:]),
            },
        ) from error


def hear(
    python: str | Path,
    script: str,
    request: Path,
    heard: Callable[[Mapping[str, Any]], None],
    *,
    timeout: float,
    on_start: Callable[[int], None] | None = None,
    watched: bool = False,
) -> Ended:
    """Run ``guest/<script>`` on a file and hand over each event of its answer as soon as it is there.

    ``timeout`` is in seconds; ``on_start`` and ``watched`` as in :func:`sagefix.process.run`. Raises
    :class:`ProcessError`: not startable, or out of that time; :class:`TargetError`: there is no Python.
    """
    _require_here(python)

    def line_heard(line: str) -> None:
        if MARK in line:
            heard(json.loads(line.partition(MARK)[2]))

    done = run(
        [python, str(GUEST / script), str(request)],
        # What is measured stays as it is: no bytecode is written into it.
        env=guest_environment() | {"PYTHONDONTWRITEBYTECODE": "1"},
        timeout=timeout,
        check=False,
        on_line=line_heard,
        on_start=on_start,
        watched=watched,
    )
    told = [line.strip() for line in done.stdout.splitlines() if line.strip() and MARK not in line]
    if any(line.startswith(_TIME_UP) for line in told):
        return Ended(None, "")
    return Ended(done.returncode, told[-1] if told else "")


def _require_here(python: str | Path) -> None:
    if not str(python):
        raise TargetError(
            "The target is described, and not on this machine: nothing can be run in it.",
            hint="Run the command where that Python is.",
        )


def describe_exit(returncode: int) -> str:
    """Say how a program ended that did not answer."""
    if returncode < 0:
        import signal

        try:
            return f"was ended by {signal.Signals(-returncode).name}"
        except ValueError:
            return f"was ended by signal {-returncode}"
    return f"failed with exit status {returncode}" if returncode else "gave no answer"
