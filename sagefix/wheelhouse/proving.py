"""What the verifications of a wheel say together: for one kind of GPU, for all of them, and in words.

A verification of numbers is true of the kind of GPU that computed them and of no other. Files and imports are
the same on all. So a wheel that is wrong on one kind stays good for another, and one that was proven on one kind
is unproven on the next.

What an emulator ran is at most a proof of the level ``import``, and counts only where no real machine said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import msgspec

from sagefix.checks import LEVELS, NUMBERS
from sagefix.wheels.model import Facts, Proof

CPU = "cpu"
"""What stands for the compute capability of a processor."""
FAILED = "failed:"

_NO_TIME = datetime.min.replace(tzinfo=timezone.utc)


class _Device(msgspec.Struct, frozen=True):
    name: str
    capability: str
    driver: str = ""
    index: int = 0


class _Case(msgspec.Struct, frozen=True):
    status: str
    device: int = 0


class _Numerics(msgspec.Struct, frozen=True):
    devices: tuple[_Device, ...] = ()
    cases: tuple[_Case, ...] = ()


class _Told(msgspec.Struct, frozen=True):
    torch: str = ""
    driver: str = ""
    hazards: tuple[str, ...] = ()
    numerics: _Numerics | None = None
    emulated: dict[str, Any] | None = None


def rows_of(verdict: Mapping[str, Any], *, level: str, passed: bool, when: str) -> tuple[Proof, ...]:
    """Say a verdict in lines, one for each kind of GPU that it proved or refuted.

    A pass where nothing was computed, or under emulation, is one of level ``import``, a failure there is about no kind.
    A kind on which all was right, in a verdict that failed on another one, is neither proven nor refuted.

    Raises :class:`msgspec.ValidationError`: not a verdict.
    """
    told = msgspec.convert(dict(verdict), _Told)
    row = Proof(
        level=level,
        passed=passed,
        when=when,
        driver=told.driver,
        torch=told.torch,
        hazards=told.hazards,
        emulated=told.emulated is not None,
    )
    if row.emulated and passed:
        return (msgspec.structs.replace(row, level=min(level, "import", key=LEVELS.index)),)
    if level not in NUMBERS or row.emulated:
        return (row,)
    computed = told.numerics or _Numerics()
    deciding = ("right",) if passed else ("wrong", "crashed")
    indices = {case.device for case in computed.cases if case.status in deciding}
    kinds = {
        (device.name, device.capability): device for device in computed.devices if device.index in indices
    }
    if not kinds:
        return (msgspec.structs.replace(row, level="import") if passed else row,)
    return tuple(
        msgspec.structs.replace(row, gpu=name, capability=capability, driver=device.driver or told.driver)
        for (name, capability), device in kinds.items()
    )


def moment(when: str) -> datetime:
    """Read a time in ISO 8601; the beginning of time for anything else."""
    try:
        # Python 3.10 does not know the Z.
        read = datetime.fromisoformat(when.removesuffix("Z") + ("+00:00" if when.endswith("Z") else ""))
    except ValueError:
        return _NO_TIME
    return read if read.tzinfo else read.replace(tzinfo=timezone.utc)


def about(proof: Proof) -> tuple[str, bool, str, str, bool]:
    """Return what the latest is kept of: level, outcome, kind of GPU, and whether it was emulated.

    Of both outcomes: a failure at a low level that was settled has taken back an earlier pass at a higher one.
    """
    return proof.level, proof.passed, proof.capability, proof.gpu, proof.emulated


def standing(proofs: Sequence[Proof], capability: str) -> str:
    """Sum up what is known of a wheel on GPUs of one compute capability, in the words of :attr:`Facts.proof`.

    Where several GPUs of that capability are told apart, a failure on one of them counts until the same one
    passes; of passes the highest counts.
    """
    kinds = {(proof.capability, proof.gpu) for proof in proofs if proof.capability == capability}
    found = [_sum_up(_on(proofs, kind)) for kind in sorted(kinds)] or [_sum_up(_on(proofs, (capability, "")))]
    return _worst(found) or _best(found)


def standing_on(facts: Facts, capabilities: Iterable[str]) -> str:
    """Sum up what is known of a wheel for a target with GPUs of all these capabilities: its weakest side.

    With no capability, and for a wheel of which nothing but :attr:`Facts.proof` is known, it is that.
    """
    wanted = list(dict.fromkeys(capabilities))
    if not wanted or not facts.proofs:
        return facts.proof
    found = [standing(facts.proofs, each) for each in wanted]
    return _worst(found) or min(found, key=_rank)


def proof_of(proofs: Iterable[Proof]) -> str:
    """Sum up proofs, oldest first, over all kinds of GPUs, in the words of :attr:`Facts.proof`.

    A level includes those before it: a pass settles every earlier failure up to its level, and a failure
    takes back every pass from its level on. Of several kinds the best counts.

    Raises :class:`ValueError` for an unknown level.
    """
    told = list(proofs)
    found = [_sum_up(_on(told, kind)) for kind in _kinds(told)]
    return _best(found) or _worst(found)


def failed_somewhere(proofs: Sequence[Proof]) -> str:
    """Say on what a wheel fails, in words: ``level numerics on NVIDIA H200 (9.0)``; empty when nowhere.

    pip and uv know no GPUs, so what is wrong on one kind must not be on an index for any.
    """
    found = {kind: _sum_up(_on(proofs, kind)) for kind in _kinds(proofs)}
    bad = {kind: told.removeprefix(FAILED) for kind, told in found.items() if told.startswith(FAILED)}
    return "; ".join(dict.fromkeys(f"level {level}{_on_what(*kind)}" for kind, level in bad.items()))


def numbers_of(proofs: Sequence[Proof]) -> str:
    """Say where the numbers of a wheel are proven: ``numerics on NVIDIA H200 (9.0), 2 hazards``; else empty."""
    said = []
    for kind in _kinds(proofs):
        level = _sum_up(_on(proofs, kind))
        if level in NUMBERS:
            newest = [proof for proof in _of_kind(proofs, kind) if proof.passed and proof.level == level][-1:]
            count = len(newest[0].hazards) if newest else 0
            hazards = f", {count} hazard{'s' if count > 1 else ''}" if count else ""
            said.append(f"{level}{_on_what(*kind)}{hazards}")
    return "; ".join(said)


def in_words(proofs: Sequence[Proof]) -> str:
    """Say in a line what is known of a wheel: ``numerics on NVIDIA H200 (9.0), 2 hazards``."""
    bad, good = failed_somewhere(proofs), numbers_of(proofs)
    if bad or good:
        return "; ".join(filter(None, [good, f"FAILED {bad}" if bad else ""]))
    level = proof_of(proofs)
    return f"{level}{emulated_alone(proofs)}, numbers unproven" if level else "unproven"


def emulated_alone(proofs: Sequence[Proof]) -> str:
    """Return ``, emulated`` when no real machine came to what the proofs of a wheel come to, else nothing."""
    return (
        "" if proof_of(proofs) == proof_of(proof for proof in proofs if not proof.emulated) else ", emulated"
    )


def named(proof: Proof) -> str:
    """Say level and kind of a proof: ``numerics on NVIDIA H200 (9.0)``."""
    return f"{proof.level}{', emulated' if proof.emulated else ''}{_on_what(proof.capability, proof.gpu)}"


def _on_what(capability: str, gpu: str) -> str:
    return f" on {gpu or 'a GPU'} ({capability})" if capability else ""


def _kinds(proofs: Iterable[Proof]) -> list[tuple[str, str]]:
    """Return every kind that is told of, or none in particular if none is."""
    return sorted({(proof.capability, proof.gpu) for proof in proofs if proof.capability}) or [("", "")]


def _of_kind(proofs: Iterable[Proof], kind: tuple[str, str]) -> list[Proof]:
    return [proof for proof in proofs if (proof.capability, proof.gpu) == kind]


def _on(proofs: Sequence[Proof], kind: tuple[str, str]) -> list[Proof]:
    """Return what the proofs say about a kind: its own, those about none, and what passes elsewhere show of files."""
    said = []
    for proof in proofs:
        if not proof.capability or (proof.capability, proof.gpu) == kind:
            said.append(proof)
        elif proof.passed:
            said.append(msgspec.structs.replace(proof, level=min(proof.level, "import", key=LEVELS.index)))
    return said


def _sum_up(proofs: Sequence[Proof]) -> str:
    """Sum up what real machines said, with what emulators did where that goes further and takes nothing back."""
    real, emulated = (_add_up(proof for proof in proofs if proof.emulated is way) for way in (False, True))
    if not real or not emulated or real.startswith(FAILED) or emulated.startswith(FAILED):
        return real or emulated
    return max(real, emulated, key=LEVELS.index)


def _add_up(proofs: Iterable[Proof]) -> str:
    passed = -1
    failed: set[int] = set()
    for proof in proofs:
        rank = LEVELS.index(proof.level)
        if proof.passed:
            failed = {level for level in failed if level > rank}
            passed = max(passed, rank)
        else:
            failed.add(rank)
            passed = min(passed, rank - 1)
    if failed:
        return f"{FAILED}{LEVELS[min(failed)]}"
    return LEVELS[passed] if passed >= 0 else ""


def _rank(told: str) -> int:
    return LEVELS.index(told) if told in LEVELS else -1


def _best(found: Iterable[str]) -> str:
    best = max(found, key=_rank, default="")
    return best if best in LEVELS else ""


def _worst(found: Iterable[str]) -> str:
    return next((told for told in found if told.startswith(FAILED)), "")
