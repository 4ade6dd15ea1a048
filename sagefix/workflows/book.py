"""What is known of each cell of a prebuild, kept in a file so that a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from sagefix.files import write_bytes
from sagefix.progress import note, warn
from sagefix.wheelhouse.proving import in_words
from sagefix.workflows.cells import Row
from sagefix.workflows.coverage import Found

Listener = Callable[[Sequence[Row]], None]
"""Hears all rows, in order, whenever something may have changed."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a matrix between runs. What is finished is decided by the wheelhouse, not by this."""

    schema: Literal[1] = 1
    key: str
    rows: dict[str, Row]


class Book:
    """The rows of a run, kept in a file at every change. ``todo`` are the ids of the cells that will be built."""

    def __init__(
        self, path: Path, key: str, found: Sequence[Found], todo: set[str], listener: Listener | None
    ) -> None:
        self.path = path
        self.key = key
        self.listener = listener
        earlier = _read_state(path, key)
        self.rows = {
            each.cell.id: _first_row(each, earlier.get(each.cell.id), to_do=each.cell.id in todo)
            for each in found
        }
        cut = [
            name for name in todo if name in earlier and earlier[name].status in ("running", "interrupted")
        ]
        if cut:
            note(f"{len(cut)} of the cells were interrupted by the end of an earlier run and start again.")

    def write(self, row: Row) -> None:
        """Change a row, in the file too."""
        self.rows[row.cell.id] = row
        state = State(key=self.key, rows=self.rows)
        write_bytes(self.path, msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")

    def tell(self) -> None:
        """Let the listener hear all rows."""
        if self.listener is not None:
            self.listener(self.in_order())

    def in_order(self) -> tuple[Row, ...]:
        """Return the rows in the order of the matrix."""
        return tuple(self.rows.values())


def _first_row(found: Found, earlier: Row | None, *, to_do: bool) -> Row:
    if to_do:
        return Row(cell=found.cell, status="waiting")
    if found.wheel is None:
        return Row(cell=found.cell, status="impossible", reason=found.reason)
    wheel = found.wheel
    if earlier is not None and earlier.sha256 == wheel.sha256:
        return msgspec.structs.replace(
            earlier, cell=found.cell, status="have", proof=wheel.proof, proven=in_words(wheel.proofs)
        )
    return Row(
        cell=found.cell,
        status="have",
        wheel=wheel.filename,
        where=wheel.where,
        size=wheel.size,
        sha256=wheel.sha256,
        proof=wheel.proof,
        proven=in_words(wheel.proofs),
    )


def _read_state(path: Path, key: str) -> dict[str, Row]:
    """Read what an earlier run left. It only adds times to a report, so a damaged one is told and forgotten."""
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        warn(f"{path} cannot be read and is begun anew: {error}")
        return {}
    return state.rows if state.key == key else {}
