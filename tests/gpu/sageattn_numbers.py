"""Runs in the target, on the GPU: ``sageattn`` against an fp64 reference and against SDPA, as one JSON list.

Usage: ``python sageattn_numbers.py``. Before each call the memory that the output may land in is filled with NaN, so
that an output nobody wrote cannot look right by chance.
"""

import json

import torch
from sageattention import sageattn
from torch.nn import functional

# batch, heads, tokens, head_dim
SHAPES = ((1, 32, 700, 128), (2, 16, 2048, 64), (1, 8, 2048, 96), (1, 24, 4097, 128))


def reference(q, k, v, causal):
    """Attention in fp64, head by head to bound the memory; shape (batch, heads, tokens, head_dim)."""
    out = torch.empty(q.shape, dtype=torch.float64, device=q.device)
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril() if causal else None
    for batch in range(q.shape[0]):
        for head in range(q.shape[1]):
            scores = q[batch, head].double() @ k[batch, head].double().T * q.shape[-1] ** -0.5
            if mask is not None:
                scores = scores.masked_fill(~mask, float("-inf"))
            out[batch, head] = scores.softmax(-1) @ v[batch, head].double()
    return out


def error(found, expected):
    """Relative L2 error and cosine; NaN stays NaN and fails every comparison."""
    found = found.double()
    relative = ((found - expected).norm() / expected.norm()).item()
    cosine = functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0).item()
    return relative, cosine


def poison(like):
    """Fill freed memory of the output's size with NaN: the next allocation of that size gets it."""
    blocks = [torch.full_like(like, float("nan")) for _ in range(4)]
    torch.cuda.synchronize()
    del blocks


def main():
    torch.manual_seed(20260101)
    cases = []
    for shape in SHAPES:
        for dtype in (torch.bfloat16, torch.float16):
            for causal in (False, True):
                q, k, v = (torch.randn(shape, dtype=dtype, device="cuda") for _ in range(3))
                expected = reference(q, k, v, causal)
                poison(q)
                relative, cosine = error(sageattn(q, k, v, is_causal=causal), expected)
                of_sdpa, _ = error(
                    functional.scaled_dot_product_attention(q, k, v, is_causal=causal), expected
                )
                cases.append(
                    {
                        "shape": shape,
                        "dtype": str(dtype).removeprefix("torch."),
                        "causal": causal,
                        "relative_error": relative,
                        "cosine": cosine,
                        "sdpa_relative_error": of_sdpa,
                    }
                )
    print(json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "cases": cases}))


main()
