"""Console logs of ComfyUI: what they say, and what they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagefix.comfyui.consoles import Console, lines_of, read_console
from sagefix.comfyui.table import load_comfyui
from sagefix.errors import ComfyUIError, UnexplainedError, UsageError
from sagefix.workflows.comfyui import read_log, require_ran

TABLE = load_comfyui()
START = "** ComfyUI startup time: 2026-01-02 03:04:05\nTotal VRAM 143771 MB, total RAM 257000 MB\n"
DONE = "Prompt executed in 61.20 seconds\n"


def read(text: str) -> Console:
    return read_console(text.splitlines(), TABLE)


def fallback(why: str, times: int = 1) -> str:
    return f"Error running sage attention: {why}, using pytorch attention instead.\n" * times


@pytest.mark.parametrize(
    ("log", "ran", "said"),
    [
        (START + "Using sage attention\n" + DONE, "ran", "no call fell back"),
        (
            START + "Using sage attention mode: auto\n" + DONE,
            "ran",
            "ComfyUI-KJNodes put SageAttention in (auto)",
        ),
        (START + "Using sage attention\n", "not computed", "no prompt was computed"),
        (START + "Using pytorch attention\n" + DONE, "not chosen", "call torch's attention"),
        (START + "Using xformers attention\n" + DONE, "not chosen", "xformers attention"),
        (
            START
            + "Using sage attention\n"
            + fallback("SM90 kernel is not available. Make sure you ...", 3)
            + DONE,
            "fell back",
            "Every call fell back (3 times in this log)",
        ),
        (
            START + "Using sage attention\n" + fallback("Unsupported head_dim: 160", 7) + DONE,
            "partly",
            "7 calls fell back",
        ),
        (START + "Using sage attention\n" + fallback("something new") + DONE, "partly", "no line says"),
        (
            START
            + "Using pytorch attention\n!!! Exception during processing !!! All tensors must have the same dtype.\n",
            "failed",
            "different dtypes",
        ),
        (
            START + "Warning: Could not load sageattention: No module named 'sageattention'\n",
            "failed",
            "could not import",
        ),
        (START + "ValueError: Can't import SageAttention: DLL load failed\n", "failed", "DLL load failed"),
        (START + DONE, "unknown", "Nothing in this log tells"),
        ("", "unknown", "Nothing in this log tells"),
        ("I am using sage attention in my garden\n", "unknown", "Nothing in this log tells"),
    ],
)
def test_what_a_log_says(log: str, ran: str, said: str) -> None:
    found = read(log)
    assert (found.ran, said in found.words) == (ran, True), found.words


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        (
            "SM89 kernel is not available. Make sure you GPUs with compute capability 8.9.",
            "kernel-not-available",
        ),
        ("Unsupported CUDA architecture: sm100", "unsupported-arch"),
        ("All tensors must have the same dtype.", "same-dtype"),
        ("Input tensors must be in dtype of torch.float16 or torch.bfloat16", "fp32"),
        ("Unsupported head_dim: 256", "head-dim"),
        ("/x/_qattn_sm90.abi3.so: undefined symbol: _ZN3c105ErrorC2E", "undefined-symbol"),
        ("CUDA error: no kernel image is available for execution on the device", "no-kernel-image"),
        ("Failed to find C compiler. Please specify via CC environment variable.", "triton"),
    ],
)
def test_reasons_are_recognised_and_have_a_fix(why: str, reason: str) -> None:
    (seen,) = read(fallback(why, 2)).seen
    assert (seen.reason, seen.count, seen.number, seen.why) == (reason, 2, 1, why.rstrip(","))
    assert seen.fix
    assert all(source.startswith("https://") for source in seen.sources)


def test_a_fallback_of_every_call_outweighs_one_of_some() -> None:
    mixed = fallback("Unsupported head_dim: 256", 9) + fallback("SM90 kernel is not available.")
    assert read("Using sage attention\n" + mixed).ran == "fell back"


def test_the_last_start_counts() -> None:
    broken = START + "Using sage attention\n" + fallback("SM90 kernel is not available.")
    repaired = START + "Using sage attention\n" + DONE
    assert (read(broken + repaired).ran, read(broken + repaired).starts) == ("ran", 2)
    assert read(repaired + broken).ran == "fell back"


def test_first_occurrence_and_counts() -> None:
    found = read(START + "Using sage attention\nother\n" + fallback("Unsupported head_dim: 160", 4))
    assert [(each.name, each.number, each.count) for each in found.seen] == [
        ("selected", 3, 1),
        ("fallback", 5, 4),
    ]
    assert found.lines == 8


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_whatever_wrote_the_log(tmp_path: Path, encoding: str) -> None:
    text = (
        "\x1b[32mUsing sage attention\x1b[0m\r\n 10%|#\r 20%|##\r"
        + fallback("Unsupported head_dim: 160")
        + DONE
    )
    file = tmp_path / "comfyui.log"
    file.write_bytes(text.encode(encoding))
    assert read_log(file).ran == "partly"


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    file.write_bytes(b"\x00\xff\xfe garbage \x80\n" * 50 + b"Using sage attention\n" + DONE.encode())
    assert read_log(file).ran == "ran"
    assert [*lines_of([])] == []


def test_what_ends_in_which_error(tmp_path: Path) -> None:
    require_ran(read("Using sage attention\n" + DONE))
    with pytest.raises(ComfyUIError, match="fell back"):
        require_ran(read("Using sage attention\n" + fallback("SM90 kernel is not available.")))
    with pytest.raises(UnexplainedError, match="Nothing in this log"):
        require_ran(read("hello"))
    with pytest.raises(UsageError, match="cannot be read"):
        read_log(tmp_path / "none.log")
    with pytest.raises(UsageError, match="cannot be read"):
        read_log(tmp_path)
