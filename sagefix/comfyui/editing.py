"""Other values into workflow files: the bytes of those values, and no other byte."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sagefix.comfyui.fields import Field
from sagefix.comfyui.spans import AmbiguousError, find_span
from sagefix.comfyui.table import Sets, Table
from sagefix.comfyui.workflows import Workflow, parse_workflow
from sagefix.errors import ComfyUIError, UsageError
from sagefix.files import disk_errors, write_bytes

BACKUP = ".before-sagefix"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A value that is exchanged for another."""

    node: str
    type: str
    inside: str
    field: str
    before: str
    after: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A field that was asked for and cannot be set, and why."""

    node: str
    type: str
    field: str
    why: str


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of a file, as bytes; without ``changes`` they are those that it has.

    ``already`` are fields that hold what was asked for.
    """

    file: str
    before: bytes
    after: bytes
    changes: tuple[Change, ...]
    already: tuple[str, ...]
    refused: tuple[Refusal, ...]


def wanted_value(field: Field, asked: str) -> str | None:
    """Return the value of a field that is what was asked for, by its own name or by what it means; None: there is none.

    A field whose value means it already keeps that value. Of several values the first of the table is taken that may be
    written.
    """
    if asked in field.allowed:
        return asked
    fitting = [
        row.value
        for row in field.values
        if (row.means == asked or asked in row.stands_for) and row.value in field.allowed
    ]
    if field.value in fitting:
        return field.value
    return next(iter(fitting), None)


def check_words(table: Table, asked: dict[Sets, str]) -> None:
    """Refuse what is neither a meaning nor a value of any field. Raises :class:`UsageError`."""
    for sets, word in asked.items():
        values = {
            value.value
            for node in table.node
            for choice in node.choice
            if choice.sets == sets
            for value in table.values_of(choice)
        }
        if word not in values and word not in table.words(sets):
            raise UsageError(
                f"--{sets} {word} is nothing that a node is known to have.",
                hint=f"Choose one of: {', '.join(table.words(sets))}; or a value of a node: "
                f"{', '.join(sorted(values))}.",
            )


def plan_edit(
    workflow: Workflow, raw: bytes, fields: Sequence[Field], asked: dict[Sets, str], nodes: Iterable[str] = ()
) -> Edit:
    """Work out what a file becomes; nothing is written. ``nodes`` narrows it to nodes of these ids.

    Raises :class:`ComfyUIError` when the file has no field of the kind that was asked for, or not a node of ``nodes``.
    """
    only = set(nodes)
    if missing := only - {node.id for node in workflow.nodes}:
        raise ComfyUIError(
            f"{workflow.file} has no node {', '.join(sorted(missing))}.",
            hint="`sagefix comfyui check` lists the nodes that choose attention or precision.",
        )
    concerned = [field for field in fields if field.sets in asked and (not only or field.node.id in only)]
    for sets in asked:
        if not any(field.sets == sets for field in concerned):
            raise ComfyUIError(
                f"{workflow.file}: none of its nodes is known to choose {sets}.",
                hint="Attention is then what ComfyUI was started with: --use-sage-attention."
                if sets == "attention"
                else "The nodes that load its model have no such field that sagefix knows.",
            )
    changes: list[tuple[Field, str]] = []
    already: list[str] = []
    refused: list[Refusal] = []
    for field in concerned:
        asked_for = asked[field.sets]
        value = wanted_value(field, asked_for)
        if not field.unreadable and value is not None and value == field.holds:
            already.append(field.label)
        elif field.fixed:
            refused.append(_refusal(field, field.fixed))
        elif value is None:
            refused.append(
                _refusal(
                    field,
                    f"{asked_for} is not among its values ({', '.join(field.allowed)}), says {field.allowed_by}",
                )
            )
        else:
            changes.append((field, value))
    after, clashes = exchange(workflow, raw, changes)
    refused += clashes
    return Edit(
        file=workflow.file,
        before=raw,
        after=after,
        changes=tuple(
            Change(
                node=field.node.id,
                type=field.node.type,
                inside=field.node.inside,
                field=field.name,
                before=field.holds,
                after=value,
            )
            for field, value in changes
        ),
        already=tuple(already),
        refused=tuple(refused),
    )


def _refusal(field: Field, why: str) -> Refusal:
    return Refusal(node=field.node.id, type=field.node.type, field=field.name, why=why)


def exchange(
    workflow: Workflow, raw: bytes, changes: Sequence[tuple[Field, str]]
) -> tuple[bytes, list[Refusal]]:
    """Return the bytes of a file with other values at the places of fields, and fields that have no one place."""
    if not changes:
        return raw, []
    spans = []
    refused = []
    for field, value in changes:
        try:
            spans.append((find_span(workflow.text, field.path), json.dumps(value)))
        except AmbiguousError as error:
            refused.append(_refusal(field, f"{error}, and programs disagree about which one counts"))
    if refused:
        return raw, refused
    text = workflow.text
    for span, written in sorted(spans, reverse=True):
        text = text[: span.start] + written + text[span.end :]
    after = (("\ufeff" if workflow.bom else "") + text).encode("utf-8")
    _require_only(workflow, after, changes)
    return after, []


def _require_only(workflow: Workflow, after: bytes, changes: Sequence[tuple[Field, str]]) -> None:
    """Read what was made, put the earlier values back, and refuse if it is not what there was before."""
    document: Any = parse_workflow(workflow.file, after).document
    for field, value in changes:
        inner = document
        for key in field.path[:-1]:
            inner = inner[key]
        if inner[field.path[-1]] != value:
            break
        inner[field.path[-1]] = field.value
    else:
        # Texts are compared, since NaN equals nothing.
        if json.dumps(document) == json.dumps(workflow.document):
            return
    raise ComfyUIError(
        f"{workflow.file} was not changed: the edit would have touched more than it should.",
        hint="This is a bug: please report it with the file.",
    )


def write_edit(edit: Edit) -> Path:
    """Keep a backup, then write the file aside and move it into place; return the backup.

    A backup is never overwritten; one that holds the same bytes already serves. Through a link the file behind it is
    written. Raises :class:`ComfyUIError` when somebody else changed the file since it was read; :class:`DiskError`.
    """
    path = Path(edit.file).resolve()
    with disk_errors(path, f"write {path.name}"):
        mode = path.stat().st_mode & 0o7777
        backup = _keep(path, edit.before, mode)
        if path.read_bytes() != edit.before:
            raise ComfyUIError(
                f"{edit.file} was changed by somebody else meanwhile and was left alone.",
                hint="Close it in ComfyUI, or save it there first, and try again.",
            )
        write_bytes(path, edit.after, mode=mode)
    return backup


def _keep(path: Path, data: bytes, mode: int) -> Path:
    # Not .json at the end: ComfyUI lists every .json of its folder of workflows.
    number = 0
    while True:
        backup = path.with_name(f"{path.name}{BACKUP}{f'.{number}' if number else ''}")
        try:
            with backup.open("xb") as stream:
                stream.write(data)
        except FileExistsError:
            if backup.is_file() and backup.read_bytes() == data:
                return backup
            number += 1
        else:
            backup.chmod(mode)
            return backup
