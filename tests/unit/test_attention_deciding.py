"""Which way a call goes: stand-ins for tensors, and no torch."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from sagefix.attention import reasons
from sagefix.attention.deciding import MOST_ELEMENTS, Rule, Surroundings, Table, why_not

RULES = {
    ("bf16", 128, False): Rule(tokens=9520, work=40 * 9520**2, longest=262144),
    ("fp16", 128, False): Rule(tokens=8877, work=40 * 8877**2, longest=262144),
    ("bf16", 128, True): Rule(tokens=12000, work=40 * 12000**2, longest=262144),
}


class Place(NamedTuple):
    """A device."""

    type: str = "cuda"
    index: int | None = 0


class Tensor:
    """What a decision looks at of a tensor."""

    def __init__(
        self,
        *shape: int,
        dtype: str = "bf16",
        device: Place = Place(),  # noqa: B008 - it cannot be changed
        strides: tuple[int, ...] | None = None,
        grad: bool = False,
        nested: bool = False,
    ) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device
        self.strides = strides or (1, 1, 1, 1)
        self.requires_grad, self.is_nested = grad, nested

    def dim(self) -> int:
        return len(self.shape)

    def size(self, axis: int) -> int:
        if self.is_nested:
            raise RuntimeError("nested")
        return self.shape[axis]

    def stride(self, axis: int) -> int:
        return self.strides[axis]


class Subclass(Tensor):
    """Such as a DTensor, or the fake one of a tracer."""


class Here(Surroundings):
    """A process that looks as it is told."""

    tensor = Tensor
    dtypes = ("bf16", "fp16")

    def __init__(self, **said: Any) -> None:
        self.said = said

    def needs_grad(self, query: Any, key: Any, value: Any) -> bool:
        return self.said.get("grad", True) and (
            query.requires_grad or key.requires_grad or value.requires_grad
        )

    def autocast_to(self, device_type: str) -> Any:
        return self.said.get("autocast")

    def transforming(self) -> bool:
        return self.said.get("transforming", False)

    def watched(self) -> bool:
        return self.said.get("watched", False)

    def default_stream_only(self, device: Any) -> bool:
        return self.said.get("default_stream", True)


class Known(Table):
    """One GPU, or what is said of it."""

    def __init__(self, *, any_stream: bool = True) -> None:
        self.shortest = 8877
        self.any_stream = any_stream
        self.rules_of = lambda kind, index: RULES if (kind, index) == ("cuda", 0) else None


LONG = (1, 40, 32760, 128)


def decide(
    query: Any = None,
    key: Any = None,
    value: Any = None,
    *,
    attn_mask: object = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: object = None,
    enable_gqa: bool = False,
    any_stream: bool = True,
    **here: Any,
) -> str:
    query = Tensor(*LONG) if query is None else query
    key = query if key is None else key
    return why_not(
        query, key, key if value is None else value, attn_mask, dropout_p, is_causal, scale, enable_gqa,
        Known(any_stream=any_stream), Here(**here),
    )  # fmt: skip


def like(*shape: int, **more: Any) -> Tensor:
    return Tensor(*shape, **more)


def test_a_long_plain_call_is_routed() -> None:
    assert decide() == reasons.ROUTED
    assert decide(like(*LONG, dtype="fp16")) == reasons.ROUTED
    assert decide(is_causal=True) == reasons.ROUTED
    assert decide(scale=0.125) == reasons.ROUTED


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"attn_mask": object()}, reasons.MASK),
        ({"dropout_p": 0.1}, reasons.DROPOUT),
        ({"query": Subclass(*LONG)}, reasons.KIND),
        ({"value": Subclass(*LONG)}, reasons.KIND),
        ({"query": [1.0]}, reasons.KIND),
        ({"query": like(*LONG, nested=True)}, reasons.KIND),
        ({"value": like(*LONG, nested=True)}, reasons.KIND),
        ({"query": like(40, 32760, 128)}, reasons.SHAPE),
        ({"key": like(32760, 128)}, reasons.SHAPE),
        ({"query": like(*LONG, dtype="fp32")}, reasons.DTYPE),
        ({"value": like(*LONG, dtype="fp16")}, reasons.DTYPE),
        ({"query": like(*LONG, device=Place("cuda", 1))}, reasons.DEVICE),
        ({"key": like(*LONG, device=Place("cuda", 1))}, reasons.DEVICE),
        ({"query": like(*LONG, device=Place("cpu", None))}, reasons.DEVICE),
        ({"query": like(*LONG, device=Place("meta", None))}, reasons.DEVICE),
        ({"query": like(1, 40, 32760, 64)}, reasons.UNMEASURED),
        ({"query": like(1, 40, 32760, 256)}, reasons.UNMEASURED),
        ({"query": like(*LONG, dtype="fp16"), "is_causal": True}, reasons.UNMEASURED),
        ({"value": like(1, 40, 32760, 64)}, reasons.SHAPE),
        ({"key": like(2, 40, 32760, 128)}, reasons.SHAPE),
        ({"scale": 0.0}, reasons.SCALE),
        ({"scale": float("nan")}, reasons.SCALE),
        ({"scale": object()}, reasons.SCALE),
        ({"value": like(*LONG, strides=(1, 1, 1, 32760))}, reasons.LAYOUT),
        ({"value": like(*LONG, grad=True)}, reasons.AUTOGRAD),
        ({"autocast": "fp16"}, reasons.AUTOCAST),
        ({"transforming": True}, reasons.TRANSFORM),
        ({"watched": True}, reasons.MODE),
        ({"any_stream": False, "default_stream": False}, reasons.STREAM),
    ],
)
def test_what_is_not_right_goes_to_torch(call: dict[str, Any], reason: str) -> None:
    assert decide(**call) == reason
    assert reason in reasons.WORDS


@pytest.mark.parametrize(
    "call",
    [
        {"value": like(*LONG, grad=True), "grad": False},
        {"autocast": "bf16"},
        {"any_stream": False, "default_stream": True},
        {"any_stream": True, "default_stream": False},
    ],
)
def test_what_does_no_harm_is_routed(call: dict[str, Any]) -> None:
    assert decide(**call) == reasons.ROUTED


@pytest.mark.parametrize(
    ("queries", "keys", "reason"),
    [
        (700, 700, reasons.SHORT),
        (8876, 8876, reasons.SHORT),
        # Above what fp16 needs, below what bf16 does.
        (9519, 9519, reasons.SHORT),
        (9520, 9520, reasons.ROUTED),
        # Cross attention: the video looks at the words of a text, and the other way round.
        (32760, 512, reasons.SHORT),
        (512, 32760, reasons.SHORT),
        (32760, 9520, reasons.ROUTED),
        (262144, 262144, reasons.ROUTED),
        (262145, 262145, reasons.LONG),
    ],
)
def test_both_lengths_count(queries: int, keys: int, reason: str) -> None:
    assert decide(like(1, 40, queries, 128), like(1, 40, keys, 128)) == reason


def test_fewer_heads_need_more_tokens() -> None:
    assert decide(like(1, 10, 9520, 128)) == reasons.SMALL
    # Twice the length is four times the work.
    assert decide(like(1, 10, 2 * 9520, 128)) == reasons.ROUTED
    assert decide(like(4, 10, 9520, 128)) == reasons.ROUTED
    assert decide(like(0, 40, 32760, 128)) == reasons.SMALL


def test_more_elements_than_kernels_count_are_left_alone() -> None:
    heads = MOST_ELEMENTS // (32768 * 128)
    assert decide(like(1, heads, 32768, 128)) == reasons.LONG
    assert decide(like(1, heads - 1, 32768, 128)) == reasons.ROUTED


def test_causal_attention_of_different_lengths_means_different_things() -> None:
    assert decide(like(1, 40, 32760, 128), like(1, 40, 16384, 128), is_causal=True) == reasons.CAUSAL
    assert decide(like(1, 40, 32760, 128), like(1, 40, 16384, 128)) == reasons.ROUTED


def test_grouped_heads_have_to_be_asked_for_and_to_divide() -> None:
    few = like(1, 8, 32760, 128)
    assert decide(key=few) == reasons.SHAPE
    assert decide(key=few, enable_gqa=True) == reasons.ROUTED
    assert decide(key=like(1, 7, 32760, 128), enable_gqa=True) == reasons.SHAPE
    assert decide(key=like(1, 0, 32760, 128), enable_gqa=True) == reasons.SHAPE
