"""The first real error in a build's log, and what is known about it.

ninja, setuptools, pip and the interpreter each wrap a failure in lines of their own; the cause stands above them,
between warnings and the quoted source of other files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from sagefix.building.facts import HEADER, Facts, facts_of_log, merged
from sagefix.building.failures import Match, find_matches, load_failures
from sagefix.errors import BuildError, PinError

Kind = Literal["tool", "python", "none"]
"""Who said it: a compiler, linker, shell or the kernel; the interpreter; or no error was seen."""

# Colours and what else moves a cursor (ECMA-48, CSI); what comes before a carriage return was overwritten.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[^\n]*\r(?=[^\r\n])|\r")
# Time stamps of CI systems and docker build before the text of a line.
_STAMP = re.compile(r"^(?:\d{4}-\d\d-\d\dT[\d:.]+Z |(?:#\d+ )?\d+\.\d+ (?=\S| {2}))")

_STATUS = re.compile(r"^\[\d+/\d+\] ")
_COMMAND = re.compile(
    r"^(?:\S*[/\\])?(?:[\w.]*-)*(?:nvcc|cicc|ptxas|cudafe\+\+|fatbinary|g\+\+|gcc|c\+\+|cc|clang(?:\+\+)?|cl|ld|s?ccache)"
    r"(?:-[\d.]+)?(?:\.exe)?\"? +(?:-\w|/(?:c|nologo)\b|\"?\S+\.(?:cu|cpp|cc|c|o)\b)"
)
# Quoted source ("   12 | ...", "      |  ^~~"), places in a traceback, and lines sagefix wrote itself.
_QUOTED = re.compile(rf"^\s*(?:\d+\s*\||\||\^|File \"|#\s*(?:error|warning)\b|{re.escape(HEADER)})")
_REMARK = re.compile(r"\b(?:warning|note|remark|advice)\b\s*(?:#?[A-Z]*\d+(?:-D)?)?\s*:", re.IGNORECASE)
# Lines that only repeat that something else failed.
_ECHO = re.compile(
    r"^(?:error: (?:subprocess|metadata-generation-failed|backend-unavailable|legacy-install-failure"
    r"|failed-wheel-build-for-install|Failed building|The build backend returned an error|No solution found)"
    r"|error: command .* failed with exit (?:code|status)|.*\berror: ld returned|ninja: build stopped"
    r"|make(?:\[\d+\])?: "
    r"|FAILED: |.*failed with exit (?:code|status) \d+$|nvcc error\s*: '\w+' died with status|.*Ptx assembly aborted"
    r"|\d+ errors? detected in|(?:\w+\.)*CalledProcessError\b|(?:\w+\.)*BackendUnavailable\b"
    r"|(?:\w+\.)*BuildBackendException\b|RuntimeError: Error (?:compiling|building) )"
)
_TOOL = (
    re.compile(r"(?:^|[\s:)\]])(?:fatal )?error\s*(?:#\d+(?:-D)?|[A-Z]+\d+)?\s*:(?!:)"),
    re.compile(r"^(?:nvcc|ptxas[\w-]*|nvlink|cicc|cudafe\+\+|fatbinary|LINK)\b.*\b(?:fatal|error)\s*:"),
    re.compile(r"\b(?:undefined reference to|cannot find -l|multiple definition of|unresolved external symbol)"),
    re.compile(r"^\S*sh: .*(?:not found|No such file or directory|Permission denied)$"),
    re.compile(r"^\S*(?:[gc]\+\+|gcc|cc|clang(?:\+\+)?|cicc|nvcc|ninja): (?:No such file or d|command not f)\w+$"),
    re.compile(r"^(?:.*: line \d+: +\d+ )?Killed\b|signal terminated program|died due to signal"),
    re.compile(r"\b(?:[Oo]ut of memory|memory exhausted|No space left|Cannot allocate memory|Disk quota exceeded)\b"),
)  # fmt: skip
_PYTHON = re.compile(r"^(?:E\s+)?(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit):(?:\s|$)")
_END_OF_MESSAGE = re.compile(
    r"^(?:$|\[end of output\]|note: |hint: |ERROR: |error: |Traceback |The above exception|During handling|ninja: "
    r"|FAILED: )"
)
_CONTEXT_LINES = 4


class FirstError(msgspec.Struct, frozen=True, kw_only=True):
    """The error that explains the others, with the few lines that belong to it; empty when none is seen."""

    text: str = ""
    kind: Kind = "none"


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What a log comes to: its first error, the known failures that fit it (best first), what it says of the build."""

    first: FirstError
    matches: tuple[Match, ...]
    facts: Facts

    @property
    def best(self) -> Match | None:
        """The match that explains it, or None."""
        return self.matches[0] if self.matches else None


def diagnose(log: str, known: Facts | None = None) -> Diagnosis:
    """Find the first error and explain it.

    ``known`` is what is known about the build beside the log: of the target as it is now, or of the plan. What the
    log itself says comes first. Raises :class:`~sagefix.errors.PinError` when the table of failures is wrong.
    """
    text = clean(log)
    told = facts_of_log(text)
    first = find_first_error(text)
    matches = find_matches(
        load_failures().failure,
        text,
        merged(told, known or Facts()),
        first=first.text,
        strict=first.kind == "tool",
    )
    return Diagnosis(first=first, matches=matches, facts=told)


def explain_failure(log: str, known: Facts, path: Path, *, otherwise: str) -> BuildError:
    """Return the error of a failed build, explained if it is known.

    ``path`` is where the log lies, ``otherwise`` what is shown when no error is seen in it.
    """
    try:
        made = diagnose(log, known)
    except PinError:
        # Somebody's own table is wrong; that is told by `sagefix explain`, and not instead of this error.
        made = Diagnosis(first=find_first_error(clean(log)), matches=(), facts=known)
    best, first = made.best, made.first.text or otherwise.strip()
    if best is None:
        hint = (
            f"`sagefix explain {path}` writes a report to paste; `sagefix doctor` checks what a build needs."
        )
        why = ""
    else:
        hint, why = best.fix, f"{best.cause}\n"
    return BuildError(
        f"The build failed{f': {best.means}' if best else ''}.\n\n{first}\n\n{why}The whole log: {path}",
        hint=hint,
        details={
            "log": str(path),
            "first_error": first,
            "returncode": known.exit_status,
            "failure": best.name if best else "",
            "cause": best.cause if best else "",
            "sources": list(best.sources) if best else [],
        },
    )


def clean(log: str) -> str:
    """Return a log without colours, overwritten progress and time stamps."""
    return "\n".join(_STAMP.sub("", line).rstrip() for line in _CONTROL.sub("", log).split("\n"))


def first_error(log: str) -> str:
    """Return the first error that explains the others, with a few lines after it; empty when none is seen."""
    return find_first_error(clean(log)).text


def find_first_error(text: str) -> FirstError:
    """Like :func:`first_error`, for a log that is clean, with who said it.

    What a command printed that ninja reports as failed comes before everything else: the output of others around it
    may hold the word "error" as well.
    """
    lines = text.split("\n")
    for part in (_failed(lines), range(len(lines))):
        for number in part:
            if _is_tool_error(lines[number].strip()):
                return FirstError(text=_with_context(lines, number), kind="tool")
    for number, line in enumerate(lines):
        stripped = line.strip()
        if _PYTHON.match(stripped) and not _ECHO.match(stripped):
            return FirstError(text=_message(lines, number), kind="python")
    return FirstError()


def _failed(lines: Sequence[str]) -> Iterable[int]:
    """Yield the numbers of the lines that failed commands printed, as ninja writes them."""
    inside = False
    for number, line in enumerate(lines):
        if line.startswith("FAILED: "):
            inside = True
        elif _STATUS.match(line) or line.startswith("ninja: "):
            inside = False
        elif inside:
            yield number


def _is_tool_error(line: str) -> bool:
    if not line or _QUOTED.match(line) or _ECHO.match(line) or _STATUS.match(line) or _COMMAND.match(line):
        return False
    if _PYTHON.match(line):
        # "RuntimeError: nvcc error : ..." is Python's to tell, once no tool has.
        return False
    hits = [hit.start() for pattern in _TOOL if (hit := pattern.search(line)) is not None]
    remark = _REMARK.search(line)
    # "warning: #warning "error: ..."" is a warning, whatever it quotes; "error: ... note:" is an error.
    return bool(hits) and not (remark is not None and remark.start() < min(hits))


def _with_context(lines: Sequence[str], number: int) -> str:
    """Return an error with what the tool wrote below it: quoted source, notes, what it concludes."""
    shown = [lines[number].strip()]
    for line in lines[number + 1 : number + _CONTEXT_LINES]:
        stripped = line.strip()
        belongs = _QUOTED.match(line) or line.startswith(" ") or " note: " in line
        if not stripped or stripped.startswith("[end of output]") or not (belongs or _ECHO.match(stripped)):
            break
        shown.append(line.rstrip())
    return "\n".join(shown)


def _message(lines: Sequence[str], number: int) -> str:
    """Return an exception with the lines of its text, which may begin below its name."""
    shown = [lines[number].strip()]
    for line in lines[number + 1 : number + _CONTEXT_LINES]:
        stripped = line.strip(" │|")
        if _END_OF_MESSAGE.match(stripped):
            break
        shown.append(stripped)
    return "\n".join(shown)
