"""What is computed for a pin, what counts as right, and how failures are put into words; nothing is run."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from sagefix.errors import GpuError, PinError, UsageError
from sagefix.pins.load import load_pin
from sagefix.proof.model import CaseResult, Device, Numbers
from sagefix.proof.numerics.cases import lanes, make_cases
from sagefix.proof.numerics.groups import check_groups, find_hazards
from sagefix.proof.numerics.judging import judge
from sagefix.proof.numerics.load import has_proofs, load_proofs
from sagefix.proof.numerics.model import Case, Proofs
from sagefix.proof.numerics.prove import devices_of, prove
from sagefix.proof.numerics.run import Answer
from sagefix.proof.numerics.thresholds import limit_of, nearness
from sagefix.proof.numerics.words import explain_function
from sagefix.settings import PACKAGE
from sagefix.targets.model import Gpu, Target

H200 = Device(name="NVIDIA H200", capability="9.0", memory=150 << 30)
INSTALLED = ("sageattention._fused", "sageattention._qattn_sm80", "sageattention._qattn_sm90")


@pytest.fixture(scope="module")
def proofs() -> Proofs:
    return load_proofs(load_pin("sageattention"))


def full(proofs: Proofs, *devices: Device) -> tuple[Case, ...]:
    return make_cases(proofs, "full", devices or (H200,), INSTALLED)[0]


def test_full_holds_everything_that_was_promised(proofs: Proofs) -> None:
    cases = full(proofs)
    assert len({case.id for case in cases}) == len(cases)
    assert {case.function for case in cases} == {
        "sageattn",
        "sageattn_varlen",
        "sageattn_qk_int8_pv_fp16_triton",
        "sageattn_qk_int8_pv_fp16_cuda",
        "sageattn_qk_int8_pv_fp8_cuda_sm90",
    }
    mine = [case for case in cases if case.function == "sageattn"]
    lengths = {case.queries for case in mine if case.queries == case.keys}
    assert {1, 7, 63, 64, 65, 127, 128, 129, 700, 4097, 32760, 75600, 163840, 262144} <= lengths
    assert {case.head_dim for case in mine} == {64, 96, 128, 160}
    assert {case.dtype for case in mine} == {"bfloat16", "float16"}
    assert {case.layout for case in mine} == {"HND", "NHD"}
    assert {case.input for case in mine} == {"normal", "outliers", "large"}
    assert {case.memory for case in mine} == {"contiguous", "transposed", "packed", "strided"}
    assert {case.mode for case in mine} == {
        "call", "lse", "stream", "graph", "compile", "reduce-overhead", "other-device", "mask",
        "refuse-dtype", "refuse-mixed", "refuse-head-dim", "refuse-memory",
    }  # fmt: skip
    assert any(case.heads > case.key_heads for case in mine)
    assert any(case.queries > case.keys for case in mine)
    assert any(case.queries < case.keys for case in mine)
    # "Only applicable when qo_len == kv_len", says upstream of causal.
    assert all(case.queries == case.keys for case in cases if case.causal)


def test_numerics_is_part_of_full_and_short(proofs: Proofs) -> None:
    cases, left_out = make_cases(proofs, "numerics", (H200,), INSTALLED)
    assert {case.id for case in cases} <= {case.id for case in full(proofs)}
    assert 20 <= len(cases) <= 60
    assert [case.id for case in left_out] == ["sageattn_qk_int8_pv_fp8_cuda"]
    assert left_out[0].text == "sageattention._qattn_sm89 is not installed."
    assert max(case.queries for case in cases) == 32760


def test_cheap_cases_come_first_and_compiling_last(proofs: Proofs) -> None:
    cases = full(proofs)
    assert cases[0].queries == 1
    assert [case.mode for case in cases[-2:]] == ["compile", "reduce-overhead"]


def test_each_gpu_has_cases_of_its_own(proofs: Proofs) -> None:
    second = msgspec.structs.replace(H200, index=1)
    ada = Device(name="L40S", capability="8.9", index=2)
    cases = full(proofs, H200, second, ada)
    assert Counter(case.device for case in cases)[0] == Counter(case.device for case in cases)[1]
    # _qattn_sm89 is not installed; sageattn, which needs it there, is called all the same and has to fail.
    assert {case.function for case in cases if case.device == 2} == {
        "sageattn",
        "sageattn_varlen",
        "sageattn_qk_int8_pv_fp16_triton",
        "sageattn_qk_int8_pv_fp16_cuda",
    }
    assert len({case.seed for case in cases if case.device == 0}) == len(
        {case.id for case in cases if case.device == 0}
    )


def test_lanes_keep_functions_together(proofs: Proofs) -> None:
    cases = full(proofs)
    shared = lanes(cases, 6)
    assert len(shared) == 6
    assert sorted(case.id for lane in shared for case in lane) == sorted(case.id for case in cases)
    assert [{case.mode for case in lane} for lane in shared if lane[0].mode == "compile"] == [
        {"compile", "reduce-overhead"}
    ]
    assert len(lanes(cases, 1)) == 1
    assert lanes((), 4) == []


def test_accuracy_depends_on_the_gpu(proofs: Proofs) -> None:
    function = proofs.function_named("sageattn")
    places = {arch: function.where(arch) for arch in ("8.0", "8.6", "8.9", "9.0", "12.0", "10.0")}
    assert {arch: place.accuracy if place else None for arch, place in places.items()} == {
        "8.0": "fp16", "8.6": "fp16", "8.9": "fp8", "9.0": "fp8", "12.0": "fp8", "10.0": None,
    }  # fmt: skip


def numbers(error: float | None, cosine: float | None = 0.999, worst: float = 0.05, nan: int = 0) -> Numbers:
    return Numbers(relative_l2=error, cosine=cosine, worst_row=worst, nan=nan)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (numbers(0.05), "right"),
        (numbers(0.09), "wrong"),
        (numbers(0.05, cosine=0.9), "wrong"),
        (numbers(0.05, worst=0.9), "wrong"),
        (numbers(0.05, nan=1), "wrong"),
        (numbers(None, None), "wrong"),
    ],
)
def test_limits(proofs: Proofs, seen: Numbers, expected: str) -> None:
    case = next(case for case in full(proofs) if case.function == "sageattn" and case.input == "normal")
    assert nearness(seen, limit_of(proofs, case), proofs) == expected


def test_between_two_accuracies_is_neither_right_nor_broken(proofs: Proofs) -> None:
    case = next(case for case in full(proofs) if case.accuracy == "fp16" and case.input == "normal")
    limit = limit_of(proofs, case)
    assert [nearness(numbers(error), limit, proofs) for error in (0.01, 0.05, 0.2)] == [
        "right",
        "another accuracy",
        "wrong",
    ]


def test_large_inputs_have_limits_of_their_own(proofs: Proofs) -> None:
    case = next(case for case in full(proofs) if case.function == "sageattn" and case.input == "large")
    assert limit_of(proofs, case).name == "fp8, large"
    assert nearness(numbers(0.24, cosine=0.97, worst=1.5), limit_of(proofs, case), proofs) == "right"


def of_mode(proofs: Proofs, mode: str, function: str = "sageattn") -> Case:
    return next(case for case in full(proofs) if case.mode == mode and case.function == function)


def test_what_goes_wrong_on_streams_is_a_hazard(proofs: Proofs) -> None:
    runs = (numbers(0.04), numbers(None, None), numbers(39.0, 0.0))
    wrong = [
        judge(proofs, of_mode(proofs, mode), Answer(status="done", runs=runs), H200)
        for mode in ("stream", "graph", "reduce-overhead", "compile")
    ]
    assert [case.status for case in wrong] == ["hazard", "hazard", "hazard", "wrong"]
    assert wrong[0].measured == {"tries": 3, "wrong": 2}
    assert wrong[0].text.startswith("Wrong in 2 of 3 tries: not a finite number")
    assert find_hazards(wrong[:3], ()) == (
        "sageattn: right when called plainly, wrong on side streams, under CUDA graphs and under torch.compile with "
        "mode reduce-overhead: kernels on the default stream.",
    )
    assert find_hazards(wrong[:3], {"sageattn"}) == ()
    checks = check_groups(wrong[:2], ())
    assert [(check.name, check.status) for check in checks] == [("streams", "warning"), ("graphs", "warning")]
    assert all("hazard" in check.found for check in checks)
    assert [check.status for check in check_groups(wrong[:2], {"sageattn"})] == ["skipped", "skipped"]


def test_reading_beyond_the_inputs_is_a_hazard_and_not_writing_is_not(proofs: Proofs) -> None:
    plain = of_mode(proofs, "call")
    nan = numbers(None, None, nan=3584)
    strays = judge(proofs, plain, Answer(status="done", numbers=nan, again=numbers(0.04)), H200)
    assert (strays.status, strays.numbers) == ("hazard", nan)
    assert find_hazards([strays, strays], ()) == (
        "sageattn: it reads memory that nobody wrote for it, and NaN in there comes out.",
    )
    unwritten = judge(proofs, plain, Answer(status="done", numbers=nan, again=numbers(9.0, 0.0)), H200)
    assert unwritten.status == "wrong"


def test_a_capture_that_raises_is_loud(proofs: Proofs) -> None:
    raised = Answer(
        status="raised", type="RuntimeError", text="operation not permitted when stream is capturing"
    )
    case = judge(proofs, of_mode(proofs, "graph"), raised, H200)
    assert case.status == "hazard"
    assert find_hazards([case], ()) == (
        "sageattn, under CUDA graphs: It raises an error: RuntimeError: operation not permitted when stream is "
        "capturing.",
    )


def test_errors_are_told_by_what_they_mean(proofs: Proofs) -> None:
    plain = of_mode(proofs, "call")

    def said(status: str, kind: str, text: str, case: Case = plain) -> tuple[str, str]:
        made = judge(proofs, case, Answer(status=status, type=kind, text=text), H200)
        return made.status, made.text

    no_kernel = said(
        "raised", "RuntimeError", "CUDA error: no kernel image is available for execution on the device"
    )
    assert no_kernel[0] == "wrong"
    assert no_kernel[1].endswith("It has no kernel for this GPU or machine: it was built for another.")
    assert said("raised", "OutOfMemoryError", "Tried to allocate 9 GiB.")[0] == "skipped"
    assert said("broken", "AcceleratorError", "an illegal memory access was encountered")[0] == "crashed"
    assert said("missing", "AttributeError", "no sageattn") == (
        "wrong", "It cannot be called: AttributeError: no sageattn.",
    )  # fmt: skip
    assert said("raised", "ValueError", "Unsupported head_dim: 160", of_mode(proofs, "refuse-head-dim")) == (
        "right", "Refused: ValueError: Unsupported head_dim: 160.",
    )  # fmt: skip
    known = next(c for c in full(proofs) if c.mode == "lse" and c.layout == "HND" and c.heads != c.key_heads)
    status, text = said("raised", "RuntimeError", "The size of tensor a (8) must match b (2)", known)
    assert status == "hazard"
    assert text.startswith("Known: return_lse with fewer key heads")


def test_a_border_inside_one_output_is_named(proofs: Proofs) -> None:
    rows = {"rows_from_0": 0.03, "rows_from_64": 0.03, "rows_from_131072": 1.4}
    answer = Answer(status="done", numbers=numbers(0.9, 0.5), measured=rows)
    assert (
        "Right up to row 131,072, noise beyond" in judge(proofs, of_mode(proofs, "call"), answer, H200).text
    )


def result(status: str, **more: object) -> CaseResult:
    facts: dict[str, object] = {
        "id": "sageattn/x",
        "group": "plain",
        "function": "sageattention:sageattn",
        "dtype": "bfloat16",
        "shape": (1, 4, 4, 700, 700, 128),
        "status": status,
        "numbers": numbers(0.03) if status == "right" else numbers(1.4, 0.0),
    }
    return CaseResult(**{**facts, **more})  # type: ignore[arg-type]


def test_the_hopper_fault_has_its_name(proofs: Proofs) -> None:
    bad = [result("wrong", measured={"unwritten": 1.0}, numbers=numbers(None, None, nan=9)) for _ in range(3)]
    assert explain_function(proofs, "sageattn", "9.0", bad) == (
        "sageattn: the output was never written: the Hopper fault.",
    )
    assert explain_function(proofs, "sageattn", "8.9", bad) == ("sageattn: the output was never written.",)
    noise = [result("wrong") for _ in range(3)]
    assert explain_function(proofs, "sageattn", "9.0", noise) == (
        "sageattn: noise in every case: the output has nothing to do with the inputs, as if it were never written "
        "(the Hopper fault).",
    )


def test_what_wrong_cases_have_in_common_is_said(proofs: Proofs) -> None:
    lengths = [result("right", shape=(1, 2, 2, n, n, 128)) for n in (700, 4097, 131072)]
    beyond = [result("wrong", shape=(1, 2, 2, n, n, 128)) for n in (163840, 262144)]
    assert explain_function(proofs, "sageattn", "9.0", lengths + beyond) == (
        "sageattn: right up to 131,072 tokens, noise beyond.",
    )
    mixed = [result("right"), result("wrong"), result("right")]
    assert explain_function(proofs, "sageattn", "9.0", mixed) == (
        "sageattn: noise in 1 of 3 cases (sageattn/x).",
    )
    devices = [result("right", device=0), result("wrong", device=1)]
    assert explain_function(proofs, "sageattn", "9.0", devices) == ("sageattn: noise for GPU 1 only.",)
    assert explain_function(proofs, "sageattn", "9.0", [result("right"), result("skipped")]) == ()


def target(*gpus: Gpu) -> Target:
    from sagefix.targets.interpreter import probe

    return Target(interpreter=probe(Path(sys.executable)), archs=(), archs_from="", gpus=gpus)


def test_devices_are_those_of_the_target() -> None:
    pin = load_pin("sageattention")
    two = target(
        *(Gpu(index=index, name="NVIDIA H200", capability="9.0", driver="580.1") for index in (0, 1))
    )
    assert [device.index for device in devices_of(pin, two)] == [0, 1]
    (second,) = devices_of(pin, two, 1)
    assert (second.index, second.driver) == (1, "580.1")
    with pytest.raises(UsageError, match="There is no GPU 2") as error:
        devices_of(pin, two, 2)
    assert error.value.hint == "0: NVIDIA H200; 1: NVIDIA H200"
    with pytest.raises(GpuError, match="No GPU is visible"):
        devices_of(pin, target())
    assert [device.capability for device in devices_of(load_pin("demo"), target())] == ["cpu"]


def guest(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PACKAGE / "guest" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sampled_rows_hold_the_borders() -> None:
    sampled = guest("numerics_rows").sampled
    assert sampled(200, 10, 1) == list(range(200))
    rows = sampled(262144, 320, 1)
    assert rows == sorted(set(rows))
    assert len(rows) == 320
    assert {0, 1, 262142, 262143, 131071, 131072, 131073, 127, 128, 129} <= set(rows)
    assert all(0 <= row < 262144 for row in rows)
    assert rows == sampled(262144, 320, 1) != sampled(262144, 320, 2)


def test_a_pin_without_proofs_says_so(tmp_path: Path) -> None:
    pin = load_pin("demo")
    (tmp_path / "proofs").mkdir()
    with pytest.raises(PinError, match=r"There is no demo\.toml .* nobody has said how to compute with demo"):
        load_proofs(pin, tmp_path)
    assert has_proofs(pin)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('pin = "demo"', 'pin = "other"', "pin: the file is named demo.toml"),
        ('kind = "arrays"', 'kind = "tables"', "function[0].kind: invalid enum value"),
        (
            'call = "demoattention:attention"',
            'call = "demoattention"',
            "function[0].call: write module:attribute",
        ),
        (
            'accuracy = "exact"\nneeds',
            'accuracy = "rough"\nneeds',
            "no limit covers accuracy 'rough' and float64",
        ),
        ("rows = 24", "rows = 24\nrow = 3", "row: unknown key"),
        (
            'levels = ["numerics", "full"]\ngroup = "input"',
            'functions = ["nobody"]\nlevels = ["numerics", "full"]\ngroup = "input"',
            "there is no function 'nobody'",
        ),
    ],
)
def test_a_wrong_manifest_is_named_by_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    from sagefix.settings import shipped_manifests

    text = (shipped_manifests() / "proofs" / "demo.toml").read_text(encoding="utf-8")
    assert text.count(old) == 1
    (tmp_path / "proofs").mkdir()
    (tmp_path / "proofs" / "demo.toml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(PinError) as error:
        load_proofs(load_pin("demo"), tmp_path)
    assert message in error.value.message
    assert "sagefix/proof/numerics/model.py" in error.value.hint


def test_a_gpu_that_nothing_runs_on_is_no_success() -> None:
    turing = target(Gpu(index=0, name="T4", capability="7.5"))
    pin = load_pin("sageattention")
    proof = prove(pin, turing, "full", devices_of(pin, turing), ())
    (check,) = proof.checks
    assert check.status == "failure"
    assert check.found.startswith(
        "Nothing can be computed: sageattn does not run on GPUs of compute capability 7.5."
    )
