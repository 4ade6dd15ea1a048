"""`sagefix bench` in a target with torch, on the processor: real backends, and planted ones with a fault each.

``make test-cuda`` runs these with the torch that it fetches. With another one, which need not have CUDA:

    SAGEFIX_TORCH_PYTHON=ComfyUI/venv/bin/python python -m pytest tests/integration/test_bench.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sagefix.errors import ProcessError, TorchError
from sagefix.process import run
from sagefix.proof.benchmark import kept
from sagefix.proof.benchmark.model import Bench
from sagefix.proof.benchmark.running import Job, Outcome, Plan, Raw, measure
from sagefix.proof.benchmark.table import Backend
from sagefix.settings import shipped_manifests
from sagefix.targets.interpreter import probe
from sagefix.targets.model import Interpreter

pytestmark = [pytest.mark.cuda, pytest.mark.network]

# One function for each way to go wrong; `right` is in the layout of flash_attn and returns more than attention.
FAULTS = """
import ctypes, os, time, torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

print("what a package prints at its import")

def right(q, k, v, causal=False):
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    return sdpa(q, k, v, is_causal=causal).transpose(1, 2), "logsumexp"

def slow(q, k, v):
    time.sleep(0.02)
    return sdpa(q, k, v)

def noise(q, k, v):
    return torch.randn_like(q)

def unwritten(q, k, v):
    return torch.full_like(q, float("nan"))

def refuses(q, k, v):
    assert q.dtype == torch.float16, "Input tensors must be in dtype of torch.float16"
    return sdpa(q, k, v)

def too_large(q, k, v):
    return torch.empty(1 << 50, dtype=torch.float64)

def no_kernel(q, k, v):
    raise ValueError("Unsupported CUDA architecture: sm100")

def turned(q, k, v):
    return sdpa(q, k, v).transpose(1, 2)

def crashes(q, k, v):
    ctypes.string_at(0)

def crashes_later(q, k, v, seen=[]):
    seen.append(1)
    if len(seen) > 4:
        os.abort()
    return sdpa(q, k, v)

def never_ends(q, k, v):
    time.sleep(1000)
"""
PLAN = Plan(budget_s=0.02, least=3, most=5, warmups=1, rows=64, limit_s=60)


@pytest.fixture(scope="module")
def target(torch_python: Path) -> Interpreter:
    return probe(torch_python)


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Interpreter) -> Callable[..., Outcome]:
    """Measure the faults that are named, with torch's own attention beside them."""
    (tmp_path / "faults.py").write_text(FAULTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def go(*names: str, plan: Plan = PLAN, dtype: str = "bfloat16", shapes: int = 1, **more: Any) -> Outcome:
        backends = [Backend(name="sdpa", label="SDPA", kind="sdpa")]
        backends += [
            Backend(name=name, label=name, kind="call", module="faults", attribute=name, **more)
            for name in names
        ]
        jobs = [
            Job(
                id=f"case {number}",
                size=(1, 2, 64 << number, 32),
                dtype=dtype,
                causal=bool(more.get("causal")),
                seed=number,
                backends=tuple(each.name for each in backends),
            )
            for number in range(shapes)
        ]
        return measure(target, "cpu", 0, backends, jobs, plan)

    return go


def of(outcome: Outcome, name: str, number: int = 0) -> Raw:
    return outcome.raw[f"case {number}", name]


def test_another_layout_and_causal_calls_are_right(planted: Callable[..., Outcome]) -> None:
    outcome = planted("right", layout="NHD", causal="causal")
    for name in ("sdpa", "right"):
        found = of(outcome, name)
        assert found.status == "measured"
        assert 3 <= len(found.times) <= 5
        assert (found.numbers["relative_l2"] or 1.0) < 0.01
    assert (outcome.ready.clock, outcome.ready.capability, outcome.ready.l2_flush) == ("wall", "cpu", 0)
    assert outcome.states == {}


def test_times_are_those_of_the_calls(planted: Callable[..., Outcome]) -> None:
    found = of(planted("slow"), "slow")
    assert min(found.times) >= 20


def test_every_fault_has_its_name_and_harms_no_other(planted: Callable[..., Outcome]) -> None:
    outcome = planted("noise", "unwritten", "refuses", "too_large", "no_kernel", "turned", shapes=2)
    said = {name: of(outcome, name, 1) for name in ("refuses", "too_large", "no_kernel", "turned")}
    assert {name: raw.status for name, raw in said.items()} == {
        "refuses": "refused",
        "too_large": "out of memory",
        "no_kernel": "no kernel",
        "turned": "failed",
    }
    assert said["turned"].text == "TypeError: returned a shape of (1, 128, 2, 32) for (1, 2, 128, 32)"
    assert (of(outcome, "noise").numbers["relative_l2"] or 0.0) > 1
    assert of(outcome, "unwritten").numbers["relative_l2"] is None
    assert all(
        of(outcome, name, number).times for name in ("sdpa", "noise", "unwritten") for number in (0, 1)
    )
    assert of(planted("refuses", dtype="float16"), "refuses").times


def test_a_crash_costs_nobody_else_anything(planted: Callable[..., Outcome]) -> None:
    outcome = planted("crashes", "no_kernel", "crashes_later", shapes=3)
    assert [of(outcome, "crashes", number).status for number in range(3)] == [
        "crashed",
        "crashed",
        "left out",
    ]
    assert "SIGSEGV" in of(outcome, "crashes").text
    assert of(outcome, "crashes_later").status == "crashed"
    assert "SIGABRT" in of(outcome, "crashes_later").text
    for number in range(3):
        assert len(of(outcome, "sdpa", number).times) >= 3
        assert of(outcome, "no_kernel", number).status == "no kernel"


def test_a_call_that_never_ends_is_ended(planted: Callable[..., Outcome]) -> None:
    outcome = planted("never_ends", plan=Plan(budget_s=0.02, least=3, most=5, rows=64, limit_s=8))
    assert of(outcome, "never_ends").status == "stuck"
    assert of(outcome, "never_ends").text == "The call did not come back within 8 s."
    assert of(outcome, "sdpa").times


def test_a_target_that_cannot_begin(
    planted: Callable[..., Outcome], tmp_path: Path, target: Interpreter
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so: cannot open shared object file')\n")
    with pytest.raises(TorchError, match=r"ImportError: libtorch\.so: cannot open shared object file"):
        planted("right")
    (tmp_path / "torch.py").write_text("import os\nprint('out of luck')\nos._exit(7)\n")
    with pytest.raises(ProcessError, match="failed with exit status 7"):
        planted("right")


def test_the_command_measures_draws_writes_and_keeps(
    here: Callable[..., Any], torch_python: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    said = here(
        "bench", "--python", torch_python, "--cpu", "--quick",
        "--output", "out/bench.json", "--plot", "out/bench.svg", "--plot", "out/bench.png",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "→ use SDPA" in said.out
    assert "flash_attn 2: flash_attn is not installed." in said.out
    assert "sageattn: It has no kernel for the processor." in said.out
    assert "is not installed in" in said.err or "sageattention 2" in said.out
    assert (tmp_path / "out/bench.svg").stat().st_size > 1000
    assert (tmp_path / "out/bench.png").stat().st_size > 1000
    written = json.loads((tmp_path / "out/bench.json").read_text())
    assert (written["schema"], written["extent"], written["device"]["capability"]) == (1, "quick", "cpu")
    assert written["ceiling"] is None
    (found,) = kept.kept(written["device"]["name"])
    assert isinstance(found, Bench)
    assert [case.id for case in found.cases] == ["1x4x64x64 bf16", "1x4x256x64 bf16"]
    sdpa = found.cases[1].of("sdpa")
    assert sdpa is not None
    assert (sdpa.status, sdpa.ratio, sdpa.share, sdpa.memory) == ("measured", 1.0, None, None)
    again = here("bench", "--from", "out/bench.json", "--plot", "out/again.svg")
    assert again.code == 0, again.err
    assert again.out == said.out
    assert (tmp_path / "out/again.svg").stat().st_size > 1000
    (tmp_path / "out/bench.json").write_text("{}")
    assert here("bench", "--from", "out/bench.json").code == 2


def test_a_pin_whose_kernel_is_wrong_is_shown_and_not_recommended(
    here: Callable[..., Any], torch_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package under the pin's name, on a machine without a GPU: fast, and wrong at every length."""
    manifests = tmp_path / "manifests"
    (manifests / "proofs").mkdir(parents=True)
    for name in ("sageattention.toml", "proofs/sageattention.toml"):
        text = (shipped_manifests() / name).read_text(encoding="utf-8")
        (manifests / name).write_text(
            text.replace('archs = ["9.0"]\naccuracy', 'archs = ["9.0", "cpu"]\naccuracy')
        )
    (manifests / "fixes").symlink_to(shipped_manifests() / "fixes")
    package = tmp_path / "site" / "sageattention.py"
    package.parent.mkdir()
    # Nothing is faster than to compute nothing.
    package.write_text("def sageattn(q, k, v, is_causal=False):\n    return q\n")
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(manifests))
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    said = here(
        "bench", "--python", torch_python, "--cpu", "--backend", "sageattn", "--dtype", "fp16",
        "--shape", "1,2,256,64", "--shape", "1,2,512,64", "--shape", "1,2,384,64", json_=True,
    )  # fmt: skip
    assert said.code == 0, said.err
    result = said.answer["result"]
    assert result["extent"] == "chosen"
    assert list(result["backends"]) == ["sdpa", "sageattn"]
    for case in result["cases"]:
        sdpa, sage = case["results"]
        assert (sdpa["status"], sage["status"], sage["allowed"]) == ("measured", "wrong", 0.08)
        assert sage["median"] < sdpa["median"]
        assert case["recommendation"]["backend"] == "sdpa"
        assert "sageattn is fast, and wrong: its error is" in case["recommendation"]["words"]
    (crossover,) = result["crossovers"]
    assert crossover["tokens"] is None
    assert kept.kept(result["device"]["name"]) == ()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--gpu", "-1"], 2, "--gpu"),
        (["--cpu", "--plot", "a.jpg"], 2, "neither SVG nor PNG"),
        (
            ["--cpu", "--shape", "1,2,64,32", "--plot", "a.svg"],
            2,
            "no shape is measured at two lengths",
        ),
        (["--cpu", "--output", "."], 2, "is a folder"),
        (["--cpu", "--backend", "nope"], 2, "There is no backend nope"),
        (["--gpu", "99"], 7, "sees no GPU 99"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_measured(
    here: Callable[..., Any], torch_python: Path, words: list[str], code: int, message: str
) -> None:
    said = here("bench", "--python", torch_python, *words)
    assert said.code == code
    assert message in said.err


def test_a_target_without_torch(here: Callable[..., Any], torch_python: Path, tmp_path: Path) -> None:
    run(["uv", "venv", "--quiet", "--python", torch_python, tmp_path / "venv"])
    said = here("bench", "--python", tmp_path / "venv", "--cpu")
    assert said.code == 6
    assert "There is no torch in" in said.err
