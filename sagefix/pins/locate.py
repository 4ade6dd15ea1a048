"""On which line of a TOML text a key stands.

TOML parsers give values without their places, and "expected str" is of little help in a file of 700 lines.
This reads the text a second time, only after an error was found, and only needs to be right for valid TOML
(https://toml.io/en/v1.0.0), since the parser has read it before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

KeyPath = tuple[str | int, ...]
"""A way into nested tables and arrays: ``("recipe", 0, "capability", 2, "min_cuda")``."""

_SPACE = re.compile(r"(?:[ \t]|\r?\n|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_OTHER_VALUE = re.compile(r"[^,\]}#\n]+")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def line_of(text: str, path: Sequence[str | int]) -> int:
    """Return the line (from 1) of a key path, or that of its nearest table when the key is not there."""
    lines = key_lines(text)
    wanted = tuple(path)
    while wanted and wanted not in lines:
        wanted = wanted[:-1]
    return lines.get(wanted, 1)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line of every table, key and array element of a valid TOML text."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


def show(path: Sequence[str | int]) -> str:
    """Write a key path for people: ``recipe[0].capability[2].min_cuda``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


class _Scanner:
    """Walks over the text once; ``position`` is where it stands, ``lines`` what it has seen."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.lines: dict[KeyPath, int] = {}
        self.last_index: dict[KeyPath, int] = {}

    def document(self) -> None:
        table: KeyPath = ()
        self.space()
        while self.position < len(self.text):
            if self.text.startswith("[", self.position):
                table = self.header()
            else:
                self.pair(table)
            self.space()

    def space(self) -> None:
        self.take(_SPACE)

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.position)
        if match is None:
            line = self.text.count("\n", 0, self.position) + 1
            raise ValueError(f"line {line} is not valid TOML")
        self.position = match.end()
        return match.group()

    def seen(self, path: KeyPath, position: int) -> None:
        self.lines.setdefault(path, self.text.count("\n", 0, position) + 1)

    def header(self) -> KeyPath:
        start = self.position
        is_array = self.text.startswith("[[", start)
        self.position += 2 if is_array else 1
        self.space()
        keys = self.key()
        self.space()
        self.position += 2 if is_array else 1
        path: KeyPath = ()
        for key in keys[:-1]:
            path = self.entered((*path, key))
        path = (*path, keys[-1])
        if is_array:
            self.seen(path, start)
            self.last_index[path] = self.last_index.get(path, -1) + 1
        path = self.entered(path)
        self.seen(path, start)
        return path

    def entered(self, path: KeyPath) -> KeyPath:
        """A name of an array of tables means its latest element."""
        return (*path, self.last_index[path]) if path in self.last_index else path

    def key(self) -> list[str]:
        """Read a dotted key, up to what follows it."""
        parts = [self.key_part()]
        while self.text.startswith(".", self.position):
            self.position += 1
            self.space()
            parts.append(self.key_part())
        return parts

    def key_part(self) -> str:
        quote = self.text[self.position]
        if quote not in "\"'":
            part = self.take(_BARE_KEY)
        else:
            part = self.take(_STRING)[1:-1]
            if quote == '"':
                part = re.sub(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", _unescape, part)
        self.space()
        return part

    def pair(self, table: KeyPath) -> None:
        start = self.position
        path = table
        for part in self.key():
            path = (*path, part)
            self.seen(path, start)
        self.position += 1  # the equals sign
        self.space()
        self.value(path)

    def value(self, path: KeyPath) -> None:
        opening = self.text[self.position]
        if opening in "[{":
            self.position += 1
            self.space()
            index = 0
            while self.text[self.position] not in "]}":
                if opening == "{":
                    self.pair(path)
                else:
                    self.seen((*path, index), self.position)
                    self.value((*path, index))
                    index += 1
                self.space()
                if self.text[self.position] == ",":
                    self.position += 1
                    self.space()
            self.position += 1
        elif opening in "\"'":
            self.take(_STRING)
        else:
            self.take(_OTHER_VALUE)


def _unescape(match: re.Match[str]) -> str:
    body = match.group(1)
    return chr(int(body[1:], 16)) if body[0] in "uU" and len(body) > 1 else _ESCAPES.get(body, body)
