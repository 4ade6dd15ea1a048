"""Reading ``manifests/*.toml`` into :class:`Pin`, with the line and key of whatever is wrong."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sagefix import settings
from sagefix.errors import PinError
from sagefix.pins import locate
from sagefix.pins.model import Pin
from sagefix.pins.rules import Problem, problems

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Other tables may stand beside the pins; only a pin has one of these at its top.
_PIN_KEYS = frozenset({"source", "recipe", "ref"})
_T = TypeVar("_T")
_PIN_TYPES = "sagefix/pins/model.py"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOML_LINE = re.compile(r"\s*\(at line (\d+), column \d+\)$")
_MSGSPEC_PATH = re.compile(r"\s*- at `\$(?P<path>[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `(?P<key>[^`]+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]+)`")


def load_pin(name: str, folder: Path | None = None) -> Pin:
    """Return the pin of a name from a folder of manifests (default: those sagefix comes with).

    Raises :class:`PinError`: no such pin (the message lists those there are), or its manifest is wrong.
    """
    where = settings.manifests_dir() if folder is None else folder
    path = where / f"{name}.toml"
    # The name comes from the command line: it must not lead out of the folder.
    if _NAME.fullmatch(name) and path.is_file() and (table := read_table(path)) and _is_pin(table):
        return _convert(path, table)
    known = _names(where)
    raise PinError(
        f"There is no pin named {name!r} in {_shown(where)}.",
        hint=f"Choose one of: {', '.join(known)}." if known else "The folder holds no pin.",
        details={"pin": name, "known": known},
    )


def list_pins(folder: Path | None = None) -> list[Pin]:
    """Return every pin of a folder, by name. Raises :class:`PinError` when one of them is wrong."""
    where = settings.manifests_dir() if folder is None else folder
    tables = ((path, read_table(path)) for path in sorted(where.glob("*.toml")))
    return [_convert(path, table) for path, table in tables if _is_pin(table)]


def load_file(path: Path) -> Pin:
    """Return the pin of one manifest, which may stand anywhere. Raises :class:`PinError` when it is wrong."""
    return _convert(path, read_table(path))


def read_table(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises :class:`PinError` with the line of what is wrong."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise PinError(f"{_shown(path)} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _wrong(path, line, "not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        text = str(error)
        place = _TOML_LINE.search(text)
        line = int(place[1]) if place else path.read_bytes().count(b"\n") + 1
        reason = _TOML_LINE.sub("", text).replace(" (at end of document)", " at the end of the file")
        raise _wrong(path, line, f"not valid TOML: {reason}") from error
    return table


def _is_pin(table: dict[str, Any]) -> bool:
    return not _PIN_KEYS.isdisjoint(table)


def _names(folder: Path) -> list[str]:
    """Names of the pins of a folder; a manifest that cannot be read is named, too, so that it is not lost."""
    names = []
    for path in sorted(folder.glob("*.toml")):
        try:
            if not _is_pin(read_table(path)):
                continue
        except PinError:
            pass
        names.append(path.stem)
    return names


def _convert(path: Path, table: dict[str, Any]) -> Pin:
    return convert_table(path, table, Pin, problems, described_in=_PIN_TYPES)


def convert_table(
    path: Path,
    table: dict[str, Any],
    kind: type[_T],
    problems_of: Callable[[_T, Path], Iterable[Problem]],
    *,
    described_in: str,
) -> _T:
    """Turn the table of a file into a type; ``problems_of`` says what is wrong beyond the types of its keys.

    ``described_in`` is the module that describes the keys. Raises :class:`PinError` with line and key.
    """
    try:
        made = msgspec.convert(table, kind, strict=True)
    except msgspec.ValidationError as error:
        key, problem = _explain(str(error))
        raise _wrong_at(path, key, problem, described_in) from error
    if first := next(iter(problems_of(made, path)), None):
        raise _wrong_at(path, *first, described_in)
    return made


def _explain(text: str) -> tuple[locate.KeyPath, str]:
    """Take msgspec's message apart: ``Expected `str`, got `int` - at `$.recipe[0].name```."""
    place = _MSGSPEC_PATH.search(text)
    parts = re.findall(r"\[(\d+)\]|\.?([A-Za-z0-9_-]+)", place["path"]) if place else []
    key: locate.KeyPath = tuple(int(index) if index else name for index, name in parts)
    problem = _MSGSPEC_PATH.sub("", text)
    if missing := _MISSING.match(problem):
        return key, f"missing key {missing['key']}"
    if unknown := _UNKNOWN.match(problem):
        return (*key, unknown["key"]), "unknown key"
    return key, problem[:1].lower() + problem[1:].replace("`", "")


def _wrong_at(path: Path, key: locate.KeyPath, problem: str, described_in: str) -> PinError:
    line = locate.line_of(path.read_text(encoding="utf-8"), key)
    return _wrong(path, line, f"{locate.show(key)}: {problem}" if key else problem, described_in)


def _wrong(path: Path, line: int, problem: str, described_in: str = _PIN_TYPES) -> PinError:
    return PinError(
        f"{_shown(path)}:{line}: {problem}",
        hint=f"Correct the manifest; {described_in} describes every key.",
        details={"file": str(path), "line": line},
    )


def _shown(path: Path) -> str:
    """Write a path relative to the working folder where it is inside, so that editors and people find it."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)
