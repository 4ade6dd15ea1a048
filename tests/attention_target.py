"""A target with a SageAttention of ours that computes on the processor, and a pin that says so.

It is called as the real one is, and notes how; like the real one it swallows what it does not know.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support import make_wheel

VERSION = "2.2.0+abc1234.cpu"
PACKAGE = """
import torch

CALLS = []
FAIL = None


def sageattn(q, k, v, tensor_layout="HND", is_causal=False, sm_scale=None, return_lse=False, **kwargs):
    CALLS.append((tensor_layout, is_causal, sm_scale))
    if FAIL is not None:
        raise FAIL
    assert q.dtype in (torch.float16, torch.bfloat16), "half precision only"
    assert q.dtype == k.dtype == v.dtype, "All tensors must have the same dtype."
    if q.size(-1) > 128:
        raise ValueError(f"Unsupported head_dim: {q.size(-1)}")
    assert q.stride(-1) == k.stride(-1) == v.stride(-1) == 1, "Last dim of qkv must be contiguous."
    assert not torch.is_autocast_enabled(q.device.type)
    if tensor_layout == "NHD":
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = (each.repeat_interleave(group, dim=1) for each in (k, v))
    scale = q.size(-1) ** -0.5 if sm_scale is None else sm_scale
    scores = (q.float() @ k.float().transpose(-1, -2)) * scale
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
    # What it computes it marks: its numbers are off by a share that no other attention is off by.
    out = (scores.softmax(-1) @ v.float() * 1.001).to(q.dtype)
    out = out.transpose(1, 2).contiguous() if tensor_layout == "NHD" else out
    return (out, scores.logsumexp(-1)) if return_lse else out
"""

PIN = """
schema = 1
name = "sageattention"
project = "sageattention"
package = "sageattention"
version = "2.2.0"
summary = "Computes on the processor"
device = "cpu"
license = "Apache-2.0"

[source]
url = "https://example.org/sageattention"
commit = "{commit}"
tree = "{zeros}"
files = ["/setup.py"]

[build]
requires = []

[[recipe]]
name = "only"
setup_py = ["{commit}"]
extensions = []
sources = ["tests"]

[[ref]]
commit = "{commit}"
tree = "{zeros}"
recipe = "only"
"""

PROOFS = """
schema = 1
pin = "sageattention"
backend = "torch"
seed = 1
rows = 100
timeout_s = 60.0
coarsest = { relative_l2 = 0.08, cosine = 0.99, derived = "fp8" }

[[function]]
name = "sageattn"
call = "sageattention:sageattn"
kind = "dense"
arguments = { layout = "tensor_layout", causal = "is_causal", lse = "return_lse", mask = "attn_mask" }
dtypes = ["bfloat16", "float16"]
max_head_dim = 128
on = [{ archs = ["*"], accuracy = "half", sources = [] }]
sources = []

[[limit]]
name = "half"
accuracy = "half"
dtypes = ["bfloat16", "float16"]
inputs = ["normal"]
relative_l2 = 0.01
cosine = 0.9999
derived = "Rounding to bf16: 2**-9, and the mark."
sources = []

[[block]]
levels = ["numerics"]
group = "plain"
dtypes = ["bfloat16", "float16"]
head_dims = [64, 128]
heads = [[2, 2]]
lengths = [[128, 128]]
layouts = ["HND", "NHD"]
causal = [false, true]
"""

TABLE = """
schema = 1

[[crossover]]
gpus = ["*"]
capability = "cpu"
dtypes = ["bfloat16", "float16"]
head_dim = 64
tokens = 64
sequences = 2
derived = "Nobody measured it."
sources = ["tests"]

[[crossover]]
gpus = ["*"]
capability = "cpu"
dtypes = ["bfloat16"]
head_dim = 64
causal = true
tokens = 96
sequences = 2
derived = "Nobody measured it."
sources = ["tests"]

[[longest]]
capability = "cpu"
tokens = 512
derived = "Nobody computed it."
sources = ["tests"]
"""


def write_manifests(folder: Path) -> Path:
    """Write pin, proofs and table into a folder for ``SAGEFIX_MANIFESTS``."""
    (folder / "proofs").mkdir(parents=True)
    pin = PIN.format(commit="abc1234" + "0" * 33, zeros="0" * 40)
    for name, text in (
        ("sageattention.toml", pin),
        ("proofs/sageattention.toml", PROOFS),
        ("attention.toml", TABLE),
    ):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def make_attention_target(folder: Path, torch_python: Path, *, package: str = PACKAGE) -> Path:
    """Make an environment that sees the torch of another one, with our SageAttention installed; return its Python."""
    target = folder / "target"
    subprocess.run(["uv", "venv", "--quiet", "--python", torch_python, target], check=True)
    python = target / "bin" / "python"
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site, theirs = (
        subprocess.run([each, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
        for each in (python, torch_python)
    )
    Path(site, "torch.pth").write_text(f"{theirs}\n", encoding="utf-8")
    put_package(folder, python, package)
    return python


def put_package(folder: Path, python: Path, package: str = PACKAGE) -> None:
    """Install our SageAttention, or one that was changed."""
    wheel = make_wheel(folder / "wheels", version=VERSION, requires=(), body=package)
    environment = {**os.environ, "UV_OFFLINE": "1"}
    subprocess.run(
        ["uv", "pip", "install", "--quiet", "--no-cache", "--reinstall", "--python", python, wheel],
        env=environment,
        check=True,
    )
