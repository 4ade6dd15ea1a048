"""Levels ``numerics`` and ``full``: attention is computed in the target, and the numbers become checks."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence

import msgspec

from sagefix.checks import Check, NumbersLevel
from sagefix.errors import GpuError, UsageError
from sagefix.pins.model import Pin
from sagefix.proof.model import CaseResult, Device, Numerics
from sagefix.proof.numerics.cases import make_cases
from sagefix.proof.numerics.groups import FIX, check_groups, find_hazards
from sagefix.proof.numerics.judging import judge
from sagefix.proof.numerics.load import load_proofs
from sagefix.proof.numerics.model import Function, Proofs
from sagefix.proof.numerics.run import run_cases
from sagefix.proof.numerics.thresholds import as_threshold, limit_of
from sagefix.proof.numerics.words import BAD, explain_function, plain
from sagefix.targets.host import processor
from sagefix.targets.model import Target


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What computing came to: checks, every case (None: nothing was computed), hazards in one sentence each."""

    checks: tuple[Check, ...]
    numerics: Numerics | None = None
    hazards: tuple[str, ...] = ()


def devices_of(pin: Pin, target: Target, gpu: int | None = None) -> tuple[Device, ...]:
    """Return what to compute on: every GPU that the target sees, or the one of this index; else the processor.

    Raises :class:`GpuError` when the pin needs a GPU and none is visible, :class:`UsageError` for an index that
    no GPU has.
    """
    if pin.device == "cpu":
        if gpu is not None:
            raise UsageError(f"{pin.name} computes on the processor, so there is no GPU to choose.")
        emulator = target.interpreter.emulator
        name = f"{target.interpreter.machine} under {emulator}" if emulator else processor()
        return (Device(name=name, capability="cpu"),)
    if not target.gpus:
        raise GpuError(
            "No GPU is visible, and only a GPU can show that the numbers are right.",
            hint="Verify at level import here, and at this level on a machine with the GPU.",
        )
    chosen = [each for each in target.gpus if gpu is None or each.index == gpu]
    if not chosen:
        raise UsageError(
            f"There is no GPU {gpu}.",
            hint="; ".join(f"{each.index}: {each.name}" for each in target.gpus),
        )
    return tuple(
        Device(
            name=each.name,
            capability=each.capability,
            memory=each.memory,
            driver=each.driver,
            index=each.index,
        )
        for each in chosen
    )


def prove(
    pin: Pin, target: Target, level: NumbersLevel, devices: Sequence[Device], modules: Collection[str]
) -> Proof:
    """Compute the cases of a level and judge them. ``modules`` are the compiled modules that are installed."""
    started = time.monotonic()
    proofs = load_proofs(pin)
    cases, left_out = make_cases(proofs, level, devices, modules)
    if not cases:
        found = f"Nothing can be computed: {' '.join(dict.fromkeys(each.text for each in left_out))}"
        return Proof(checks=(Check(name="numerics", status="failure", found=found, fix=FIX),))
    kind = "cpu" if pin.device == "cpu" else "cuda"
    outcome = run_cases(proofs, target.interpreter, kind, devices, cases)
    if outcome.error and not outcome.answers:
        found = f"Nothing could be computed: {outcome.error}"
        return Proof(checks=(Check(name="numerics", status="failure", found=found, fix=FIX),))
    by_index = {device.index: device for device in devices}
    results = [
        judge(proofs, case, outcome.answers[key], by_index[case.device])
        for case in cases
        if (key := (case.device, case.id)) in outcome.answers
    ]
    words = tuple(_words(proofs, devices, results))
    limits = {limit.name: limit for limit in (limit_of(proofs, case) for case in cases)}
    numerics = Numerics(
        devices=tuple(devices),
        cases=(*results, *left_out),
        thresholds=tuple(as_threshold(limit) for limit in limits.values()),
        seconds=round(time.monotonic() - started, 3),
        seed=proofs.seed,
        words=words,
    )
    checks = [_check_function(proofs, function, numerics) for function in proofs.function]
    broken = {check.name.removeprefix("numerics ") for check in checks if check.status == "failure"}
    checks += check_groups(numerics.cases, broken)
    if outcome.error:
        checks.append(Check(name="numerics", status="failure", found=outcome.error, fix=FIX))
    return Proof(checks=tuple(checks), numerics=numerics, hazards=find_hazards(numerics.cases, broken))


def _words(proofs: Proofs, devices: Sequence[Device], results: Sequence[CaseResult]) -> Iterator[str]:
    for capability in dict.fromkeys(device.capability for device in devices):
        same = {device.index for device in devices if device.capability == capability}
        for function in proofs.function:
            mine = [case for case in results if case.function == function.call and case.device in same]
            yield from explain_function(proofs, function.name, capability, mine)


def _check_function(proofs: Proofs, function: Function, numerics: Numerics) -> Check:
    name = f"numerics {function.name}"
    mine = [case for case in numerics.cases if case.function == function.call and plain(case)]
    judged = [case for case in mine if case.status != "skipped"]
    bad = [case for case in judged if case.status in BAD]
    if not judged:
        why = "; ".join(dict.fromkeys(case.text for case in mine)) or "This level has no case for it."
        return Check(name=name, status="skipped", found=why)
    if bad:
        said = [words for words in numerics.words if words.startswith(f"{function.name}: ")]
        found = " ".join(words.removeprefix(f"{function.name}: ") for words in said)
        sources = [link for row in proofs.unwritten if row.name in found for link in row.sources]
        return Check(
            name=name,
            status="failure",
            found=f"{found[:1].upper()}{found[1:]}",
            fix=FIX,
            sources=tuple(dict.fromkeys(sources)),
        )
    other = [case for case in judged if case.status == "hazard"]
    skipped = len(mine) - len(judged)
    more = f", {skipped} skipped" if skipped else ""
    if other:
        told = "; ".join(dict.fromkeys(case.text for case in other[:2]))
        return Check(
            name=name,
            status="warning",
            found=f"{len(judged) - len(other)} of {len(judged)} cases are right{more}. {told}",
        )
    worst = max((case.numbers.relative_l2 or 0.0 for case in judged if case.numbers is not None), default=0.0)
    return Check(
        name=name,
        status="ok",
        found=f"All {len(judged)} cases are right, the worst with a relative error of {worst:.2g}{more}.",
    )
