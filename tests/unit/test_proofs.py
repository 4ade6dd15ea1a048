"""Which failures are held against a wheel, which then is never chosen again, and which are not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sagefix.checks import Check
from sagefix.errors import WheelError
from sagefix.pins.load import load_pin
from sagefix.proof.model import CaseResult, Device, Numerics, Verdict
from sagefix.wheels.label import parse_label
from sagefix.wheels.model import Facts, Proof
from sagefix.workflows.proofs import blames_wheel, read_proofs, relied_on, worth_keeping, write_proof

SAGE, DEMO = load_pin("sageattention"), load_pin("demo")


def verdict(*failed: str, gpus: tuple[str, ...] = ("NVIDIA H200",)) -> Verdict:
    checks = [Check(name=name, status="failure", found="") for name in failed]
    return Verdict(
        pin="p",
        level="import",
        subject="",
        wheel_sha256="",
        interpreter="",
        gpus=gpus,
        torch="",
        when="",
        sagefix="",
        checks=(Check(name="extensions", status="ok", found=""), *checks),
    )


@pytest.mark.parametrize(
    "failed",
    [
        ["symbols"],
        ["fault: shadowed-custom-op"],
        ["source parses", "version"],
        ["GPU code"],
        ["import sageattention._qattn_sm90"],
        ["import sageattention"],
    ],
)
def test_the_wheel_is_to_blame(failed: list[str]) -> None:
    assert blames_wheel(verdict(*failed), SAGE)


@pytest.mark.parametrize(
    "failed",
    [
        ["one copy"],
        ["files", "source parses", "import sageattention"],
        ["torch", "import sageattention._qattn_sm90"],
        ["record"],
        ["import torch", "import sageattention"],
        ["import triton"],
    ],
)
def test_the_place_is_to_blame(failed: list[str]) -> None:
    assert not blames_wheel(verdict(*failed), SAGE)


def test_without_a_gpu_an_import_says_nothing_about_a_wheel_for_one() -> None:
    imports = ("import sageattention._qattn_sm90", "import sageattention")
    assert not blames_wheel(verdict(*imports, gpus=()), SAGE)
    assert blames_wheel(verdict(*imports, "symbols", gpus=()), SAGE)
    assert blames_wheel(verdict("import demoattention", gpus=()), DEMO)


def computed(*statuses: str, failed: tuple[str, ...] = ("numerics attention",)) -> Verdict:
    """A verdict of level numerics with one case of each status."""
    device = Device(name="NVIDIA H200", capability="9.0", driver="580.1")
    cases = tuple(
        CaseResult(id=status, group="plain", function="m:f", status=status)  # type: ignore[arg-type]
        for status in statuses
    )
    numerics = Numerics(devices=(device,), cases=cases, thresholds=(), seconds=1.0, seed=0)
    return msgspec.structs.replace(
        verdict(*failed), level="numerics", numerics=numerics if statuses else None, wheel_sha256="a" * 64,
        pin="sageattention", when="2026-11-20T10:00:00+00:00", torch="2.11.0+cu130",
    )  # fmt: skip


def test_wrong_numbers_are_held_against_the_wheel_and_no_numbers_against_the_machine() -> None:
    assert blames_wheel(computed("right", "wrong"), SAGE)
    assert blames_wheel(computed("crashed", failed=("graphs",)), SAGE)
    assert not blames_wheel(computed(failed=("numerics",)), SAGE)
    assert not blames_wheel(computed("skipped", failed=("numerics",)), SAGE)
    # The torch was exchanged, so wrong numbers say nothing.
    assert not blames_wheel(computed("wrong", failed=("torch", "numerics attention")), SAGE)
    assert blames_wheel(computed("skipped", failed=("symbols", "numerics attention")), SAGE)


def test_a_pass_that_left_something_out_is_not_kept() -> None:
    whole = computed("right", failed=())
    assert worth_keeping(whole, SAGE)
    assert not worth_keeping(msgspec.structs.replace(whole, skipped=("static",)), SAGE)
    assert worth_keeping(msgspec.structs.replace(computed("wrong"), skipped=("static",)), SAGE)


def facts(*proofs: Proof) -> Facts:
    return Facts(
        filename="", project="", version="", label=parse_label("1"), tags=(), sha256="", size=0, where="",
        requires_torch="", requires_python="", proofs=proofs,
    )  # fmt: skip


def test_what_is_relied_on() -> None:
    h200 = Device(name="NVIDIA H200", capability="9.0", driver="580.1")
    proof = Proof(
        level="numerics", passed=True, when="1", gpu=h200.name, capability="9.0", driver="580.1", torch="2.11"
    )
    failed = msgspec.structs.replace(proof, passed=False)
    assert relied_on(facts(proof), [h200, h200], "2.11") == (proof,)
    assert relied_on(facts(failed, proof), [h200], "2.11") == (proof,)
    for kept, device, torch in (
        ((), h200, "2.11"),
        ((proof,), h200, "2.11.1"),
        ((proof,), msgspec.structs.replace(h200, driver="590.0"), "2.11"),
        ((proof,), msgspec.structs.replace(h200, name="NVIDIA H100"), "2.11"),
        ((proof,), msgspec.structs.replace(h200, capability="8.0"), "2.11"),
        ((proof, failed), h200, "2.11"),
        ((msgspec.structs.replace(proof, level="import"),), h200, "2.11"),
        ((msgspec.structs.replace(proof, driver=""),), msgspec.structs.replace(h200, driver=""), "2.11"),
    ):
        assert relied_on(facts(*kept), [device], torch) == ()
    # Every kind of GPU of the machine needs a proof of its own.
    a100 = msgspec.structs.replace(h200, name="NVIDIA A100", capability="8.0")
    assert relied_on(facts(proof), [h200, a100], "2.11") == ()
    cpu = msgspec.structs.replace(proof, gpu="x86_64", capability="cpu", driver="", torch="")
    assert relied_on(facts(cpu), [Device(name="x86_64", capability="cpu")], "") == (cpu,)


def test_files_that_hold_proofs_and_files_that_do_not(tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    good = computed("right", failed=())
    write_proof(good, file)
    (one,) = read_proofs(file)
    assert (one.level, one.passed, one.when) == ("numerics", True, "2026-11-20T10:00:00Z")
    for envelope in (
        {"schema": 1, "result": good},
        {"schema": 1, "result": {"action": "installed", "verdict": good}},
    ):
        file.write_bytes(msgspec.json.encode(envelope))
        assert read_proofs(file) == [one]
    for bad in (b"", b"{}", b"[]", b'{"proofs": 1}', b'{"result": null}', b"\xff"):
        file.write_bytes(bad)
        with pytest.raises(WheelError, match="is not a proof"):
            read_proofs(file)
    with pytest.raises(WheelError, match="is not a proof"):
        read_proofs(tmp_path / "none.json")
    for empty, why in (
        (msgspec.structs.replace(good, skipped=("static",)), "left out a part of its level"),
        (computed(failed=("numerics",)), "failed for reasons of its machine"),
    ):
        write_proof(empty, file)
        with pytest.raises(WheelError, match=f"proves nothing: the verification {why}"):
            read_proofs(file)
    with pytest.raises(WheelError, match="nothing tells which wheel"):
        write_proof(msgspec.structs.replace(good, wheel_sha256=""), file)
