"""What a benchmark says: each backend at each shape, where one begins to win, and what to use."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from sagefix.proof.model import Device
from sagefix.targets.clocks import GpuState

Status = Literal[
    "measured",
    "wrong",
    "out of memory",
    "no kernel",
    "refused",
    "not installed",
    "crashed",
    "stuck",
    "failed",
    "left out",
]


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """How times were taken, so that two results can be compared.

    ``clock`` is ``cuda events`` or ``wall``. ``l2_flush`` is what was written to between two runs, in bytes, so
    that no run finds its inputs in the cache (0: nothing was). ``queued``: each call was enqueued behind other
    work, so that its launches take no time of their own; else the GPU was idle before it. A backend ran
    ``budget_s`` seconds for each case, at least ``least`` and at most ``most`` times, after ``warmups`` runs,
    by turns with the others. Errors are over ``rows`` queries of every head, inputs follow from ``seed``.
    """

    clock: Literal["cuda events", "wall"]
    l2_flush: int
    queued: bool
    budget_s: float
    least: int
    most: int
    warmups: int
    rows: int
    seed: int


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """What the GPU can do, by its maker: TFLOP/s, dense, at which precision; ``fp8`` for 8-bit inputs or 0."""

    tflops: float
    precision: str
    fp8: float
    sources: tuple[str, ...]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One backend at one case.

    ``status``: ``measured``; ``wrong`` (it has times, and an error above ``allowed``); or why there are none,
    with ``text`` in words. Times are in ms over ``runs`` runs. ``tflops`` is in TFLOP/s, ``share`` that over
    what the GPU can do (None: not known). ``memory`` is the peak in bytes that one call needs beside its
    inputs, its output included (None: not measured). ``error`` is the relative L2 error against fp64 (None: not
    finite or not measured), ``cosine`` likewise. ``ratio`` is its median over that of SDPA.
    """

    backend: str
    status: Status
    text: str = ""
    runs: int = 0
    median: float | None = None
    fastest: float | None = None
    quarter: float | None = None
    three_quarters: float | None = None
    tflops: float | None = None
    share: float | None = None
    memory: int | None = None
    error: float | None = None
    cosine: float | None = None
    allowed: float | None = None
    ratio: float | None = None


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """What to use for a case, by name (empty: nothing was right), and why, in words."""

    backend: str
    words: str


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """All backends at one shape. ``name`` is the shape's, where it has one; ``state`` is the GPU's at the end."""

    id: str
    name: str = ""
    size: tuple[int, int, int, int]
    dtype: str
    causal: bool
    results: tuple[Measured, ...]
    state: GpuState | None = None
    recommendation: Recommendation

    def of(self, backend: str) -> Measured | None:
        """Return what came of one backend, or None when it was not asked for."""
        return next((each for each in self.results if each.backend == backend), None)


class Crossover(msgspec.Struct, frozen=True, kw_only=True):
    """From which length on a backend is faster than another, for one dtype and otherwise equal shapes.

    ``size`` is batch, heads, head_dim. ``tokens`` is interpolated between ``below``, the longest measured
    length at which it is not faster, and ``above``, the next one, from which on it is faster at all of
    ``lengths``. ``below`` is None when it wins from the shortest on (then ``tokens`` is that); ``tokens`` is
    None when it does not win at the longest.
    """

    backend: str
    against: str
    size: tuple[int, int, int]
    dtype: str
    causal: bool
    tokens: int | None
    below: int | None
    above: int | None
    lengths: tuple[int, ...]
    ratios: tuple[float, ...]
    words: str


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a benchmark: of what, where, when (UTC, ISO 8601), how, and everything that was measured.

    ``subject`` is the installed project with its version (empty: not installed), ``backends`` maps the names
    used below to those for people. ``extent`` is ``full``, ``quick``, or ``chosen`` when shapes, dtypes or
    backends were named. ``seconds`` is wall time.
    """

    schema: Literal[1] = 1
    pin: str
    subject: str
    interpreter: str
    torch: str
    device: Device
    ceiling: Ceiling | None
    extent: Literal["full", "quick", "chosen"]
    method: Method
    backends: dict[str, str]
    cases: tuple[Case, ...]
    crossovers: tuple[Crossover, ...]
    when: str
    seconds: float
    sagefix: str


def bench_json(bench: Bench) -> bytes:
    """Write a benchmark as JSON, for people and machines, with a line break at its end."""
    return msgspec.json.format(msgspec.json.encode(bench), indent=1) + b"\n"


def bench_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of :func:`bench_json`."""
    return msgspec.json.schema(Bench)
