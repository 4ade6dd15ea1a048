"""``sagefix.attention`` in a real target with torch, on the processor, beside a SageAttention of ours.

As test_numerics_torch.py: ``make test-cuda``, or SAGEFIX_TORCH_PYTHON with any torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attention_target import PACKAGE, VERSION, make_attention_target, put_package, write_manifests

pytestmark = [pytest.mark.cuda, pytest.mark.network]

ROOT = Path(__file__).parents[2]
# Before every program: what is in place, inputs, and how an output is told apart from torch's.
BEFORE = """
import json, logging, sys, threading, torch
import sageattention
from torch.nn import functional as F
from sagefix import attention
original = F.scaled_dot_product_attention
logged = []
logging.getLogger("sagefix.attention").addHandler(type("H", (logging.Handler,), {
    "emit": lambda self, record: logged.append(record.getMessage())})())
torch.manual_seed(1)
said = {}

def made(tokens=128, head_dim=64, dtype=torch.bfloat16, heads=2, keys=None, key_heads=None):
    shapes = [(1, heads, tokens, head_dim)] + [(1, key_heads or heads, keys or tokens, head_dim)] * 2
    return [torch.randn(shape, dtype=dtype) for shape in shapes]

def relative(found, expected):
    return ((found.float() - expected.float()).norm() / expected.float().norm()).item()

def way(call, **options):
    '''Return where a call went, and whether it is bit by bit what torch says, or as near as it should be.'''
    before = len(sageattention.CALLS)
    found, expected = call(F.scaled_dot_product_attention), call(original)
    if len(sageattention.CALLS) > before:
        assert 0 < relative(found, expected) < 0.01
        assert found.shape == expected.shape and found.dtype == expected.dtype
        return "sageattn"
    assert torch.equal(found, expected)
    return "sdpa"
"""
Inside = Callable[..., dict[str, Any]]


class Target:
    """The target, with what its programs and sagefix need to be told."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.python = folder, python
        self.env = {
            **os.environ,
            "SAGEFIX_MANIFESTS": str(folder / "manifests"),
            "SAGEFIX_CACHE_DIR": str(folder / "cache"),
            "SAGEFIX_WHEELHOUSE": str(folder / "wheels"),
            "OMP_NUM_THREADS": "1",
            "CC": "cc",
        }

    def sagefix(self, *args: str | Path) -> dict[str, Any]:
        """Run the command and return its envelope."""
        done = subprocess.run(
            [sys.executable, "-m", "sagefix", *map(str, args), "--python", self.python, "--json"],
            env={**self.env, "PYTHONPATH": str(ROOT)}, cwd=self.folder,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode == 0) == answer["ok"]
        return answer

    def run(self, code: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a program in the target."""
        return subprocess.run(
            [self.python, "-c", code], env={**self.env, **env}, cwd=self.folder,
            capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def target(torch_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A target whose SageAttention is proven and known of."""
    folder = tmp_path_factory.mktemp("attention")
    write_manifests(folder / "manifests")
    made = Target(folder, make_attention_target(folder, torch_python))
    answer = made.sagefix("attention", "install")
    assert answer["ok"], answer["error"]
    return made


@pytest.fixture
def inside(target: Target) -> Inside:
    """A function that runs a program in the target and returns what it put into ``said``."""

    def run(code: str, **env: str) -> dict[str, Any]:
        done = target.run(BEFORE + code + "\nprint('SAID', json.dumps(said))", **env)
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout.rpartition("SAID ")[2])
        return said

    return run


def test_the_package_is_installed_listed_and_removed(
    torch_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifests(tmp_path / "manifests")
    target = Target(tmp_path, make_attention_target(tmp_path, torch_python))
    assert target.sagefix("attention", "status")["result"]["version"] == ""
    installed = target.sagefix("attention", "install", "--no-verify")["result"]
    assert (installed["code"], installed["stale"], installed["of"]) == ("wheel", "", VERSION)
    assert installed["facts"]["devices"] == []
    listed = subprocess.run(
        ["uv", "pip", "list", "--python", target.python], capture_output=True, text=True, check=True
    )
    assert "sagefix-attention" in listed.stdout
    program = "from sagefix import attention; print(attention.enable())"
    assert "are proven on no GPU (nobody verified them)" in target.run(program).stdout
    put_package(tmp_path, target.python, PACKAGE + "\nADDED = 1\n")
    assert "is not that" in target.sagefix("attention", "status")["result"]["stale"]
    assert "is not what was looked at" in target.run(program).stdout
    put_package(tmp_path, target.python)
    subprocess.run(
        ["uv", "pip", "uninstall", "--quiet", "--python", target.python, "sageattention"], check=True
    )
    assert "not installed any more" in target.sagefix("attention", "status")["result"]["stale"]
    assert "sageattention is not installed" in target.run(program).stdout
    assert target.sagefix("attention", "install")["error"]["name"] == "target"
    assert target.sagefix("attention", "remove")["result"]["version"] == ""
    assert target.sagefix("attention", "remove")["ok"]
    assert target.run("import sagefix.attention").returncode == 1


def test_what_was_verified_is_what_is_known(target: Target) -> None:
    found = target.sagefix("attention", "status")["result"]
    (device,) = found["facts"]["devices"]
    assert device["proof"].startswith("numerics on ")
    assert (device["type"], device["name"], device["longest"], device["unproven"]) == ("cpu", "*", 512, "")
    kinds = [(each["dtype"], each["causal"], each["tokens"]) for each in device["crossovers"]]
    assert kinds == [("bfloat16", False, 64), ("float16", False, 64), ("bfloat16", True, 96)]


def test_calls_go_where_they_should_and_are_counted(inside: Inside) -> None:
    said = inside("""
with attention.enabled() as status:
    said["enabled"] = status.enabled
    q, k, v = made()
    said["plain"] = way(lambda f: f(q, k, v))
    said["by keyword"] = way(lambda f: f(query=q, key=k, value=v, attn_mask=None, dropout_p=0.0))
    said["scale"] = way(lambda f: f(q, k, v, scale=0.05))
    said["causal"] = way(lambda f: f(q, k, v, is_causal=True))
    said["tokens first"] = way(lambda f: f(*(each.transpose(1, 2).contiguous().transpose(1, 2) for each in (q, k, v))))
    shifted = [torch.cat([each.new_zeros(3), each.flatten()])[3:].view(each.shape) for each in (q, k, v)]
    said["unaligned"] = way(lambda f: f(*shifted))
    said["mask"] = way(lambda f: f(q, k, v, attn_mask=torch.ones(128, 128, dtype=torch.bool).tril()))
    said["mask by place"] = way(lambda f: f(q, k, v, torch.zeros(128, 128, dtype=q.dtype)))
    said["short"] = way(lambda f: f(*made(63)) if torch.manual_seed(2) else None)
    said["cross"] = way(lambda f: f(q, k[:, :, :40], v[:, :, :40]))
    said["fp32"] = way(lambda f: f(q.float(), k.float(), v.float()))
    said["head_dim"] = way(lambda f: f(*(each[..., :32] for each in (q, k, v))))
    said["strided"] = way(lambda f: f(q, k, v.transpose(2, 3).contiguous().transpose(2, 3)))
    said["3-D"] = way(lambda f: f(q[0], k[0], v[0]))
    few = made(key_heads=1)
    said["gqa"] = way(lambda f: f(*few, enable_gqa=True))
    said["batch broadcast"] = way(lambda f: f(torch.cat([q, q]), k, v))
    said["counts"] = attention.status().as_dict()
torch.manual_seed(3)
with attention.enabled():
    F.scaled_dot_product_attention(q, k, v, dropout_p=0.5)
    said["dropout"] = attention.status().passed
said["layouts"] = sorted({layout for layout, _, _ in sageattention.CALLS})
said["back"] = F.scaled_dot_product_attention is original
""")
    assert said["enabled"]
    ways = {name: said[name] for name in said if isinstance(said[name], str)}
    routed = {"plain", "by keyword", "scale", "causal", "tokens first", "unaligned", "gqa"}
    assert ways == {name: "sageattn" if name in routed else "sdpa" for name in ways}
    assert said["counts"]["routed"] == len(routed)
    passed = {"mask": 2, "short": 2, "dtype": 1, "unmeasured": 1, "layout": 1, "shape": 2}
    assert said["counts"]["passed"] == passed
    assert said["dropout"] == {"dropout": 1}
    assert said["layouts"] == ["HND", "NHD"]
    assert said["back"]


def test_memory_order_is_that_of_the_queries(inside: Inside) -> None:
    said = inside("""
with attention.enabled():
    q, k, v = (each.transpose(1, 2).contiguous().transpose(1, 2) for each in made())
    found = F.scaled_dot_product_attention(q, k, v)
    said["view"] = list(found.transpose(1, 2).view(1, 128, -1).shape)
    q, k, v = made()
    said["contiguous"] = F.scaled_dot_product_attention(q, k, v).is_contiguous()
""")
    assert said == {"view": [1, 128, 128], "contiguous": True}


def test_gradients_modes_and_transforms_are_left_to_torch(inside: Inside) -> None:
    said = inside("""
import warnings
warnings.simplefilter("ignore")
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode
call = lambda q, k, v: F.scaled_dot_product_attention(q, k, v)
def reasons(work):
    before = attention.status()
    work()
    after = attention.status()
    found = [word for word in after.passed if after.passed[word] > before.passed.get(word, 0)]
    return found + ["sageattn"] * (after.routed - before.routed)
with attention.enabled():
    q, k, v = made()
    grad = [each.clone().requires_grad_() for each in (q, k, v)]
    said["grad"] = reasons(lambda: call(*grad).sum().backward())
    assert grad[0].grad is not None
    def no_grad():
        with torch.no_grad():
            call(*grad)
    said["no_grad"] = reasons(no_grad)
    def inference():
        with torch.inference_mode():
            call(q, k, v)
    said["inference"] = reasons(inference)
    def autocast(dtype):
        with torch.autocast("cpu", dtype=dtype):
            call(q, k, v)
    said["same autocast"] = reasons(lambda: autocast(torch.bfloat16))
    said["other autocast"] = reasons(lambda: autocast(torch.float16))
    batched = [torch.stack([each, each]) for each in (q, k, v)]
    def vmapped():
        assert torch.equal(torch.vmap(call)(*batched), torch.vmap(original)(*batched))
    said["vmap"] = reasons(vmapped)
    def dual():
        with forward_ad.dual_level():
            call(forward_ad.make_dual(q, torch.ones_like(q)), k, v)
    said["forward"] = reasons(lambda: None)
    try:
        said["forward"] = reasons(dual)
    except NotImplementedError:
        said["forward"] = ["transform"]
    def fake():
        with FakeTensorMode():
            call(*made())
    said["fake"] = reasons(fake)
    said["meta"] = reasons(lambda: call(*(each.to("meta") for each in (q, k, v))))
    said["make_fx"] = reasons(lambda: make_fx(call)(q, k, v))
    def flops():
        with FlopCounterMode(display=False):
            call(q, k, v)
    said["flops"] = reasons(flops)
    def device_mode():
        with torch.device("cpu"):
            call(q, k, v)
    said["device mode"] = reasons(device_mode)
    class Sub(torch.Tensor):
        pass
    said["subclass"] = reasons(lambda: call(q.as_subclass(Sub), k, v))
    jagged = torch.nested.nested_tensor([torch.randn(100, 2, 64), torch.randn(90, 2, 64)], layout=torch.jagged)
    said["jagged"] = reasons(lambda: call(*[jagged.transpose(1, 2)] * 3))
    traced = torch.jit.trace(call, (q, k, v), check_trace=False)
    said["jit.trace"] = "aten::scaled_dot_product_attention" in str(traced.graph)
    class Model(torch.nn.Module):
        def forward(self, q, k, v):
            return call(q, k, v)
    exported = torch.export.export(Model(), (q, k, v), strict=False)
    said["export"] = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
""")
    assert said == {
        "grad": ["autograd"],
        "no_grad": ["sageattn"],
        "inference": ["sageattn"],
        "same autocast": ["sageattn"],
        "other autocast": ["autocast"],
        "vmap": ["transform"],
        "forward": ["transform"],
        "fake": ["kind"],
        "meta": ["device"],
        "make_fx": ["mode"],
        "flops": ["mode"],
        "device mode": ["sageattn"],
        "subclass": ["kind"],
        "jagged": ["kind"],
        "jit.trace": True,
        "export": ["aten.scaled_dot_product_attention.default"],
    }


def test_compiled_code_is_right(inside: Inside) -> None:
    """All the way to machine code; the switching is tried with graphs alone, which take no compiler."""
    said = inside("""
import warnings
warnings.simplefilter("ignore")
compiled = torch.compile(lambda q, k, v: F.scaled_dot_product_attention(q * 1.0, k, v) + 0.0, fullgraph=True)
q, k, v = (each.transpose(1, 2).contiguous().transpose(1, 2) for each in made())
with torch.no_grad(), attention.enabled():
    said["error"] = relative(compiled(q, k, v), original(q, k, v))
    said["calls"] = len(sageattention.CALLS)
""")
    assert 0 < said["error"] < 0.01
    assert said["calls"] == 1


def test_compiled_code_is_routed_without_a_break(inside: Inside) -> None:
    said = inside("""
import warnings
warnings.simplefilter("ignore")
def model(q, k, v):
    return F.scaled_dot_product_attention(q * 1.0, k, v) + 0.0
compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=False)
def calls(*inputs):
    before = len(sageattention.CALLS)
    found = compiled(*inputs)
    error = relative(found, original(*inputs))
    assert error < 0.01
    return len(sageattention.CALLS) - before
q, k, v = made()
turned = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in (q, k, v)]
short = made(32)
with torch.no_grad(), attention.enabled():
    said["long"], said["turned"], said["short"] = calls(q, k, v), calls(*turned), calls(*short)
    said["again"] = calls(q, k, v)
    said["counts"] = attention.status().as_dict()
with torch.no_grad():
    said["disabled"] = calls(q, k, v)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for _ in range(5):
        with attention.enabled():
            said["enabled"] = calls(q, k, v)
        said["off"] = calls(q, k, v)
    said["compiled anew"] = torch._dynamo.utils.counters["stats"]["unique_graphs"] - graphs
    with attention.enabled(min_tokens=1000):
        said["min_tokens"] = calls(q, k, v)
grad = q.clone().requires_grad_()
with attention.enabled():
    before = len(sageattention.CALLS)
    compiled(grad, k, v).sum().backward()
    said["grad"] = len(sageattention.CALLS) - before
""")
    assert (said["long"], said["turned"], said["short"], said["again"]) == (1, 1, 0, 1)
    # What compiled code hands to torch is not counted; what it routes is.
    assert (said["counts"]["routed"], said["counts"]["passed"]) == (3, {})
    assert (said["disabled"], said["off"], said["enabled"], said["min_tokens"], said["grad"]) == (
        0,
        0,
        1,
        0,
        0,
    )
    assert said["compiled anew"] == 0


def test_a_build_for_the_default_stream_alone_is_not_compiled(inside: Inside, target: Target) -> None:
    found = target.sagefix("attention", "status")["result"]["facts"]
    found["devices"][0]["any_stream"] = False
    path = target.folder / "one-stream.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    said = inside(
        """
q, k, v = made()
with torch.no_grad(), attention.enabled():
    said["plain"] = way(lambda f: f(q, k, v))
    compiled = torch.compile(lambda q, k, v: F.scaled_dot_product_attention(q, k, v), backend="eager", fullgraph=True)
    before = len(sageattention.CALLS)
    compiled(q, k, v)
    said["compiled"] = len(sageattention.CALLS) - before
""",
        SAGEFIX_ATTENTION_FACTS=str(path),
    )
    assert said == {"plain": "sageattn", "compiled": 0}


def test_scripted_code_goes_to_torch(inside: Inside, target: Target) -> None:
    """TorchScript reads the source of what it calls, so it needs a file."""
    (target.folder / "scripted.py").write_text(
        "import torch\nfrom torch.nn import functional as F\n"
        "def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor):\n"
        "    return F.scaled_dot_product_attention(q, k, v)\n"
    )
    said = inside("""
import warnings
warnings.simplefilter("ignore")
sys.path.insert(0, ".")
import scripted
with attention.enabled():
    q, k, v = made()
    said["equal"] = torch.equal(torch.jit.script(scripted.attend)(q, k, v), original(q, k, v))
""")
    assert said == {"equal": True}


def test_an_error_of_sageattn_costs_nothing_but_a_warning(inside: Inside) -> None:
    said = inside("""
q, k, v = made()
with attention.enabled():
    sageattention.FAIL = RuntimeError("CUDA out of memory")
    for _ in range(3):
        said["equal"] = torch.equal(F.scaled_dot_product_attention(q, k, v), original(q, k, v))
    sageattention.FAIL = None
    status = attention.status()
    said["status"] = [status.routed, status.passed, status.last_error]
said["logged"] = logged
""")
    assert said["equal"]
    assert said["status"] == [0, {"failed": 3}, "RuntimeError: CUDA out of memory"]
    (logged,) = said["logged"]
    assert "RuntimeError: CUDA out of memory" in logged


def test_threads_see_one_switch_and_no_count_is_lost(inside: Inside) -> None:
    said = inside("""
q, k, v = made()
short = made(16)
def work():
    for _ in range(50):
        with attention.enabled():
            F.scaled_dot_product_attention(q, k, v)
            F.scaled_dot_product_attention(*short)
attention.enable()
threads = [threading.Thread(target=work) for _ in range(4)]
[each.start() for each in threads]
[each.join() for each in threads]
status = attention.status()
said["counts"] = [status.routed, status.passed]
attention.disable()
# Blocks that overlap: the last that ends switches off.
inner, outer = threading.Event(), threading.Event()
def other():
    with attention.enabled():
        inner.set()
        outer.wait()
thread = threading.Thread(target=other)
with attention.enabled():
    thread.start()
    inner.wait()
said["while one is open"] = attention.status().enabled
outer.set()
thread.join()
said["after"] = [attention.status().enabled, F.scaled_dot_product_attention is original]
""")
    assert said == {
        "counts": [200, {"short": 200}],
        "while one is open": True,
        "after": [False, True],
    }


def test_switches_nest_and_settings_do_not_mix(inside: Inside) -> None:
    said = inside("""
with attention.enabled():
    with attention.enabled():
        pass
    said["after the inner"] = attention.status().enabled
    try:
        with attention.enabled(min_tokens=7):
            pass
    except ValueError as error:
        said["other settings"] = str(error)
    attention.disable()
    said["disabled inside"] = attention.status().enabled
said["after"] = F.scaled_dot_product_attention is original
attention.enable()
with attention.enabled():
    pass
said["enable stays"] = attention.status().enabled
said["replaced"] = attention.enable(min_tokens=200).enabled
q, k, v = made()
said["by min_tokens"] = way(lambda f: f(q, k, v))
q, k, v = made(256, head_dim=128)
said["and beyond what was measured"] = way(lambda f: f(q, k, v))
try:
    attention.enable(min_tokens=0)
except ValueError as error:
    said["wrong"] = str(error)
attention.disable()
attention.disable()
said["end"] = F.scaled_dot_product_attention is original
""")
    assert said.pop("other settings").startswith("sagefix.attention is enabled already, with other settings")
    assert said.pop("wrong") == "min_tokens has to be positive, not 0."
    assert said == {
        "after the inner": True,
        "disabled inside": False,
        "after": True,
        "enable stays": True,
        "replaced": True,
        "by min_tokens": "sdpa",
        "and beyond what was measured": "sageattn",
        "end": True,
    }


def test_what_somebody_else_put_there_stays(inside: Inside) -> None:
    said = inside("""
from torch.nn.functional import scaled_dot_product_attention as taken
q, k, v = made()
attention.enable()
said["unreached"] = attention.status().unreached
ours = F.scaled_dot_product_attention
def theirs(*args, **kwargs):
    return ours(*args, **kwargs)
F.scaled_dot_product_attention = theirs
said["why"] = attention.status().why
said["through theirs"] = way(lambda f: f(q, k, v))
attention.disable()
said["theirs stays"] = F.scaled_dot_product_attention is theirs
said["told"] = len(logged)
said["off"] = way(lambda f: f(q, k, v))
attention.enable()
said["again"] = way(lambda f: f(q, k, v))
F.scaled_dot_product_attention = ours
attention.disable()
said["end"] = F.scaled_dot_product_attention is original
# Somebody who was there first is called in torch's place.
def first(*args, **kwargs):
    said["first"] = True
    return original(*args, **kwargs)
F.scaled_dot_product_attention = first
with attention.enabled():
    F.scaled_dot_product_attention(*made(16))
said["first is back"] = F.scaled_dot_product_attention is first
""")
    assert said.pop("unreached") == ["__main__.original", "__main__.taken"]
    assert "was exchanged by __main__.theirs" in said.pop("why")
    assert said == {
        "through theirs": "sageattn",
        "theirs stays": True,
        "told": 1,
        "off": "sdpa",
        "again": "sageattn",
        "end": True,
        "first": True,
        "first is back": True,
    }


def test_modules_of_torch_are_reached(inside: Inside) -> None:
    said = inside("""
with torch.no_grad(), attention.enabled():
    layer = torch.nn.MultiheadAttention(128, 2, batch_first=True, dtype=torch.bfloat16).train()
    x = torch.randn(1, 128, 128, dtype=torch.bfloat16)
    layer(x, x, x, need_weights=False)
    said["routed"] = attention.status().routed
""")
    assert said == {"routed": 1}


def variants(target: Target, changes: list[dict[str, Any]], of_device: bool = False) -> list[str]:
    """Write facts with a change each; a change of the device stands beside one that is proven and not here."""
    paths = []
    for number, change in enumerate(changes):
        found = target.sagefix("attention", "status")["result"]["facts"]
        if of_device:
            found["devices"] = [found["devices"][0] | {"type": "cuda"}, found["devices"][0] | change]
        else:
            found |= change
        path = target.folder / f"variant-{number}.json"
        path.write_text(json.dumps(found), encoding="utf-8")
        paths.append(str(path))
    return paths


def test_what_cannot_be_relied_on_leaves_torch_in_place(inside: Inside, target: Target) -> None:
    changes = {
        "is not what was looked at": {"fingerprint": "0" * 64},
        "is known to be wrong: version": {"wrong": "version: it is broken."},
        "nobody-has-this is not installed": {"project": "nobody-has-this"},
        "cannot be imported (AttributeError": {"call": "sageattention:nothing"},
        "has the schema 9": {"schema": 9},
    }
    said = inside(f"""
said["why"] = []
for path in {variants(target, list(changes.values()))!r}:
    # Logged once, however often it is asked for.
    for _ in range(3):
        status = attention.enable(facts=path)
    assert not status.enabled and F.scaled_dot_product_attention is original
    said["why"].append(status.why)
# What is known to be wrong is not routed without a proof either.
wrong = attention.enable(facts={str(target.folder / "variant-1.json")!r}, require_proof=False)
said["without a proof"] = wrong.why
said["logged"] = logged
""")
    for words, why in zip(changes, said["why"], strict=True):
        assert words in why
        assert sum(why in line for line in said["logged"]) == 1
    assert "is known to be wrong: version" in said["without a proof"]


def test_a_device_that_is_not_proven_is_left_alone_unless_asked_for(inside: Inside, target: Target) -> None:
    changes = [{"proof": "", "unproven": "it failed"}, {"torch": "1.0.0"}, {"capability": "9.0"}]
    said = inside(f"""
q, k, v = made()
for path in {variants(target, changes, of_device=True)!r}:
    with attention.enabled(facts=path):
        went = way(lambda f: f(q, k, v))
        passed = attention.status().passed
    with attention.enabled(facts=path, require_proof=False, min_tokens=64):
        asked = way(lambda f: f(q, k, v))
    said[path[-6]] = [went, passed, asked]
""")
    assert said == {str(number): ["sdpa", {"device": 1}, "sageattn"] for number in range(3)}


def test_the_benchmark_runs_with_torch_and_the_package_alone(target: Target) -> None:
    done = subprocess.run(
        [target.python, ROOT / "benchmarks/attention/run.py", "--tiny", "--device", "cpu", "--seconds", "0.01",
         "--only", "model", "replacement"],
        env=target.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    checks = {each["name"]: each for each in json.loads(done.stdout)["checks"]}
    assert checks["model bfloat16 head_dim 64, masked text equal"]["value"] == 1.0
    # The plain one-line replacement, beside: it ignores the mask.
    assert checks["one-line replacement, error on the masked text"]["value"] > 0.16
    assert checks["enable(), error on the masked text"]["value"] == 0.0
