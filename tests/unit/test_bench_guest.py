"""The parts of the guest that need no torch: who runs when, and what errors mean."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from sagefix.guest import bench_backends, bench_turns


def test_runs_follow_from_the_budget() -> None:
    counts = bench_turns.plan(
        {"fast": 0.03, "middle": 25.0, "slow": 650.0, "endless": 4000.0}, 0.5, 5, 50, 15.0
    )
    assert counts == {"fast": 50, "middle": 20, "slow": 5, "endless": 3}
    assert bench_turns.plan({"hours": 1e8, "nothing": 0.0}, 0.5, 5, 50, 15.0) == {"hours": 1, "nothing": 50}


def test_backends_run_by_turns_and_each_as_often_as_planned() -> None:
    turns = bench_turns.by_turns({"a": 4, "b": 4, "c": 2})
    assert Counter(turns) == {"a": 4, "b": 4, "c": 2}
    # The rarer one is spread over all rounds, and nobody always comes first.
    assert {name: turns.count(name) for name in "abc"} == {"a": 4, "b": 4, "c": 2}
    halves = turns[:5], turns[5:]
    assert [half.count("c") for half in halves] == [1, 1]
    many = bench_turns.by_turns({"a": 60, "b": 60, "c": 60})
    followers = {after for before, after in pairwise(many) if before == "a"}
    assert {"b", "c"} <= followers
    assert bench_turns.by_turns({"alone": 3}) == ["alone"] * 3
    assert bench_turns.by_turns({}) == []


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OutOfMemoryError("Tried to allocate 160.00 GiB."), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), "out of memory"),
        (RuntimeError("No available kernel. Aborting execution."), "no kernel"),
        (AssertionError("SM89 kernel is not available. Make sure you GPUs with compute capability 8.9."), "no kernel"),
        (ValueError("Unsupported CUDA architecture: sm100"), "no kernel"),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), "no kernel"),
        (RuntimeError("FlashAttention only supports Ampere GPUs or newer."), "no kernel"),
        (NotImplementedError("No operator found for `memory_efficient_attention_forward` with inputs"), "no kernel"),
        (AssertionError("Input tensors must be in dtype of torch.float16 or torch.bfloat16"), "refused"),
        (RuntimeError("FlashAttention only support fp16 and bf16 data type"), "refused"),
        (ValueError("Unsupported head_dim: 160"), "refused"),
        (AssertionError("Input tensors must be on cuda."), "refused"),
        (RuntimeError("something else"), "failed"),
        (AssertionError(), "failed"),
        (bench_backends.MissingError("xformers is not installed."), "not installed"),
    ],
)  # fmt: skip
def test_errors_have_a_meaning(error: Exception, status: str) -> None:
    found, text = bench_backends.classify(error)
    assert found == status
    assert str(error) in text
    assert text


def test_a_package_that_is_not_there_is_told_from_one_that_is_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_attention.py").write_text("import a_module_it_needs\n")
    (tmp_path / "old_attention.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    kind = {"kind": "call", "layout": "NHD", "causal": "", "causal_mask": "", "attribute": "f"}
    with pytest.raises(bench_backends.MissingError, match="absent_attention is not installed"):
        bench_backends.load({**kind, "module": "absent_attention.ops"})
    with pytest.raises(ModuleNotFoundError, match="a_module_it_needs"):
        bench_backends.load({**kind, "module": "broken_attention"})
    with pytest.raises(AttributeError):
        bench_backends.load({**kind, "module": "old_attention"})


def test_what_torch_only_warns_of_becomes_the_reason() -> None:
    def refuse() -> None:
        warnings.warn(
            "Flash attention kernel not used because: (Triggered internally at x.cpp:1)", stacklevel=1
        )
        warnings.warn("Expected query to have dtype Half. (Triggered internally at x.cpp:2)", stacklevel=1)
        warnings.warn("CuDNN attention has been runtime disabled. (Triggered internally at x)", stacklevel=1)
        raise RuntimeError("No available kernel. Aborting execution.")

    with pytest.raises(RuntimeError) as raised:
        bench_backends.attempt(refuse)
    assert bench_backends.classify(raised.value) == (
        "no kernel",
        "RuntimeError: No available kernel. Aborting execution. Expected query to have dtype Half.",
    )


def test_the_causal_mask_of_xformers_is_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class LowerTriangularMask:
        pass

    def attention(q: object, k: object, v: object, **more: object) -> tuple[object, str]:
        seen.append(more)
        return q, "logsumexp"

    module = SimpleNamespace(attention=attention, LowerTriangularMask=LowerTriangularMask)
    monkeypatch.setitem(sys.modules, "some_ops", module)
    ready = bench_backends.load(
        {"kind": "call", "module": "some_ops", "attribute": "attention", "layout": "HND", "causal": "",
         "causal_mask": "LowerTriangularMask"}
    )  # fmt: skip
    assert ready.output(ready.call("q", "k", "v", False)) == "q"
    ready.call("q", "k", "v", True)
    assert seen[0] == {}
    assert isinstance(seen[1]["attn_bias"], LowerTriangularMask)
