"""A wheel built again from its record, and compared with it byte for byte."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec

from sagefix import __version__
from sagefix.building.plan import Plan, key_of
from sagefix.errors import RebuildError
from sagefix.files import make_cache_dir
from sagefix.pins.load import load_pin
from sagefix.progress import warn
from sagefix.settings import cache_dir
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.archive import validate
from sagefix.wheels.comparing import Comparison, compare_wheels
from sagefix.wheels.model import Record
from sagefix.workflows.build import build, copy_out, plan_build
from sagefix.workflows.situation import Request, Situation, survey

# Without these no build of this Python can be the same: another interpreter, machine or torch is needed.
_DECISIVE = ("python_tag", "abi_tag", "platform_tag", "torch", "cuda", "cxx11_abi")


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something about the environment that is not as it was: ``what`` (``tools.nvcc``), ``recorded`` and ``here``."""

    what: str
    recorded: str
    here: str


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. ``comparison`` is None when nothing was built; ``key`` is that of the new plan."""

    wheel: str
    key: str
    environment: tuple[Difference, ...]
    comparison: Comparison | None = None
    copied: str = ""
    seconds: float = 0.0


def rebuild(wheel: Path, request: Request, *, dry_run: bool = False, output: Path | None = None) -> Rebuilt:
    """Build a wheel's commit again as its record says, in a folder that is thrown away, and compare.

    Of ``request`` count ``python``, ``torch``, ``cuda``, ``source`` and ``offline``; everything else is the record's.
    Each difference of the environment is a warning: it may or may not show in the bytes. With ``dry_run`` nothing is
    built. ``output``: keep the new wheel in this folder.

    Raises :class:`RebuildError`: there is no record to build from, or this Python, machine or torch is another; else
    what :func:`~sagefix.workflows.build.build` raises. That the wheels differ is no error here: see ``comparison``.
    """
    record = _record_of(wheel)
    situation = survey(_request_of(record, request))
    plan, _ = plan_build(situation, fetch_tools=not dry_run)
    differences = compare_environment(record, plan)
    _require_possible(wheel.name, record, differences)
    for difference in differences:
        warn(
            f"{difference.what} was {difference.recorded or 'not there'}, here it is {difference.here or 'not there'}"
        )
    told = Rebuilt(wheel=str(wheel), key=plan.key, environment=differences)
    return told if dry_run else _build(wheel, situation, told, request, output)


def _record_of(wheel: Path) -> Record:
    record = validate(wheel).record
    if record is None or record.origin != "built":
        raise RebuildError(
            f"{wheel.name} does not say how it was built: "
            + ("it was saved from an installation." if record else "it holds no record of sagefix."),
            hint="Only wheels that `sagefix build` made can be built again.",
        )
    if not record.identity:
        raise RebuildError(
            f"{wheel.name} was built by sagefix {record.sagefix}, which kept too little to build it again.",
            hint="Build the same commit anew with `sagefix build`.",
        )
    if key_of(record.identity) != record.key:
        raise RebuildError(
            f"The record of {wheel.name} was changed after the build: its key is not the hash of its plan.",
            hint="Do not trust this wheel.",
        )
    return record


def _request_of(record: Record, request: Request) -> Request:
    return msgspec.structs.replace(
        request,
        pin=record.pin,
        ref=record.commit,
        arch=";".join(record.archs) if load_pin(record.pin).device == "cuda" else None,
        # Whether the commit is any good is another question.
        allow_known_bad=True,
        fixes=bool(record.fixes),
        platform=str(record.identity.get("platform_tag", "")) if "built on" in record.tools else None,
        manylinux=bool(record.identity.get("manylinux")),
        # What was compiled before would be compared with itself.
        object_cache="off",
    )


def compare_environment(record: Record, plan: Plan) -> tuple[Difference, ...]:
    """Return everything that decides bytes and is not as the record says, by name."""
    then, now = _flat(record.identity), _flat(msgspec.to_builtins(plan.identity))
    then["sagefix"], now["sagefix"] = record.sagefix, __version__
    return tuple(
        Difference(what=what, recorded=then.get(what, ""), here=now.get(what, ""))
        for what in sorted({*then, *now})
        if then.get(what, "") != now.get(what, "")
    )


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Write nested facts as ``tools.nvcc`` -> text."""
    if isinstance(value, dict):
        return {
            key: text
            for part, each in value.items()
            for key, text in _flat(each, f"{name}.{part}" if name else str(part)).items()
        }
    if isinstance(value, list | tuple):
        return {name: " ".join(map(str, value))}
    return {name: "" if value is None else str(value)}


def _require_possible(name: str, record: Record, differences: tuple[Difference, ...]) -> None:
    decisive = [difference for difference in differences if difference.what in _DECISIVE]
    if decisive:
        said = "; ".join(
            f"{each.what} {each.recorded or 'none'}, here {each.here or 'none'}" for each in decisive
        )
        torch = f" and torch {record.torch}" if record.torch else ""
        raise RebuildError(
            f"{name} cannot be built again with this target: {said}.",
            hint=f"Give --python one with Python {record.tools.get('python', record.python_tag)}{torch}.",
            details={"environment": msgspec.to_builtins(differences)},
        )


def _build(
    wheel: Path, situation: Situation, told: Rebuilt, request: Request, output: Path | None
) -> Rebuilt:
    scratch = make_cache_dir(cache_dir() / "rebuilds")
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        made = build(
            situation,
            Wheelhouse.open(Path(folder) / "wheels"),
            source=request.source,
            offline=request.offline,
            rebuild=True,
        )
        comparison = compare_wheels(wheel, Path(made.wheel.where))
        copied = copy_out(made.wheel, output) if output else None
    return msgspec.structs.replace(
        told, comparison=comparison, copied=str(copied or ""), seconds=made.seconds
    )
