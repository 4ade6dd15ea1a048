"""``sagefix.attention`` on a real GPU: installed into a target, it is right, and as fast as the better of both ways.

Run with ``make test-gpu``. SAGEFIX_GPU_PYTHON names the target, which needs SageAttention; ``sagefix-attention`` is
installed into it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
STREAMS = """
import json, torch
from torch.nn import functional as F
from sagefix import attention
original = F.scaled_dot_product_attention
def error(found, expected):
    return ((found.float() - expected.float()).norm() / expected.float().norm()).item()
made = lambda: [torch.randn(1, 40, 16384, 128, dtype=torch.bfloat16, device="cuda") for _ in range(3)]
said = {}
attention.enable()
q, k, v = made()
expected = original(q, k, v)
said["plain"] = error(F.scaled_dot_product_attention(q, k, v), expected)
stream = torch.cuda.Stream()
stream.wait_stream(torch.cuda.current_stream())
with torch.cuda.stream(stream):
    said["stream"] = error(F.scaled_dot_product_attention(q, k, v), expected)
torch.cuda.synchronize()
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    found = F.scaled_dot_product_attention(q, k, v)
fresh = made()
for old, new in zip((q, k, v), fresh):
    old.copy_(new)
graph.replay()
torch.cuda.synchronize()
said["graph"] = error(found, original(q, k, v))
for mode in ("default", "reduce-overhead"):
    compiled = torch.compile(lambda q, k, v: F.scaled_dot_product_attention(q * 1.0, k, v), mode=mode, fullgraph=True)
    with torch.no_grad():
        for _ in range(4):
            fresh = made()
            said[mode] = error(compiled(*fresh).clone(), original(*fresh))
said["status"] = attention.status().as_dict()
print(json.dumps(said))
"""


@pytest.fixture(autouse=True)
def own_environment() -> None:
    """Keep the machine's environment: CUDA_HOME and CUDA_VISIBLE_DEVICES are meant here."""


@pytest.fixture(scope="module")
def python() -> str:
    """A target that knows of its SageAttention."""
    named = os.environ.get("SAGEFIX_GPU_PYTHON")
    if not named:
        pytest.skip("SAGEFIX_GPU_PYTHON is not set")
    command = [sys.executable, "-m", "sagefix", "attention", "install", "--python", named, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert answer["ok"], answer["error"]
    assert any(each["proof"] and each["crossovers"] for each in answer["result"]["facts"]["devices"])
    return named


def test_it_is_right_on_every_stream_in_graphs_and_compiled(python: str) -> None:
    done = subprocess.run([python, "-c", STREAMS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(said))
    for way in ("plain", "stream", "graph", "default", "reduce-overhead"):
        assert said[way] < 0.08, way
    # A wheel with the pin's fix is routed everywhere, one without it on the default stream alone.
    everywhere = said["status"]["devices"][0]["any_stream"]
    assert (said["status"]["passed"] == {}) == everywhere
    assert said["plain"] > 0.01


def test_a_video_model_is_as_right_and_faster_and_short_calls_are_not_slower(
    python: str, tmp_path: Path
) -> None:
    output = tmp_path / "routed.json"
    script = ROOT / "benchmarks" / "attention" / "run.py"
    done = subprocess.run([python, script, "--learn", "--output", output], text=True, check=False)
    result: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    print(json.dumps(result["checks"]))
    assert [check for check in result["checks"] if not check["met"]] == []
    assert done.returncode == 0
