"""What is known of ComfyUI's nodes, arguments and console: types and loading of ``manifests/comfyui.toml``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from sagefix import settings
from sagefix.pins.load import convert_table, read_table
from sagefix.pins.rules import Problem

NAME = "comfyui.toml"
Sets = Literal["attention", "precision"]
Tells = Literal["start", "selected", "other", "fallback", "missing", "failed", "worked"]


class Meaning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the values of several nodes come to: ``sageattn``, ``bf16``.

    ``package`` is the distribution that it needs (empty: none), ``archs`` the compute capabilities that it runs on
    (empty: not restricted), ``min_torch`` the first torch release that has it, ``not_with`` the meanings of the other
    kind with which it goes wrong, and ``note`` how.
    """

    name: str
    sets: Sets
    says: str
    package: str = ""
    archs: tuple[str, ...] = ()
    min_torch: str = ""
    not_with: tuple[str, ...] = ()
    note: str = ""
    sources: tuple[str, ...]


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that a field may have, and what it means.

    ``archs`` narrows those of the meaning. ``also`` names packages that are needed beside the meaning's own.
    ``stands_for`` are meanings that somebody who asks for them gets by this value. ``since`` is the commit that brought
    it.
    """

    value: str
    means: str
    archs: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    stands_for: tuple[str, ...] = ()
    note: str = ""
    since: str = ""


class Shared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list of values that several fields have."""

    name: str
    values: tuple[Value, ...]


class Choice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A field of a node that chooses attention or precision.

    ``default`` counts where a file does not hold the field. ``values`` stand here, or in the shared list that ``use``
    names.
    """

    field: str
    sets: Sets
    default: str
    values: tuple[Value, ...] = ()
    use: str = ""


class NodeType(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A type of node. ``type`` is the key of ``NODE_CLASS_MAPPINGS`` and the name of its class.

    ``layouts`` are the widgets in the order of ``widgets_values``, one list for each that was ever published. ``known``
    holds all values of further fields, by which a layout is recognised. ``loads``: it loads a model, so that its
    precision is that of the model.
    """

    type: str
    pack: str
    layouts: tuple[tuple[str, ...], ...]
    known: dict[str, tuple[Any, ...]] = {}
    choice: tuple[Choice, ...]
    loads: bool = False
    sources: tuple[str, ...]


class Pack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pack of nodes; its folder in ``custom_nodes`` has its name, in whatever case."""

    name: str
    url: str


class Suspect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a node of an unknown type is recognised that may choose attention: names of fields, a pattern for values."""

    fields: tuple[str, ...]
    values: str


class Argument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A launch argument of ComfyUI. Those of one ``group`` exclude each other."""

    flag: str
    sets: Sets
    means: str
    group: str
    says: str
    sources: tuple[str, ...]


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A folder where an installation, or the Desktop app's own settings, may be. ``~`` is the user's home."""

    path: str
    sources: tuple[str, ...]


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of the console, by a regular expression. ``tells`` is what it says about the run.

    What the pattern captures stands for ``{0}`` in ``says``; of a fallback or a failure, it is the reason.
    """

    name: str
    tells: Tells
    pattern: str
    says: str
    fix: str = ""
    sources: tuple[str, ...]


class Reason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a call failed. ``extent``: ``every`` call fails so, or ``some`` do and others go through."""

    name: str
    pattern: str
    extent: Literal["every", "some"]
    says: str
    fix: str
    sources: tuple[str, ...]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``manifests/comfyui.toml`` says."""

    schema: Literal[1]
    meaning: tuple[Meaning, ...]
    pack: tuple[Pack, ...]
    shared: tuple[Shared, ...] = ()
    node: tuple[NodeType, ...]
    suspect: Suspect
    argument: tuple[Argument, ...]
    place: tuple[Place, ...]
    desktop: tuple[Place, ...]
    line: tuple[Line, ...]
    reason: tuple[Reason, ...]

    def node_type(self, name: str) -> NodeType | None:
        """Return what is known of a type of node, or None."""
        return next((row for row in self.node if row.type == name), None)

    def values_of(self, choice: Choice) -> tuple[Value, ...]:
        """Return the values of a field, wherever they stand."""
        return choice.values or next(row.values for row in self.shared if row.name == choice.use)

    def meaning_of(self, name: str) -> Meaning:
        """Return a meaning by its name."""
        return next(row for row in self.meaning if row.name == name)

    def words(self, sets: Sets) -> list[str]:
        """Return the meanings that one can ask for."""
        return [row.name for row in self.meaning if row.sets == sets]


def load_comfyui(folder: Path | None = None) -> Table:
    """Read the table of a folder of manifests; where it has none, the one sagefix comes with.

    Raises :class:`~sagefix.errors.PinError` with the line and key of what is wrong.
    """
    own = (settings.manifests_dir() if folder is None else folder) / NAME
    return _load(own if own.is_file() or folder is not None else settings.shipped_manifests() / NAME)


@lru_cache(maxsize=4)
def _load(path: Path) -> Table:
    return convert_table(path, read_table(path), Table, _problems, described_in="sagefix/comfyui/table.py")


def _problems(table: Table, path: Path) -> Iterator[Problem]:
    del path
    for key, names in (
        ("meaning", [row.name for row in table.meaning]),
        ("node", [row.type for row in table.node]),
        ("argument", [row.flag for row in table.argument]),
        ("line", [row.name for row in table.line]),
        ("reason", [row.name for row in table.reason]),
    ):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            yield (key,), f"{', '.join(twice)} stands there more than once"
    meanings = {row.name: row for row in table.meaning}
    for index, argument in enumerate(table.argument):
        if argument.means not in meanings:
            yield ("argument", index, "means"), f"there is no meaning named {argument.means!r}"
    for index, node in enumerate(table.node):
        yield from _node_problems(table, index, node, meanings)
    for kind in ("line", "reason"):
        for index, row in enumerate(getattr(table, kind)):
            try:
                re.compile(row.pattern)
            except re.error as error:
                yield (kind, index, "pattern"), f"not a regular expression: {error}"
            for position, source in enumerate(row.sources):
                if not source.startswith("https://"):
                    yield (kind, index, "sources", position), f"{source!r} is not an https address"


def _node_problems(
    table: Table, index: int, node: NodeType, meanings: dict[str, Meaning]
) -> Iterator[Problem]:
    if node.pack not in {row.name for row in table.pack}:
        yield ("node", index, "pack"), f"there is no pack named {node.pack!r}"
    if not node.sources:
        yield ("node", index, "sources"), "must name at least one"
    widgets = {name for layout in node.layouts for name in layout}
    shared = {row.name for row in table.shared}
    for position, choice in enumerate(node.choice):
        at = ("node", index, "choice", position)
        if choice.field not in widgets:
            yield (*at, "field"), f"{choice.field!r} stands in no layout"
        if bool(choice.values) == bool(choice.use):
            yield at, "exactly one of values and use must be given"
        elif choice.use and choice.use not in shared:
            yield (*at, "use"), f"there is no shared list named {choice.use!r}"
        else:
            values = table.values_of(choice)
            if choice.default not in {value.value for value in values}:
                yield (*at, "default"), f"{choice.default!r} is not among the values"
            for value in values:
                if value.means not in meanings or meanings[value.means].sets != choice.sets:
                    yield at, f"{value.value!r} means {value.means!r}, which is no {choice.sets}"
