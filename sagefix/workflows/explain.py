"""From a log or a pasted error to what it means, what was different then, and a report for whoever can help."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from sagefix import __version__
from sagefix.building.diagnose import Diagnosis, clean, diagnose
from sagefix.building.facts import Difference, Facts, differences, facts_of_log
from sagefix.building.failures import Match
from sagefix.building.masking import mask
from sagefix.errors import SagefixError, UsageError
from sagefix.settings import cache_path
from sagefix.targets.compilers import find_host_compiler
from sagefix.targets.host import GIB, memory
from sagefix.targets.interpreter import find_python, probe
from sagefix.targets.model import Interpreter
from sagefix.targets.toolkit import find_toolkit

T = TypeVar("T")

LONGEST = 16 << 20
"""Bytes of a log that are read: ninja stops soon after the first failure, so the end is what counts."""
_BEGINNING = 64 << 10
_LINES_AROUND = 15
_TAIL_LINES = 25
_LONGEST_LINE = 600


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. ``log`` is empty for a pasted text.

    ``matches`` are the known failures that fit, best first; without any, ``report`` is a text to paste, with secrets,
    user and machine names taken out. ``then`` is what the log says of the build, ``now`` what the target is like,
    and ``different`` where they disagree.
    """

    log: str
    explained: bool
    first_error: str
    matches: tuple[Match, ...]
    then: Facts
    now: Facts
    different: tuple[Difference, ...]
    report: str


def explain(text: str, log: str, python: str | None) -> Explained:
    """Explain a log (or any text with an error in it) and compare it with the target named by ``python``.

    Raises :class:`UsageError` when there is nothing in it, and :class:`PinError` when the table of failures is wrong.
    """
    if not text.strip():
        raise UsageError(
            f"There is nothing in {log or 'what was pasted'}.",
            hint="Give the log of a failed build, or an error.",
        )
    now = facts_now(python)
    made = diagnose(text, now)
    different = differences(made.facts, now)
    return Explained(
        log=log,
        explained=bool(made.matches),
        first_error=made.first.text,
        matches=made.matches,
        then=made.facts,
        now=now,
        different=different,
        report="" if made.matches else report(text, made, now, different),
    )


def facts_now(python: str | None) -> Facts:
    """Return what this machine and the target are like; what cannot be found out stays unknown."""
    interpreter = _attempt(lambda: probe(find_python(python)))
    toolkit = _attempt(lambda: find_toolkit(None, os.environ))
    compiler = _attempt(lambda: find_host_compiler(os.environ))
    torch = interpreter.torch if interpreter else None
    return Facts(
        python=interpreter.version if interpreter else "",
        torch=torch.version if torch else "",
        torch_cuda=torch.cuda if torch else None,
        torch_folder=torch.folder if torch else "",
        toolkit=toolkit is not None,
        cuda_home=toolkit.home if toolkit else "",
        nvcc=toolkit.full_version if toolkit else "",
        compiler=f"{compiler.kind} {compiler.version}" if compiler else "",
        machine=_machine(interpreter),
        system=platform.system().lower(),
        memory_gib=round(memory().total / GIB, 1),
    )


def _machine(interpreter: Interpreter | None) -> str:
    return interpreter.machine if interpreter else platform.machine()


def _attempt(look: Callable[[], T]) -> T | None:
    try:
        return look()
    except (SagefixError, OSError):
        return None


def newest_log() -> Path:
    """Return the log of the newest build that did not end well. Raises :class:`UsageError` when there is none."""
    folder = cache_path() / "logs"
    try:
        logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError as error:
        raise UsageError(f"The logs in {folder} cannot be read: {error.strerror}.") from error
    for path in logs:
        if facts_of_log(read_log(path)[-_BEGINNING:]).exit_status != 0:
            return path
    raise UsageError(
        f"No build has failed: of the {len(logs)} logs in {folder} each is of one that succeeded."
        if logs
        else f"There is no log of a build in {folder}.",
        hint="Name the log, or paste an error: `sagefix explain -`.",
    )


def read_log(path: Path) -> str:
    """Read a log; of one that is very long its beginning and its end. Raises :class:`UsageError`."""
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            beginning = stream.read(_BEGINNING if size > LONGEST else -1)
            rest = b""
            if size > LONGEST:
                stream.seek(-LONGEST, os.SEEK_END)
                rest = b"\n" + stream.read()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror or error}.",
            hint="Give the log of a build, - for what is pasted, or nothing for the newest log.",
        ) from error
    return decode(beginning + rest)


def decode(raw: bytes) -> str:
    """Decode a log whatever made it; PowerShell's ``>`` writes UTF-16."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace")
    return raw.decode("utf-8-sig", errors="replace")


def report(text: str, made: Diagnosis, now: Facts, different: Sequence[Difference]) -> str:
    """Write what somebody needs who is asked for help, with nothing in it that is private."""
    lines = [
        "sagefix explain: not a known failure",
        "",
        f"sagefix {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"build: {made.facts.wheel or 'unknown wheel'}, key {made.facts.key or 'unknown'}",
        "",
        "the log says:",
        *_listed(made.facts),
        "now here:",
        *_listed(now),
        *(f"  differs: {each.what}: {each.log} in the log, {each.now} now" for each in different),
        "",
        "first error:",
        *_indented(made.first.text.splitlines() or ["none was recognised"]),
        "",
        "the log around it, and its end:",
        *_indented(_excerpt(clean(text).strip().splitlines(), made.first.text)),
    ]
    return mask("\n".join(lines)) + "\n"


def _listed(facts: Facts) -> list[str]:
    said = msgspec.to_builtins(facts)
    return [f"  {name}: {value}" for name, value in said.items() if name not in ("key", "wheel")] or [
        "  nothing"
    ]


def _excerpt(lines: Sequence[str], first: str) -> list[str]:
    """Return the lines around the first error and the last ones; what is left out in between is said."""
    head = first.splitlines()[0] if first else ""
    at = next((number for number, line in enumerate(lines) if head and line.strip() == head), len(lines))
    end = max(0, len(lines) - _TAIL_LINES)
    around = range(max(0, at - _LINES_AROUND), min(len(lines), at + _LINES_AROUND))
    shown = [*around] if at < len(lines) else []
    last = shown[-1] + 1 if shown else 0
    if end > last:
        left_out = [f"... {end - last} lines ..."]
    else:
        end, left_out = last, []
    return [*(lines[number] for number in shown), *left_out, *lines[end:]]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + ' ...'}" for line in lines]
