"""Workflow files of ComfyUI, of both kinds.

The *UI format* is what "Save" writes: ``nodes`` with their widgets in ``widgets_values``, by position, ``links``, and
``definitions.subgraphs`` with nodes of their own. The *API format* is what "Export (API)" writes and what is sent to
``/prompt``: an object of nodes with ``class_type`` and ``inputs`` by name, sometimes inside an object with the key
``prompt``. https://docs.comfy.org/specs/workflow_json
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from sagefix.comfyui.spans import KeyPath
from sagefix.errors import ComfyUIError

Form = Literal["ui", "api"]
Runs = Literal["runs", "muted", "bypassed"]

_LARGEST = 64 << 20
_BOM = "\ufeff"
# The states of a node in a graph: https://docs.comfy.org/custom-nodes/js/javascript_objects_and_hijacking
_MODES: dict[int, Runs] = {2: "muted", 4: "bypassed"}


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node of a workflow.

    ``path`` leads to it in the document. ``values`` are its ``widgets_values`` (a list, or an object by name) or its
    ``inputs``. ``linked`` maps names of widgets to the node whose output drives them, so that the value in the file
    does not count. ``shown`` are the names of widgets that stand outside, on the node of its subgraph. ``inside`` is
    the name of its subgraph (empty: none). ``unreadable`` says why its fields cannot be told (empty: they can).
    """

    id: str
    type: str
    path: KeyPath
    values: list[Any] | dict[str, Any]
    title: str = ""
    mode: Runs = "runs"
    linked: dict[str, str] = {}
    shown: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    inside: str = ""
    unreadable: str = ""

    @property
    def name(self) -> str:
        """``node 22 (WanVideoModelLoader)``, with its subgraph."""
        inside = f" in the subgraph {self.inside!r}" if self.inside else ""
        return f"node {self.id} ({self.type}){inside}"


class Workflow(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow file: its text as it is (without a byte order mark), and its nodes."""

    file: str
    form: Form
    text: str
    bom: bool
    document: Any
    nodes: tuple[Node, ...]


def read_workflow(file: Path) -> Workflow:
    """Read a workflow file.

    Raises :class:`ComfyUIError`: it cannot be read, is no JSON in UTF-8, or no workflow.
    """
    try:
        if file.stat().st_size > _LARGEST:
            raise ComfyUIError(f"{file} is larger than any workflow ({_LARGEST >> 20} MiB).")
        raw = file.read_bytes()
    except OSError as error:
        raise ComfyUIError(
            f"{file} cannot be read: {error.strerror or error}.", hint="Name a workflow file (.json)."
        ) from error
    return parse_workflow(str(file), raw)


def parse_workflow(file: str, raw: bytes) -> Workflow:
    """Like :func:`read_workflow`, for the bytes of a file."""
    try:
        text = raw.decode("utf-8")
        bom = text.startswith(_BOM)
        text = text.removeprefix(_BOM)
        document = json.loads(text)
    except UnicodeDecodeError as error:
        picture = raw.startswith((b"\x89PNG", b"RIFF", b"\xff\xd8"))
        raise ComfyUIError(
            f"{file} is {'a picture' if picture else 'not text in UTF-8'}.",
            hint="Open it in ComfyUI and save the workflow as a file."
            if picture
            else "Save the workflow from ComfyUI again.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ComfyUIError(
            f"{file} is not JSON: {error}.", hint="Save the workflow from ComfyUI again."
        ) from error
    if isinstance(document, dict) and isinstance(document.get("nodes"), list):
        form: Form = "ui"
        nodes = tuple(_ui_nodes(document))
    elif found := _api_table(document):
        form = "api"
        nodes = tuple(_api_nodes(*found))
    else:
        raise ComfyUIError(
            f"{file} is JSON, but no workflow of ComfyUI.",
            hint="A workflow holds nodes (saved) or objects with class_type (exported for the API).",
        )
    return Workflow(file=file, form=form, text=text, bom=bom, document=document, nodes=nodes)


# --- API format


def _api_table(document: Any) -> tuple[dict[str, Any], KeyPath] | None:
    """Return the table of nodes and the path to it."""
    if not isinstance(document, dict):
        return None
    for table, path in ((document, ()), (document.get("prompt"), ("prompt",))):
        if isinstance(table, dict) and any(_is_api_node(each) for each in table.values()):
            return table, path
    return None


def _is_api_node(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str)


def _api_nodes(table: dict[str, Any], path: KeyPath) -> Iterator[Node]:
    for key, node in table.items():
        if not _is_api_node(node):
            continue
        inputs = node.get("inputs")
        values = inputs if isinstance(inputs, dict) else {}
        meta = node.get("_meta")
        yield Node(
            id=key,
            type=node["class_type"],
            path=(*path, key),
            values=values,
            title=str(meta.get("title", "")) if isinstance(meta, dict) else "",
            # A link is written as the id of a node and the number of its output.
            linked={
                name: str(value[0]) for name, value in values.items() if isinstance(value, list) and value
            },
        )


# --- UI format


def _ui_nodes(document: dict[str, Any]) -> Iterator[Node]:
    shown = dict(_promoted(document))
    origins = _origins(document.get("links"))
    for index, node in enumerate(document["nodes"]):
        if isinstance(node, dict):
            yield _ui_node(node, ("nodes", index), origins, (), "")
    for number, graph in enumerate(_subgraphs(document)):
        if not isinstance(graph, dict) or not isinstance(graph.get("nodes"), list):
            continue
        inside = str(graph.get("name") or graph.get("id") or number)
        origins = _origins(graph.get("links"))
        for index, node in enumerate(graph["nodes"]):
            if isinstance(node, dict):
                key = (str(graph.get("id")), str(node.get("id")))
                path = ("definitions", "subgraphs", number, "nodes", index)
                yield _ui_node(node, path, origins, shown.get(key, ()), inside)
    yield from _group_nodes(document)


def _ui_node(
    node: dict[str, Any], path: KeyPath, origins: dict[Any, str], shown: tuple[str, ...], inside: str
) -> Node:
    values = node.get("widgets_values")
    sockets = [each for each in node.get("inputs") or () if isinstance(each, dict)]
    widgets = {_widget(each): each for each in sockets if _widget(each)}
    return Node(
        id=str(node.get("id")),
        type=str(node.get("type")),
        path=path,
        values=values if isinstance(values, list | dict) else [],
        title=str(node.get("title") or ""),
        mode=_MODES.get(node.get("mode", 0), "runs") if isinstance(node.get("mode", 0), int) else "runs",
        linked={
            name: origins.get(each.get("link"), "?")
            for name, each in widgets.items()
            if each.get("link") is not None
        },
        shown=shown,
        listed=tuple(widgets),
        inside=inside,
    )


def _widget(socket: dict[str, Any]) -> str:
    widget = socket.get("widget")
    return str(widget.get("name") or "") if isinstance(widget, dict) else ""


def _origins(links: Any) -> dict[Any, str]:
    """Map links to the node each begins at; in subgraphs links are objects, and -10 is the subgraph's own input."""
    found: dict[Any, str] = {}
    for link in links if isinstance(links, list) else ():
        if isinstance(link, list) and len(link) > 1:
            number, origin = link[0], link[1]
        elif isinstance(link, dict):
            number, origin = link.get("id"), link.get("origin_id")
        else:
            continue
        if isinstance(number, int | str):
            found[number] = "the outside of the subgraph" if origin == -10 else f"node {origin}"
    return found


def _subgraphs(document: dict[str, Any]) -> list[Any]:
    definitions = document.get("definitions")
    graphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    return graphs if isinstance(graphs, list) else []


def _promoted(document: dict[str, Any]) -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
    """Yield the widgets that nodes of subgraphs show outside: ((subgraph, node), names).

    Newer versions of the interface keep the value on the outer node, older ones on the inner one.
    https://docs.comfy.org/custom-nodes/js/subgraphs
    """
    found: dict[tuple[str, str], list[str]] = {}
    everywhere = [document, *(graph for graph in _subgraphs(document) if isinstance(graph, dict))]
    for graph in everywhere:
        for node in graph.get("nodes") or ():
            properties = node.get("properties") if isinstance(node, dict) else None
            proxies = properties.get("proxyWidgets") if isinstance(properties, dict) else None
            for proxy in proxies if isinstance(proxies, list) else ():
                if isinstance(proxy, list) and len(proxy) > 1:
                    found.setdefault((str(node.get("type")), str(proxy[0])), []).append(str(proxy[1]))
    for key, names in found.items():
        yield key, tuple(names)


def _group_nodes(document: dict[str, Any]) -> Iterator[Node]:
    """Yield the nodes inside group nodes, the forerunners of subgraphs, whose values stand in a list of their own."""
    extra = document.get("extra")
    groups = extra.get("groupNodes") if isinstance(extra, dict) else None
    for name, group in (groups if isinstance(groups, dict) else {}).items():
        for index, node in enumerate(group.get("nodes") or () if isinstance(group, dict) else ()):
            if isinstance(node, dict):
                yield Node(
                    id=str(node.get("id", index)),
                    type=str(node.get("type")),
                    path=("extra", "groupNodes", name, "nodes", index),
                    values=[],
                    inside=str(name),
                    unreadable="it is part of a group node, whose values stand in one list in an order that the "
                    "interface makes up; convert it to a subgraph or back to nodes",
                )
