"""Verdicts and the wheels they are about: which are kept, which can be relied on, and how they travel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from sagefix.checks import NUMBERS, failures
from sagefix.errors import SagefixError, WheelError, WheelhouseError
from sagefix.files import write_bytes
from sagefix.pins.load import load_pin
from sagefix.pins.model import Pin
from sagefix.progress import warn
from sagefix.proof.model import Device, Verdict
from sagefix.wheelhouse.evidence import Entry, Evidence, dump, entry, require_about, settle
from sagefix.wheelhouse.model import PROOFS_SUFFIX
from sagefix.wheelhouse.proving import CPU, named, standing
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.model import Facts, Proof

# Checks that fail because of the place: another copy, a torch that was exchanged, files that were changed after
# the installation (a wheel's own are compared with its RECORD when it is taken into the wheelhouse).
_NOT_THE_WHEEL = frozenset({"one copy", "files", "record", "torch"})
# How the names of checks begin that are about what was computed.
_COMPUTED = ("numerics", "streams", "graphs", "compile", "refusals", "masks")


def keep_proof(wheelhouse: Wheelhouse, wheel: Facts, verdict: Verdict, pin: Pin) -> None:
    """Write the verdict beside the wheel; a read-only wheelhouse is told, not fatal.

    A wheel that failed is never chosen again, so a failure that another machine, or this one tomorrow, would not
    see is left out; and so is a pass that left out what its level promises.
    """
    if not worth_keeping(verdict, pin):
        return
    try:
        wheelhouse.record_proof(
            wheel.filename, msgspec.to_builtins(verdict), level=verdict.level, passed=verdict.passed
        )
    except SagefixError as error:
        warn(f"The proof was not kept: {error}")


def keep_beside(wheel: Path, verdict: Verdict, pin: Pin) -> None:
    """Write the verdict into the file of proofs beside a wheel that stands in no wheelhouse, as :func:`keep_proof`
    does.

    ``sagefix wheelhouse add`` takes it along with the wheel.
    """
    if not worth_keeping(verdict, pin):
        return
    path = wheel.with_name(wheel.name + PROOFS_SUFFIX)
    try:
        made = entry(msgspec.to_builtins(verdict), level=verdict.level, passed=verdict.passed)
        there = path.read_bytes() if path.is_file() else b""
        former = require_about(there, path.name, wheel.name, verdict.wheel_sha256).proofs if there else ()
        entries, _ = settle([*former, made])
        write_bytes(path, dump(wheel.name, verdict.wheel_sha256, entries))
    except SagefixError as error:
        warn(f"The proof was not kept: {error}")


def worth_keeping(verdict: Verdict, pin: Pin) -> bool:
    """Tell whether a verdict says something about the wheel that others can rely on."""
    return not verdict.skipped if verdict.passed else blames_wheel(verdict, pin)


def blames_wheel(verdict: Verdict, pin: Pin) -> bool:
    """Tell whether a negative verdict is about the wheel, and not about where it was installed."""
    failed = {check.name for check in failures(verdict.checks)}
    before = {name for name in failed if name.partition(" ")[0] not in _COMPUTED}
    others = {f"import {name}" for name in ("torch", *pin.build.import_requires)}
    if before & (_NOT_THE_WHEEL | others):
        return False
    if verdict.emulated is not None:
        # An emulator has faults of its own; what the files show, they show without it.
        return any(not name.startswith("import ") for name in before)
    if failed and not before:
        # Where nothing was computed, the machine is to blame and not the wheel.
        cases = verdict.numerics.cases if verdict.numerics is not None else ()
        return any(case.status in ("wrong", "crashed") for case in cases)
    # Without a GPU there is often no libcuda.so.1 either, and then no kernel loads, however good it is.
    only_imports = all(name.startswith("import ") for name in before)
    return not (only_imports and pin.device == "cuda" and not verdict.gpus)


def relied_on(wheel: Facts, devices: Sequence[Device], torch: str) -> tuple[Proof, ...]:
    """Return the proofs that make computing again needless: one for each kind of device, or none at all.

    Each has passed ``numerics`` or ``full`` for this very wheel, on a device of this name and capability, with this
    driver and this torch, and nothing has failed there since.
    """
    found: dict[tuple[str, str], Proof] = {}
    for device in devices:
        fitting = [
            proof
            for proof in wheel.proofs
            if (proof.gpu, proof.capability) == (device.name, device.capability)
            and (proof.driver, proof.torch) == (device.driver, torch)
            and proof.passed
            and proof.level in NUMBERS
        ]
        # A driver that nobody could tell may be another one today.
        known = device.driver or device.capability == CPU
        if not (known and fitting and standing(wheel.proofs, device.capability) in NUMBERS):
            return ()
        found[device.name, device.capability] = fitting[-1]
    return tuple(found.values())


def proven_by(verdict: Verdict) -> str:
    """Say on what a verdict that passed proves the numbers: ``numerics on NVIDIA H200 (9.0)``; else empty."""
    if not verdict.passed or verdict.level not in NUMBERS:
        return ""
    rows = entry(msgspec.to_builtins(verdict), level=verdict.level, passed=True).rows()
    return "; ".join(named(row) for row in rows if row.capability)


def write_proof(verdict: Verdict, path: Path) -> None:
    """Write a verdict into a file that ``sagefix wheelhouse prove`` takes in elsewhere.

    Raises :class:`WheelError` when nobody knows which wheel it is about. :class:`DiskError`.
    """
    from sagefix.proof.verify import verdict_json

    if not verdict.wheel_sha256:
        raise WheelError(
            "The proof was not written: nothing tells which wheel the installation came from.",
            hint="Install it from the wheelhouse with sagefix, or from the path of the wheel with pip or uv, and keep "
            "that file where it is.",
        )
    write_bytes(path, verdict_json(verdict))


def take_proof(wheelhouse: Wheelhouse, filename: str, *files: Path) -> Facts:
    """Take proofs from files into the wheelhouse; return what is known of the wheel now.

    A file is what ``sagefix verify --proof`` or ``--json`` wrote, or the ``.proofs.json`` of another wheelhouse.
    All of them are looked at before one is taken.

    Raises :class:`WheelError`: one holds no proof, or is about no wheel or another one; :class:`WheelhouseError`: no
    such wheel.
    """
    kept = wheelhouse.get(filename)
    if kept is None:
        raise WheelhouseError(
            f"{filename} is not in {wheelhouse.path}.", hint="`sagefix wheelhouse list` prints what is."
        )
    entries = [each for file in files for each in _about(kept, file)]
    return wheelhouse.take_proofs(filename, entries)


def _about(kept: Facts, file: Path) -> list[Entry]:
    """Return the proofs in a file, which have to be about this very wheel."""
    entries = read_proofs(file)
    told = {str(each.verdict.get("wheel_sha256", "")) for each in entries}
    if "" in told:
        raise WheelError(
            f"{file} does not say which wheel it is about.",
            hint="Verify where the wheel was installed from the wheelhouse, or from its own path.",
        )
    if others := told - {kept.sha256}:
        other = min(others)
        raise WheelError(
            f"{file} is about another wheel: the sha256 is {other[:12]}..., that of {kept.filename} here is "
            f"{kept.sha256[:12]}....",
            hint="Two builds of one name are two wheels. Prove the one that is kept here, or keep the proven one.",
            details={"expected": kept.sha256, "found": other},
        )
    return entries


def read_proofs(file: Path) -> list[Entry]:
    """Read the verdicts in a file; see :func:`take_proof`. Raises :class:`WheelError`."""
    try:
        document: Any = msgspec.json.decode(file.read_bytes())
        if isinstance(document, dict) and "proofs" in document:
            verdicts = [each.verdict for each in msgspec.convert(document, Evidence).proofs]
        else:
            verdicts = [_verdict_in(document)]
        read = [msgspec.convert(each, Verdict) for each in verdicts]
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise WheelError(
            f"{file} is not a proof: {error}.", hint="`sagefix verify --proof FILE` writes one."
        ) from error
    entries = []
    for verdict, plain in zip(read, verdicts, strict=True):
        if not worth_keeping(verdict, load_pin(verdict.pin)):
            what = "left out a part of its level" if verdict.passed else "failed for reasons of its machine"
            raise WheelError(
                f"{file} proves nothing: the verification {what}.",
                hint="Run `sagefix verify` again, whole, where the wheel works.",
            )
        entries.append(entry(plain, level=verdict.level, passed=verdict.passed))
    return entries


def _verdict_in(document: Any) -> Any:
    """Return the verdict in what ``verify --json`` or ``install --json`` printed, or the document itself."""
    if isinstance(document, dict) and isinstance(document.get("result"), dict):
        result = document["result"]
        return result.get("verdict") or result
    return document
