"""What is measured: shapes by name or by numbers, and the backends there are for a pin on a GPU."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from sagefix.errors import UsageError
from sagefix.pins.model import Pin
from sagefix.proof.benchmark.judging import BASE
from sagefix.proof.benchmark.table import Backend, BenchTable, DeviceKind, Shape
from sagefix.proof.numerics.load import has_proofs, load_proofs
from sagefix.proof.numerics.model import Function, Proofs
from sagefix.proof.numerics.words import named_kind

DTYPES = ("bfloat16", "float16")
_SHORT = {"bf16": "bfloat16", "fp16": "float16", "half": "float16"}
_SIZE = re.compile(r"\s*[x,]\s*")


class Candidates(msgspec.Struct, frozen=True, kw_only=True):
    """The backends that can be called here, by name; those that cannot, and why; and what each may be off.

    ``main`` is the function of the pin that chooses its own kernel (empty: the pin has none). ``allowed`` maps
    backend and dtype to the largest relative L2 error that counts as right.
    """

    backends: tuple[Backend, ...]
    missing: dict[str, str]
    labels: dict[str, str]
    allowed: dict[tuple[str, str], float]
    main: str


def find_candidates(table: BenchTable, pin: Pin, capability: str, wanted: Sequence[str] = ()) -> Candidates:
    """Return the backends of the table and of the pin for a GPU of a compute capability (or ``cpu``).

    ``wanted`` names some of them; SDPA is measured anyway, since everything is compared with it. Raises
    :class:`UsageError` for a name that nothing has.
    """
    proofs = load_proofs(pin) if has_proofs(pin) else None
    functions = [each for each in proofs.function if each.kind == "dense"] if proofs else []
    backends = [*table.backend[:1], *map(_of_function, functions), *table.backend[1:]]
    names = [each.name for each in backends]
    if unknown := [name for name in wanted if name not in names]:
        raise UsageError(
            f"There is no backend {', '.join(unknown)}.", hint=f"Choose among: {', '.join(names)}."
        )
    if wanted:
        backends = [each for each in backends if each.name in wanted or each.name == BASE]
    allowed = {(each.name, dtype): getattr(table.exact, dtype) for each in table.backend for dtype in DTYPES}
    missing = {}
    for function in functions:
        if function.where(capability) is None:
            missing[function.name] = f"It has no kernel for {named_kind(capability)}."
        elif proofs is not None:
            allowed |= _limits(proofs, function, capability)
    return Candidates(
        backends=tuple(backends),
        missing={name: why for name, why in missing.items() if any(each.name == name for each in backends)},
        labels={each.name: each.label for each in backends},
        allowed=allowed,
        main=functions[0].name if functions else "",
    )


def _of_function(function: Function) -> Backend:
    module, _, attribute = function.call.partition(":")
    return Backend(
        name=function.name,
        label=function.name,
        kind="call",
        module=module,
        attribute=attribute,
        causal=function.arguments.get("causal", ""),
    )


def _limits(proofs: Proofs, function: Function, capability: str) -> dict[tuple[str, str], float]:
    place = function.where(capability)
    return {
        (function.name, dtype): limit.relative_l2
        for limit in proofs.limit
        for dtype in limit.dtypes
        if place is not None and limit.accuracy == place.accuracy and "normal" in limit.inputs
    }


def find_shapes(
    table: BenchTable, device: DeviceKind, wanted: Iterable[str] = (), *, quick: bool = False
) -> tuple[Shape, ...]:
    """Return shapes, each once, by length within equal batches, heads and head_dims.

    ``wanted``: names of shapes and sweeps, or ``B,H,N,D``; none: all of the table for this kind of device, with
    ``quick`` some of them. Raises :class:`UsageError` for what is neither.
    """
    shapes: list[Shape] = []
    for text in wanted:
        shapes += _named(table, text, quick)
    if not shapes:
        shapes += [shape for shape in table.shape if shape.device == device and (shape.quick or not quick)]
        for sweep in table.sweep:
            if sweep.device == device:
                shapes += [sweep.shape(tokens) for tokens in (sweep.quick_tokens if quick else sweep.tokens)]
    unique: dict[tuple[int, int, int, int], Shape] = {}
    for shape in shapes:
        if shape.size not in unique or shape.name:
            unique[shape.size] = shape
    return tuple(sorted(unique.values(), key=lambda each: (each.size[:2], each.size[3], each.size[2])))


def _named(table: BenchTable, text: str, quick: bool) -> list[Shape]:
    for shape in table.shape:
        if shape.name == text:
            return [shape]
    for sweep in table.sweep:
        if sweep.name == text:
            return [sweep.shape(tokens) for tokens in (sweep.quick_tokens if quick else sweep.tokens)]
    parts = _SIZE.split(text.strip())
    if len(parts) == 4 and all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        batch, heads, tokens, head_dim = map(int, parts)
        return [Shape(name="", size=(batch, heads, tokens, head_dim), what="")]
    names = [shape.name for shape in table.shape] + [sweep.name for sweep in table.sweep]
    raise UsageError(
        f"{text!r} is not a shape.",
        hint=f"Write batch,heads,tokens,head_dim, as in 1,40,32760,128, or one of: {', '.join(names)}.",
    )


def find_dtypes(wanted: Iterable[str], *, quick: bool) -> tuple[str, ...]:
    """Return dtypes in torch's words; none wanted: bf16, and fp16 unless ``quick``. Raises :class:`UsageError`."""
    found = tuple(dict.fromkeys(_SHORT.get(text, text) for text in wanted))
    if unknown := [text for text in found if text not in DTYPES]:
        raise UsageError(f"{', '.join(unknown)} cannot be measured.", hint="Choose bfloat16 or float16.")
    return found or (DTYPES[:1] if quick else DTYPES)


def short(dtype: str) -> str:
    """Return the short name of a dtype: ``bf16``."""
    return next((name for name, full in _SHORT.items() if full == dtype), dtype)


def case_id(size: Sequence[int], dtype: str, causal: bool) -> str:
    """Return a name for a case: ``1x40x32760x128 bf16``."""
    return "x".join(map(str, size)) + f" {short(dtype)}" + (" causal" if causal else "")
