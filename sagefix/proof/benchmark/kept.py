"""Benchmarks of this machine, kept in the cache, so that whoever chooses a backend later can read the crossover.

They depend on the GPU, the package and the torch, and on no target: what was measured in one environment holds in
another with the same three. A folder per GPU and a file per package, torch and way of measuring; the newest counts.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from sagefix.files import write_bytes
from sagefix.proof.benchmark.model import Bench, bench_json
from sagefix.settings import cache_dir, cache_path

FOLDER = "bench"


def keep(bench: Bench) -> Path | None:
    """Write a benchmark where :func:`kept` finds it; None for one that measured what somebody chose.

    A quick one does not replace a full one. Raises :class:`DiskError`.
    """
    if bench.extent == "chosen":
        return None
    ways = [
        bench.extent,
        "causal" if any(case.causal for case in bench.cases) else "",
        "queued" if bench.method.queued else "",
        "" if bench.method.l2_flush or bench.method.clock == "wall" else "warm",
    ]
    torch = "torch" + ".".join(bench.torch.partition("+")[0].split(".")[:2])
    name = "-".join([_slug(bench.subject or bench.pin), torch, *filter(None, ways)])
    path = _folder_of(cache_dir(), bench.device.name) / f"{name}.json"
    write_bytes(path, bench_json(bench))
    return path


def kept(gpu: str) -> tuple[Bench, ...]:
    """Return the benchmarks of a GPU (its whole name): full ones first, then the newest first.

    A file that cannot be read, or that another version wrote, is passed over: it can be measured again.
    """
    found = []
    for path in sorted(_folder_of(cache_path(), gpu).glob("*.json")):
        try:
            bench = msgspec.json.decode(path.read_bytes(), type=Bench)
        except (OSError, msgspec.MsgspecError):
            continue
        if bench.device.name == gpu:
            found.append(bench)
    newest = sorted(found, key=lambda bench: bench.when, reverse=True)
    return tuple(sorted(newest, key=lambda bench: bench.extent != "full"))


def _folder_of(cache: Path, gpu: str) -> Path:
    return cache / FOLDER / _slug(gpu)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.+]+", "-", text.lower()).strip("-.") or "unknown"
