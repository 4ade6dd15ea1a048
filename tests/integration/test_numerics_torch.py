"""The torch half of level `numerics`, on the processor: a small package that is called as SageAttention is.

``make test-cuda`` runs these with the torch that it fetches. With another one, which need not have CUDA:

    SAGEFIX_TORCH_PYTHON=ComfyUI/venv/bin/python python -m pytest tests/integration/test_numerics_torch.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sagefix.pins.model import Build, Pin, Recipe, Ref, Source
from sagefix.proof.model import CaseResult
from sagefix.proof.numerics.prove import Proof, devices_of, prove
from sagefix.targets.interpreter import probe
from sagefix.targets.model import Target

pytestmark = [pytest.mark.cuda, pytest.mark.network]

PACKAGE = """
import torch


def attend(q, k, v, tensor_layout="HND", is_causal=False, return_lse=False, **kwargs):
    assert q.dtype in (torch.float16, torch.bfloat16), "half precision only"
    assert q.dtype == k.dtype == v.dtype, "All tensors must have the same dtype."
    if q.size(-1) > 128:
        raise ValueError(f"Unsupported head_dim: {q.size(-1)}")
    assert q.stride(-1) == k.stride(-1) == v.stride(-1) == 1, "Last dim of qkv must be contiguous."
    if tensor_layout == "NHD":
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = (each.repeat_interleave(group, dim=1) for each in (k, v))
    scores = (q.float() @ k.float().transpose(-1, -2)) * q.size(-1) ** -0.5
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
    lse = scores.logsumexp(-1)
    out = (scores.softmax(-1) @ v.float()).to(q.dtype)
    out = out.transpose(1, 2) if tensor_layout == "NHD" else out
    return (out, lse) if return_lse else out


def attend_packed(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, is_causal=False):
    out = torch.empty_like(q)
    for a, b, c, d in zip(cu_seqlens_q[:-1], cu_seqlens_q[1:], cu_seqlens_k[:-1], cu_seqlens_k[1:]):
        out[a:b] = attend(q[None, a:b], k[None, c:d], v[None, c:d], "NHD", is_causal)[0]
    return out
"""

PROOFS = """
schema = 1
pin = "tiny"
backend = "torch"
seed = 1
rows = 100
timeout_s = 60.0
coarsest = { relative_l2 = 0.08, cosine = 0.99, derived = "fp8" }

[[function]]
name = "attend"
call = "tinyattention:attend"
kind = "dense"
arguments = { layout = "tensor_layout", causal = "is_causal", lse = "return_lse", mask = "attn_mask" }
dtypes = ["bfloat16", "float16"]
max_head_dim = 128
on = [{ archs = ["*"], accuracy = "half", sources = [] }]
sources = []

[[function]]
name = "attend_packed"
call = "tinyattention:attend_packed"
kind = "packed"
arguments = { causal = "is_causal" }
dtypes = ["bfloat16", "float16"]
max_head_dim = 128
on = [{ archs = ["cpu"], accuracy = "half", sources = [] }]
sources = []

[[function]]
name = "elsewhere"
call = "tinyattention:attend_elsewhere"
kind = "dense"
dtypes = ["bfloat16"]
max_head_dim = 128
on = [{ archs = ["9.0"], accuracy = "half", sources = [] }]
sources = []

[[limit]]
name = "half"
accuracy = "half"
dtypes = ["bfloat16", "float16"]
inputs = ["normal", "outliers", "large"]
relative_l2 = 0.01
cosine = 0.9999
worst_row = 0.1
lse = 0.01
derived = "Rounding to bf16: 2**-9."
sources = []
"""


def block(group: str, **changed: object) -> str:
    """Write a block of cases: small ones in bf16, but for what is changed."""
    keys = {
        "levels": ["numerics"],
        "group": group,
        "dtypes": ["bfloat16"],
        "head_dims": [64],
        "heads": [[2, 2]],
        "lengths": [[128, 128]],
        "layouts": ["HND"],
        **changed,
    }
    # What these values look like in JSON they do in TOML.
    return "\n".join(["[[block]]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), ""])


BLOCKS = (
    block(
        "plain",
        dtypes=["bfloat16", "float16"],
        head_dims=[64, 96],
        heads=[[4, 4], [4, 2]],
        lengths=[[64, 64]],
        batches=[3],
        causal=[False, True],
        layouts=["HND", "NHD", ""],
    ),
    block(
        "length", lengths=[[1, 1], [7, 7], [63, 63], [129, 129], [700, 700], [40, 300]], layouts=["HND", ""]
    ),
    block(
        "input",
        functions=["attend"],
        dtypes=["float16"],
        inputs=["outliers", "large"],
        memory=["transposed", "packed"],
    ),
    block("plain", functions=["attend"], dtypes=["float16"], layouts=["HND", "NHD"], modes=["lse"]),
    block("stream", functions=["attend"], dtypes=["float16"], modes=["stream"]),
    block("refusal", functions=["attend"], modes=["refuse-dtype", "refuse-mixed"]),
    block("refusal", functions=["attend"], head_dims=[160], modes=["refuse-head-dim"]),
    block("refusal", functions=["attend"], memory=["strided"], modes=["refuse-memory"]),
    block("hazard", functions=["attend"], modes=["mask"]),
)

Compute = Callable[..., Proof]


@pytest.fixture
def compute(torch_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compute:
    """A function that computes with the package after changes (old, new) to it and to what is computed."""
    manifests = tmp_path / "manifests"
    (manifests / "proofs").mkdir(parents=True)
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(manifests))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    # Threads that wait for each other take longer than these small sums.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    package = tmp_path / "packages" / "tinyattention"
    package.mkdir(parents=True)
    target = Target(interpreter=probe(torch_python), archs=(), archs_from="")
    pin = Pin(
        schema=1,
        name="tiny",
        project="tinyattention",
        package="tinyattention",
        version="1.0.0",
        summary="",
        device="cpu",
        license="",
        source=Source(url="https://example.org/x", commit="a" * 40, tree="0" * 40, files=("/setup.py",)),
        build=Build(),
        recipe=(Recipe(name="only", setup_py=(), sources=()),),
        ref=(Ref(commit="a" * 40, tree="0" * 40, recipe="only"),),
    )

    def computed(*changes: tuple[str, str], proofs: tuple[str, str] = ("", "")) -> Proof:
        text, manifest = PACKAGE, "\n".join([PROOFS, *BLOCKS])
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (package / "__init__.py").write_text(text, encoding="utf-8")
        (manifests / "proofs" / "tiny.toml").write_text(manifest.replace(*proofs), encoding="utf-8")
        return prove(pin, target, "numerics", devices_of(pin, target), ())

    return computed


def found(proof: Proof, name: str) -> tuple[str, str]:
    """Return status and text of a check."""
    (check,) = [row for row in proof.checks if row.name == name]
    return check.status, check.found


def cases(proof: Proof, status: str) -> list[CaseResult]:
    """Return the cases of a status."""
    assert proof.numerics is not None
    return [case for case in proof.numerics.cases if case.status == status]


def test_a_right_package_is_right(compute: Compute) -> None:
    proof = compute()
    assert found(proof, "numerics attend")[0] == "ok"
    assert found(proof, "numerics attend_packed")[0] == "ok"
    assert found(proof, "numerics elsewhere") == ("skipped", "elsewhere does not run on the processor.")
    assert found(proof, "streams") == ("skipped", "There is no such thing on the processor.")
    assert found(proof, "refusals") == ("ok", "4 of 4 are refused.")
    assert found(proof, "masks")[0] == "warning"
    assert proof.hazards == (
        "attend: attn_mask is ignored in silence: the output is that of a call without it.",
    )
    assert not cases(proof, "wrong")
    right = [case for case in cases(proof, "right") if case.group in ("plain", "length")]
    assert all(case.sdpa is not None and case.sdpa.relative_l2 is not None for case in right)
    packed = next(case for case in right if case.id == "attend_packed/bfloat16/3x4x64x64")
    assert packed.options["sequences"] == "64:64 21:21 32:32"
    assert packed.shape == (3, 4, 4, 117, 117, 64)
    lse = next(case for case in right if case.options["mode"] == "lse")
    assert 0 < lse.measured["lse_worst"] < 0.01


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("out = (scores", "out = torch.zeros_like(q) if len(q) else (scores"), "The output was never written."),
        (("out = (scores", "out = torch.full(q.shape, 0x7FED, dtype=torch.int16).view(q.dtype) if len(q) else (scores"),
         "The output was never written."),
        (("v.float())", "(v.float() if q.dtype == torch.bfloat16 else k.float()))"), "for float16 only."),
        (("v.float())", "(v.float() if q.shape[2] <= 300 else v.float().roll(7, 2)))"),
         "Right up to 300 tokens, wrong beyond."),
        (("v.float())", "v.float() * (float('nan') if k.shape[2] % 2 else 1))"), "NaN at odd lengths."),
        (("v.float())", "(v.float() if not is_causal else k.float()))"), "with causal attention only."),
        (("repeat_interleave(group, dim=1)", "repeat(1, group, 1, 1)"),
         "with fewer key heads than query heads (GQA) only."),
        (("q.size(-1) ** -0.5", "(64 if q.size(-1) == 64 else 128) ** -0.5"), "for head_dim 96 only."),
    ],
)  # fmt: skip
def test_a_fault_is_named(compute: Compute, change: tuple[str, str], words: str) -> None:
    status, text = found(compute(change), "numerics attend")
    assert status == "failure"
    assert text.endswith(words), text


def test_another_accuracy_is_told_apart_from_a_fault(compute: Compute) -> None:
    coarser = compute(("v.float())", "v.to(torch.float8_e4m3fn).float())"))
    status, text = found(coarser, "numerics attend")
    assert status == "warning"
    assert "Another accuracy than half has, not broken: relative error 0.02" in text
    broken = compute(("v.float())", "v.float() * 1.1)"))
    assert found(broken, "numerics attend")[0] == "failure"


def test_a_wrong_logsumexp_is_seen(compute: Compute) -> None:
    proof = compute(("lse = scores.logsumexp(-1)", "lse = scores.logsumexp(-1) * 1.44269504"))
    status, text = found(proof, "numerics attend")
    assert (status, text) == ("failure", "Wrong for mode lse only.")
    assert all("the logsumexp off by" in case.text for case in cases(proof, "wrong"))


def test_what_is_not_refused_has_to_be_right(compute: Compute) -> None:
    taken = compute(('    assert q.dtype in (torch.float16, torch.bfloat16), "half precision only"\n', ""))
    assert found(taken, "refusals") == ("ok", "3 of 4 are refused, 1 computed rightly.")
    cut = (
        '    if q.size(-1) > 128:\n        raise ValueError(f"Unsupported head_dim: {q.size(-1)}")\n',
        "    q, k = q[..., :128], k[..., :128]\n    v = v if v.size(-1) <= 128 else v * 0\n",
    )
    status, text = found(
        compute(cut, ("out = (scores", "out = (v.size(-1) - 128 > 0) * 9 + (scores")), "refusals"
    )
    assert status == "failure"
    assert "refuse-head-dim: It is not refused, and wrong" in text


def test_a_mask_that_is_honoured_is_no_hazard(compute: Compute) -> None:
    change = ("    lse = scores", "    scores = scores if 'attn_mask' not in kwargs else scores.masked_fill("
              "~kwargs['attn_mask'], float('-inf'))\n    lse = scores")  # fmt: skip
    proof = compute(change)
    assert found(proof, "masks") == ("ok", "The one case is honoured.")
    assert proof.hazards == ()


def test_a_crash_costs_its_case_and_no_other(compute: Compute) -> None:
    crash = (
        "    group = q",
        "    if q.shape[2] == 63:\n        __import__('os').kill(__import__('os').getpid(), 11)\n    group = q",
    )
    proof = compute(crash)
    assert "ends the process in 1 of" in found(proof, "numerics attend")[1].lower()
    (crashed,) = [case for case in cases(proof, "crashed") if case.function.endswith(":attend")]
    assert crashed.text == "The process was ended by SIGSEGV."
    assert crashed.shape[3] == 63
    assert any(case.shape[3] == 700 for case in cases(proof, "right"))


def test_a_call_that_never_ends_is_ended(compute: Compute) -> None:
    sleep = (
        "    group = q",
        "    if q.shape[2] == 63:\n        __import__('time').sleep(600)\n    group = q",
    )
    proof = compute(sleep, proofs=("timeout_s = 60.0", "timeout_s = 5.0"))
    assert {case.text for case in cases(proof, "crashed")} == {
        "The process was stopped: it did not end within 5 s."
    }


def test_a_package_that_does_not_import_says_so(compute: Compute) -> None:
    proof = compute(("import torch\n", "import torch\nimport nobody_has_this\n"))
    assert found(proof, "numerics attend") == (
        "failure",
        "No call works: It cannot be called: ModuleNotFoundError: No module named 'nobody_has_this'.",
    )
