"""The fields of a workflow's nodes that choose attention and precision: where each stands, and what it may hold.

In the API format a field has a name. In the UI format it has a place in a list, and which one depends on the version
of the node that wrote the file. The node that is installed knows, else the table does. What both leave open is not
guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from sagefix.comfyui.nodepacks import InstalledNode
from sagefix.comfyui.spans import KeyPath
from sagefix.comfyui.table import Choice, NodeType, Sets, Table, Value
from sagefix.comfyui.workflows import Node, Workflow

Installed = Callable[[str, str], InstalledNode | None]
"""Gives the installed node of a type and its pack."""


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A field of a node.

    ``value`` is what the file holds (None: nothing, so that ``default`` counts). ``path`` leads to the value in the
    document (empty: it is not there). ``allowed`` are the values that may be written, ``allowed_by`` says who knows.
    ``unreadable`` says why the value cannot be told, ``fixed`` why another one cannot be written; empty: it can.
    """

    node: Node
    name: str
    sets: Sets
    default: str
    value: str | None
    path: KeyPath
    allowed: tuple[str, ...]
    allowed_by: str
    values: tuple[Value, ...]
    pack: str
    loads: bool = False
    unreadable: str = ""
    fixed: str = ""
    sources: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """``node 22 (WanVideoModelLoader): attention_mode``."""
        return f"{self.node.name}: {self.name}"

    @property
    def holds(self) -> str:
        """The value that counts."""
        return self.default if self.value is None else self.value

    def row(self, value: str) -> Value | None:
        """Return what the table says about a value."""
        return next((each for each in self.values if each.value == value), None)


def find_fields(workflow: Workflow, table: Table, installed: Installed) -> tuple[Field, ...]:
    """Return every field of a known node that chooses attention or precision."""
    found = []
    for node in workflow.nodes:
        kind = table.node_type(node.type)
        if kind is not None:
            pack = installed(kind.pack, kind.type)
            found += [_field(workflow, node, kind, choice, table, pack) for choice in kind.choice]
    return tuple(each for each in found if each is not None)


def suspects(workflow: Workflow, table: Table) -> Iterator[tuple[Node, str]]:
    """Yield nodes of unknown types that look as if they chose attention, with the field or value that says so."""
    pattern = re.compile(table.suspect.values)
    for node in workflow.nodes:
        if table.node_type(node.type) is not None or node.unreadable:
            continue
        pairs = node.values.items() if isinstance(node.values, dict) else enumerate(node.values)
        for key, value in pairs:
            if key in table.suspect.fields or (isinstance(value, str) and pattern.match(value)):
                yield node, f"{key} = {value}" if isinstance(key, str) else str(value)
                break


def _field(
    workflow: Workflow,
    node: Node,
    kind: NodeType,
    choice: Choice,
    table: Table,
    pack: InstalledNode | None,
) -> Field | None:
    values = table.values_of(choice)
    known = pack.input(choice.field) if pack else None
    if pack is not None and known is None:
        # The installed version has no such input; a file of another version may still hold it.
        pack = None
    options = known.options if known else None
    allowed = (
        tuple(str(each) for each in options) if options is not None else tuple(each.value for each in values)
    )
    where: str | int | None
    if workflow.form == "api" or isinstance(node.values, dict):
        where, unreadable = choice.field, node.unreadable
    else:
        where, unreadable = _position(node, kind, choice, table, pack)
        if where is None and not unreadable:
            return None
    held, value = _held(node, where)
    unreadable = unreadable or _not_a_choice(value, held, choice.field, node)
    inner = "inputs" if workflow.form == "api" else "widgets_values"
    there = held and not unreadable and where is not None
    return Field(
        node=node,
        name=choice.field,
        sets=choice.sets,
        default=choice.default,
        value=value if held and isinstance(value, str) and not unreadable else None,
        path=(*node.path, inner, where) if there and where is not None else (),
        allowed=allowed,
        allowed_by=pack.named if pack and options is not None else f"the table, for {kind.pack}",
        values=values,
        pack=kind.pack,
        loads=kind.loads,
        unreadable=unreadable,
        fixed=unreadable or _not_ours(node, choice.field, held),
        sources=kind.sources,
    )


def _held(node: Node, where: str | int | None) -> tuple[bool, Any]:
    if isinstance(node.values, dict):
        return (
            (True, node.values[where]) if isinstance(where, str) and where in node.values else (False, None)
        )
    if isinstance(where, int) and where < len(node.values):
        return True, node.values[where]
    return False, None


def _not_a_choice(value: Any, held: bool, field: str, node: Node) -> str:
    if field in node.linked:
        return f"its value comes from {_origin(node.linked[field])}"
    if held and not isinstance(value, str):
        return f"it holds {value!r}, which is no value of this field"
    return ""


def _origin(linked: str) -> str:
    return linked if not linked.isdigit() else f"node {linked}"


def _not_ours(node: Node, field: str, held: bool) -> str:
    if field in node.shown:
        return (
            "it stands on the node of its subgraph, too, and which of both counts depends on the version of the "
            "interface; set it there, in ComfyUI"
        )
    if not held:
        return "the file does not hold it, so its default counts; open and save it in ComfyUI once"
    return ""


def _position(
    node: Node, kind: NodeType, choice: Choice, table: Table, pack: InstalledNode | None
) -> tuple[int | None, str]:
    """Return where a field stands in ``widgets_values``, or why nobody can tell; neither: this version has none."""
    assert isinstance(node.values, list)
    if node.unreadable:
        return None, node.unreadable
    if not node.values:
        return None, "the file holds no values for this node"
    known = {each.field: {value.value for value in table.values_of(each)} for each in kind.choice}
    fitting = [layout for layout in kind.layouts if _fits(node.values, layout, kind, known)]
    by_table = {layout.index(choice.field) if choice.field in layout else None for layout in fitting}
    installed = pack.position(choice.field) if pack else None
    # A value that the installed node has and the table does not is a value of the field, too.
    mine = known[choice.field] | {str(each) for each in _options(pack, choice.field)}
    if installed is not None and (installed >= len(node.values) or node.values[installed] in mine):
        places: set[int | None] = {installed}
        if by_table and by_table != places and installed < len(node.values):
            return None, (
                f"the installed {kind.pack} puts it at place {installed + 1}, and the file looks as if it was written "
                "by another version; open and save it in ComfyUI once"
            )
    else:
        places = by_table
    if len(places) != 1:
        return None, (
            f"its {len(node.values)} values are in no order that is known of {kind.type}"
            + ("" if pack else f", and {kind.pack} is not at hand to be asked")
        )
    (place,) = places
    if place is not None and len(node.listed) == len(node.values) and choice.field in node.listed:
        listed = node.listed.index(choice.field)
        if listed != place:
            return None, f"the file lists it as widget {listed + 1}, and it is known as widget {place + 1}"
    return place, ""


def _options(pack: InstalledNode | None, field: str) -> tuple[Any, ...]:
    found = pack.input(field) if pack else None
    return found.options or () if found else ()


def _fits(values: list[Any], layout: tuple[str, ...], kind: NodeType, known: dict[str, set[str]]) -> bool:
    """Tell whether values can be those of a layout: each one that has a list of values has one of them."""
    for name, value in zip(layout, values, strict=False):
        if name in known:
            if not isinstance(value, str) or value not in known[name]:
                return False
        elif name in kind.known and not any(
            value == each and type(value) is type(each) for each in kind.known[name]
        ):
            return False
    return True
