"""What NVML and nvidia-smi say, and CUDA_VISIBLE_DEVICES applied to it."""

from __future__ import annotations

import pytest

from sagefix.targets.gpus import read_smi, visible
from sagefix.targets.model import Gpu

ONE_KIND = tuple((Gpu(index=n, name="NVIDIA H200", capability="9.0"), f"GPU-{n}aaa-bbbb") for n in range(3))
TWO_KINDS = (
    (Gpu(index=0, name="NVIDIA T4", capability="7.5"), "GPU-0aaa"),
    (Gpu(index=1, name="NVIDIA H200", capability="9.0"), "GPU-1aaa"),
)


@pytest.mark.parametrize(
    ("wished", "uuids"),
    [
        (None, "012"),
        ("0", "0"),
        ("2,0", "20"),
        (" 1 , 2 ", "12"),
        ("GPU-1aaa", "1"),
        ("GPU-2,0", "20"),
        ("1,7,0", "1"),
        ("1,1", "1"),
        ("0,-1,1", "0"),
    ],
)
def test_visible_devices(wished: str | None, uuids: str) -> None:
    env = {} if wished is None else {"CUDA_VISIBLE_DEVICES": wished}
    chosen, note = visible(ONE_KIND, env)
    assert len(chosen) == len(uuids)
    assert [gpu.index for gpu in chosen] == list(range(len(uuids)))
    assert note == ""


@pytest.mark.parametrize("wished", ["", "-1", "9", "NoDevFiles", "GPU-"])
def test_everything_can_be_hidden(wished: str) -> None:
    chosen, note = visible(ONE_KIND, {"CUDA_VISIBLE_DEVICES": wished})
    assert chosen == ()
    assert note == f"CUDA_VISIBLE_DEVICES={wished!r} hides every GPU"


def test_an_index_among_several_kinds_needs_the_order_of_the_bus() -> None:
    chosen, note = visible(TWO_KINDS, {"CUDA_VISIBLE_DEVICES": "0"})
    assert len(chosen) == 2
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in note
    ordered = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert [gpu.capability for gpu in visible(TWO_KINDS, ordered)[0]] == ["9.0"]
    by_uuid = {"CUDA_VISIBLE_DEVICES": "GPU-1aaa"}
    assert [gpu.capability for gpu in visible(TWO_KINDS, by_uuid)[0]] == ["9.0"]


def test_a_part_of_a_gpu_keeps_all_and_says_so() -> None:
    chosen, note = visible(ONE_KIND, {"CUDA_VISIBLE_DEVICES": "MIG-1234"})
    assert len(chosen) == 3
    assert "MIG" in note


def test_a_driver_without_gpus() -> None:
    assert visible((), {}) == ((), "the driver lists no GPU")


def test_the_table_of_nvidia_smi() -> None:
    seen = read_smi(
        "0, GPU-aa, 9.0, 143771, 580.159.03, NVIDIA H200\n1, GPU-bb, 12.1, [N/A], 580.159.03, NVIDIA GB10\n"
    )
    assert seen.error == ""
    (h200, uuid), (gb10, _) = seen.gpus
    assert (h200.capability, h200.memory, h200.name, uuid) == ("9.0", 143771 << 20, "NVIDIA H200", "GPU-aa")
    assert (gb10.capability, gb10.memory, gb10.driver) == ("12.1", 0, "580.159.03")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("No devices were found\n", "cannot be understood: 'No devices were found'"),
        ("0, GPU-aa, [N/A], 1, 470.1, Old\n", "does not tell the compute capability of GPU 0 ([N/A])"),
    ],
)
def test_an_answer_that_cannot_be_used(text: str, error: str) -> None:
    assert read_smi(text).error == error


def test_no_answer_is_no_gpu() -> None:
    assert read_smi("").gpus == ()
