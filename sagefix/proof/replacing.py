"""Programs that put ``sageattn`` in the place of torch's attention outright, found by reading their source.

``sageattn(**kwargs)`` swallows what it does not know: ``attn_mask`` and ``dropout_p`` are ignored in silence, so that
every masked call is wrong. https://github.com/thu-ml/SageAttention/blob/68de3797d163b89d28f9a38026c3b7313f6940d2/sageattention/core.py#L76
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from sagefix.proof.faults import Finding, parse

NAME = "scaled_dot_product_attention"
_MASK = "attn_mask"
_Function = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def find_replacements(source: bytes, package: str = "sageattention") -> list[Finding]:
    """Return where a source puts a function of ``package`` in the place of ``scaled_dot_product_attention``.

    Found are assignments to the attribute of any module, ``setattr``, the same name bound to a function of the
    package, and functions in between that never look at ``attn_mask``. Nothing is imported. A file that does not parse
    has no findings.
    """
    module = parse(source)
    if isinstance(module, Finding):
        return []
    names = _Names(module, package)
    found = []
    for line, value, how in _bindings(module):
        if what := names.replacing(value):
            found.append(
                Finding(
                    kind="replaced-sdpa",
                    line=line,
                    name=NAME,
                    text=f"{how} puts {what} in the place of torch's attention, and attn_mask and dropout_p are "
                    "ignored in silence",
                )
            )
    found += [
        Finding(
            kind="replaced-sdpa",
            line=node.lineno,
            name=NAME,
            text=f"{package}.{alias.name} is imported as {NAME}, and attn_mask and dropout_p are ignored in silence",
        )
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and _of(node.module, package)
        for alias in node.names
        if alias.asname == NAME
    ]
    return sorted(found, key=lambda each: each.line)


def _of(module: str | None, package: str) -> bool:
    return module is not None and (module == package or module.startswith(f"{package}."))


def _bindings(module: ast.Module) -> Iterator[tuple[int, ast.expr, str]]:
    """Yield every place that binds the name: its line, what it is bound to, and how it is written."""
    for node in ast.walk(module):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if _is_sdpa(target):
                    yield node.lineno, node.value, f"`{ast.unparse(target)} = {_short(node.value)}`"
        elif isinstance(node, ast.AnnAssign) and node.value is not None and _is_sdpa(node.target):
            yield node.lineno, node.value, f"`{ast.unparse(node.target)} = {_short(node.value)}`"
        elif isinstance(node, ast.Call) and _called(node.func) == "setattr" and _names_sdpa(node.args):
            yield node.lineno, node.args[2], f"`{_short(node)}`"


def _names_sdpa(arguments: list[ast.expr]) -> bool:
    return len(arguments) == 3 and isinstance(arguments[1], ast.Constant) and arguments[1].value == NAME


def _is_sdpa(target: ast.expr) -> bool:
    return (isinstance(target, ast.Attribute) and target.attr == NAME) or (
        isinstance(target, ast.Name) and target.id == NAME
    )


def _short(node: ast.expr) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else text[:57] + "..."


class _Names:
    """What names of a file stand for, wherever they are bound in it."""

    def __init__(self, module: ast.Module, package: str) -> None:
        self.modules: dict[str, str] = {}
        self.functions: dict[str, str] = {}
        self.defined: dict[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda] = {}
        self.aliases: dict[str, ast.expr] = {}
        for node in ast.walk(module):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if _of(alias.name, package):
                        self.modules[alias.asname or alias.name.split(".")[0]] = package
            elif isinstance(node, ast.ImportFrom) and _of(node.module, package):
                self.functions |= {
                    alias.asname or alias.name: f"{package}.{alias.name}" for alias in node.names
                }
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.defined[node.name] = node
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name) and target.id != NAME:
                        self.aliases[target.id] = node.value

    def replacing(self, value: ast.expr, depth: int = 4) -> str:
        """Return which function of the package a value is, or calls without a look at the mask; empty: none."""
        found = ""
        if depth == 0:
            # A name that stands for itself has no end.
            return found
        if isinstance(value, ast.Name):
            found = self._name(value.id, depth)
        elif isinstance(value, ast.Attribute):
            found = self._attribute(value)
        elif isinstance(value, ast.Lambda):
            found = self._around(value)
        elif isinstance(value, ast.IfExp):
            found = self.replacing(value.body, depth - 1) or self.replacing(value.orelse, depth - 1)
        elif isinstance(value, ast.Call) and _called(value.func) == "partial" and value.args:
            found = self.replacing(value.args[0], depth - 1)
        return found

    def _name(self, name: str, depth: int) -> str:
        if name in self.functions:
            return self.functions[name]
        if name in self.defined:
            return self._around(self.defined[name])
        return self.replacing(self.aliases[name], depth - 1) if name in self.aliases else ""

    def _attribute(self, value: ast.Attribute) -> str:
        first = value.value
        while isinstance(first, ast.Attribute):
            first = first.value
        known = isinstance(first, ast.Name) and first.id in self.modules
        return f"{self.modules[first.id]}.{value.attr}" if known and isinstance(first, ast.Name) else ""

    def _around(self, function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> str:
        """Return what a function calls of the package, unless it decides by the mask."""
        called = ""
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and not called:
                inner = node.func
                if isinstance(inner, ast.Name):
                    called = self.functions.get(inner.id, "")
                elif isinstance(inner, ast.Attribute):
                    called = self._attribute(inner)
            if isinstance(node, (ast.If, ast.IfExp, ast.Assert, ast.While)) and _mentions(node.test):
                return ""
        return f"{called} (through {getattr(function, 'name', 'a lambda')})" if called else ""


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _mentions(test: ast.expr) -> bool:
    """Tell whether a condition is about a mask, whatever the function calls it."""
    return any("mask" in node.id.lower() for node in ast.walk(test) if isinstance(node, ast.Name)) or any(
        isinstance(node, ast.Constant) and isinstance(node.value, str) and "mask" in node.value.lower()
        for node in ast.walk(test)
    )
