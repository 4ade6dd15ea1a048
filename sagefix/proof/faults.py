"""Known faults of source, found by reading it: no GPU, no import.

Each rule takes the bytes of one file and returns what it found. A rule knows the *shape* of a fault; which
files of which package to look at, on which archs it matters and why stands in the pin (``[[fault]]``).
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator, Mapping

import msgspec

_CONFLICT = re.compile(rb"^(?:<{7}|={7}|>{7}|\|{7})(?: [^\r\n]*)?\r?$", re.MULTILINE)
# `impl_abstract` is the older name of `register_fake`: https://docs.pytorch.org/docs/stable/library.html
_FAKE = frozenset({"register_fake", "impl_abstract"})
_OP = frozenset({"custom_op"})
_OWN_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A fault at a line of a file (lines count from 1, 0: unknown).

    ``name`` is what is affected (an operator; empty when the whole file is), ``text`` a clause without the
    file's name.
    """

    kind: str
    line: int
    text: str
    name: str = ""


def parse(source: bytes, *, python: tuple[int, int] | None = None) -> ast.Module | Finding:
    """Parse a file as the given Python would (default: the running one), or find that it is ``unparsable``.

    Only grammar up to the running Python's is known, so a file that uses a newer one does not parse either.
    """
    try:
        with warnings.catch_warnings():
            # Invalid escapes and the like are the author's business, and would go to our standard error.
            warnings.simplefilter("ignore")
            return ast.parse(source, feature_version=python)
    except SyntaxError as error:
        marker = _CONFLICT.search(source)
        if marker is not None:
            line = source.count(b"\n", 0, marker.start()) + 1
            return Finding(
                kind="unparsable",
                line=line,
                text=f"conflict markers of an unfinished merge stand at line {line}",
            )
        return Finding(
            kind="unparsable",
            line=error.lineno or 0,
            text=f"line {error.lineno or '?'}: {error.msg or 'syntax error'}",
        )
    except (ValueError, RecursionError, MemoryError) as error:
        return Finding(kind="unparsable", line=0, text=str(error) or "nested too deeply to parse")


def unparsable(source: bytes, *, python: tuple[int, int] | None = None) -> list[Finding]:
    """Find out whether a file does not parse; conflict markers are named as such."""
    parsed = parse(source, python=python)
    return [parsed] if isinstance(parsed, Finding) else []


def shadowed_custom_ops(source: bytes, *, python: tuple[int, int] | None = None) -> list[Finding]:
    """Find operators whose Python name ends up bound to their fake implementation.

    ``@custom_op(...) def f`` followed by ``@register_fake(...) def f``: ``register_fake`` returns the plain
    function, so the module's ``f`` is now the fake one, callers never reach the operator, and its output
    stays uninitialised memory. Only the *last* binding of the name in the module's own scope counts:
    functions and methods inside have scopes of their own, and a later assignment may bring the operator back.
    Source: https://docs.pytorch.org/docs/stable/library.html (torch.library.register_fake).

    A file that does not parse has no findings of this rule.
    """
    module = parse(source, python=python)
    if isinstance(module, Finding):
        return []
    aliases = _aliases(module)
    operators: dict[str, tuple[ast.stmt, str]] = {}
    last: dict[str, ast.AST] = {}
    for name, node in _bindings(module):
        last[name] = node
        if isinstance(node, _Function) and (decorator := _decorated_by(node, _OP, aliases)) is not None:
            operators[name] = (node, _operator_name(decorator) or name)
    findings = []
    for name, (operator, qualified) in operators.items():
        final = last[name]
        if isinstance(final, _Function) and _decorated_by(final, _FAKE, aliases) is not None:
            findings.append(
                Finding(
                    kind="shadowed-custom-op",
                    line=final.lineno,
                    name=qualified,
                    text=f"the operator {qualified} (line {operator.lineno}) is replaced by its fake "
                    f"implementation of the same name (line {final.lineno}), so its kernel is never launched",
                )
            )
    return findings


RULES: Mapping[str, Callable[[bytes], list[Finding]]] = {
    "shadowed-custom-op": shadowed_custom_ops,
    "unparsable": unparsable,
}
"""The rules by the ``kind`` of a pin's fault."""


def _bindings(scope: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield every name bound in a scope with the node that binds it, in the order of the source.

    Blocks (``if``, ``try``, ``with``, loops) belong to the scope; functions and classes have their own.
    """
    # Not recursive: an expression may be nested deeper than Python's own stack.
    waiting = [*ast.iter_child_nodes(scope)][::-1]
    while waiting:
        child = waiting.pop()
        if isinstance(child, (*_Function, ast.ClassDef)):
            yield child.name, child
        elif isinstance(child, (ast.Import, ast.ImportFrom)):
            for alias in child.names:
                yield alias.asname or alias.name.split(".")[0], child
        elif isinstance(child, ast.Name) and not isinstance(child.ctx, ast.Load):
            yield child.id, child
        elif not isinstance(child, _OWN_SCOPE):
            waiting += [*ast.iter_child_nodes(child)][::-1]


def _aliases(module: ast.Module) -> dict[str, str]:
    """Return what imported functions are called here: ``from torch.library import custom_op as op``."""
    return {
        alias.asname: alias.name
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }


def _decorated_by(
    function: ast.FunctionDef | ast.AsyncFunctionDef, names: frozenset[str], aliases: Mapping[str, str]
) -> ast.expr | None:
    """Return the decorator that is one of ``names`` by the last part of its path, called or not."""
    for decorator in function.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(target, ast.Attribute):
            name = target.attr
        elif isinstance(target, ast.Name):
            name = aliases.get(target.id, target.id)
        else:
            continue
        if name in names:
            return decorator
    return None


def _operator_name(decorator: ast.expr) -> str:
    """Return the operator's qualified name, if it is written as a literal."""
    if isinstance(decorator, ast.Call):
        named = [keyword.value for keyword in decorator.keywords if keyword.arg == "name"]
        for argument in [*decorator.args[:1], *named]:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                return argument.value
    return ""
