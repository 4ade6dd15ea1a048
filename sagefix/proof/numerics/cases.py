"""The list of calls of a level, for what is installed and the GPUs it is to be proven on."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence

from sagefix.checks import NumbersLevel
from sagefix.proof.model import CaseResult, Device
from sagefix.proof.numerics.model import Block, Case, Function, On, Proofs
from sagefix.proof.numerics.words import named_kind

_COMPILING = ("compile", "reduce-overhead")
# A process takes some seconds to begin, and a case of level numerics a twentieth of one.
_WORTH_SPLITTING = 12
# Of a packed call the further sequences are shorter, down to a single token: that is where borders are.
_SHARES = (1, 3, 2, 64)


def make_cases(
    proofs: Proofs, level: NumbersLevel, devices: Sequence[Device], modules: Collection[str]
) -> tuple[tuple[Case, ...], tuple[CaseResult, ...]]:
    """Return the cases of a level, cheapest first, and those that are left out, with the reason.

    ``modules`` are the import names of the compiled modules that are installed. A function that does not run on
    a GPU, or whose extension is not there, gives one skipped result for each GPU.
    """
    cases: dict[str, Case] = {}
    left_out = []
    for device in devices:
        for function in proofs.function:
            place = function.where(device.capability)
            if place is None or (missing := [name for name in place.needs if name not in modules]):
                why = (
                    f"{function.name} does not run on {named_kind(device.capability)}."
                    if place is None
                    else f"{', '.join(missing)} is not installed."
                )
                left_out.append(_skipped(function, device, why))
                continue
            for block in proofs.block:
                if level in block.levels and ("*" in block.functions or function.name in block.functions):
                    for case in _expand(proofs, block, function, place, device):
                        cases.setdefault(f"{device.index}:{case.id}", case)
    return tuple(sorted(cases.values(), key=_cost)), tuple(left_out)


def _skipped(function: Function, device: Device, why: str) -> CaseResult:
    return CaseResult(
        id=function.name,
        group="plain",
        function=function.call,
        device=device.index,
        status="skipped",
        text=why,
    )


def _expand(proofs: Proofs, block: Block, function: Function, place: On, device: Device) -> Iterator[Case]:
    names = function.arguments
    combinations = itertools.product(
        block.dtypes,
        block.head_dims,
        block.batches,
        block.heads,
        block.lengths,
        block.causal,
        block.layouts,
        block.inputs,
        block.memory,
        block.modes,
    )
    for dtype, dim, batch, heads, lengths, causal, layout, spread, memory, mode in combinations:
        wanted = {"causal": causal, "lse": mode == "lse", "mask": mode == "mask"}
        if dtype not in function.dtypes or any(wish and name not in names for name, wish in wanted.items()):
            continue
        # A function has the layouts HND and NHD, or one of its own, which has no name.
        if bool(layout) != ("layout" in names) or (causal and lengths[0] != lengths[1]):
            continue
        if dim > function.max_head_dim and mode != "refuse-head-dim":
            continue
        case = Case(
            id="",
            group=block.group,
            function=function.name,
            accuracy=place.accuracy,
            dtype=dtype,
            batch=batch,
            heads=heads[0],
            key_heads=heads[1],
            queries=lengths[0],
            keys=lengths[1],
            head_dim=dim,
            causal=causal,
            layout=layout,
            input=spread,
            memory=memory,
            mode=mode,
            tries=block.tries,
            device=device.index,
            seed=0,
            sequences=_sequences(batch, lengths) if function.kind == "packed" else (),
        )
        yield _named(case, proofs.seed)


def _sequences(batch: int, lengths: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    queries, keys = lengths
    return tuple((max(1, queries // share), max(1, keys // share)) for share in _SHARES[:batch])


def _named(case: Case, seed: int) -> Case:
    import msgspec

    heads = f"{case.heads}" if case.heads == case.key_heads else f"{case.heads}:{case.key_heads}"
    tokens = f"{case.queries}" if case.queries == case.keys else f"{case.queries}:{case.keys}"
    words = [
        case.function,
        case.dtype,
        f"{case.batch}x{heads}x{tokens}x{case.head_dim}",
        case.layout,
        "causal" if case.causal else "",
        case.input if case.input != "normal" else "",
        case.memory if case.memory != "contiguous" else "",
        case.mode if case.mode != "call" else "",
    ]
    name = "/".join(word for word in words if word)
    # The numbers follow from the case, so that one alone can be computed again.
    return msgspec.structs.replace(case, id=name, seed=(seed + zlib.crc32(name.encode())) % (1 << 31))


def _cost(case: Case) -> tuple[bool, bool, int, str]:
    size = case.batch * case.heads * case.queries * case.keys * case.head_dim
    return (case.mode in _COMPILING, case.mode in ("stream", "graph"), size, case.id)


def lanes(cases: Iterable[Case], most: int) -> list[list[Case]]:
    """Share cases out among at most ``most`` processes that run at the same time, each in the order given.

    Cases of one function stay together where there are not more processes than functions, since what is compiled for
    it is used again; compiling with torch, which takes longest, is kept apart where there is room.
    """
    groups: dict[tuple[int, str], list[Case]] = {}
    for case in cases:
        kind = "compile" if case.mode in _COMPILING else case.function
        groups.setdefault((case.device, kind), []).append(case)
    parts = list(groups.values())
    while 0 < len(parts) < most and len(largest := max(parts, key=len)) >= _WORTH_SPLITTING:
        parts.remove(largest)
        parts += [largest[::2], largest[1::2]]
    shared: list[list[Case]] = [[] for _ in range(max(1, min(most, len(parts))))]
    for group in sorted(parts, key=len, reverse=True):
        min(shared, key=len).extend(group)
    return [sorted(lane, key=_cost) for lane in shared if lane]
