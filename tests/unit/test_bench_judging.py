"""What measured times mean: throughput, right or wrong, what to use, and where one begins to win."""

from __future__ import annotations

import msgspec
import pytest

from sagefix.proof.benchmark.judging import crossovers, flops, judge, recommend, with_ratios
from sagefix.proof.benchmark.model import Case, Ceiling, Measured, Recommendation, Status

LABELS = {"sdpa": "SDPA", "sageattn": "sageattn", "sdpa-flash": "SDPA flash"}
WAN = (1, 40, 32760, 128)


def measured(
    backend: str,
    median: float,
    error: float | None = 0.002,
    *,
    status: Status = "measured",
    spread: float = 0.01,
) -> Measured:
    return Measured(
        backend=backend, status=status, median=median, fastest=median, quarter=median * (1 - spread),
        three_quarters=median * (1 + spread), runs=5, error=error,
        text="Its error is 1.3; up to 0.08 is right." if status == "wrong" else "",
    )  # fmt: skip


def words(*rows: Measured) -> tuple[str, str]:
    made = recommend(with_ratios(rows), LABELS, "sageattn")
    return made.backend, made.words


def test_attention_is_two_products_and_half_of_them_when_causal() -> None:
    assert flops((2, 3, 5, 7), causal=False) == 4 * 2 * 3 * 5 * 5 * 7
    assert flops((2, 3, 5, 7), causal=True) == 2 * 2 * 3 * 5 * 5 * 7
    # The figures of an H200: 28.5 ms are 771 TFLOP/s.
    assert flops(WAN, causal=False) / 28.5e-3 / 1e12 == pytest.approx(771, abs=1)


def test_runs_are_summed_up() -> None:
    made = judge(
        "sageattn", [30.0, 28.0, 29.0, 28.5, 28.5], {"relative_l2": 0.038, "cosine": 0.999}, memory=123,
        allowed=0.08, operations=flops(WAN, causal=False),
        ceiling=Ceiling(tflops=989.4, precision="bf16", fp8=0.0, sources=()),
    )  # fmt: skip
    assert (made.status, made.runs, made.median, made.fastest) == ("measured", 5, 28.5, 28.0)
    assert (made.quarter, made.three_quarters, made.memory) == (28.5, 29.0, 123)
    assert made.tflops == pytest.approx(771, abs=1)
    assert made.share == pytest.approx(0.779, abs=0.001)
    once = judge("sdpa", [2.0], {"relative_l2": 0.0}, memory=None, allowed=None, operations=1.0, ceiling=None)
    assert (once.quarter, once.median, once.three_quarters, once.share) == (2.0, 2.0, 2.0, None)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ({"relative_l2": 1.26}, "Its error is 1.3; up to 0.08 is right."),
        ({"relative_l2": None, "nan": 5}, "Its output holds NaN or infinity."),
        # Rows that were not compared can hold NaN, too.
        ({"relative_l2": 0.01, "nan": 1}, "Its output holds NaN or infinity."),
        ({"relative_l2": 0.01, "inf": 1}, "Its output holds NaN or infinity."),
    ],
)
def test_what_is_wrong_keeps_its_times(numbers: dict[str, float | None], text: str) -> None:
    made = judge("sageattn", [1.0], numbers, memory=0, allowed=0.08, operations=1.0, ceiling=None)
    assert (made.status, made.text, made.median) == ("wrong", text, 1.0)


def test_the_fastest_that_is_right_is_recommended() -> None:
    assert words(measured("sdpa", 39.1), measured("sageattn", 28.5, 0.038), measured("sdpa-flash", 62.2)) == (
        "sageattn",
        "use sageattn: 0.73 of SDPA's time, error 0.038",
    )
    assert words(measured("sdpa", 0.335), measured("sageattn", 0.799)) == (
        "sdpa",
        "use SDPA: sageattn takes 2.39 times as long",
    )
    assert words(measured("sdpa", 1.0), measured("sdpa-flash", 0.8)) == (
        "sdpa-flash",
        "use SDPA flash: 0.80 of SDPA's time, error 0.002",
    )


def test_equally_fast_means_what_is_exact_and_always_there() -> None:
    assert words(measured("sdpa", 1.0), measured("sageattn", 0.98)) == (
        "sdpa",
        "use SDPA: sageattn is no faster (0.98 of its time)",
    )
    assert words(measured("sdpa", 1.0, spread=0.5), measured("sageattn", 0.8)) == (
        "sdpa",
        "use SDPA: sageattn is not clearly faster (0.80 of its time, and the runs overlap)",
    )
    # Of the pin's own functions the one that chooses its kernel.
    rows = with_ratios([measured("sdpa", 2.0), measured("its_kernel", 1.0), measured("sageattn", 1.01)])
    assert recommend(rows, {**LABELS, "its_kernel": "its_kernel"}, "sageattn").backend == "sageattn"


def test_what_is_fast_and_wrong_is_named_and_never_recommended() -> None:
    wrong = measured("sageattn", 0.1, 1.3, status="wrong")
    told = "sageattn is fast, and wrong: its error is 1.3; up to 0.08 is right"
    assert words(measured("sdpa", 1.0), wrong) == ("sdpa", f"use SDPA; {told}")
    assert words(wrong) == ("", f"nothing computed this right; {told}")
    slow = measured("sageattn", 5.0, 1.3, status="wrong")
    assert words(measured("sdpa", 1.0), slow)[1].endswith(
        "; sageattn is wrong: its error is 1.3; up to 0.08 is right"
    )


def test_what_could_not_be_measured_is_told() -> None:
    gone = Measured(backend="sageattn", status="not installed", text="sageattention is not installed.")
    assert words(measured("sdpa", 1.0), gone) == ("sdpa", "use SDPA; sageattn: not installed")
    full = Measured(backend="sdpa", status="out of memory", text="...")
    assert words(full, measured("sageattn", 1.0)) == (
        "sageattn",
        "use sageattn, the fastest of what was right; SDPA: out of memory",
    )
    assert words(gone) == ("", "nothing computed this right")


def sweep(ratios: dict[int, float], wrong: tuple[int, ...] = ()) -> list[Case]:
    cases = []
    for tokens, ratio in ratios.items():
        status: Status = "wrong" if tokens in wrong else "measured"
        rows = with_ratios([measured("sdpa", 1.0), measured("sageattn", ratio, status=status)])
        cases.append(
            Case(
                id=str(tokens),
                size=(1, 40, tokens, 128),
                dtype="bfloat16",
                causal=False,
                results=rows,
                recommendation=Recommendation(backend="", words=""),
            )
        )
    return cases


H200 = {512: 4.2, 2048: 1.96, 4096: 1.23, 6144: 1.02, 8192: 0.92, 16384: 0.83, 32760: 0.74}


def test_the_crossover_lies_between_measured_lengths() -> None:
    (found,) = crossovers(reversed(sweep(H200)), LABELS, "sageattn")
    assert (found.below, found.above, found.size, found.dtype) == (6144, 8192, (1, 40, 128), "bfloat16")
    # log(1.02) / (log(1.02) - log(0.92)) of the way from 6144 to 8192, in logarithms.
    assert found.tokens == 6493
    assert found.lengths == tuple(H200)
    assert found.ratios == tuple(H200.values())
    assert found.words == (
        "sageattn is faster than SDPA from about 6500 tokens on (1.02 of its time at 6144, 0.92 at 8192)"
    )


def test_a_crossover_that_is_exactly_at_a_length() -> None:
    (found,) = crossovers(sweep({512: 2.0, 1024: 1.0, 4096: 0.5}), LABELS, "sageattn")
    assert (found.tokens, found.below, found.above) == (1024, 1024, 4096)


def test_always_never_and_not_at_the_end() -> None:
    (always,) = crossovers(sweep({256: 0.9, 512: 0.9, 1024: 0.8}), LABELS, "sageattn")
    assert (always.tokens, always.below, always.above) == (256, None, 256)
    assert always.words == "sageattn is faster than SDPA at every length from 256 to 1024"
    (never,) = crossovers(sweep({256: 2.0, 512: 1.9, 1024: 1.1}), LABELS, "sageattn")
    assert (never.tokens, never.below, never.above) == (None, 1024, None)
    assert never.words == "sageattn is not faster than SDPA at any length from 256 to 1024"
    (lost,) = crossovers(sweep({512: 1.9, 1024: 0.9, 2048: 1.1}), LABELS, "sageattn")
    assert lost.tokens is None
    assert "at 2048 tokens, the longest measured, though it is at 1024" in lost.words


def test_the_last_crossing_counts_and_an_earlier_win_is_told() -> None:
    (found,) = crossovers(sweep({512: 2.0, 1024: 0.9, 2048: 1.1, 4096: 0.8}), LABELS, "sageattn")
    assert (found.below, found.above) == (2048, 4096)
    assert found.words.endswith(", and at 1024")


def test_a_length_at_which_it_is_wrong_is_no_win() -> None:
    (found,) = crossovers(sweep({512: 0.9, 1024: 0.8, 2048: 0.7}, wrong=(1024,)), LABELS, "sageattn")
    assert (found.tokens, found.below, found.above) == (2048, 1024, 2048)
    (found,) = crossovers(sweep({256: 0.9, 512: 0.9, 1024: 0.8}, wrong=(512, 1024)), LABELS, "sageattn")
    assert found.tokens is None


def test_shapes_and_dtypes_are_kept_apart() -> None:
    cases = sweep(H200)
    others = [msgspec.structs.replace(case, dtype="float16") for case in cases]
    # Two lengths far apart say nothing.
    cases += [msgspec.structs.replace(case, size=(1, 32, case.size[2], 128)) for case in cases[::6]]
    alone = msgspec.structs.replace(cases[0], size=(32, 16, 1024, 64))
    found = crossovers([*cases, *others, alone], LABELS, "sageattn")
    assert [each.dtype for each in found] == ["bfloat16", "float16"]
