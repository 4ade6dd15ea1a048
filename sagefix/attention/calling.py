"""The call of ``sageattn`` itself, so that it behaves as torch's attention does beside its numbers.

In compiled code it is the custom operator ``sagefix::attention``, so that nothing of it is traced and the graph does
not break (https://docs.pytorch.org/tutorials/advanced/python_custom_ops.html).
"""

import logging
import threading
from typing import Any, Callable, Optional

import torch

from sagefix.attention import reasons
from sagefix.attention.counting import Counter

_log = logging.getLogger("sagefix.attention")
_ALIGNED = 16
"""Bytes: kernels read vectors of that size."""
OPERATOR = "sagefix::attention"


class Caller:
    """Calls ``sageattn``, and torch's attention when that raises an error."""

    def __init__(self, sageattn: Callable[..., Any], original: Callable[..., Any], counter: Counter) -> None:
        self.sageattn = sageattn
        self.original = original
        self.counter = counter
        self.last_error = ""
        self._lock = threading.Lock()

    def __call__(self, query: Any, key: Any, value: Any, is_causal: bool, scale: Optional[float]) -> Any:
        """Return attention of tensors of shape (batch, heads, tokens, head_dim), in the memory order of ``query``."""
        try:
            found = self._call(query, key, value, is_causal, scale)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        else:
            self.counter.add(reasons.ROUTED)
            return found
        # Out here, since an error keeps what its frames hold, and that may be the memory that was missing.
        self._failed(text)
        grouped = {"enable_gqa": True} if query.size(1) != key.size(1) else {}
        return self.original(query, key, value, None, 0.0, is_causal, scale=scale, **grouped)

    def _call(self, query: Any, key: Any, value: Any, is_causal: bool, scale: Optional[float]) -> Any:
        # Torch's kernels answer in the order of their queries, and models view the output as (batch, tokens, -1).
        swapped = tokens_first(query)
        query, key, value = map(aligned, (query, key, value))
        if swapped:
            query, key, value = (each.transpose(1, 2) for each in (query, key, value))
        # It makes the device of its tensors the current one, and leaves it so.
        before = torch.cuda.current_device() if query.is_cuda else -1
        try:
            # Its own arithmetic is meant as it is written.
            with torch.autocast(query.device.type, enabled=False):
                found = self.sageattn(
                    query,
                    key,
                    value,
                    tensor_layout="NHD" if swapped else "HND",
                    is_causal=is_causal,
                    sm_scale=scale,
                )
        finally:
            if before >= 0 and before != query.device.index:
                torch.cuda.set_device(before)
        return found.transpose(1, 2) if swapped else found

    def _failed(self, text: str) -> None:
        with self._lock:
            said, self.last_error = self.last_error, text
        self.counter.add(reasons.FAILED)
        if not said:
            _log.warning(
                "sageattn raised an error, and torch's own attention computed the call instead; status() counts "
                "further ones: %s",
                text,
            )


def tokens_first(query: Any) -> bool:
    """Tell whether a tensor of shape (batch, heads, tokens, head_dim) has tokens before heads in memory."""
    return bool(query.stride(1) < query.stride(2))


def aligned(tensor: Any) -> Any:
    """Return the tensor, or a copy if kernels cannot read vectors from it."""
    size = tensor.element_size()
    steps = [tensor.stride(axis) * size for axis in range(3) if tensor.size(axis) > 1]
    if any(step % _ALIGNED for step in steps) or tensor.data_ptr() % _ALIGNED:
        return tensor.clone(memory_format=torch.contiguous_format)
    return tensor


_current: Optional[Caller] = None


def use(caller: Caller) -> None:
    """Let the operator call this one."""
    global _current  # noqa: PLW0603 - an operator is registered once for the process
    _current = caller


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, is_causal: bool, scale: Optional[float]
) -> torch.Tensor:
    assert _current is not None
    # What an operator returns must have the strides that _fake promises, whoever computed it.
    found = _current(query, key, value, is_causal, scale)
    promised = _fake(query, key, value, is_causal, scale)
    return found if found.stride() == promised.stride() else promised.copy_(found)


def _fake(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, is_causal: bool, scale: Optional[float]
) -> torch.Tensor:
    del key, value, is_causal, scale
    batch, heads, tokens, head_dim = query.shape
    if tokens_first(query):
        return query.new_empty((batch, tokens, heads, head_dim)).transpose(1, 2)
    return query.new_empty((batch, heads, tokens, head_dim))


operator = torch.library.custom_op(OPERATOR, _attention, mutates_args=())
operator.register_fake(_fake)
