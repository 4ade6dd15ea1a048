"""What is known of an installation: proofs by kind of GPU, and crossovers, the nearest source first."""

from __future__ import annotations

import msgspec
import pytest

from sagefix.pins.load import load_pin
from sagefix.proof.benchmark import kept
from sagefix.proof.benchmark.model import Bench, Crossover
from sagefix.proof.numerics.load import load_proofs
from sagefix.targets.model import Gpu, Interpreter, Target, Torch
from sagefix.wheels.model import Proof
from sagefix.workflows.knowing import crossovers, devices
from tests.unit.test_bench_kept import make_bench

SAGE = load_pin("sageattention")
FUNCTION = load_proofs(SAGE).function[0]
H200, SUBJECT = "NVIDIA H200", "sageattention 2.2.0+68de379.fix1"
PROVEN = Proof(
    level="numerics", passed=True, when="2026-11-20T10:00:00+00:00", gpu=H200, capability="9.0", driver="580.1",
    torch="2.11.0+cu130",
)  # fmt: skip


def target(*gpus: Gpu) -> Target:
    torch = Torch(version="2.11.0+cu130", cuda="13.0", cxx11_abi=True, folder="")
    interpreter = Interpreter(
        executable="python", version="3.12.0", implementation="cpython", machine="x86_64", prefix="", base_prefix="",
        platform_tag="", python_tag="", abi_tag="", tags=(), glibc="", ext_suffix="", purelib="", platlib="",
        sys_path=(), python_h="", externally_managed=False, packages={}, torch=torch,
    )  # fmt: skip
    return Target(interpreter=interpreter, archs=(), archs_from="", gpus=gpus)


def told(*benches: Bench, gpu: str = H200) -> dict[tuple[str, int, bool], tuple[int, str]]:
    found = crossovers(gpu, "9.0", "sageattn", benches, SUBJECT, "2.11")
    return {(each.dtype, each.head_dim, each.causal): (each.tokens, each.source[:5]) for each in found}


def with_crossover(bench: Bench, **changed: object) -> Bench:
    first: Crossover = msgspec.structs.replace(bench.crossovers[0], **changed)
    return msgspec.structs.replace(bench, crossovers=(first,))


def test_a_benchmark_goes_before_what_is_known() -> None:
    known = told()
    assert known[("bfloat16", 128, False)] == (9520, "known")
    measured = make_bench()
    (first, _) = measured.crossovers
    assert told(measured)[("bfloat16", 128, False)] == (first.tokens, "sagef")
    # One of the cache counts alike, and one of another GPU, version or torch does not.
    kept.keep(measured)
    assert told()[("bfloat16", 128, False)] == (first.tokens, "sagef")
    assert told(gpu="NVIDIA H100 80GB HBM3")[("bfloat16", 128, False)] == (16384, "known")
    assert crossovers(H200, "9.0", "sageattn", (), "sageattention 2.2.0", "2.11")[0].tokens == 9520
    assert crossovers(H200, "9.0", "sageattn", (), SUBJECT, "2.12")[0].tokens == 9520


def test_what_never_wins_is_never_routed() -> None:
    never = with_crossover(make_bench(), tokens=None, below=32760, above=None)
    assert ("bfloat16", 128, False) not in told(never)
    assert ("float16", 128, False) in told(never)


def test_other_head_dims_and_causal_are_added() -> None:
    narrow = with_crossover(make_bench(), size=(1, 48, 64), tokens=12000, causal=True)
    assert told(narrow)[("bfloat16", 64, True)] == (12000, "sagef")
    assert told(narrow)[("bfloat16", 128, False)] == (9520, "known")


def test_proofs_are_about_a_kind_of_gpu() -> None:
    here = target(
        Gpu(index=0, name=H200, capability="9.0"), Gpu(index=1, name="NVIDIA H100 PCIe", capability="9.0")
    )
    found = {each.name: each for each in devices(SAGE, FUNCTION, here, [PROVEN], (), SUBJECT)}
    assert set(found) == {H200, "NVIDIA H100 PCIe", "*"}
    assert found[H200].proof == f"numerics on {H200} (9.0), {PROVEN.when}"
    assert (found[H200].torch, found[H200].longest, found[H200].any_stream) == ("2.11.0+cu130", 262144, True)
    for other in ("NVIDIA H100 PCIe", "*"):
        assert found[other].proof == ""
        assert "nobody verified" in found[other].unproven


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([msgspec.structs.replace(PROVEN, passed=False)], "it failed level numerics there"),
        ([PROVEN, msgspec.structs.replace(PROVEN, passed=False)], "it failed level numerics there"),
        ([msgspec.structs.replace(PROVEN, level="import")], "nobody verified"),
    ],
)
def test_a_failure_takes_a_proof_back(rows: list[Proof], why: str) -> None:
    (device,) = [each for each in devices(SAGE, FUNCTION, target(), rows, (), SUBJECT) if each.name == H200]
    assert device.proof == ""
    assert device.unproven.startswith(why)


def test_a_hazard_of_streams_is_written_down() -> None:
    hazard = "sageattn: right when called plainly, wrong on side streams: kernels on the default stream."
    rows = [msgspec.structs.replace(PROVEN, hazards=(hazard,))]
    (device,) = [each for each in devices(SAGE, FUNCTION, target(), rows, (), SUBJECT) if each.name == H200]
    assert (bool(device.proof), device.any_stream) == (True, False)


def test_the_longest_that_a_proof_computed_counts() -> None:
    case = {
        "id": "sageattn/x", "group": "length", "function": "sageattention:sageattn", "status": "right",
        "shape": [1, 2, 2, 400000, 400000, 64],
    }  # fmt: skip
    wrong = {**case, "status": "wrong", "shape": [1, 2, 2, 500000, 500000, 64]}
    rows = [msgspec.structs.replace(PROVEN, verdict={"numerics": {"cases": [case, wrong]}})]
    (device,) = [each for each in devices(SAGE, FUNCTION, target(), rows, (), SUBJECT) if each.name == H200]
    assert device.longest == 400000
