"""What a verification says: checks, numbers where attention was computed, and a verdict made of them."""

from __future__ import annotations

from typing import Literal

import msgspec

from sagefix.checks import Check, Level, failures

Group = Literal[
    "plain", "length", "input", "layout", "stream", "graph", "compile", "device", "refusal", "hazard"
]
CaseStatus = Literal["right", "wrong", "hazard", "skipped", "crashed"]


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device that a proof was made on.

    ``capability`` is ``9.0`` for a GPU and ``cpu`` for the processor; ``memory`` is in bytes, ``driver`` the
    version of the GPU's driver, ``index`` torch's number for it (0 for the processor).
    """

    name: str
    capability: str
    memory: int = 0
    driver: str = ""
    index: int = 0


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """How far an output is from the reference in fp64.

    ``relative_l2`` is ``|found - expected| / |expected|`` over everything compared, ``cosine`` the angle
    between the two, ``worst_row`` the largest relative error of one row (one query of one head). They are None
    when they are not finite. ``nan`` and ``inf`` count elements of the whole output, sampled or not.
    """

    relative_l2: float | None = None
    cosine: float | None = None
    worst_row: float | None = None
    nan: int = 0
    inf: int = 0


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """One call that was judged.

    ``function`` is ``module:attribute``, ``shape`` is batch, query heads, key heads, queries, keys, head_dim
    (all sequences together where ``function`` takes them packed). ``sdpa`` holds the errors of torch's own
    attention on the same input, ``threshold`` names the entry of :attr:`Numerics.thresholds` that it was judged
    by, ``text`` says in words what was seen. ``measured`` holds further figures by name: ``lse_relative_l2``, and
    ``tries`` with ``wrong`` where a call was repeated; ``unwritten`` and ``zeros`` are shares of the output.
    """

    id: str
    group: Group
    function: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    options: dict[str, str] = {}
    device: int = 0
    status: CaseStatus
    numbers: Numbers | None = None
    sdpa: Numbers | None = None
    threshold: str = ""
    measured: dict[str, float] = {}
    seconds: float = 0.0
    text: str = ""


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """The largest errors that count as right, for a kernel, a dtype and a kind of input.

    ``worst_row`` is None where a single row may be far off. ``derived`` says in words where the figures come
    from, ``sources`` where that can be read.
    """

    name: str
    relative_l2: float
    cosine: float
    worst_row: float | None = None
    derived: str
    sources: tuple[str, ...] = ()


class Numerics(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was computed: where, what came of each case, and what it was judged by.

    ``seconds`` is wall time with torch's import; the inputs follow from ``seed``. ``words`` says what the
    outcome means, one sentence each.
    """

    devices: tuple[Device, ...]
    cases: tuple[CaseResult, ...]
    thresholds: tuple[Threshold, ...]
    seconds: float
    seed: int
    words: tuple[str, ...] = ()


class Emulated(msgspec.Struct, frozen=True, kw_only=True):
    """How a verification ran that no machine of the wheel's own architecture made, and what it therefore leaves open.

    ``machine`` is the architecture (``aarch64``), ``emulator`` what ran it (``qemu-aarch64-static 7.2.22``), ``python``
    the version and where it came from, ``glibc`` its C library. ``stub``: a stub stood in for the driver's library.
    ``unproven`` says in words what only the real machine can show, ``command`` what proves it there.
    """

    machine: str
    emulator: str
    python: str
    glibc: str
    stub: bool
    unproven: tuple[str, ...]
    command: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a verification at a level, of what, where and when (UTC, ISO 8601).

    ``subject`` is the installed version or wheel; ``wheel_sha256`` is empty when no wheel is known to be the
    origin of what is installed. ``hazards`` are dangers that plain use never meets: calls on a side stream,
    under CUDA graphs. They do not count as failures. ``skipped`` names what was left out by request. ``emulated`` is
    there when the target was emulated: then nothing was proven on any kind of GPU.
    """

    schema: Literal[1] = 1
    pin: str
    level: Level
    subject: str
    wheel_sha256: str
    interpreter: str
    gpus: tuple[str, ...]
    torch: str
    when: str
    checks: tuple[Check, ...]
    sagefix: str
    numerics: Numerics | None = None
    driver: str = ""
    hazards: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    emulated: Emulated | None = None

    @property
    def passed(self) -> bool:
        """True when nothing failed; warnings and skipped checks are told, not counted."""
        return not failures(self.checks)
