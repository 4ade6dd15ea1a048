"""The function that takes the place of torch's."""

import functools
from typing import Any, Callable

import torch

from sagefix.attention import calling
from sagefix.attention.deciding import why_not
from sagefix.attention.reasons import ARGUMENTS, TRANSFORM
from sagefix.attention.surroundings import TorchSurroundings

_here = TorchSurroundings()
_SCRIPTED = "aten::scaled_dot_product_attention"


def make_router(state: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with the signature of ``scaled_dot_product_attention`` that decides call by call.

    ``state.table`` is what is known (None: everything goes to ``original``), ``state.caller`` calls SageAttention,
    ``state.counter`` counts. Arguments of versions of torch to come are handed on.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    """
    is_compiling = torch.compiler.is_compiling
    is_tracing = torch._C._is_tracing
    here = _here
    count = state.counter.add

    @functools.wraps(original)
    def scaled_dot_product_attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: Any = 0.0,
        is_causal: Any = False,
        scale: Any = None,
        enable_gqa: Any = False,
        **others: Any,
    ) -> Any:
        table = state.table
        if table is not None:
            compiling = is_compiling()
            if others:
                reason = ARGUMENTS
            elif not compiling and is_tracing():
                # Under torch.jit.trace lengths are tensors, and a trace must hold for others.
                reason = TRANSFORM
            else:
                reason = why_not(
                    query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, table, here
                )
            if compiling:
                # What is counted here would be counted once, when the code is compiled; the operator counts its runs.
                if not reason:
                    return calling.operator(query, key, value, bool(is_causal), _number(scale))
            elif reason:
                count(reason)
            else:
                return state.caller(query, key, value, bool(is_causal), _number(scale))
        if scale is not None:
            others["scale"] = scale
        if enable_gqa is not False:
            # Older versions of torch do not know it.
            others["enable_gqa"] = enable_gqa
        return original(query, key, value, attn_mask, dropout_p, is_causal, **others)

    _script_as_torch(scaled_dot_product_attention)
    return scaled_dot_product_attention


def _number(scale: Any) -> Any:
    return None if scale is None else float(scale)


def _script_as_torch(function: Callable[..., Any]) -> None:
    """Let ``torch.jit.script`` take the function for torch's own, which it knows by identity."""
    try:
        from torch.jit._builtins import _register_builtin

        _register_builtin(function, _SCRIPTED)
    except Exception:
        # Only code that is scripted while this is enabled needs it, and gets its error from torch then.
        return
