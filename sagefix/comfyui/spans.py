"""Where a value stands in the text of a JSON document, so that it can be exchanged and nothing else.

The parser of the standard library reads every value; what is written here only walks along one path. A document that
is parsed and written again loses indentation, escapes, numbers such as ``1.0`` and keys that stand twice.
"""

from __future__ import annotations

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NamedTuple

KeyPath = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class Span(NamedTuple):
    """The first character of a value in a text, and the one after its last."""

    start: int
    end: int


class AmbiguousError(ValueError):
    """An object on the way holds the wanted key twice, so readers disagree about which one counts."""


def find_span(text: str, path: KeyPath) -> Span:
    """Return where the value at ``path`` stands in ``text``: keys of objects and indices of arrays, from the top.

    Raises :class:`KeyError` when there is no such value, :class:`AmbiguousError`, and :class:`ValueError` for what is
    not JSON (RFC 8259).
    """
    at = _skip(text, 0)
    for key in path:
        at = _in_array(text, at, key) if isinstance(key, int) else _in_object(text, at, key)
    return Span(at, _end(text, at))


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _end(text: str, at: int) -> int:
    _, end = _DECODER.raw_decode(text, at)
    return end


def _in_object(text: str, at: int, wanted: str) -> int:
    if text[at : at + 1] != "{":
        raise KeyError(wanted)
    found: list[int] = []
    at = _skip(text, at + 1)
    while text[at : at + 1] == '"':
        key, at = scanstring(text, at + 1, True)
        at = _skip(text, at)
        if text[at : at + 1] != ":":
            raise ValueError(f"a colon is missing at character {at}")
        at = _skip(text, at + 1)
        if key == wanted:
            found.append(at)
        at = _skip(text, _end(text, at))
        if text[at : at + 1] != ",":
            break
        at = _skip(text, at + 1)
    if len(found) > 1:
        raise AmbiguousError(f"the key {wanted!r} stands twice in one object")
    if not found:
        raise KeyError(wanted)
    return found[0]


def _in_array(text: str, at: int, wanted: int) -> int:
    if text[at : at + 1] != "[":
        raise KeyError(wanted)
    at = _skip(text, at + 1)
    index = 0
    while text[at : at + 1] not in ("]", ""):
        if index == wanted:
            return at
        at = _skip(text, _end(text, at))
        if text[at : at + 1] != ",":
            break
        at = _skip(text, at + 1)
        index += 1
    raise KeyError(wanted)
