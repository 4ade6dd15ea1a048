"""What the product says of itself: its commands, variables, make targets and manifest keys, and pages made of them."""

from __future__ import annotations

import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import typer

from sagefix.cli.app import app
from sagefix.errors import SagefixError
from sagefix.pins.model import Pin
from sagefix.proof.verify import verdict_schema


@dataclass(frozen=True)
class Option:
    """An option or, where ``names`` do not begin with a dash, an argument."""

    names: tuple[str, ...]
    help: str = ""
    value: str = ""
    choices: tuple[str, ...] = ()
    default: str = ""
    variable: str = ""
    repeatable: bool = False


@dataclass(frozen=True)
class Command:
    """A command with everything below it. ``value`` of an option is empty for a flag."""

    path: tuple[str, ...]
    text: str = ""
    example: str = ""
    options: tuple[Option, ...] = ()
    arguments: tuple[Option, ...] = ()
    children: Mapping[str, Command] = field(default_factory=dict)

    def option(self, name: str) -> Option | None:
        """Return an option by one of its names; every command has ``--help``."""
        if name in ("-h", "--help"):
            return Option((name,))
        return next((each for each in self.options if name in each.names), None)

    def leaves(self) -> Iterator[Command]:
        """Yield every command that does something, in the order of ``--help``."""
        if not self.children:
            yield self
        for child in self.children.values():
            yield from child.leaves()


def read_tree() -> Command:
    """Read the command line that there is."""
    return _command(typer.main.get_command(app), ())


def _command(found: Any, path: tuple[str, ...]) -> Command:
    children = {
        name: _command(child, (*path, name)) for name, child in getattr(found, "commands", {}).items()
    }
    hints = typing.get_type_hints(found.callback, include_extras=True) if found.callback else {}
    parameters = [(each, _option(each, hints.get(each.name, str))) for each in found.params]
    return Command(
        path=path,
        text=inspect.cleandoc(found.help or ""),
        example=(found.epilog or "").removeprefix("Example: "),
        options=tuple(made for each, made in parameters if each.param_type_name == "option"),
        arguments=tuple(made for each, made in parameters if each.param_type_name == "argument"),
        children=children,
    )


def _option(found: Any, annotation: Any) -> Option:
    """Describe a parameter by what is the same in all versions of typer: its annotation and its fields."""
    # Some versions lose the help of arguments when they meet a newer click.
    annotation, *said = typing.get_args(annotation) if hasattr(annotation, "__metadata__") else (annotation,)
    kinds = [kind for kind in _flat(annotation) if kind is not type(None)]
    kind = next((kind for kind in kinds if isinstance(kind, type) and kind is not list), str)
    choices = tuple(str(each.value) for each in kind) if issubclass(kind, enum.Enum) else ()
    word = {Path: "PATH", int: "NUMBER"}.get(kind, "TEXT")
    default = found.default.value if isinstance(found.default, enum.Enum) else found.default
    return Option(
        names=tuple(sorted(found.opts, key=len)),
        help=next((each.help for each in said), found.help) or "",
        value="" if getattr(found, "is_flag", False) else "|".join(choices) or word,
        choices=choices,
        default=default if isinstance(default, str) else "",
        variable=found.envvar if isinstance(found.envvar, str) else "",
        repeatable=list in kinds,
    )


def _flat(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin in (list, typing.Union, types.UnionType):
        if origin is list:
            yield list
        for part in typing.get_args(annotation):
            yield from _flat(part)
    else:
        yield annotation


def make_targets(makefile: str) -> frozenset[str]:
    """Return the targets of a Makefile that one can name."""
    return frozenset(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))


def code_variables(python: Iterable[str], shell: Iterable[str]) -> frozenset[str]:
    """Return the ``SAGEFIX_*`` variables that code reads or sets."""
    named = {name for text in python for name in re.findall(r"""["'](SAGEFIX_[A-Z_]+)["']""", text)}
    return frozenset(named.union(*(re.findall(r"\$\{?(SAGEFIX_[A-Z_]+)", text) for text in shell)))


def manifest_tables(
    struct: type[msgspec.Struct] = Pin, name: str = ""
) -> dict[str, dict[str, tuple[str, str]]]:
    """Return table name -> key -> its type and default in words, of the types behind a manifest."""
    tables: dict[str, dict[str, tuple[str, str]]] = {name: {}}
    hints = typing.get_type_hints(struct)
    for each in msgspec.structs.fields(struct):
        hint = hints[each.name]
        inner = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else hint
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            below = f"{name}.{each.name}".lstrip(".")
            tables |= manifest_tables(inner, below)
            word = f"`[{below}]`" if inner is hint else f"`[[{below}]]`"
        else:
            word = _type_word(hint)
        tables[name][each.name] = (word, "required" if each.required else f"`{json.dumps(each.default)}`")
    return tables


def _type_word(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return f"list of {_type_word(typing.get_args(hint)[0])}"
    return {str: "text", bool: "true or false", float: "number", int: "number"}[hint]


def commands_page(tree: Command) -> str:
    """Write ``docs/commands.md``."""
    lines = [
        "# Commands",
        "",
        "Written by `python scripts/check_docs.py --write`, from the command line itself. How options, variables and "
        "files work together stands in [settings.md](settings.md), exit statuses in [exit-codes.md](exit-codes.md).",
        "",
        *(f"- [`sagefix {' '.join(leaf.path)}`](#sagefix-{'-'.join(leaf.path)})" for leaf in tree.leaves()),
        "",
        "Every command has `--help`. `sagefix --version` prints the version, `sagefix --install-completion` sets up "
        "completion for the shell.",
    ]
    for leaf in tree.leaves():
        usage = " ".join(["sagefix", *leaf.path, "[OPTIONS]", *(_usage(each) for each in leaf.arguments)])
        lines += ["", f"## sagefix {' '.join(leaf.path)}", "", "```text", usage, "```", "", leaf.text, ""]
        lines += ["| option | meaning |", "|---|---|"]
        lines += [f"| {_names(each)} | {_meaning(each)} |" for each in (*leaf.arguments, *leaf.options)]
        if leaf.example:
            lines += ["", "Example:", "", "```sh", leaf.example, "```"]
    return "\n".join(lines) + "\n"


def _usage(argument: Option) -> str:
    return argument.names[0].upper() + ("..." if argument.repeatable else "")


def _names(option: Option) -> str:
    if not option.names[0].startswith("-"):
        return f"`{_usage(option)}`"
    value = f" {option.value}".replace("|", "\\|") if option.value else ""
    return (
        ", ".join(f"`{name}`" for name in option.names[:-1])
        + (", " if option.names[1:] else "")
        + (f"`{option.names[-1]}{value}`")
    )


def _meaning(option: Option) -> str:
    text = option.help.replace("|", "\\|")
    told = [f"Default: `{option.default}`."] if option.default else []
    return " ".join([text, *told, *([f"Variable: `{option.variable}`."] if option.variable else [])])


def exit_codes_table(errors: Sequence[type[SagefixError]]) -> str:
    """Write the table of exit statuses, between its marks."""
    rows = ["| status | name | meaning |", "|---|---|---|", "| 0 | | All is well. |"]
    # The root of the tree is what an exception becomes that no class was made for.
    rows.append(
        f"| {SagefixError.exit_code} | `{SagefixError.name}` | Something that sagefix did not expect: a bug. |"
    )
    rows += [f"| {each.exit_code} | `{each.name}` | {_first(inspect.getdoc(each))} |" for each in errors]
    return "\n".join(["<!-- generated: exit codes -->", *rows, "<!-- end -->"])


def proof_schema() -> str:
    """Write ``docs/schemas/proof.schema.json``, the JSON Schema of a proof."""
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A proof: the verdict of a verification by sagefix",
        **_tidy(verdict_schema()),
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _tidy(schema: Any) -> Any:
    """Return a schema with descriptions on one line: how docstrings are indented depends on the Python."""
    if isinstance(schema, list):
        return [_tidy(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: " ".join(value.replace("``", "`").split())
        if key == "description" and isinstance(value, str)
        else _tidy(value)
        for key, value in schema.items()
    }


def _first(doc: str | None) -> str:
    return (doc or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")
