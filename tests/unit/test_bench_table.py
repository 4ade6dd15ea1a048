"""What is measured: the table of shapes, backends and peaks, and the choice from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sagefix import settings
from sagefix.errors import PinError, UsageError
from sagefix.pins.load import load_pin
from sagefix.proof.benchmark.choosing import case_id, find_candidates, find_dtypes, find_shapes
from sagefix.proof.benchmark.judging import LENGTHS
from sagefix.proof.benchmark.table import NAME, load_bench_table
from sagefix.targets.clocks import Watcher

TABLE = load_bench_table()
SAGE = load_pin("sageattention")


def test_the_shapes_people_use_are_named() -> None:
    named = {shape.name: shape.size for shape in TABLE.shape}
    assert named["wan-480p"] == (1, 40, 32760, 128)
    assert named["wan-720p"] == (1, 40, 75600, 128)
    # 81 frames are 21 latent ones, of 480 x 832 and 720 x 1280 pixels in tokens of 16 x 16.
    assert named["wan-480p"][2] == 21 * (480 // 16) * (832 // 16)
    assert named["wan-720p"][2] == 21 * (720 // 16) * (1280 // 16)
    wan, narrow = (sweep for sweep in TABLE.sweep if sweep.device == "cuda")
    assert (wan.tokens[0], wan.tokens[-1], wan.size) == (512, 65536, (1, 40, 128))
    # Crossovers need LENGTHS of each, quick or not.
    assert min(len(narrow.tokens), len(narrow.quick_tokens)) >= LENGTHS


def test_what_a_gpu_can_do_is_known_by_its_whole_name_alone() -> None:
    h200 = TABLE.peak_of("NVIDIA H200", "9.0")
    assert h200 is not None
    assert (h200.tflops, h200.fp8) == (989.4, 1978.9)
    assert TABLE.peak_of("NVIDIA H200", "8.0") is None
    assert TABLE.peak_of("NVIDIA H200 MIG 1g.18gb", "9.0") is None
    assert TABLE.peak_of("NVIDIA GeForce RTX 4090 Laptop GPU", "8.9") is None
    assert all(link.startswith("https://") for peak in TABLE.peak for link in peak.sources)


def test_shapes_by_default_by_name_and_by_numbers() -> None:
    full = find_shapes(TABLE, "cuda")
    assert [shape.name for shape in full if shape.name] == [
        "short",
        "medium",
        "wan-480p",
        "wan-720p",
        "batch-32",
    ]
    lengths = [shape.size[2] for shape in full if shape.size[:2] == (1, 40)]
    assert lengths == sorted(lengths)
    assert {512, 65536, 32760, 75600} <= set(lengths)
    quick = find_shapes(TABLE, "cuda", quick=True)
    assert len(quick) < len(full)
    assert all(shape.size[2] <= 32760 for shape in quick)
    assert {shape.device for shape in find_shapes(TABLE, "cpu")} == {"cpu"}
    (named,) = find_shapes(TABLE, "cuda", ["wan-720p"])
    assert named.size == (1, 40, 75600, 128)
    # Numbers that have a name get it; each shape is measured once.
    both = find_shapes(TABLE, "cuda", ["1,40,32760,128", "wan-480p", "2x3x4x5"])
    assert [(shape.name, shape.size) for shape in both] == [
        ("wan-480p", (1, 40, 32760, 128)),
        ("", (2, 3, 4, 5)),
    ]
    assert len(find_shapes(TABLE, "cuda", ["sweep"])) == 9


@pytest.mark.parametrize(
    "text", ["", "wan", "1,2,3", "1,2,3,4,5", "1,2,0,4", "1,2,-3,4", "a,b,c,d", "1,2,٣,4"]
)
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a shape") as raised:
        find_shapes(TABLE, "cuda", [text])
    assert "wan-480p" in raised.value.hint


def test_dtypes() -> None:
    assert find_dtypes([], quick=False) == ("bfloat16", "float16")
    assert find_dtypes([], quick=True) == ("bfloat16",)
    assert find_dtypes(["fp16", "bf16", "float16"], quick=True) == ("float16", "bfloat16")
    with pytest.raises(UsageError, match="fp32 cannot be measured"):
        find_dtypes(["fp32"], quick=False)


def test_the_backends_of_a_pin_are_its_functions_and_their_limits() -> None:
    found = find_candidates(TABLE, SAGE, "9.0")
    names = [each.name for each in found.backends]
    assert names[:2] == ["sdpa", "sageattn"]
    assert found.main == "sageattn"
    assert {"sdpa-cudnn", "flash-attn-2", "flash-attn-3", "xformers"} <= set(names)
    assert "sageattn_varlen" not in names
    assert found.missing == {}
    (main,) = (each for each in found.backends if each.name == "sageattn")
    assert (main.module, main.attribute, main.layout, main.causal) == (
        "sageattention", "sageattn", "HND", "is_causal",
    )  # fmt: skip
    for dtype in ("bfloat16", "float16"):
        assert found.allowed["sageattn", dtype] == 0.08
        assert found.allowed["sageattn_qk_int8_pv_fp16_cuda", dtype] == 0.03
        # Exact, but wide enough for what SDPA is off itself.
        assert 0.0003 < found.allowed["sdpa-flash", dtype] <= 0.01
    assert len(find_candidates(TABLE, load_pin("demo"), "cpu").backends) == len(TABLE.backend)


def test_kernels_of_another_gpu_are_not_tried() -> None:
    found = find_candidates(TABLE, SAGE, "8.6")
    assert found.missing["sageattn_qk_int8_pv_fp8_cuda_sm90"] == (
        "It has no kernel for GPUs of compute capability 8.6."
    )
    assert "sageattn" not in found.missing
    assert find_candidates(TABLE, SAGE, "cpu").missing["sageattn"] == "It has no kernel for the processor."


def test_backends_by_name_bring_what_they_are_compared_with() -> None:
    found = find_candidates(TABLE, SAGE, "9.0", ["sageattn"])
    assert [each.name for each in found.backends] == ["sdpa", "sageattn"]
    with pytest.raises(UsageError, match="There is no backend flash") as raised:
        find_candidates(TABLE, SAGE, "9.0", ["flash"])
    assert "flash-attn-2" in raised.value.hint


def test_names_of_cases() -> None:
    assert case_id((1, 40, 32760, 128), "bfloat16", causal=False) == "1x40x32760x128 bf16"
    assert case_id((1, 1, 1, 1), "float16", causal=True) == "1x1x1x1 fp16 causal"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('name = "wan-720p"', 'name = "wan-480p"', "wan-480p stands there more than once"),
        ('name = "sdpa"', 'name = "other"', "'sdpa' is missing"),
        ("size = [1, 32, 700, 128]", "size = [1, 32, 0, 128]", "must be four numbers above 0"),
        ("size = [1, 32, 700, 128]", "size = [1, 32, 128]", "array of length 4"),
        ("tokens = [64, 128, 256, 512]", "tokens = [64, 64]", "must hold numbers above 0 that rise"),
        ("quick_tokens = [64, 256]", "quick_tokens = []", "must hold numbers above 0 that rise"),
        ('attribute = "flash_attn_func"', 'attribute = ""', "needs a module and an attribute"),
        ("tflops = 312.0", "tflop = 312.0", "tflop"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    text = (settings.shipped_manifests() / NAME).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / NAME).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(PinError, match=rf"{NAME}:\d+: ") as raised:
        load_bench_table(tmp_path)
    assert problem in raised.value.message


def test_manifests_of_ones_own_need_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(settings.shipped_manifests() / "demo.toml", tmp_path)
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(tmp_path))
    assert load_bench_table() == TABLE


def test_without_a_driver_nothing_is_known_of_a_gpus_clocks() -> None:
    watcher = Watcher("00000000-0000-0000-0000-000000000000", 99)
    assert watcher.read() is None
    assert watcher.driver() == ""
    watcher.close()
