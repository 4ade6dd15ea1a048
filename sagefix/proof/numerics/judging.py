"""From what the guest said of a case to what it means: right, wrong, a hazard, skipped or crashed."""

from __future__ import annotations

from collections.abc import Sequence

from sagefix.proof.model import CaseResult, CaseStatus, Device, Numbers
from sagefix.proof.numerics.model import Case, Limit, Proofs
from sagefix.proof.numerics.run import Answer
from sagefix.proof.numerics.thresholds import describe, limit_of, nearness

# What plain use never meets: wrong there is a danger that is told, and no failure.
_HAZARDS = ("stream", "graph", "reduce-overhead")
STRAY = "It reads memory that nobody wrote for it, and NaN in there comes out"
"""How the text of a case begins that is right among finite junk and NaN among NaN."""
_OUT_OF_MEMORY = "OutOfMemoryError"
_NO_KERNEL = (
    # https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html, cudaErrorNoKernelImageForDevice
    "no kernel image is available",
    "Unsupported CUDA architecture",
    "SIGILL",
)
# A row with this error has nothing to do with its inputs.
_NOISE = 0.5

_Judged = tuple[CaseStatus, str]


def judge(proofs: Proofs, case: Case, answer: Answer, device: Device) -> CaseResult:
    """Judge one case by its limit; ``device`` is the one it ran on."""
    limit = limit_of(proofs, case)
    numbers = _worst(answer.runs) if answer.runs else answer.numbers
    if answer.status == "done" and numbers is not None:
        status, text = _decide(proofs, case, answer, numbers, limit)
    else:
        status, text = _unfinished(proofs, case, answer)
    measured = dict(answer.measured)
    if answer.runs:
        wrong = sum(nearness(each, limit, proofs) == "wrong" for each in answer.runs)
        measured |= {"tries": len(answer.runs), "wrong": wrong}
    options = {
        "layout": case.layout,
        "causal": str(case.causal).lower(),
        "input": case.input,
        "memory": case.memory,
        "mode": case.mode,
        "sequences": " ".join(f"{queries}:{keys}" for queries, keys in case.sequences),
    }
    return CaseResult(
        id=case.id,
        group=case.group,
        function=proofs.function_named(case.function).call,
        dtype=case.dtype,
        shape=case.shape,
        options={name: value for name, value in options.items() if value},
        device=device.index,
        status=status,
        numbers=numbers,
        sdpa=answer.sdpa,
        threshold=limit.name,
        measured=measured,
        seconds=round(answer.seconds, 4),
        text=text,
    )


def _worst(runs: Sequence[Numbers]) -> Numbers:
    """Return the try that is furthest off; what is no number is furthest."""
    return max(runs, key=lambda run: float("inf") if run.relative_l2 is None else run.relative_l2)


def _unfinished(proofs: Proofs, case: Case, answer: Answer) -> _Judged:
    """Judge a case of which there are no numbers."""
    said = f"{answer.type}: {answer.text.rstrip('.')}" if answer.text else answer.type
    if answer.status == "raised":
        return _raised(proofs, case, answer, said)
    told: dict[str, _Judged] = {
        "skipped": ("skipped", answer.text),
        "crashed": ("crashed", _named(answer.text)),
        "broken": ("crashed", _named(f"It broke the GPU's context: {said}.")),
        "missing": ("wrong", f"It cannot be called: {said}."),
    }
    return told.get(answer.status, ("crashed", "The process said nothing of it."))


def _raised(proofs: Proofs, case: Case, answer: Answer, said: str) -> _Judged:
    if answer.type == _OUT_OF_MEMORY:
        return "skipped", f"It does not fit into the free memory: {answer.text}"
    if case.mode.startswith("refuse") or case.mode == "mask":
        return "right", f"Refused: {said}."
    for known in proofs.known:
        words = all(word in case.id for word in known.words)
        if words and case.function in known.functions and known.raises in said:
            return "hazard", f"Known: {known.reason} ({said})."
    if case.mode in _HAZARDS:
        return "hazard", f"It raises an error: {said}."
    return "wrong", _named(f"It raises {said}.")


def _decide(proofs: Proofs, case: Case, answer: Answer, numbers: Numbers, limit: Limit) -> _Judged:
    """Judge a case by its numbers."""
    near = [nearness(each, limit, proofs) for each in answer.runs or (numbers,)]
    text = describe(numbers, limit, answer.sdpa)
    if case.mode == "mask":
        return _masked(proofs, case, answer, near[0] == "right")
    if case.mode.startswith("refuse"):
        right = near[0] == "right"
        return (
            "right" if right else "wrong"
        ), f"It is not refused, and {'right' if right else 'wrong'}: {text}."
    if "wrong" in near and answer.again is not None and nearness(answer.again, limit, proofs) == "right":
        return "hazard", f"{STRAY}: {text}; right where that memory holds finite numbers."
    if "wrong" in near:
        status: CaseStatus = "hazard" if case.mode in _HAZARDS else "wrong"
        return status, _sentence(_how(answer, near.count("wrong")) + text + _notes(answer))
    if "another accuracy" in near:
        return "hazard", f"Another accuracy than {limit.accuracy} has, not broken: {text}."
    return _beside(case, answer, limit) or ("right", _sentence(text))


def _beside(case: Case, answer: Answer, limit: Limit) -> _Judged | None:
    """Judge what a call leaves beside its output: the logsumexp, and the current GPU."""
    off = answer.measured.get("lse_worst", 0.0)
    if case.mode == "lse" and limit.lse is not None and off > limit.lse:
        return "wrong", f"The output is right, and the logsumexp off by {off:.2g} (limit {limit.lse:g})."
    if answer.measured.get("changed_current_device"):
        return "hazard", "Right, and leaves another GPU current than before the call."
    return None


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _notes(answer: Answer) -> str:
    return f" ({answer.notes[0].rstrip('.')})" if answer.notes else ""


def _how(answer: Answer, wrong: int) -> str:
    """Say what kind of wrong an output is, where that can be told from one case."""
    if len(answer.runs) > 1:
        return f"wrong in {wrong} of {len(answer.runs)} tries: "
    if (unwritten := answer.measured.get("unwritten", 0.0)) > _NOISE:
        return f"{unwritten:.0%} of the output was never written: "
    if answer.measured.get("zeros", 0.0) == 1.0:
        return "all of the output is zero: "
    if (border := _border(answer)) is not None:
        return f"right up to row {border:,}, noise beyond: "
    return ""


def _border(answer: Answer) -> int | None:
    """Return the row from which on an output is noise, where those before are not."""
    rows = sorted(
        (int(name.removeprefix("rows_from_")), error)
        for name, error in answer.measured.items()
        if name.startswith("rows_from_")
    )
    noise = [start for start, error in rows if error > _NOISE]
    if not noise or noise[0] == 0 or len(noise) < sum(start >= noise[0] for start, _ in rows):
        return None
    return noise[0]


def _masked(proofs: Proofs, case: Case, answer: Answer, honoured: bool) -> _Judged:
    name = proofs.function_named(case.function).arguments["mask"]
    if honoured:
        return "right", f"{name} is honoured."
    if answer.measured["ignored_relative_l2"] <= proofs.coarsest.relative_l2:
        return "hazard", f"{name} is ignored in silence: the output is that of a call without it."
    return "wrong", f"With {name} the output is neither that with the mask nor that without."


def _named(text: str) -> str:
    """Add what an error is known to mean."""
    if any(words in text for words in _NO_KERNEL):
        return f"{text} It has no kernel for this GPU or machine: it was built for another."
    return text
