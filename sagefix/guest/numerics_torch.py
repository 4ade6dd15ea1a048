"""Attention with torch, on a GPU or on the processor: inputs, calls, and what is compared.

Runs inside the target, imports nothing of sagefix. Before every call the memory that its output and its
intermediate results may land in is filled with NaN: what nobody writes cannot look right by chance.
"""

import math
import sys
from typing import Any, Callable, Dict, List, Optional

import torch
from torch.nn import functional

neighbour: Callable[[str], Any] = sys.modules["__main__"].neighbour
reference = neighbour("numerics_reference")
sampled: Callable[..., List[int]] = neighbour("numerics_rows").sampled

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
BROKEN, AFRESH = 3, 4
# What a call takes beyond its inputs and output, in copies of them: quantised and padded ones, poison, SDPA's output.
_COPIES = 12
_SMALL = 1 << 19
# 1.06 in fp16, 0.011 in bf16 and fp32, 1.5 in fp8: small enough to overflow nowhere, and no output of attention.
_JUNK = 0x3C3C
# Words of errors after which nothing works in this process: the context of the GPU is gone.
# https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html (cudaErrorIllegalAddress and its neighbours)
_FATAL = (
    "illegal memory access",
    "unspecified launch failure",
    "misaligned address",
    "illegal instruction",
    "device-side assert",
    "hardware stack error",
    "invalid program counter",
)


class Inputs:
    """Queries, keys and values of a case as (batch, heads, tokens, head_dim); packed: one of batch 1 for each."""

    def __init__(self, case: Dict[str, Any], device: Any, turn: int = 0) -> None:
        chance = torch.Generator(device=device).manual_seed(case["seed"] + turn)
        dtype, dim = DTYPES[case["dtype"]], case["head_dim"]
        pairs = case["sequences"] or [(case["queries"], case["keys"])]
        batch = 1 if case["sequences"] else case["batch"]
        self.parts = []
        for queries, keys in pairs:
            sizes = ((case["heads"], queries), (case["key_heads"], keys), (case["key_heads"], keys))
            q, k, v = (
                torch.randn((batch, heads, tokens, dim), dtype=dtype, device=device, generator=chance)
                for heads, tokens in sizes
            )
            if case["input"] == "large":
                q, k = q * 30, k * 30
            if case["input"] == "outliers":
                # As in real models: channels of keys with a large mean, channels and tokens of values far out.
                k[..., : dim // 32] += 8
                v[..., dim // 2 : dim // 2 + dim // 32] *= 16
                v[..., 5::509, :] *= 8
            self.parts.append((q, k, v))


class Call:
    """A function of the package with its arguments as the case wants them, on tensors that stay where they are."""

    def __init__(
        self, case: Dict[str, Any], function: Dict[str, Any], call: Callable[..., Any], inputs: Inputs
    ):
        self.call, self.case, self.inputs = call, case, inputs
        self.packed = function["kind"] == "packed"
        names, self.options = function["arguments"], {}
        self.nhd = self.packed or case["layout"] == "NHD"
        if case["layout"]:
            self.options[names["layout"]] = case["layout"]
        if "causal" in names:
            self.options[names["causal"]] = case["causal"]
        if case["mode"] == "lse":
            self.options[names["lse"]] = True
        self.refresh()

    def refresh(self) -> None:
        """Make the tensors of the call anew from its inputs."""
        if self.packed:
            self.tensors = [
                torch.cat([part[side][0].transpose(0, 1) for part in self.inputs.parts]) for side in range(3)
            ]
            for side, name in ((0, "q"), (1, "k")):
                lengths = [part[side].shape[2] for part in self.inputs.parts]
                ends = torch.tensor([0, *lengths], device=self.tensors[0].device).cumsum(0)
                self.options["cu_seqlens_" + name] = ends.to(torch.int32)
                self.options["max_seqlen_" + name] = max(lengths)
        else:
            tensors = [part.transpose(1, 2) if self.nhd else part for part in self.inputs.parts[0]]
            self.tensors = arrange(tensors, self.case["memory"])

    def __call__(self, **more: Any) -> Any:
        return self.call(*self.tensors, **self.options, **more)

    def outputs(self, found: Any) -> List[Any]:
        """Return the output as one (batch, heads, tokens, head_dim) for each part of the inputs, checked."""
        q = self.tensors[0]
        if not isinstance(found, torch.Tensor):
            raise TypeError("returned %s instead of a tensor" % type(found).__name__)
        if found.shape != q.shape or found.dtype != q.dtype or found.device != q.device:
            raise TypeError(
                "returned %s %s on %s for queries %s %s on %s"
                % (*(str(each) for each in (tuple(found.shape), found.dtype, found.device)),
                   *(str(each) for each in (tuple(q.shape), q.dtype, q.device)))
            )  # fmt: skip
        if not self.packed:
            return [found.transpose(1, 2) if self.nhd else found]
        lengths = [part[0].shape[2] for part in self.inputs.parts]
        return [each.transpose(0, 1)[None] for each in found.split(lengths)]


def arrange(tensors: List[Any], memory: str) -> List[Any]:
    """Return the same numbers, lying in memory as they do in real programs."""
    q, k, v = tensors
    if memory == "transposed":  # the other layout, seen as this one
        return [each.transpose(1, 2).contiguous().transpose(1, 2) for each in tensors]
    if memory == "packed":  # one projection gave all three
        together = torch.stack((q, k, v), dim=-2)
        return [together[..., side, :] for side in range(3)]
    if memory == "strided":  # the numbers of one head do not lie side by side
        return [torch.stack((each, each), dim=-1)[..., 0] for each in tensors]
    return [each.contiguous() for each in tensors]


class Backend:
    """One case at a time; see ``numerics.py`` for what a case is."""

    def __init__(self, request: Dict[str, Any]) -> None:
        self.kind, self.rows = request["device"], int(request["rows"])
        if self.kind == "cuda":
            torch.cuda.init()
        self.modes = neighbour("numerics_modes").MODES

    def hello(self) -> Dict[str, Any]:
        """Return versions and devices."""
        count = torch.cuda.device_count() if self.kind == "cuda" else 0
        return {
            "versions": {"torch": torch.__version__, "cuda": torch.version.cuda or ""},
            "devices": [torch.cuda.get_device_name(index) for index in range(count)],
        }

    def after(self, case: Dict[str, Any], error: BaseException) -> int:
        """Return the status to end with after an error: a broken context poisons whatever comes next."""
        if any(word in str(error) for word in _FATAL):
            return BROKEN
        # A capture that was broken off, or a compilation, leaves things behind.
        return AFRESH if case["mode"] in ("graph", "compile", "reduce-overhead") else 0

    def device(self, case: Dict[str, Any]) -> Any:
        """Return the device of a case and make it the current one."""
        if self.kind == "cpu":
            return torch.device("cpu")
        torch.cuda.set_device(case["device"])
        return torch.device("cuda", case["device"])

    def run(self, case: Dict[str, Any], function: Dict[str, Any], call: Callable[..., Any]) -> Dict[str, Any]:
        """Compute and compare."""
        device = self.device(case)
        short = self.no_room(case, device)
        if short:
            return {"status": "skipped", "text": short}
        if case["mode"] in self.modes and self.kind == "cpu" and case["mode"] != "compile":
            return {"status": "skipped", "text": "There is no such thing on the processor."}
        with torch.no_grad():
            if case["mode"] in self.modes:
                return dict(self.modes[case["mode"]](self, case, function, call, device))
            if case["mode"].startswith("refuse"):
                return self.refused(case, function, call, device)
            return self.plain(case, function, call, device)

    def no_room(self, case: Dict[str, Any], device: Any) -> str:
        """Return why a case does not fit into the free memory, or nothing."""
        if self.kind == "cpu":
            return ""
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        queries, keys = case["heads"] * case["queries"], case["key_heads"] * case["keys"]
        wanted = case["batch"] * (queries + keys) * case["head_dim"] * 2 * _COPIES + (1 << 30)
        if wanted <= free:
            return ""
        return "Needs about %.1f GB of memory, and %.1f GB are free." % (wanted / 1e9, free / 1e9)

    def references(self, case: Dict[str, Any], inputs: Inputs, mask: Optional[Any] = None) -> List[Any]:
        """Return the reference of each part of the inputs."""
        return [
            reference.Reference(q, k, v, sampled(q.shape[2], self.rows, case["seed"]), case["causal"], mask)
            for q, k, v in inputs.parts
        ]

    def compare(self, outputs: List[Any], references: List[Any]) -> Any:
        """Return the errors of outputs, summed up."""
        sums = reference.Sums()
        for found, expected in zip(outputs, references):
            sums.add(found, expected)
        return sums

    def sdpa(self, case: Dict[str, Any], inputs: Inputs, references: List[Any]) -> Optional[Dict[str, Any]]:
        """Return the errors of torch's own attention on the same inputs; None when it gives up."""
        outputs = []
        try:
            for q, k, v in inputs.parts:
                group = q.shape[1] // k.shape[1]
                keys, values = (
                    each.repeat_interleave(group, dim=1) if group > 1 else each for each in (k, v)
                )
                found = functional.scaled_dot_product_attention(q, keys, values, is_causal=case["causal"])
                outputs.append(found)
        except (RuntimeError, torch.cuda.OutOfMemoryError):
            return None
        return dict(self.compare(outputs, references).numbers())

    def plain(self, case: Dict[str, Any], function: Dict[str, Any], call: Any, device: Any) -> Dict[str, Any]:
        """A call like any other."""
        inputs = Inputs(case, device)
        if case["mode"] == "mask":
            return self.masked(case, function, call, inputs)
        calling = Call(case, function, call, inputs)
        references = self.references(case, inputs)
        of_sdpa = self.sdpa(case, inputs, references)
        self.poison(device, calling.tensors[0])
        found = calling()
        self.wait()
        measured = {}
        if case["mode"] == "lse":
            found, lse = found
            measured = logarithms(lse, references[0])
        sums = self.compare(calling.outputs(found), references)
        measured.update(sums.measured())
        said = {"status": "done", "numbers": sums.numbers(), "sdpa": of_sdpa, "measured": measured}
        if sums.nan or sums.inf:
            # Its NaN would lie beside the next one's inputs.
            del found
            said["again"] = self.again(calling, references, device, case)
        return said

    def again(
        self, calling: "Call", references: List[Any], device: Any, case: Dict[str, Any]
    ) -> Dict[str, Any]:
        """Call once more with memory full of finite junk, and return the errors.

        What was never written is wrong then, too. What only read memory that nobody wrote for it, and weighed it
        with 0, is right: 0 times NaN is NaN, and 0 times a number is 0.
        """
        self.poison(device, calling.tensors[0], _JUNK)
        found = calling()
        self.wait()
        sums = self.compare(calling.outputs(found[0] if case["mode"] == "lse" else found), references)
        return dict(sums.numbers())

    def masked(
        self, case: Dict[str, Any], function: Dict[str, Any], call: Any, inputs: Inputs
    ) -> Dict[str, Any]:
        """With a mask that hides every second key: was it honoured, or was the call as if there were none?"""
        calling = Call(case, function, call, inputs)
        q = inputs.parts[0][0]
        mask = torch.zeros((case["queries"], case["keys"]), dtype=torch.bool, device=q.device)
        mask[:, ::2] = True
        found = calling.outputs(calling(**{function["arguments"]["mask"]: mask}))
        self.wait()
        honoured = self.compare(found, self.references(case, inputs, mask))
        ignored = self.compare(found, self.references(case, inputs)).numbers()
        error = ignored["relative_l2"]
        return {
            "status": "done",
            "numbers": honoured.numbers(),
            "measured": {"ignored_relative_l2": 1e9 if error is None else error},
        }

    def refused(
        self, case: Dict[str, Any], function: Dict[str, Any], call: Any, device: Any
    ) -> Dict[str, Any]:
        """What must be refused; whoever does not refuse it has to be right."""
        inputs = Inputs(dict(case, dtype="float32") if case["mode"] == "refuse-dtype" else case, device)
        calling = Call(case, function, call, inputs)
        if case["mode"] == "refuse-mixed":
            other = torch.float16 if case["dtype"] == "bfloat16" else torch.bfloat16
            calling.tensors[1] = calling.tensors[1].to(other)
        self.poison(device, calling.tensors[0])
        found = calling()
        self.wait()
        sums = self.compare(calling.outputs(found), self.references(case, inputs))
        return {"status": "done", "numbers": sums.numbers(), "measured": sums.measured()}

    def wait(self) -> None:
        """Let everything that was started end, so that an error belongs to the case that made it."""
        if self.kind == "cuda":
            torch.cuda.synchronize()

    def poison(self, device: Any, like: Any, bits: int = reference.POISON) -> None:
        """Fill what the next allocations get with NaN of bits that nobody computes, or with other bits.

        On a GPU the caching allocator then holds nothing but poison; on the processor the best that can be done
        is to give blocks of the output's size back, which the C library may hand out again.
        """
        size = like.numel() * like.element_size()
        if self.kind == "cpu":
            blocks = [self.poisoned(size, device, bits) for _ in range(4)]
            del blocks
            return
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        self.stain(device, bits)
        # What is left of segments with something alive in them would be handed out first.
        blocks = [self.poisoned(size, device, bits) for size in self.leftovers(device)]
        # Small and large allocations come from pools of their own, small being up to 1 MB.
        blocks += [self.poisoned(_SMALL, device, bits) for _ in range(64)]
        blocks.append(self.poisoned(min(8 * size + (64 << 20), free // 2), device, bits))
        torch.cuda.synchronize()
        del blocks

    def stain(self, device: Any, bits: int) -> None:
        """Leave the same bits in the shared memory of all multiprocessors, as tiles of a product of matrices.

        Shared memory keeps what the kernel before left in it. A kernel that loads less than a whole tile and does
        not clear the rest reads that.
        """
        tiles = torch.full((2048, 2048), bits, dtype=torch.int16, device=device).view(torch.bfloat16)
        torch.matmul(tiles, tiles)

    def leftovers(self, device: Any) -> List[int]:
        """Return the sizes of the free blocks that the caching allocator holds, the largest first."""
        return sorted(
            (
                block["size"]
                for segment in torch.cuda.memory_snapshot()
                for block in segment["blocks"]
                if segment["device"] == device.index and block["state"] == "inactive"
            ),
            reverse=True,
        )

    def poisoned(self, size: int, device: Any, bits: int) -> Any:
        """Return a block of so many bytes of poison."""
        return torch.full((size // 2,), bits, dtype=torch.int16, device=device)


def logarithms(lse: Any, expected: Any) -> Dict[str, float]:
    """Return how far a logsumexp (batch, heads, queries) is from the reference: relative, and at its worst."""
    off = expected.pick(lse) - expected.lse
    size = expected.lse.norm()
    relative, worst = float(off.norm() / size), float(off.abs().max())
    return {
        "lse_relative_l2": 1e9 if math.isnan(relative) else relative,
        "lse_worst": 1e9 if math.isnan(worst) else worst,
    }
