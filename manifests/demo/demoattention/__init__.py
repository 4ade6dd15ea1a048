"""Attention on plain arrays: ``softmax(Q K^T * scale) V``, computed in C."""

from array import array
from typing import Optional

from demoattention import _attention
from demoattention.shapes import shape_of

__all__ = ["attention"]


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
    """Return one row for each query.

    ``q`` and ``k`` hold rows of ``dim`` numbers, ``v`` one row of ``width`` numbers (default: ``dim``) for
    each key; all three are arrays of ``"d"`` or all of ``"f"``. ``scale`` defaults to ``dim ** -0.5``. With
    ``causal`` the query i sees the keys 0 to i, and there are as many keys as queries.

    Raises ``ValueError`` for sizes that do not fit, ``TypeError`` for other element types.
    """
    shape = shape_of(q, k, v, dim=dim, width=width, scale=scale, causal=causal)
    out = array(q.typecode, bytes(shape.queries * shape.width * q.itemsize))
    _attention.attention(q, k, v, out, shape.queries, shape.keys, dim, shape.width, shape.scale, causal)
    return out
