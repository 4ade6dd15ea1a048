"""The same attention in pure Python, with exactly rounded sums: slow, and right.

``math.fsum`` loses nothing (https://docs.python.org/3/library/math.html#math.fsum), and the highest score is
found before any exponential is taken, so that this shares neither method nor rounding with the compiled one.
"""

import math
import operator
from array import array
from typing import Optional

from demoattention.shapes import shape_of

__all__ = ["attention", "relative_error"]


def attention(
    q: "array[float]",
    k: "array[float]",
    v: "array[float]",
    *,
    dim: int,
    width: Optional[int] = None,
    scale: Optional[float] = None,
    causal: bool = False,
) -> "array[float]":
    """Return what :func:`demoattention.attention` should; same arguments and errors, but always ``"d"``."""
    shape = shape_of(q, k, v, dim=dim, width=width, scale=scale, causal=causal)
    out = array("d")
    for i in range(shape.queries):
        visible = i + 1 if causal else shape.keys
        query = q[i * dim : (i + 1) * dim]
        keys = (k[j * dim : (j + 1) * dim] for j in range(visible))
        scores = [shape.scale * math.fsum(map(operator.mul, query, key)) for key in keys]
        highest = max(scores)
        weights = [math.exp(score - highest) for score in scores]
        total = math.fsum(weights)
        for c in range(shape.width):
            out.append(math.fsum(weights[j] * v[j * shape.width + c] for j in range(visible)) / total)
    return out


def relative_error(found: "array[float]", expected: "array[float]") -> float:
    """Return the L2 norm of the difference, divided by that of what was expected."""
    difference = math.sqrt(math.fsum(d * d for d in map(operator.sub, found, expected)))
    return difference / math.sqrt(math.fsum(b * b for b in expected))
