"""What is measured and against what: the types and the loading of ``manifests/bench.toml``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from sagefix import settings
from sagefix.pins.load import convert_table, read_table
from sagefix.pins.rules import Problem

NAME = "bench.toml"
DeviceKind = Literal["cuda", "cpu"]


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A shape with a name. ``size`` is batch, heads, tokens, head_dim; queries and keys have the same length."""

    name: str
    size: tuple[int, int, int, int]
    what: str
    device: DeviceKind = "cuda"
    quick: bool = False
    sources: tuple[str, ...] = ()


class Sweep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shape at many lengths. ``size`` is batch, heads, head_dim; ``quick_tokens`` are those of a quick run."""

    name: str
    size: tuple[int, int, int]
    tokens: tuple[int, ...]
    quick_tokens: tuple[int, ...]
    what: str
    device: DeviceKind = "cuda"

    def shape(self, tokens: int) -> Shape:
        """Return the shape at one length; it has no name of its own."""
        batch, heads, head_dim = self.size
        return Shape(name="", size=(batch, heads, tokens, head_dim), what=self.what, device=self.device)


class Backend(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A way to compute attention, as ``guest/bench_backends.py`` calls it.

    ``kind`` ``sdpa``: torch's own function, held to the ``SDPBackend`` that ``choice`` names (empty: torch
    chooses). ``call``: ``attribute`` of ``module``, which takes tensors of ``layout`` (HND: heads before tokens;
    NHD: tokens before heads), and is told of a causal call by the keyword ``causal``, or by an object of the
    module's class ``causal_mask`` as its ``attn_bias``.
    """

    name: str
    label: str
    kind: Literal["sdpa", "call"]
    choice: str = ""
    module: str = ""
    attribute: str = ""
    layout: Literal["HND", "NHD"] = "HND"
    causal: str = ""
    causal_mask: str = ""
    sources: tuple[str, ...] = ()


class Exact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The largest relative L2 error of an exact backend that counts as right, for each dtype, and why that."""

    bfloat16: float
    float16: float
    derived: str


class Peak(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a kind of GPU can do.

    ``gpus`` are whole names as the driver gives them; ``capability`` must agree, too. ``tflops`` is in TFLOP/s:
    dense, bf16 or fp16 on the tensor cores with fp32 accumulation. ``fp8`` is the same for 8-bit inputs (0: the
    GPU has none).
    """

    gpus: tuple[str, ...]
    capability: str
    tflops: float
    fp8: float = 0.0
    sources: tuple[str, ...]


class BenchTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``manifests/bench.toml`` says."""

    schema: Literal[1]
    shape: tuple[Shape, ...]
    sweep: tuple[Sweep, ...]
    backend: tuple[Backend, ...]
    exact: Exact
    peak: tuple[Peak, ...]

    def peak_of(self, gpu: str, capability: str) -> Peak | None:
        """Return what a GPU can do, or None when nobody noted it: its whole name and capability must be known."""
        return next((each for each in self.peak if gpu in each.gpus and each.capability == capability), None)


def load_bench_table(folder: Path | None = None) -> BenchTable:
    """Read the table: that of the folder of manifests, else the one sagefix comes with.

    Raises :class:`PinError` with line and key of what is wrong.
    """
    where = settings.manifests_dir() if folder is None else folder
    path = where / NAME if (where / NAME).is_file() else settings.shipped_manifests() / NAME
    return convert_table(
        path, read_table(path), BenchTable, _problems, described_in="sagefix/proof/benchmark/table.py"
    )


def _problems(table: BenchTable, path: Path) -> Iterator[Problem]:
    del path
    for key, names in (
        ("shape", [shape.name for shape in table.shape] + [sweep.name for sweep in table.sweep]),
        ("backend", [backend.name for backend in table.backend]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            yield (key,), f"{', '.join(twice)} stands there more than once"
    if not any(backend.name == "sdpa" for backend in table.backend):
        yield ("backend",), "'sdpa' is missing, which every other backend is compared with"
    for index, shape in enumerate(table.shape):
        if min(shape.size) < 1:
            yield ("shape", index, "size"), "must be four numbers above 0"
    for index, sweep in enumerate(table.sweep):
        for key in ("tokens", "quick_tokens"):
            lengths = getattr(sweep, key)
            if not lengths or sorted(set(lengths)) != [*lengths] or lengths[0] < 1:
                yield ("sweep", index, key), "must hold numbers above 0 that rise"
    for index, backend in enumerate(table.backend):
        if backend.kind == "call" and not (backend.module and backend.attribute):
            yield ("backend", index), "a call needs a module and an attribute"
