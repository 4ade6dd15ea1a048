"""Packs of nodes in ``custom_nodes``: which version is installed, and which inputs its nodes have.

A node is Python code of somebody else. It is read with ``ast`` and never imported.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Kind = Literal["widget", "socket", "unknown"]

_LARGEST = 4 << 20
# https://docs.comfy.org/custom-nodes/backend/datatypes: the types that have a widget of their own.
_WIDGETS = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
_V3_WIDGETS = frozenset({"Int", "Float", "String", "Boolean", "Combo", "MultiCombo", "Color"})
# The interface puts a second widget behind these: what to do with the value after a run.
_SEEDS = frozenset({"seed", "noise_seed"})
_UNKNOWN = object()


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """An input of a node as its source declares it.

    ``options`` are the values it may have, None where they are not a plain list. ``second`` says that a second widget
    stands behind it in ``widgets_values``.
    """

    name: str
    kind: Kind
    options: tuple[Any, ...] | None = None
    second: bool = False


class InstalledNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node of an installed pack. ``version`` is that of the pack (empty: it has none)."""

    type: str
    pack: str
    version: str
    file: str
    inputs: tuple[Input, ...]

    @property
    def named(self) -> str:
        """``ComfyUI-WanVideoWrapper 1.0.6, as it is installed``."""
        return f"{' '.join(filter(None, [self.pack, self.version]))}, as it is installed"

    def input(self, name: str) -> Input | None:
        """Return an input by its name, or None."""
        return next((each for each in self.inputs if each.name == name), None)

    def position(self, name: str) -> int | None:
        """Return the place of a widget in ``widgets_values``; None where something before it is not understood."""
        at = 0
        for each in self.inputs:
            if each.kind == "unknown":
                return None
            if each.name == name:
                return at if each.kind == "widget" else None
            if each.kind == "widget":
                at += 2 if each.second else 1
        return None


def find_pack(custom_nodes: Path, name: str) -> Path | None:
    """Return the folder of a pack, whatever the case of its letters; None when it is not installed."""
    try:
        folders = sorted(custom_nodes.iterdir())
    except OSError:
        return None
    return next((each for each in folders if each.name.lower() == name.lower() and each.is_dir()), None)


def pack_version(folder: Path) -> str:
    """Return the version that ``pyproject.toml`` of a pack states; empty without one."""
    try:
        table = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    project = table.get("project")
    return str(project.get("version", "")) if isinstance(project, dict) else ""


def installed_node(folder: Path, pack: str, node_type: str) -> InstalledNode | None:
    """Read the inputs of a node from the sources of its pack; None when they cannot be told."""
    for file in sorted(folder.rglob("*.py")):
        try:
            if file.stat().st_size > _LARGEST:
                continue
            text = file.read_text(encoding="utf-8", errors="replace")
            if f"class {node_type}" not in text:
                continue
            tree = ast.parse(text)
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        for made in ast.walk(tree):
            if isinstance(made, ast.ClassDef) and made.name == node_type:
                inputs = tuple(_inputs(made, _constants(tree)))
                if inputs:
                    return InstalledNode(
                        type=node_type,
                        pack=pack,
                        version=pack_version(folder),
                        file=str(file),
                        inputs=inputs,
                    )
    return None


def _constants(tree: ast.Module) -> dict[str, Any]:
    """Return the names that a module gives to plain values at its top."""
    found: dict[str, Any] = {}
    for made in tree.body:
        if isinstance(made, ast.Assign) and len(made.targets) == 1 and isinstance(made.targets[0], ast.Name):
            name = made.targets[0].id
            # A name that is bound twice has no value that can be read off.
            found[name] = _UNKNOWN if name in found else _plain(made.value, found)
    return found


def _plain(value: ast.expr, names: dict[str, Any]) -> Any:
    """Return the value of an expression of literals and known names, or ``_UNKNOWN``."""
    if isinstance(value, ast.Name):
        return names.get(value.id, _UNKNOWN)
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        left, right = _plain(value.left, names), _plain(value.right, names)
        return left + right if isinstance(left, list) and isinstance(right, list) else _UNKNOWN
    if isinstance(value, ast.List | ast.Tuple):
        parts = [_plain(each, names) for each in value.elts]
        return _UNKNOWN if _UNKNOWN in parts else parts
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _UNKNOWN


def _inputs(made: ast.ClassDef, names: dict[str, Any]) -> Iterator[Input]:
    functions = {each.name: each for each in made.body if isinstance(each, ast.FunctionDef)}
    if (function := functions.get("INPUT_TYPES")) is not None:
        returns = [each for each in ast.walk(function) if isinstance(each, ast.Return)]
        if len(returns) == 1 and isinstance(returns[0].value, ast.Dict):
            yield from _v1_inputs(returns[0].value, names)
    elif (function := functions.get("define_schema")) is not None:
        for call in ast.walk(function):
            listed = (
                next((each.value for each in call.keywords if each.arg == "inputs"), None)
                if isinstance(call, ast.Call)
                else None
            )
            if isinstance(listed, ast.List):
                yield from (_v3_input(each, names) for each in listed.elts)
                return


def _v1_inputs(table: ast.Dict, names: dict[str, Any]) -> Iterator[Input]:
    """Read ``{"required": {name: (type, options)}, "optional": {...}}``; hidden inputs have no widget."""
    parts = {_plain(key, names): value for key, value in zip(table.keys, table.values, strict=True) if key}
    for part in ("required", "optional"):
        fields = parts.get(part)
        if fields is None:
            continue
        if not isinstance(fields, ast.Dict):
            yield Input(name="", kind="unknown")
            continue
        for key, value in zip(fields.keys, fields.values, strict=True):
            name = _plain(key, names) if key is not None else _UNKNOWN
            yield _v1_input(name, value, names) if isinstance(name, str) else Input(name="", kind="unknown")


def _v1_input(name: str, value: ast.expr, names: dict[str, Any]) -> Input:
    unknown = Input(name=name, kind="unknown")
    if not isinstance(value, ast.Tuple) or not value.elts:
        return unknown
    extra = _keywords(value.elts[1], names) if len(value.elts) > 1 else {}
    if extra is None:
        return unknown
    kind = _plain(value.elts[0], names)
    second = bool(extra.get("control_after_generate"))
    options: Any = None
    if extra.get("forceInput") or (isinstance(kind, str) and kind not in _WIDGETS):
        return Input(name=name, kind="socket")
    if isinstance(kind, str):
        options = extra.get("options")
        second = second or (kind == "INT" and name in _SEEDS)
    elif isinstance(kind, list):
        options = kind
    elif not _is_list(value.elts[0]):
        return unknown
    return Input(
        name=name, kind="widget", options=tuple(options) if isinstance(options, list) else None, second=second
    )


def _keywords(extra: ast.expr, names: dict[str, Any]) -> dict[str, Any] | None:
    """Return the options of an input; values that cannot be read are left out, None for what is no table."""
    if not isinstance(extra, ast.Dict):
        return None
    found: dict[str, Any] = {}
    for key, value in zip(extra.keys, extra.values, strict=True):
        name = _plain(key, names) if key is not None else _UNKNOWN
        plain = _plain(value, names)
        if isinstance(name, str) and plain is not _UNKNOWN:
            found[name] = plain
        elif not isinstance(name, str) or name in ("forceInput", "control_after_generate"):
            return None
    return found


def _is_list(value: ast.expr) -> bool:
    """Tell whether an expression makes a list: of files of a folder, most of all."""
    if isinstance(value, ast.List | ast.ListComp):
        return True
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        return _is_list(value.left) and _is_list(value.right)
    if isinstance(value, ast.Call):
        called = value.func
        name = (
            called.attr
            if isinstance(called, ast.Attribute)
            else called.id
            if isinstance(called, ast.Name)
            else ""
        )
        return name in ("get_filename_list", "list", "sorted")
    return False


def _v3_input(value: ast.expr, names: dict[str, Any]) -> Input:
    """Read ``io.Combo.Input("name", options=[...])``. https://docs.comfy.org/custom-nodes/v3_migration"""
    call = value.func if isinstance(value, ast.Call) else None
    if (
        not isinstance(value, ast.Call)
        or not isinstance(call, ast.Attribute)
        or call.attr != "Input"
        or not value.args
        or not isinstance(name := _plain(value.args[0], names), str)
    ):
        return Input(name="", kind="unknown")
    keywords = {each.arg: _plain(each.value, names) for each in value.keywords if each.arg}
    hidden = keywords.get("force_input", False)
    second = keywords.get("control_after_generate", False)
    if _UNKNOWN in (hidden, second):
        return Input(name=name, kind="unknown")
    kind = call.value.attr if isinstance(call.value, ast.Attribute) else ""
    if kind not in _V3_WIDGETS or hidden:
        # `io.Custom("TYPE").Input` and the likes of `io.Model.Input` are sockets.
        return Input(name=name, kind="socket")
    options = keywords.get("options")
    return Input(
        name=name,
        kind="widget",
        options=tuple(options) if isinstance(options, list) else None,
        second=bool(second) or (kind == "Int" and name in _SEEDS),
    )
