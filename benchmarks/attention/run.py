"""`sagefix.attention` beside torch's attention and beside SageAttention, in one run, on the GPU of this machine.

    python benchmarks/attention/run.py --output attention-routed.json
    python benchmarks/attention/run.py --tiny --device cpu --min-tokens 64

It runs in an interpreter with torch, SageAttention and sagefix.attention, and needs nothing else. What it routes by is
what `sagefix attention install` wrote there; --min-tokens routes without a proof, and --learn measures crossovers
first and routes by those. The exit status is 1 when a target was missed.
"""

import argparse
import contextlib
import dataclasses
import importlib
import itertools
import json
import math
import sys
import tempfile
import timeit
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from side_by_side import Call, Clock, by_turns, medians, ratio
from torch.nn import functional
from video_model import Size, VideoModel

from sagefix import attention
from sagefix.attention import facts as known
from sagefix.attention.patching import CALL
from sagefix.attention.table import describe

SLOWER = 1.05
"""How much slower a routed call may be than the better of both."""
ERROR = 0.08
"""The limit of level numerics for one call of the fp8 kernels, relative L2; an output of a model stays below it."""
PARTS = ("overhead", "short", "sweep", "model", "replacement")
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Sizes(NamedTuple):
    """What is measured: heads by head_dim, lengths of the sweep, the model."""

    heads: dict[int, int]
    lengths: tuple[int, ...]
    short: int
    models: tuple[Size, ...]


FULL = Sizes(
    # Those of Wan 2.1 14B and of CogVideoX-5B, https://huggingface.co/zai-org/CogVideoX-5b
    heads={128: 40, 64: 48},
    lengths=(512, 1024, 2048, 4096, 6144, 8192, 9216, 10240, 12288, 16384, 24576, 32760, 65536),
    short=700,
    models=(
        Size(tokens=32760, words=512, padding=200, heads=40, head_dim=128, blocks=2),
        Size(tokens=32760, words=512, padding=200, heads=48, head_dim=64, blocks=2),
    ),
)
TINY = Sizes(
    heads={64: 2},
    lengths=(16, 32, 64, 128, 256),
    short=32,
    models=(Size(tokens=256, words=32, padding=12, heads=2, head_dim=64, blocks=1),),
)


class Bench:
    """One run: where, what with, and what came of it."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.device = torch.device(asked.device)
        self.clock = Clock(self.device)
        self.sizes = TINY if asked.tiny else FULL
        self.dtypes = [DTYPES[name] for name in asked.dtype or ["bfloat16"]]
        self.original = functional.scaled_dot_product_attention
        facts = known.find(asked.facts)
        module, _, name = (facts.call if facts else CALL).partition(":")
        self.sageattn = getattr(importlib.import_module(module), name)
        self.settings: dict[str, Any] = {"facts": asked.facts}
        if asked.min_tokens:
            self.settings |= {"min_tokens": asked.min_tokens, "require_proof": False}
        self.parts: dict[str, Any] = {}
        self.checks: list[dict[str, Any]] = []

    def inputs(self, tokens: int, heads: int, head_dim: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        """Queries, keys and values of one sequence."""
        shape = (1, heads, tokens, head_dim)
        return tuple(torch.randn(shape, dtype=dtype, device=self.device) for _ in range(3))

    @contextlib.contextmanager
    def routed(self) -> Iterator[Any]:
        """Give the function that routes."""
        with attention.enabled(**self.settings) as status:
            if not status.enabled:
                raise SystemExit(f"sagefix.attention is not enabled: {status.why}")
            yield functional.scaled_dot_product_attention

    def check(self, name: str, value: float, target: float, *, least: bool = False) -> None:
        """Note whether a value is at most (``least``: at least) its target."""
        met = value >= target if least else value <= target
        self.checks.append({"name": name, "value": value, "target": target, "least": least, "met": bool(met)})
        say(
            f"  {'met' if met else 'MISSED'}: {name}: {value:.4g} (target {'>=' if least else '<='} {target:.4g})"
        )

    def ways(self, routed: Any, q: Any, k: Any, v: Any, *, causal: bool = False) -> dict[str, Call]:
        """The three ways to call attention."""
        return {
            "sdpa": lambda: self.original(q, k, v, is_causal=causal),
            "sageattn": lambda: self.sageattn(q, k, v, is_causal=causal),
            "routed": lambda: routed(q, k, v, is_causal=causal),
        }

    def overhead(self) -> dict[str, float]:
        """What a decision costs the processor, in microseconds: beside a function that does nothing."""

        def nothing(*_: Any, **__: Any) -> None:
            return None

        q, k, v = self.inputs(16, 1, 64, self.dtypes[0])
        mask = torch.ones(16, 16, dtype=torch.bool, device=self.device)
        functional.scaled_dot_product_attention = nothing
        try:
            with self.routed() as routed:
                return {
                    "short": cost(lambda: routed(q, k, v), lambda: nothing(q, k, v)),
                    "mask": cost(
                        lambda: routed(q, k, v, attn_mask=mask), lambda: nothing(q, k, v, attn_mask=mask)
                    ),
                }
        finally:
            functional.scaled_dot_product_attention = self.original

    def short(self) -> list[dict[str, Any]]:
        """Short calls, which go to SDPA: one from an idle device, and many behind each other."""
        rows = []
        with self.routed() as routed:
            for (head_dim, heads), dtype in itertools.product(self.sizes.heads.items(), self.dtypes):
                q, k, v = self.inputs(self.sizes.short, min(heads, 32), head_dim, dtype)
                ways = self.ways(routed, q, k, v)
                same = torch.equal(ways["sdpa"](), ways["routed"]())  # type: ignore[arg-type]
                for how, calls in (("alone", 1), ("behind each other", 100)):
                    times = by_turns(
                        self.clock, ways, seconds=self.asked.seconds, calls=calls, least=15, most=200
                    )
                    found = ratio(times["routed"], times["sdpa"])
                    name = f"short {label(dtype)} head_dim {head_dim}, {how}"
                    rows.append({"name": name, "ratio": found, "same": same, "ms": medians(times)})
                    if calls > 1:
                        self.check(name, found, SLOWER)
                    else:
                        # Every cache of the processor is cold then: what that costs is told and is no target.
                        say(f"  {name}: {found:.3f}")
                self.check(
                    f"short {label(dtype)} head_dim {head_dim}, equal to SDPA", float(same), 1.0, least=True
                )
        return rows

    def sweep(self) -> list[dict[str, Any]]:
        """Every length, each way, short calls behind each other: a routed call beside the better of the two."""
        rows = []
        with self.routed() as routed:
            for dtype, (head_dim, heads), causal in itertools.product(
                self.dtypes, self.sizes.heads.items(), self.causals()
            ):
                for tokens in self.sizes.lengths:
                    q, k, v = self.inputs(tokens, heads, head_dim, dtype)
                    ways = self.ways(routed, q, k, v, causal=causal)
                    # As a model calls: the next one is enqueued while this one runs.
                    in_a_row = max(1, 2 * self.sizes.lengths[-1] // tokens)
                    times = by_turns(self.clock, ways, seconds=self.asked.seconds, calls=in_a_row)
                    middle = medians(times)
                    better = min(("sdpa", "sageattn"), key=middle.__getitem__)
                    before = attention.status().routed
                    error = relative(
                        routed(q, k, v, is_causal=causal), self.original(q, k, v, is_causal=causal)
                    )
                    row = {
                        "dtype": label(dtype),
                        "head_dim": head_dim,
                        "heads": heads,
                        "causal": causal,
                        "tokens": tokens,
                        "ms": middle,
                        "better": better,
                        "went_to": "sageattn" if attention.status().routed > before else "sdpa",
                        "sage_to_sdpa": ratio(times["sageattn"], times["sdpa"]),
                        "ratio": ratio(times["routed"], times[better]),
                        "error": error,
                    }
                    rows.append(row)
                    say(
                        f"  {row['dtype']} head_dim {head_dim}{' causal' if causal else ''} {tokens}: sageattn/sdpa "
                        f"{row['sage_to_sdpa']:.3f}, routed to {row['went_to']}, "
                        f"{row['ratio']:.3f} of {better}"
                    )
                kind = (label(dtype), head_dim, causal)
                mine = [row for row in rows if (row["dtype"], row["head_dim"], row["causal"]) == kind]
                name = f"sweep {label(dtype)} head_dim {head_dim}{' causal' if causal else ''}"
                self.check(f"{name}, worst length", max(row["ratio"] for row in mine), SLOWER)
                self.check(f"{name}, worst error against SDPA", max(row["error"] for row in mine), ERROR)
        self.parts["crossovers"] = crossovers(rows)
        return rows

    def causals(self) -> tuple[bool, ...]:
        """Which kinds of masks the sweep has."""
        return (False, True) if self.asked.causal else (False,)

    def model(self) -> list[dict[str, Any]]:
        """The video model as it is, and with attention routed."""
        rows = []
        for size, dtype in itertools.product(self.sizes.models, self.dtypes):
            model, video, words = self.made(size, dtype)

            def plain(model: Any = model, video: Any = video, words: Any = words) -> torch.Tensor:
                return model(video, words)

            def enabled(model: Any = model, video: Any = video, words: Any = words) -> torch.Tensor:
                with attention.enabled(**self.settings):
                    return model(video, words)

            expected, text = plain(), model.encode(words)
            with self.routed():
                found, routed_text = model(video, words), model.encode(words)
                counts = attention.status()
            error = relative(found, expected)
            times = by_turns(self.clock, {"sdpa": plain, "enabled": enabled}, seconds=4 * self.asked.seconds)
            share = ratio(times["enabled"], times["sdpa"])
            name = f"model {label(dtype)} head_dim {size.head_dim}"
            rows.append(
                {
                    "name": name,
                    "size": size._asdict(),
                    "error": error,
                    "text_equal": torch.equal(text, routed_text),
                    "routed": counts.routed,
                    "passed": counts.passed,
                    "ratio": share,
                    "ms": medians(times),
                }
            )
            self.check(f"{name}, error against SDPA", error, ERROR)
            self.check(f"{name}, masked text equal", float(torch.equal(text, routed_text)), 1.0, least=True)
            self.check(f"{name}, calls routed", counts.routed, size.blocks, least=True)
            if not self.asked.tiny:
                self.check(f"{name}, time against SDPA", share, 1.0)
        return rows

    def replacement(self) -> dict[str, float]:
        """The plain one-line replacement, on the masked text alone: it ignores the mask."""
        size = self.sizes.models[0]
        model, _, words = self.made(size, self.dtypes[0])
        # What attention adds to the words that count, without what goes around it.
        real = slice(0, size.words - size.padding)

        def added() -> torch.Tensor:
            return (model.encode(words) - words)[:, real]

        expected = added()
        functional.scaled_dot_product_attention = self.sageattn
        try:
            replaced = relative(added(), expected)
        finally:
            functional.scaled_dot_product_attention = self.original
        with self.routed():
            enabled = relative(added(), expected)
        self.check("one-line replacement, error on the masked text", replaced, 2 * ERROR, least=True)
        self.check("enable(), error on the masked text", enabled, 0.0)
        return {"replaced": replaced, "enabled": enabled}

    def made(self, size: Size, dtype: torch.dtype) -> tuple[VideoModel, torch.Tensor, torch.Tensor]:
        """A model with its inputs, the same each time."""
        torch.manual_seed(20260101)
        with torch.device(self.device):
            model = VideoModel(size).to(dtype).eval()
            video = torch.randn(1, size.tokens, size.dim, dtype=dtype)
            words = torch.randn(1, size.words, size.dim, dtype=dtype)
        return model, video, words

    def learn(self) -> str:
        """Measure crossovers, and return a file of facts that holds them for this device."""
        quiet, self.checks = self.checks, []
        self.settings = {"require_proof": False, "min_tokens": 1 << 30}
        self.sweep()
        self.checks = quiet
        learned = tuple(
            known.Crossover(**row, source="benchmarks/attention/run.py")
            for row in self.parts["crossovers"]
            if row["tokens"]
        )
        facts = known.find(self.asked.facts)
        project = facts.project if facts else CALL.partition(":")[0]
        version, fingerprint = known.installed(project)
        name, capability = describe(
            self.device.type, torch.cuda.current_device() if self.clock.cuda else None
        )
        device = (facts.device(self.device.type, name, capability) if facts else None) or known.Device(
            type=self.device.type, name=name, capability=capability, proof="by hand (--learn)",
            torch=torch.__version__, longest=max(self.sizes.lengths) * 2,
        )  # fmt: skip
        made = known.Facts(
            call=facts.call if facts else CALL,
            project=project,
            version=version,
            fingerprint=fingerprint,
            devices=(dataclasses.replace(device, name=name, crossovers=learned),),
        )
        path = Path(tempfile.mkdtemp(prefix="attention-")) / "facts.json"
        path.write_bytes(known.encode(made))
        return str(path)


def label(dtype: torch.dtype) -> str:
    """``bfloat16``."""
    return str(dtype).partition(".")[2]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 error; NaN counts as infinite."""
    error = float((found.float() - expected.float()).norm() / expected.float().norm())
    return math.inf if math.isnan(error) else error


def cost(ours: Call, others: Call) -> float:
    """Microseconds that a call takes longer, by the best of many turns."""
    number = 20000
    best = [min(timeit.repeat(call, number=number, repeat=9)) for call in (ours, others)]
    return round((best[0] - best[1]) / number * 1e6, 3)


def crossovers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """From how many tokens on SageAttention is faster at all lengths (None: at none), interpolated as `bench` does."""
    found = []
    kinds = dict.fromkeys((row["dtype"], row["head_dim"], row["causal"], row["heads"]) for row in rows)
    for dtype, head_dim, causal, heads in kinds:
        mine = [
            row for row in rows if (row["dtype"], row["head_dim"], row["causal"]) == (dtype, head_dim, causal)
        ]
        lost = [index for index, row in enumerate(mine) if row["sage_to_sdpa"] >= 1]
        tokens: int | None
        if not lost:
            tokens = mine[0]["tokens"]
        elif lost[-1] == len(mine) - 1:
            tokens = None
        else:
            below, above = mine[lost[-1]], mine[lost[-1] + 1]
            slower, faster = math.log(below["sage_to_sdpa"]), math.log(above["sage_to_sdpa"])
            grown = above["tokens"] / below["tokens"]
            tokens = round(below["tokens"] * grown ** (slower / (slower - faster)))
        found.append(
            {"dtype": dtype, "head_dim": head_dim, "causal": causal, "tokens": tokens, "sequences": heads}
        )
    return found


def say(text: str) -> None:
    """Progress goes to stderr, the result to stdout or a file."""
    print(text, file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts alone")
    made.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    made.add_argument("--dtype", nargs="+", choices=sorted(DTYPES), help="default: bfloat16")
    made.add_argument("--causal", action="store_true", help="sweep over causal attention, too")
    made.add_argument(
        "--tiny", action="store_true", help="sizes for a processor, and no target of speed for the model"
    )
    made.add_argument("--seconds", type=float, default=1.0, help="how long each comparison takes")
    made.add_argument("--facts", help="route by this file in place of the installed one")
    made.add_argument("--min-tokens", type=int, help="route from this length on, without a proof")
    made.add_argument("--learn", action="store_true", help="measure crossovers first and route by those")
    made.add_argument("--output", type=Path, help="write the result here in place of stdout")
    return made


def main() -> int:
    """Measure; return the exit status."""
    asked = parser().parse_args()
    bench = Bench(asked)
    with torch.no_grad():
        if asked.learn:
            say("learn")
            bench.settings = {"facts": bench.learn()}
        for name in asked.only:
            say(name)
            bench.parts[name] = getattr(bench, name)()
    with bench.routed():
        status = attention.status().as_dict()
    name = torch.cuda.get_device_name(bench.device) if bench.clock.cuda else "cpu"
    version = known.installed(
        (known.find(asked.facts) or known.Facts(CALL, CALL.partition(":")[0], "", "")).project
    )[0]
    result = {
        "schema": 1,
        "device": name,
        "torch": torch.__version__,
        "sageattention": version,
        "settings": bench.settings,
        "status": status,
        "checks": bench.checks,
        "met": all(check["met"] for check in bench.checks),
        "parts": bench.parts,
    }
    text = json.dumps(result, indent=1)
    if asked.output:
        asked.output.write_text(text + "\n", encoding="utf-8")
        say(f"Wrote {asked.output}")
    else:
        print(text)
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
