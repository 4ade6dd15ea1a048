"""What the compiled and the pure Python attention agree on: sizes and their limits."""

from array import array
from typing import NamedTuple, Optional


class Shape(NamedTuple):
    """Rows of q, rows of k and v, columns of v, and what scores are multiplied by."""

    queries: int
    keys: int
    width: int
    scale: float


def shape_of(
    q: "array[float]",
    k: "array[float]",
    v: "array[float]",
    *,
    dim: int,
    width: Optional[int],
    scale: Optional[float],
    causal: bool,
) -> Shape:
    """Find the sizes of a call; ``ValueError`` or ``TypeError`` when they do not fit together."""
    if not q.typecode == k.typecode == v.typecode or q.typecode not in ("d", "f"):
        raise TypeError("q, k and v must be arrays of 'd' or all arrays of 'f'")
    columns = dim if width is None else width
    if dim < 1 or columns < 1 or len(q) % dim or len(k) % dim or not k:
        raise ValueError("q and k must hold rows of dim numbers, and there must be a key")
    queries, keys = len(q) // dim, len(k) // dim
    if len(v) != keys * columns:
        raise ValueError("v must hold one row for each key")
    if causal and queries != keys:
        raise ValueError("causal attention needs as many keys as queries")
    return Shape(queries, keys, columns, dim**-0.5 if scale is None else scale)
