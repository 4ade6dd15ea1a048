"""What is to be computed and how it is judged: the types behind ``manifests/proofs/*.toml``, and a case."""

from __future__ import annotations

from typing import Literal

import msgspec

from sagefix.checks import NumbersLevel
from sagefix.proof.model import Group

Kind = Literal["dense", "packed", "arrays"]
"""How a function is called: with tensors of four dimensions; with sequences of several lengths one behind the
other and their cumulative lengths; with flat arrays of Python's ``array``."""

Mode = Literal[
    "call",
    "lse",
    "stream",
    "graph",
    "compile",
    "reduce-overhead",
    "other-device",
    "mask",
    "refuse-dtype",
    "refuse-mixed",
    "refuse-head-dim",
    "refuse-memory",
]
"""What surrounds the call; ``refuse-*``: what has to be refused."""


class On(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """On which GPUs a function runs (``["*"]``: wherever), which accuracy it has there, which extensions it needs."""

    archs: tuple[str, ...]
    accuracy: str
    needs: tuple[str, ...] = ()
    sources: tuple[str, ...]


class Function(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A public function of the package.

    ``call`` is ``module:attribute``. ``arguments`` are the names of its arguments for what they mean: ``layout``
    (takes ``HND`` and ``NHD``), ``causal``, ``lse``, ``mask``; one that is missing here is not offered.
    ``max_head_dim`` is the largest that it takes.
    """

    name: str
    call: str
    kind: Kind
    arguments: dict[str, str] = {}
    dtypes: tuple[str, ...]
    max_head_dim: int
    on: tuple[On, ...]
    sources: tuple[str, ...]

    def where(self, capability: str) -> On | None:
        """Return what holds on a GPU of this compute capability (or ``cpu``), or None if it does not run there."""
        return next((row for row in self.on if capability in row.archs or "*" in row.archs), None)


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The largest errors of an accuracy that count as right, for some dtypes and inputs; see :class:`Threshold`.

    ``lse`` is the largest absolute error of a returned logsumexp (natural logarithm; None: not judged).
    """

    name: str
    accuracy: str
    dtypes: tuple[str, ...]
    inputs: tuple[str, ...]
    relative_l2: float
    cosine: float
    worst_row: float | None = None
    lse: float | None = None
    derived: str
    sources: tuple[str, ...]


class Coarsest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to here an output is attention with another accuracy than the function's own; beyond, it is broken."""

    relative_l2: float
    cosine: float
    derived: str


class Block(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cases of a level: every combination of what is listed.

    ``functions``: by name (``["*"]``: all). ``heads`` are pairs of query and key heads, ``lengths`` pairs of
    queries and keys; ``memory`` says how the inputs lie in memory. ``tries`` repeats what is a matter of timing.
    """

    levels: tuple[NumbersLevel, ...]
    group: Group
    functions: tuple[str, ...] = ("*",)
    dtypes: tuple[str, ...]
    head_dims: tuple[int, ...]
    batches: tuple[int, ...] = (1,)
    heads: tuple[tuple[int, int], ...]
    lengths: tuple[tuple[int, int], ...]
    causal: tuple[bool, ...] = (False,)
    layouts: tuple[str, ...] = ("",)
    inputs: tuple[str, ...] = ("normal",)
    memory: tuple[str, ...] = ("contiguous",)
    modes: tuple[Mode, ...] = ("call",)
    tries: int = 1


class Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error of upstream that is loud and known: a case that raises it is a hazard and no fault of the wheel.

    ``words`` are pieces of case ids that all have to be there, ``raises`` a piece of the error's text.
    """

    functions: tuple[str, ...]
    words: tuple[str, ...]
    raises: str
    reason: str
    sources: tuple[str, ...]


class Unwritten(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an output that nobody wrote is known as on some GPUs."""

    archs: tuple[str, ...]
    name: str
    sources: tuple[str, ...]


class Proofs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that is known about computing with a pin: its functions, limits and cases.

    ``rows`` is how many rows of queries are compared when there are more than twice as many. ``timeout_s`` is the
    time for one case, in seconds.
    """

    schema: Literal[1]
    pin: str
    backend: Literal["torch", "arrays"]
    seed: int
    rows: int
    timeout_s: float
    coarsest: Coarsest
    function: tuple[Function, ...]
    limit: tuple[Limit, ...]
    block: tuple[Block, ...]
    known: tuple[Known, ...] = ()
    unwritten: tuple[Unwritten, ...] = ()

    def function_named(self, name: str) -> Function:
        """Return a function by name; loading has checked that every named one exists."""
        return next(function for function in self.function if function.name == name)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One call to be made. ``sequences`` are the lengths of queries and keys of a packed call, one after the other."""

    id: str
    group: Group
    function: str
    accuracy: str
    dtype: str
    batch: int
    heads: int
    key_heads: int
    queries: int
    keys: int
    head_dim: int
    causal: bool
    layout: str
    input: str
    memory: str
    mode: Mode
    tries: int
    device: int
    seed: int
    sequences: tuple[tuple[int, int], ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Batch, query heads, key heads, queries, keys, head_dim; packed: sequences and their sums."""
        if self.sequences:
            queries, keys = (sum(pair[side] for pair in self.sequences) for side in (0, 1))
            return (len(self.sequences), self.heads, self.key_heads, queries, keys, self.head_dim)
        return (self.batch, self.heads, self.key_heads, self.queries, self.keys, self.head_dim)
