"""Which way one call goes: a function of its arguments, of what is known of the device, and of torch's state.

Nothing here imports torch. The common refusals come first, and each costs a few dozen nanoseconds: at 700 tokens all
of attention takes an H200 31 microseconds.
"""

from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from sagefix.attention import reasons

MOST_ELEMENTS = 2**31
"""Kernels count elements in 32 bits."""


class Rule(NamedTuple):
    """From where on SageAttention is faster, for one device, dtype, head_dim and is_causal.

    ``tokens`` is the least number of queries and of keys; ``work`` the least product of batch, heads, queries and
    keys: with fewer heads than were measured, launches weigh more, and the crossover lies higher. ``longest`` is the
    largest number of queries or keys whose numbers are proven.
    """

    tokens: int
    work: int
    longest: int


Rules = Dict[Tuple[Any, int, bool], Rule]
"""By dtype, head_dim and is_causal."""


class Surroundings:
    """What torch's state says about a call; :mod:`sagefix.attention.surroundings` asks torch.

    ``tensor`` is the class of plain tensors, ``dtypes`` are fp16 and bf16. The methods are asked of calls that passed
    everything else.
    """

    tensor: Any
    dtypes: Tuple[Any, ...]

    def needs_grad(self, query: Any, key: Any, value: Any) -> bool:
        """Tell whether autograd has to see the call."""
        raise NotImplementedError

    def autocast_to(self, device_type: str) -> Any:
        """Return the dtype that autocast would convert to, or None when it is off."""
        raise NotImplementedError

    def transforming(self) -> bool:
        """Tell whether torch.func, forward-mode differentiation is at work."""
        raise NotImplementedError

    def watched(self) -> bool:
        """Tell whether a mode sees the calls of this thread."""
        raise NotImplementedError

    def default_stream_only(self, device: Any) -> bool:
        """Tell whether the call runs on the default stream, outside of CUDA graphs and compiled code."""
        raise NotImplementedError


class Table:
    """What is known of this process: rules by device type and index, and where to look a new device up.

    ``shortest`` is the least ``tokens`` of any rule there may be. ``any_stream`` tells whether the build is right on
    every stream. ``rules_of`` returns the rules of a device, and None for one that nothing is routed on.
    """

    shortest: int
    any_stream: bool
    rules_of: Callable[[str, Optional[int]], Optional[Rules]]


def why_not(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any,
    dropout_p: Any,
    is_causal: Any,
    scale: Any,
    enable_gqa: Any,
    table: Table,
    here: Surroundings,
) -> str:
    """Return why a call is not routed, as a word of :mod:`sagefix.attention.reasons`; empty: it is routed."""
    if attn_mask is not None:
        return reasons.MASK
    if dropout_p != 0:
        return reasons.DROPOUT
    tensor = here.tensor
    if type(query) is not tensor or type(key) is not tensor or type(value) is not tensor:
        return reasons.KIND
    shortest = table.shortest
    try:
        if query.dim() != 4:
            return reasons.SHAPE
        if query.size(2) < shortest or key.size(2) < shortest:
            return reasons.SHORT
    except (IndexError, RuntimeError):
        # Too few axes, or a nested tensor, which cannot tell a length. Not asked first, since it costs what is above.
        return reasons.KIND if query.is_nested or key.is_nested else reasons.SHAPE
    return _why_not_long(query, key, value, is_causal, scale, enable_gqa, table, here)


def _why_not_long(
    query: Any,
    key: Any,
    value: Any,
    is_causal: Any,
    scale: Any,
    enable_gqa: Any,
    table: Table,
    here: Surroundings,
) -> str:
    """Decide on a call that is long enough for some device: what follows takes a thousandth of its time."""
    if query.is_nested or key.is_nested or value.is_nested:
        return reasons.KIND
    if key.dim() != 4 or value.dim() != 4:
        return reasons.SHAPE
    device, dtype = query.device, query.dtype
    if dtype not in here.dtypes or key.dtype != dtype or value.dtype != dtype:
        return reasons.DTYPE
    if key.device != device or value.device != device:
        return reasons.DEVICE
    rules = table.rules_of(device.type, device.index)
    if rules is None:
        return reasons.DEVICE
    (batch, heads, queries, head_dim), (_, key_heads, keys, _) = query.shape, key.shape
    rule = rules.get((dtype, head_dim, bool(is_causal)))
    if rule is None:
        return reasons.UNMEASURED
    if key.shape != value.shape or key.size(0) != batch or key.size(3) != head_dim:
        return reasons.SHAPE
    if key_heads != heads and not (enable_gqa and key_heads and heads % key_heads == 0):
        return reasons.SHAPE
    if queries < rule.tokens or keys < rule.tokens:
        return reasons.SHORT
    if batch * heads * queries * keys < rule.work:
        return reasons.SMALL
    if (
        queries > rule.longest
        or keys > rule.longest
        or batch * heads * max(queries, keys) * head_dim >= MOST_ELEMENTS
    ):
        return reasons.LONG
    # torch aligns the triangle to the first key, upstream to nothing: "only applicable when qo_len == kv_len".
    if is_causal and queries != keys:
        return reasons.CAUSAL
    if scale is not None and not (type(scale) in (float, int) and 0 < scale < float("inf")):
        return reasons.SCALE
    if query.stride(3) != 1 or key.stride(3) != 1 or value.stride(3) != 1:
        return reasons.LAYOUT
    return _why_not_here(query, key, value, table, here)


def _why_not_here(query: Any, key: Any, value: Any, table: Table, here: Surroundings) -> str:
    if here.needs_grad(query, key, value):
        return reasons.AUTOGRAD
    wanted = here.autocast_to(query.device.type)
    if wanted is not None and wanted != query.dtype:
        return reasons.AUTOCAST
    if here.transforming():
        return reasons.TRANSFORM
    if here.watched():
        return reasons.MODE
    if not table.any_stream and not here.default_stream_only(query.device):
        return reasons.STREAM
    return reasons.ROUTED
