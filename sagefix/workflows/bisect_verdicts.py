"""What a verification says about a commit, kept for the next search; and the target that it is judged on."""

from __future__ import annotations

from pathlib import Path

import msgspec

from sagefix.checks import NUMBERS, failures
from sagefix.errors import GpuError
from sagefix.files import sha256_bytes
from sagefix.pins.model import Pin
from sagefix.proof.model import Verdict
from sagefix.proof.reading import Judged
from sagefix.settings import PACKAGE, manifests_dir
from sagefix.targets.gpus import find_gpus
from sagefix.targets.model import Interpreter, Target
from sagefix.workflows.bisection import Asked
from sagefix.workflows.proofs import blames_wheel


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict of an earlier search, with all that was measured, and the seconds that it took."""

    commit: str
    judged: Judged
    verdict: Verdict | None
    seconds: float = 0.0


def with_gpus(target: Target, pin: Pin, asked: Asked) -> Target:
    """Look for the GPUs that numbers are computed on. Raises :class:`GpuError` when there is none of the arch."""
    if pin.device != "cuda":
        return target
    found = target.gpus or find_gpus(target.interpreter).gpus
    wanted = {arch.capability for arch in target.archs}
    if asked.level in NUMBERS and not wanted & {gpu.capability for gpu in found}:
        names = ", ".join(f"{gpu.name} ({gpu.capability})" for gpu in found) or "none"
        raise GpuError(
            f"Level {asked.level} computes on a GPU of {' or '.join(sorted(wanted))}; found: {names}.",
            hint="Use --level static, which needs no GPU, or run it where there is one.",
        )
    return msgspec.structs.replace(target, gpus=found)


def describe_target(target: Target) -> str:
    interpreter = target.interpreter
    parts = [f"Python {interpreter.version}"]
    if interpreter.torch is not None:
        parts.append(f"torch {interpreter.torch.version}")
    return ", ".join([*parts, *dict.fromkeys(gpu.name for gpu in target.gpus)])


def name_of(interpreter: Interpreter) -> str:
    return sha256_bytes(interpreter.executable.encode())[:12]


def rules(pin: Pin) -> str:
    """Return a name of everything that judges: a change of it makes earlier verdicts void."""
    folders = (PACKAGE / "proof", PACKAGE / "guest", manifests_dir() / "proofs")
    files = [
        path for folder in folders if folder.is_dir() for path in sorted(folder.rglob("*")) if path.is_file()
    ]
    texts = [(path.name, sha256_bytes(path.read_bytes())) for path in files if path.suffix != ".pyc"]
    return sha256_bytes(msgspec.json.encode([texts, pin.recipe, pin.build]))


def read_kept(file: Path) -> Kept | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError):
        return None


def weigh(verdict: Verdict, pin: Pin) -> Judged:
    """Turn a verdict into good or bad; a failure that is not the wheel's judges nothing."""
    failed = failures(verdict.checks)
    numbers = verdict.numerics.words if verdict.numerics is not None else ()
    told = " ".join(numbers) or "; ".join(f"{check.name}: {check.found}" for check in failed)
    if not failed:
        return Judged(verdict="good", words=told or f"Passes level {verdict.level}.", hazards=verdict.hazards)
    if not blames_wheel(verdict, pin):
        return Judged(verdict=None, words=f"It cannot be judged here: {told}")
    return Judged(verdict="bad", words=told, hazards=verdict.hazards)
