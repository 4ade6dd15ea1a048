"""Lines of key paths in TOML texts."""

from __future__ import annotations

from typing import Any

import pytest

from sagefix import settings
from sagefix.pins import locate
from sagefix.pins.load import tomllib

TEXT = '''# a comment with [brackets] and "quotes"
schema = 1
title = "not = a key # nor a comment" # but this is

[owner]  # the table
name.first = "dotted"
name."la.st" = 'quoted'

[[fruit]]
sizes = [
    1,  # first, with ] in it
    [2, "]"],
    { width = 3, deep.er = [4] },
]

  [[fruit.variety]]
  name = """
several
lines ] = """

  [fruit.physical]
  when = 2026-01-01 00:00:00

  [[fruit.variety]]
  name = \'\'\'raw \\\'\'\'

[[fruit]]
[[fruit.variety]]
"na\\u006de" = 'decoded'
[ last . table ]
key = true'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("schema",), 2),
        (("title",), 3),
        (("owner",), 5),
        (("owner", "name"), 6),
        (("owner", "name", "first"), 6),
        (("owner", "name", "la.st"), 7),
        (("fruit",), 9),
        (("fruit", 0), 9),
        (("fruit", 0, "sizes"), 10),
        (("fruit", 0, "sizes", 0), 11),
        (("fruit", 0, "sizes", 1), 12),
        (("fruit", 0, "sizes", 1, 1), 12),
        (("fruit", 0, "sizes", 2, "width"), 13),
        (("fruit", 0, "sizes", 2, "deep", "er", 0), 13),
        (("fruit", 0, "variety", 0), 16),
        (("fruit", 0, "variety", 0, "name"), 17),
        (("fruit", 0, "physical", "when"), 22),
        (("fruit", 0, "variety", 1, "name"), 25),
        (("fruit", 1), 27),
        (("fruit", 1, "variety", 0, "name"), 29),
        (("last", "table", "key"), 31),
    ],
)
def test_a_key_path_has_its_line(path: tuple[str | int, ...], line: int) -> None:
    assert locate.line_of(TEXT, path) == line


@pytest.mark.parametrize(
    ("path", "line"),
    [((), 1), (("nothing",), 1), (("owner", "age"), 5), (("fruit", 1, "variety", 0, "color"), 28)],
)
def test_a_key_that_is_not_there_has_the_line_of_its_table(path: tuple[str | int, ...], line: int) -> None:
    assert locate.line_of(TEXT, path) == line


def test_windows_line_ends_and_an_empty_text() -> None:
    assert locate.line_of("a = 1\r\n\r\n[b]\r\nc = 2\r\n", ("b", "c")) == 4
    assert locate.key_lines("") == {}
    assert locate.key_lines("# nothing\n\n") == {}


def test_it_is_written_as_people_write_it() -> None:
    assert locate.show(("recipe", 0, "capability", 2, "min_cuda")) == "recipe[0].capability[2].min_cuda"


def paths(value: Any, at: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """Every key path of a parsed document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {at}.union(*(paths(part, (*at, key)) for key, part in inner))


@pytest.mark.parametrize(
    "text", [TEXT, *(path.read_text() for path in settings.manifests_dir().glob("*.toml"))]
)
def test_it_finds_the_keys_that_the_parser_finds(text: str) -> None:
    found = locate.key_lines(text)
    lines = text.splitlines()
    # A table that is only named on the way to another one ([last.table]) has no line of its own.
    assert paths(tomllib.loads(text)) - set(found) <= {(), ("last",)}
    assert set(found) <= paths(tomllib.loads(text))
    for path, line in found.items():
        if isinstance(path[-1], str) and path[-1].isalpha() and path[-1] != "name":
            assert path[-1] in lines[line - 1]
