"""Whether what a workflow chooses fits: the GPU, the packages, the build that is installed, and the rest of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from packaging.version import InvalidVersion, Version

from sagefix.checks import NUMBERS, Check, Status
from sagefix.comfyui.fields import Field, suspects
from sagefix.comfyui.launching import Launch
from sagefix.comfyui.table import Meaning, Table, Value
from sagefix.comfyui.workflows import Workflow

SAGE = "sageattention"


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the SageAttention that is installed.

    ``broken`` is what its files show to be wrong, ``proof`` what the wheelhouse knows of its wheel on this kind of GPU:
    a level, ``failed:LEVEL``, or empty.
    """

    version: str
    broken: tuple[Check, ...] = ()
    proof: str = ""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a workflow will run. ``packages`` is None where no Python is known; ``archs`` is empty where no GPU is.

    ``name`` is how commands name the target: ``--comfyui DIR``, ``--python PATH`` or nothing.
    """

    name: str = ""
    archs: tuple[str, ...] = ()
    torch: str = ""
    packages: dict[str, str] | None = None
    build: Build | None = None
    launches: tuple[Launch, ...] = ()


def judge_workflow(
    workflow: Workflow, fields: Sequence[Field], table: Table, around: Surroundings
) -> Iterator[Check]:
    """Yield a check for each field that chooses, and for what several of them come to together."""
    file = Path(workflow.file).name
    for field in fields:
        rest = [
            table.meaning_of(row.means).name
            for other in fields
            if other.node == field.node
            and other is not field
            and not other.unreadable
            and (row := other.row(other.holds))
        ]
        yield _judge_field(workflow, file, field, rest, table, around)
    yield from _apart(file, fields, table)
    for node, sign in suspects(workflow, table):
        yield Check(
            name=f"{file}: {node.name}",
            status="warning",
            found=f"It looks as if it chose attention ({sign}), and sagefix does not know this type of node.",
            fix="Look at it in ComfyUI; sagefix leaves it alone.",
        )
    if not fields:
        yield _by_launch(file, around)


def _judge_field(
    workflow: Workflow, file: str, field: Field, rest: Sequence[str], table: Table, around: Surroundings
) -> Check:
    name = f"{file}: {field.label}"
    if field.unreadable:
        return Check(
            name=name,
            status="warning",
            found=f"It cannot be told: {field.unreadable}.",
            sources=field.sources,
        )
    held = f"{field.holds} (its default)" if field.value is None else field.holds
    if field.holds not in field.allowed:
        return Check(
            name=name,
            status="failure",
            found=f"{held} is not among its values ({', '.join(field.allowed)}), says {field.allowed_by}.",
            fix=f"Update {field.pack}, or choose another: {_set(workflow, field)}.",
            sources=field.sources,
        )
    row = field.row(field.holds)
    if row is None:
        return Check(
            name=name,
            status="warning",
            found=f"{held}, which {field.allowed_by} has and sagefix does not know.",
        )
    meaning = table.meaning_of(row.means)
    told = f"{held}: {meaning.says}" + (f", {row.note}" if row.note else "")
    status, wrong, fix = _fits(workflow, field, row, meaning, rest, around)
    muted = "" if field.node.mode == "runs" else f" The node is {field.node.mode}."
    if field.node.mode != "runs" and status == "failure":
        status = "warning"
    return Check(
        name=name,
        status=status,
        found=f"{told}. {wrong}{muted}".replace("..", ".").strip(),
        fix=fix,
        sources=() if status == "ok" else tuple(dict.fromkeys((*meaning.sources, *field.sources))),
    )


class _Question(msgspec.Struct, frozen=True):
    """A value that is asked about: what it means, what else its node holds, and how to turn back."""

    row: Value
    meaning: Meaning
    rest: Sequence[str]
    around: Surroundings
    to: Callable[[str], str]
    back: str


_Answer = tuple[Status, str, str]
"""Whether a value fits, what is wrong, and what to do."""


def _fits(
    workflow: Workflow,
    field: Field,
    row: Value,
    meaning: Meaning,
    rest: Sequence[str],
    around: Surroundings,
) -> _Answer:
    """Give the first answer that anything has to a value; what nothing has an answer to fits."""
    back = _set(workflow, field, "sdpa" if field.sets == "attention" else "bf16")
    asked = _Question(row, meaning, rest, around, lambda word: f"{_set(workflow, field, word)}.", f"{back}.")
    for look in (_gpu, _packages, _torch, _together, _kernels):
        if (answer := look(asked)) is not None:
            return answer
    return "ok", f"{meaning.note}." if meaning.note and not meaning.not_with else "", ""


def _gpu(asked: _Question) -> _Answer | None:
    archs = asked.row.archs or asked.meaning.archs
    others = [arch for arch in asked.around.archs if arch not in archs] if archs else []
    if not others:
        return None
    return "failure", f"It runs on {', '.join(archs)} alone, and this is for {', '.join(others)}.", asked.back


def _packages(asked: _Question) -> _Answer | None:
    around = asked.around
    if around.packages is None:
        return None
    needed = filter(None, [asked.meaning.package, *asked.row.also])
    missing = [package for package in needed if package not in around.packages]
    if not missing:
        return None
    said = f"The package {' and '.join(missing)} is not installed."
    return "failure", said, _install(missing, around, asked.back)


def _torch(asked: _Question) -> _Answer | None:
    least, have = asked.meaning.min_torch, asked.around.torch
    if not least or not have or not _older(have, least):
        return None
    return (
        "failure",
        f"It needs torch {least}, and {have} is installed: the node raises an error.",
        asked.back,
    )


def _together(asked: _Question) -> _Answer | None:
    clash = [each for each in asked.rest if each in asked.meaning.not_with]
    return ("warning", f"With {', '.join(clash)}: {asked.meaning.note}.", asked.to("bf16")) if clash else None


def _kernels(asked: _Question) -> _Answer | None:
    build = asked.around.build
    if asked.meaning.package == SAGE and build is not None:
        return proven(build, asked.around)
    if asked.meaning.name == "sdpa" and build is not None and not build.broken:
        return "warning", "SageAttention is installed and not used here.", asked.to("sageattn")
    return _as_launched(asked.around) if asked.meaning.name == "comfy" else None


def proven(build: Build, around: Surroundings) -> _Answer:
    """Say what is known of the build that a kernel would come from."""
    if build.broken:
        first = build.broken[0]
        said = f"What is installed ({build.version}) is broken: {first.found}"
        return "failure", said, f"`sagefix install{around.name}` replaces it."
    if build.proof.startswith("failed:"):
        return (
            "failure",
            f"The installed wheel ({build.version}) failed level {build.proof.removeprefix('failed:')} on this kind of "
            "GPU.",
            f"`sagefix install{around.name}` puts another build in.",
        )
    if build.proof in NUMBERS:
        return (
            "ok",
            f"The installed wheel ({build.version}) is proven on this kind of GPU: {build.proof}.",
            "",
        )
    return (
        "warning",
        f"Nothing proves the numbers of what is installed ({build.version}) on this kind of GPU.",
        f"`sagefix verify --level numerics{around.name}`, on the GPU.",
    )


def _as_launched(around: Surroundings) -> _Answer:
    sage = [each for each in around.launches if "--use-sage-attention" in each.words]
    if around.launches and not sage and around.build is not None:
        return (
            "warning",
            "No start script has --use-sage-attention, so that is torch's own.",
            "Add --use-sage-attention to the line that starts main.py.",
        )
    return "ok", "", ""


def _by_launch(file: str, around: Surroundings) -> Check:
    """Judge a workflow none of whose nodes chooses: its attention is what ComfyUI was started with."""
    found = (
        "None of its nodes is known to choose attention or precision: both are what ComfyUI was started with."
    )
    status, wrong, fix = _as_launched(around)
    return Check(name=file, status=status, found=f"{found} {wrong}".strip(), fix=fix)


def _apart(file: str, fields: Sequence[Field], table: Table) -> Iterator[Check]:
    """Yield a check where nodes that load models differ: tensors of several dtypes then meet in one run."""
    loaded: dict[str, list[str]] = {}
    for field in fields:
        row = field.row(field.holds)
        if (
            field.loads
            and field.sets == "precision"
            and not field.unreadable
            and row
            and field.node.mode == "runs"
        ):
            loaded.setdefault(row.means, []).append(field.node.id)
    loaded.pop("default", None)
    # fp16 and fp16_fast are one dtype, summed in two ways.
    if len({each.split("_", maxsplit=1)[0] for each in loaded}) > 1:
        said = "; ".join(f"{name} in node {', '.join(ids)}" for name, ids in loaded.items())
        same = next((row for row in table.reason if row.name == "same-dtype"), None)
        yield Check(
            name=f"{file}: precision",
            status="warning",
            found=f"The nodes that load models differ ({said}). Where their tensors meet, SageAttention raises `All "
            "tensors must have the same dtype`.",
            fix=f"`sagefix comfyui set {file} --precision bf16`.",
            sources=same.sources if same else (),
        )


def _set(workflow: Workflow, field: Field, word: str = "...") -> str:
    return f"`sagefix comfyui set {workflow.file} --{field.sets} {word}`"


def _install(missing: Sequence[str], around: Surroundings, back: str) -> str:
    if missing == [SAGE]:
        return f"`sagefix install{around.name}`."
    return f"Install {' and '.join(missing)} there, or {back}"


def _older(version: str, least: str) -> bool:
    try:
        return Version(version).release < Version(least).release
    except InvalidVersion:
        return False
