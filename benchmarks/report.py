"""What was measured, as a Markdown table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.machine import Machine
from benchmarks.measure import Part, Row
from sagefix.files import human_size

SCHEMA = 1


def markdown(machine: Machine, parts: Sequence[Part]) -> str:
    """Write the report."""
    load = "" if machine.load is None else f"; load at the start {machine.load}"
    lines = [
        f"{machine.cores} cores, {machine.cpu}, {human_size(machine.memory)}; {machine.system}; "
        f"Python {machine.python}{load}",
        ", ".join(f"{name} {version}" for name, version in machine.programs.items()),
    ]
    rows = [row for part in parts for row in part.rows]
    if rows:
        lines += [
            "",
            "| comparison | sagefix | other | ratio | min to max | target | |",
            "|---|---|---|---|---|---|---|",
            *(_line(row) for row in rows),
        ]
    notes = [f"- {part.name}: {note}" for part in parts for note in part.notes]
    notes += [f"- {part.name}: skipped. {part.skipped}" for part in parts if part.skipped]
    return "\n".join([*lines, *(["", *notes] if notes else []), ""])


def _line(row: Row) -> str:
    return (
        f"| {row.name} | {_value(row.ours_value, row.unit)} `{row.ours}` "
        f"| {_value(row.theirs_value, row.unit)} `{row.theirs}` "
        f"| **{row.ratio:.3g}** | {row.ratio_min:.3g} to {row.ratio_max:.3g} "
        f"| {row.target:.3g} | {'met' if row.met else 'missed'} |"
    )


def _value(value: float, unit: str) -> str:
    if unit == "bytes":
        return human_size(value)
    return f"{value * 1000:.0f} ms" if value < 10 else f"{value:.0f} s"


def as_json(machine: Machine, parts: Sequence[Part]) -> str:
    """Write the same as one JSON document."""
    document = {"schema": SCHEMA, "machine": machine, "parts": parts}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
