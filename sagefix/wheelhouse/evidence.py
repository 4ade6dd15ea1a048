"""The file with the whole verdicts of a wheel: every device, every threshold, every case.

It stands beside the wheel as ``NAME.whl.proofs.json``, names the wheel's hash, and travels with it. The sidecar
holds a line for each of them, made by :func:`settle` from what stands here and from nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, Literal

import msgspec

from sagefix.checks import Level
from sagefix.errors import WheelError
from sagefix.wheelhouse.model import Sidecar
from sagefix.wheelhouse.proving import about, moment, rows_of
from sagefix.wheels.model import Proof

_WRONG = "Delete it, or take the right proof in with `sagefix wheelhouse prove`."


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A verification: its level, its outcome, when (UTC, ISO 8601), and the verdict as plain JSON."""

    level: Level
    passed: bool
    when: str
    verdict: dict[str, Any]

    def rows(self) -> tuple[Proof, ...]:
        """Say it in lines; see :func:`~sagefix.wheelhouse.proving.rows_of`."""
        return rows_of(self.verdict, level=self.level, passed=self.passed, when=self.when)


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The file: of which wheel, by name and SHA-256, and its verifications, oldest first."""

    schema: Literal[1] = 1
    filename: str
    sha256: str
    proofs: tuple[Entry, ...] = ()


def entry(verdict: Mapping[str, Any], *, level: str, passed: bool, when: str = "") -> Entry:
    """Make an entry; when it was is what the verdict says, if not given, else now. Raises :class:`WheelError`."""
    when = when or str(verdict.get("when") or "")
    when = when or datetime.now(timezone.utc).isoformat(timespec="microseconds")
    try:
        made = msgspec.convert(
            {"level": level, "passed": passed, "when": when.replace("+00:00", "Z"), "verdict": dict(verdict)},
            Entry,
        )
        made.rows()
    except msgspec.ValidationError as error:
        raise WheelError(f"The verdict cannot be kept as a proof: {error}.") from error
    return made


def settle(entries: Iterable[Entry]) -> tuple[tuple[Entry, ...], tuple[Proof, ...]]:
    """Return the entries that still count, oldest first, and the lines of a sidecar about them.

    Of one level, outcome and kind of GPU the latest counts; what was emulated stands beside what was not.
    """
    latest: dict[tuple[str, bool, str, str, bool], tuple[Entry, Proof]] = {}
    # By time, and those of one second in the order in which they came.
    for each in sorted(entries, key=lambda each: moment(each.when)):
        for row in each.rows():
            latest.pop(about(row), None)
            latest[about(row)] = (each, row)
    kept: dict[int, Entry] = {id(each): each for each, _ in latest.values()}
    ordered = sorted(kept.values(), key=lambda each: moment(each.when))
    return tuple(ordered), tuple(row for _, row in latest.values())


def dump(filename: str, sha256: str, entries: Iterable[Entry]) -> bytes:
    """Write the file."""
    whole = Evidence(filename=filename, sha256=sha256, proofs=tuple(entries))
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"


def require_about(data: bytes, name: str, filename: str, sha256: str) -> Evidence:
    """Read the file and make sure that it is about the wheel with this hash; ``name`` says which file in the error.

    Raises :class:`WheelError`.
    """
    try:
        read = msgspec.json.decode(data, type=Evidence)
        for each in read.proofs:
            each.rows()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WheelError(f"{name} does not hold proofs ({error}).", hint=_WRONG) from error
    if read.sha256 != sha256:
        raise _another(f"{name} is", read.filename, read.sha256, filename, sha256)
    for each in read.proofs:
        require_wheel(each, filename, sha256)
    return read


def require_wheel(each: Entry, filename: str, sha256: str) -> None:
    """Make sure that a verdict that names a wheel names the one with this hash. Raises :class:`WheelError`."""
    told = str(each.verdict.get("wheel_sha256") or sha256)
    if told != sha256:
        raise _another("The proof is", str(each.verdict.get("subject", "")), told, filename, sha256)


def _another(what: str, subject: str, told: str, filename: str, sha256: str) -> WheelError:
    return WheelError(
        f"{what} about {subject or 'another wheel'} with the sha256 {told[:12]}..., not about {filename} with the "
        f"sha256 {sha256[:12]}....",
        hint=_WRONG,
        details={"expected": sha256, "found": told},
    )


def whole(rows: Iterable[Proof], entries: Iterable[Entry]) -> tuple[Proof, ...]:
    """Return the lines of a sidecar with the verdicts they are about."""
    verdicts = {(row.when, about(row)): each.verdict for each in entries for row in each.rows()}
    return tuple(
        msgspec.structs.replace(row, verdict=verdicts.get((row.when, about(row)), row.verdict))
        for row in rows
    )


def written_inside(sidecar: Sidecar) -> list[Entry]:
    """Return the verifications that a sidecar of sagefix 0.1 holds itself; none of one with a file beside it."""
    if sidecar.proofs_sha256:
        return []
    return [
        entry(each.verdict, level=each.level, passed=each.passed, when=each.when) for each in sidecar.proofs
    ]
