"""What ComfyUI is started with: start scripts and their arguments; and what a run that was killed has left behind."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from sagefix.comfyui.table import Argument, Table

_LARGEST = 256 << 10
_SCRIPTS = ("*.bat", "*.cmd", "*.ps1", "*.sh")
_MAIN = re.compile(r"(?:^|[\s\"'/\\])main\.py\b(?P<rest>[^\r\n&|;]*)")
_COMMENT = re.compile(r"^\s*(?:#|::|@?rem\b)", re.IGNORECASE)
# A variable of a batch file or shell that holds arguments: set "ARGS=--lowvram", ARGS=(...).
_VARIABLE = re.compile(r"(?:^|\s)(?:@?set\s+\"?|export\s+|\$(?:env:)?)?\w*(?:ARGS|ARGUMENTS|PARAMS|OPTIONS)\w*\s*=(?P<rest>.*)", re.IGNORECASE)  # fmt: skip  # noqa: E501


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A way to start ComfyUI: a script (empty: given by hand) and its arguments that are known here.

    ``words`` are all words that may be arguments. ``text`` is that of the script.
    """

    script: str
    words: tuple[str, ...]
    text: str = ""

    def known(self, table: Table) -> tuple[Argument, ...]:
        """Return the arguments that choose attention or precision."""
        return tuple(row for row in table.argument if row.flag in self.words)


class Leftovers(msgspec.Struct, frozen=True, kw_only=True):
    """Files in a folder for temporary ones, and their size in bytes."""

    folder: str
    files: int
    size: int


def find_launches(folders: Iterable[Path]) -> tuple[Launch, ...]:
    """Return the start scripts in folders, not below them: those that run ``main.py``."""
    found = []
    for folder in dict.fromkeys(folders):
        for pattern in _SCRIPTS:
            for script in sorted(folder.glob(pattern)):
                if (launch := _read(script)) is not None:
                    found.append(launch)
    return tuple(found)


def given_launch(arguments: str) -> Launch:
    """Return the arguments that somebody names by hand."""
    return Launch(script="", words=tuple(_words(arguments)))


def _read(script: Path) -> Launch | None:
    try:
        if not script.is_file() or script.stat().st_size > _LARGEST:
            return None
        text = script.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # A line of a batch file goes on behind ^, one of a shell behind a backslash, one of PowerShell behind `.
    text = re.sub(r"[\^\\`]\s*\r?\n", " ", text)
    lines = [line for line in text.splitlines() if not _COMMENT.match(line)]
    calls = [match["rest"] for line in lines if (match := _MAIN.search(line))]
    if not calls:
        return None
    calls += [match["rest"] for line in lines if (match := _VARIABLE.search(line))]
    words = [word for rest in calls for word in _words(rest)]
    return Launch(script=str(script), words=tuple(dict.fromkeys(words)), text="\n".join(lines))


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text, posix=False)
    except ValueError:
        words = text.split()
    # `--flag=value` is a flag, too; argparse takes both.
    return [
        word.strip("\"'()").split("=", 1)[0] if word.strip("\"'()").startswith("--") else word
        for word in words
    ]


def contradictions(launch: Launch, table: Table) -> list[tuple[Argument, ...]]:
    """Return sets of arguments that exclude each other, with which ComfyUI does not start."""
    known = launch.known(table)
    groups = {row.group for row in known}
    sets = [tuple(row for row in known if row.group == group) for group in sorted(groups)]
    return [each for each in sets if len(each) > 1]


def leftovers(folders: Sequence[Path]) -> tuple[Leftovers, ...]:
    """Return what lies in folders for temporary files, which ComfyUI empties when it starts and when it ends."""
    found = []
    for folder in folders:
        count = size = 0
        try:
            for path in folder.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    count, size = count + 1, size + path.stat().st_size
        except OSError:
            continue
        if count:
            found.append(Leftovers(folder=str(folder), files=count, size=size))
    return tuple(found)
