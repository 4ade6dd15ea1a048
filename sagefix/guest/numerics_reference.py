"""Attention in fp64 for some rows of queries, with torch, and how far an output is from it.

All tensors have the shape (batch, heads, tokens, head_dim); queries and keys may differ in their heads, where
each key head serves as many query heads one after the other, as in SageAttention and in torch's own ``enable_gqa``.
``causal``: the query i sees the keys 0 to i, and there are as many of both. Runs inside the target, imports nothing
of sagefix.
"""

import math
from typing import Any, Dict, List, Optional, Tuple

import torch

# Scores that are held at once, in bytes: (rows, keys) in fp64.
_SCORES = 1 << 28
_HEADS = 16
# A row counts as no smaller than this share of the usual one: where values cancel out, rounding is no fault.
_FLOOR = 0.1
POISON = 0x7FED
"""Sixteen bits that are a quiet NaN in bf16 and fp16 and, twice, in fp32; no computation makes a NaN of these bits
(a GPU makes 0x7FFF, https://docs.nvidia.com/cuda/parallel-thread-execution/#floating-point-comparisons, torch on a
processor 0xFFFF or 0x7FC0), so that what nobody wrote is told from what was computed wrongly."""
_BITS = {2: (torch.int16, POISON), 4: (torch.int32, POISON << 16 | POISON)}


class Reference:
    """What an output has to be at the sampled rows. ``heads`` are pairs of batch and query head."""

    def __init__(
        self, q: Any, k: Any, v: Any, rows: List[int], causal: bool, mask: Optional[Any] = None
    ) -> None:
        batch, heads, queries, dim = q.shape
        group = heads // k.shape[1]
        everything = [(b, h) for b in range(batch) for h in range(heads)]
        step = -(-len(everything) // _HEADS)
        # With more heads than that some are compared, the first and the last among them.
        self.heads = sorted({*everything[::step], everything[-1]})
        self.rows = torch.tensor(rows, device=q.device)
        self.whole = len(rows) == queries
        expected, lse = [], []
        for b, h in self.heads:
            keys, values = k[b, h // group].double(), v[b, h // group].double()
            out, logs = [], []
            for part in self.rows.split(max(1, _SCORES // (8 * keys.shape[0]))):
                scores = q[b, h].index_select(0, part).double() @ keys.T
                scores *= dim**-0.5
                if causal:
                    ahead = torch.arange(keys.shape[0], device=q.device) > part[:, None]
                    scores.masked_fill_(ahead, -math.inf)
                if mask is not None:
                    scores.masked_fill_(~mask.index_select(0, part), -math.inf)
                logs.append(scores.logsumexp(-1))
                out.append(scores.softmax(-1) @ values)
            expected.append(torch.cat(out))
            lse.append(torch.cat(logs))
        self.expected, self.lse = torch.stack(expected), torch.stack(lse)

    def pick(self, found: Any) -> Any:
        """Return the compared rows of an output as (heads, rows, head_dim), or of a logsumexp as (heads, rows)."""
        return torch.stack([found[b, h].index_select(0, self.rows).double() for b, h in self.heads])


class Sums:
    """Errors summed up over one or several outputs, so that sequences of several lengths make one number."""

    def __init__(self) -> None:
        self.off = self.expected = self.found = self.product = self.worst = 0.0
        self.nan = self.inf = self.zeros = self.poison = self.elements = 0
        self.octaves: Dict[int, List[float]] = {}

    def add(self, found: Any, reference: Reference) -> None:
        """Compare an output with its reference; the whole of it is searched for NaN and infinity."""
        self.elements += found.numel()
        self.nan += int(found.isnan().sum())
        self.inf += int(found.isinf().sum())
        self.zeros += int((found == 0).sum())
        bits, poison = _BITS[found.element_size()]
        self.poison += int((found.view(bits) == poison).sum())
        got, expected = reference.pick(found), reference.expected
        off, size = (got - expected).square().sum(-1), expected.square().sum(-1)
        self.off += float(off.sum())
        self.expected += float(size.sum())
        self.found += float(got.square().sum())
        self.product += float((got * expected).sum())
        floor = _FLOOR**2 * size.mean(-1, keepdim=True)
        worst = float((off / torch.maximum(size, floor)).max())
        self.worst = worst if math.isnan(worst) or worst > self.worst else self.worst
        for start, end in octaves(int(reference.rows[-1]) + 1):
            inside = (reference.rows >= start) & (reference.rows < end)
            if bool(inside.any()):
                sums = self.octaves.setdefault(start, [0.0, 0.0])
                sums[0] += float(off[:, inside].sum())
                sums[1] += float(size[:, inside].sum())

    def numbers(self) -> Dict[str, Any]:
        """Return the fields of :class:`sagefix.proof.model.Numbers`."""
        norm = math.sqrt(self.expected) * math.sqrt(self.found) if self.found >= 0 else math.nan
        return {
            "relative_l2": finite(root(self.off) / root(self.expected) if self.expected else root(self.off)),
            "cosine": finite(self.product / norm if norm else 0.0),
            "worst_row": finite(root(self.worst)),
            "nan": self.nan,
            "inf": self.inf,
        }

    def measured(self) -> Dict[str, float]:
        """Return shares of the output: poison, zero; and the error of the rows from each power of two on."""
        shares = {"unwritten": self.poison / self.elements, "zeros": self.zeros / self.elements}
        for start, (off, size) in self.octaves.items():
            error = root(off) / root(size) if size else 0.0
            # JSON has no NaN; what is not a number is wrong beyond all limits.
            shares["rows_from_%d" % start] = error if math.isfinite(error) else 1e9
        return shares


def octaves(rows: int) -> List[Tuple[int, int]]:
    """Return ranges of rows: up to 64, then each twice as long as the one before."""
    borders = [0]
    while borders[-1] < rows:
        borders.append(max(64, 2 * borders[-1]))
    return list(zip(borders, borders[1:]))


def root(number: float) -> float:
    """Return the square root, NaN and infinity as they are."""
    return math.sqrt(number) if number >= 0 else math.nan


def finite(number: float) -> Any:
    """Return a number that JSON can hold, or None."""
    return number if math.isfinite(number) else None
