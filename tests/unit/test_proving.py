"""What the verifications of a wheel say together, for one kind of GPU and for all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sagefix.errors import WheelError
from sagefix.wheelhouse.evidence import entry, settle
from sagefix.wheelhouse.proving import (
    failed_somewhere,
    in_words,
    numbers_of,
    proof_of,
    rows_of,
    standing,
)
from sagefix.wheels.model import Proof

H200 = {"name": "NVIDIA H200", "capability": "9.0", "driver": "580.1", "index": 0}
A100 = {"name": "NVIDIA A100", "capability": "8.0", "driver": "", "index": 1}


def verdict(*cases: tuple[int, str], hazards: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a verdict of both GPUs with cases by index of the GPU and status."""
    told = [{"id": "x", "device": device, "status": status} for device, status in cases]
    return {
        "torch": "2.11.0+cu130",
        "driver": "580.1",
        "hazards": list(hazards),
        "numerics": {"devices": [H200, A100], "cases": told},
    }


def row(level: str, passed: bool = True, gpu: str = "", capability: str = "", *, hazards: int = 0) -> Proof:
    return Proof(
        level=level,
        passed=passed,
        when="",
        gpu=gpu,
        capability=capability,
        hazards=tuple(str(number) for number in range(hazards)),
    )


def on_h200(level: str, passed: bool = True, *, hazards: int = 0) -> Proof:
    return row(level, passed, "NVIDIA H200", "9.0", hazards=hazards)


def on_a100(level: str, passed: bool = True) -> Proof:
    return row(level, passed, "NVIDIA A100", "8.0")


def kinds(proofs: tuple[Proof, ...]) -> list[tuple[str, bool, str, str]]:
    return [(proof.level, proof.passed, proof.capability, proof.gpu) for proof in proofs]


def test_a_pass_is_about_each_gpu_that_computed() -> None:
    found = rows_of(
        verdict((0, "right"), (1, "right"), (0, "hazard"), hazards=("graphs",)),
        level="numerics",
        passed=True,
        when="t",
    )
    assert kinds(found) == [
        ("numerics", True, "9.0", "NVIDIA H200"),
        ("numerics", True, "8.0", "NVIDIA A100"),
    ]
    assert {(proof.driver, proof.torch, proof.hazards) for proof in found} == {
        ("580.1", "2.11.0+cu130", ("graphs",))
    }
    # Where everything was left out, nothing is proven.
    found = rows_of(verdict((0, "right"), (1, "skipped")), level="full", passed=True, when="t")
    assert kinds(found) == [("full", True, "9.0", "NVIDIA H200")]
    found = rows_of(verdict((0, "skipped")), level="full", passed=True, when="t")
    assert kinds(found) == [("import", True, "", "")]


def test_a_failure_is_about_the_gpu_that_is_wrong() -> None:
    found = rows_of(
        verdict((0, "right"), (0, "hazard"), (1, "crashed")), level="numerics", passed=False, when="t"
    )
    assert kinds(found) == [("numerics", False, "8.0", "NVIDIA A100")]
    # Nothing was computed: files or imports, which are the same on every kind.
    assert kinds(rows_of({"numerics": None}, level="numerics", passed=False, when="t")) == [
        ("numerics", False, "", "")
    ]
    assert kinds(rows_of({}, level="static", passed=False, when="t")) == [("static", False, "", "")]


@pytest.mark.parametrize(
    ("proofs", "hopper", "ampere", "overall"),
    [
        ([on_h200("numerics")], "numerics", "import", "numerics"),
        ([on_h200("numerics"), on_a100("numerics", False)], "numerics", "failed:numerics", "numerics"),
        ([row("static"), on_a100("numerics", False)], "static", "failed:numerics", "failed:numerics"),
        ([on_h200("full"), row("import", False)], "failed:import", "failed:import", "failed:import"),
        ([on_h200("full"), row("import", False), row("import")], "import", "import", "import"),
        ([on_h200("numerics", False), row("import")], "failed:numerics", "import", "failed:numerics"),
        ([on_h200("numerics", False), on_h200("full")], "full", "import", "full"),
        ([row("import")], "import", "import", "import"),
        ([], "", "", ""),
    ],
)
def test_what_counts_on_a_kind(proofs: list[Proof], hopper: str, ampere: str, overall: str) -> None:
    assert (standing(proofs, "9.0"), standing(proofs, "8.0"), proof_of(proofs)) == (hopper, ampere, overall)


def test_a_capability_is_refused_as_long_as_one_gpu_with_it_fails() -> None:
    h100 = row("numerics", True, "NVIDIA H100", "9.0")
    proofs = [on_h200("numerics", False), h100]
    assert standing(proofs, "9.0") == "failed:numerics"
    assert standing([*proofs, on_h200("numerics")], "9.0") == "numerics"


@pytest.mark.parametrize(
    ("proofs", "words"),
    [
        ([], "unproven"),
        ([row("static")], "static, numbers unproven"),
        ([row("import", False)], "FAILED level import"),
        ([on_h200("numerics", hazards=2)], "numerics on NVIDIA H200 (9.0), 2 hazards"),
        ([on_h200("full", hazards=1)], "full on NVIDIA H200 (9.0), 1 hazard"),
        (
            [on_h200("numerics"), on_a100("numerics", False)],
            "numerics on NVIDIA H200 (9.0); FAILED level numerics on NVIDIA A100 (8.0)",
        ),
    ],
)
def test_words(proofs: list[Proof], words: str) -> None:
    assert in_words(proofs) == words
    assert bool(failed_somewhere(proofs)) == ("FAILED" in words)
    assert bool(numbers_of(proofs)) == (" on NVIDIA H200" in words)


def test_the_latest_of_a_kind_counts_whatever_came_first() -> None:
    def made(when: str, passed: bool, *cases: tuple[int, str]) -> Any:
        return entry({**verdict(*cases), "when": when}, level="numerics", passed=passed)

    both = made("2026-11-20T10:00:00+00:00", True, (0, "right"), (1, "right"))
    wrong = made("2026-11-20T11:00:00Z", False, (1, "wrong"))
    again = made("2026-11-20T13:00:00+02:00", True, (0, "right"))  # the time of the one before, elsewhere
    entries, rows = settle([again, wrong, both])
    assert entries == (both, again, wrong)
    assert kinds(rows) == [
        ("numerics", True, "8.0", "NVIDIA A100"),
        ("numerics", True, "9.0", "NVIDIA H200"),
        ("numerics", False, "8.0", "NVIDIA A100"),
    ]
    assert settle([*entries, *entries]) == (entries, rows)
    newest = made("2026-11-20T12:00:00Z", True, (0, "right"), (1, "right"))
    assert settle([*entries, newest])[0] == (wrong, newest)


def test_what_is_no_verdict_is_refused() -> None:
    for bad in ({"numerics": []}, {"hazards": "two"}, {"numerics": {"devices": [{}]}}):
        with pytest.raises(WheelError, match="cannot be kept as a proof"):
            entry(bad, level="numerics", passed=True)
    with pytest.raises(WheelError, match="cannot be kept"):
        entry({}, level="vibes", passed=True)
    with pytest.raises(msgspec.ValidationError):
        rows_of({"torch": 2}, level="static", passed=True, when="")
