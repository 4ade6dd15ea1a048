"""Runs in the target, on the GPU: ``sageattn`` on a side stream, in a CUDA graph and under ``torch.compile``.

Usage: ``python sageattn_streams.py``; prints one JSON object. Kernels that are launched on the legacy default stream
are right when called plainly and wrong here, with no error and no NaN.
"""

import json
import math
import statistics

import torch
from sageattention import sageattn
from torch.nn import functional

SHAPE = (1, 16, 4096, 128)
TRIES = 30
# Speed is told for a long video sequence, where people use it: Wan 2.1 at 480p, 81 frames.
LONG = (1, 40, 32760, 128)


def inputs(shape=SHAPE):
    return [torch.randn(shape, dtype=torch.bfloat16, device="cuda") for _ in range(3)]


def relative(found, expected):
    """Relative L2 error; NaN counts as infinite."""
    error = ((found.float() - expected.float()).norm() / expected.float().norm()).item()
    return float("inf") if math.isnan(error) else error


def side_stream():
    """The inputs are written on the side stream behind long work, so that a kernel on another one comes too early."""
    worst, wrong = 0.0, 0
    long_work = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
    for _ in range(TRIES):
        fresh = inputs()
        expected = functional.scaled_dot_product_attention(*fresh)
        q, k, v = (torch.zeros_like(tensor) for tensor in fresh)
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(4):
                long_work @ long_work
            for tensor, new in zip((q, k, v), fresh, strict=True):
                tensor.copy_(new)
            found = sageattn(q, k, v)
        torch.cuda.synchronize()
        error = relative(found, expected)
        worst, wrong = max(worst, error), wrong + (error > 0.1)
    return {"tries": TRIES, "wrong": wrong, "worst_relative_error": worst}


def graph_replay():
    """Captured once, replayed with new inputs."""
    q, k, v = inputs()
    for _ in range(3):
        sageattn(q, k, v)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = sageattn(q, k, v)
    errors = []
    for _ in range(5):
        fresh = inputs()
        for tensor, new in zip((q, k, v), fresh, strict=True):
            tensor.copy_(new)
        graph.replay()
        torch.cuda.synchronize()
        errors.append(relative(found, functional.scaled_dot_product_attention(*fresh)))
    return {"worst_relative_error": max(errors)}


def compiled(mode):
    """``torch.compile`` of a function around the call."""

    def around(q, k, v):
        return sageattn(q * 1.0, k, v) + 0.0

    run = torch.compile(around, mode=mode)
    errors = []
    for _ in range(5):
        fresh = inputs()
        errors.append(relative(run(*fresh).clone(), functional.scaled_dot_product_attention(*fresh)))
    torch.compiler.reset()
    return {"worst_relative_error": max(errors)}


def milliseconds(shape):
    """Median time of a plain call, by CUDA events."""
    q, k, v = inputs(shape)
    times = []
    for number in range(25):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        sageattn(q, k, v)
        end.record()
        torch.cuda.synchronize()
        if number >= 5:
            times.append(begin.elapsed_time(end))
    return statistics.median(times)


def attempt(what, *arguments):
    """An error is an answer as well."""
    try:
        return what(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever torch or a kernel raises is what was asked for
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def main():
    torch.manual_seed(20260101)
    plain = inputs()
    answer = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "plain": {
            "relative_error": relative(sageattn(*plain), functional.scaled_dot_product_attention(*plain))
        },
        "side_stream": attempt(side_stream),
        "graph_replay": attempt(graph_replay),
        "compile_default": attempt(compiled, "default"),
        "compile_reduce_overhead": attempt(compiled, "reduce-overhead"),
        "eager_ms": {"1x16x4096x128": milliseconds(SHAPE), "1x40x32760x128": milliseconds(LONG)},
    }
    print(json.dumps(answer))


main()
