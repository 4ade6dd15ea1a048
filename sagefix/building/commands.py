"""How each extension was compiled and linked, read from the log of its build.

setuptools and ``ninja -v`` both print every command they run. What names a place, an object or a number of threads is
left out: it does not decide what comes out, or stands elsewhere in the record.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from sagefix.building.reproducible import shown
from sagefix.wheels.elf import is_library
from sagefix.wheels.model import Command, Compiled

_STATUS = re.compile(r"^\[\d+/\d+\] ")
_COMPILER = re.compile(r"^(?:[\w.]+-)*?(?P<kind>nvcc|c\+\+|g\+\+|gcc|cc|clang\+\+|clang)(?:-[\d.]+)?$")
_WRAPPERS = frozenset({"sccache", "ccache", "env"})
_SOURCES = (".cu", ".cpp", ".cc", ".cxx", ".c")
# Options with a word of their own that says where, not how.
_WITH_PLACE = frozenset({"-o", "-MF", "-MT", "-MQ", "-I", "-L", "-isystem", "-iquote", "-rpath"})
_PLACES = ("-I", "-L", "-isystem", "-Wl,-rpath", "-ffile-prefix-map=", "-Xcompiler=-ffile-prefix-map=")
_NOISE = frozenset({"-c", "-MD", "-MMD", "-M", "-MP", "--generate-dependencies-with-compile"})
_THREADS = re.compile(r"^(?:--threads|-t)(?:=?\d+)?$")


class _Call(msgspec.Struct, frozen=True, kw_only=True):
    """One command of the log: compiler, flags, files it read, file it made."""

    program: str
    flags: tuple[str, ...]
    inputs: tuple[str, ...]
    output: str
    links: bool


def read_commands(log: str, places: Mapping[str, str], root: Path) -> tuple[Compiled, ...]:
    """Return, for each library that was linked, its path in the wheel and its commands; sorted.

    ``places`` and ``root`` as in :func:`~sagefix.building.reproducible.shown`. A library that was made by a program
    this does not know is not among them.
    """
    calls = [call for line in log.splitlines() if (call := _call(line, places, root)) is not None]
    made_by = {call.output: call for call in calls if not call.links}
    found: dict[str, Compiled] = {}
    for call in calls:
        if call.links and is_library(call.output):
            objects = [made_by[name] for name in call.inputs if name in made_by]
            path = _in_wheel(call.output)
            found[path] = Compiled(
                path=path,
                compile=_merged([*objects, call] if _has_source(call) else objects),
                link=Command(program=call.program, flags=call.flags),
            )
    return tuple(found[path] for path in sorted(found))


def _call(line: str, places: Mapping[str, str], root: Path) -> _Call | None:
    text = _STATUS.sub("", line.strip())
    if " -o " not in text:
        return None
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    while words and (Path(words[0]).name in _WRAPPERS or re.match(r"^\w+=", words[0])):
        words = words[1:]
    match = _COMPILER.match(Path(words[0]).name) if words else None
    if match is None:
        return None
    output = words[words.index("-o") + 1] if words.index("-o") + 1 < len(words) else ""
    names = [word for word in words[1:] if word.endswith((*_SOURCES, ".o")) and not word.startswith("-")]
    inputs = [word for word in names if word != output]
    return _Call(
        program=match["kind"],
        flags=tuple(shown(flag, places, root) for flag in _flags(words[1:], {output, *inputs})),
        inputs=tuple(_plain(word, places, root) for word in inputs),
        output=_plain(output, places, root),
        links="-c" not in words,
    )


def _plain(path: str, places: Mapping[str, str], root: Path) -> str:
    """Write a source as its path in the commit; anything else with the names of places."""
    text = shown(path, places, root)
    return text.removeprefix("{build}/src/")


def _flags(words: Sequence[str], files: Iterable[str]) -> list[str]:
    skip, flags, named = False, [], set(files)
    for word in words:
        if skip:
            skip = False
        elif word in _WITH_PLACE or word in ("--threads", "-t"):
            skip = True
        elif word in named or word in _NOISE or word.startswith(_PLACES) or _THREADS.match(word):
            continue
        else:
            flags.append(word)
    return flags


def _merged(calls: Sequence[_Call]) -> tuple[Command, ...]:
    """Put sources together that were compiled with the same flags."""
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for call in calls:
        sources = [name for name in call.inputs if name.endswith(_SOURCES)]
        groups.setdefault((call.program, call.flags), []).extend(sources)
    merged = [
        Command(program=program, flags=flags, sources=tuple(sorted(sources)))
        for (program, flags), sources in groups.items()
    ]
    return tuple(sorted(merged, key=lambda command: (command.program, command.sources)))


def _has_source(call: _Call) -> bool:
    return any(name.endswith(_SOURCES) for name in call.inputs)


def _in_wheel(output: str) -> str:
    """Return a library's path in the wheel from where setuptools put it: ``{build}/build/lib.*/pkg/_ext.so``."""
    _, found, rest = output.partition("/build/lib")
    return rest.partition("/")[2] if found else output
