"""How far a verification can get here: computing needs the GPU, importing its driver, reading the files nothing."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

import msgspec

from sagefix.checks import Level
from sagefix.errors import GpuError
from sagefix.pins.model import Pin
from sagefix.targets.gpus import find_gpus
from sagefix.targets.model import Target

VerifyChoice = Literal["auto", "full", "numerics", "import", "static", "none"]

_LEFT_OUT = "the numbers were left out by --verify {}"


class Reach(NamedTuple):
    """The level to verify at (None: none), the target with its GPUs, and why no numbers are computed (or empty)."""

    level: Level | None
    target: Target
    why: str = ""


def reach(choice: VerifyChoice, pin: Pin, target: Target) -> Reach:
    """Decide how far to verify.

    ``auto`` computes (level ``numerics``) for a pin that needs no GPU, and for one that does where the target sees
    a GPU of the wanted archs; else it imports where a driver is, and reads files where none is.

    Raises :class:`GpuError` for a level that computes where no such GPU is, :class:`~sagefix.errors.PinError` when
    nobody has said how to compute with the pin.
    """
    match choice:
        case "none":
            return Reach(None, target, _LEFT_OUT.format(choice))
        case "static" | "import":
            return Reach(choice, target, _LEFT_OUT.format(choice))
        case "auto":
            return _as_far_as_possible(pin, target)
    from sagefix.proof.numerics.load import load_proofs

    load_proofs(pin)
    seen = target if pin.device == "cpu" else _with_gpus(target)
    if pin.device == "cuda" and not seen.gpus:
        raise GpuError(
            f"There is no GPU {_of_archs(target)}here, and level {choice} computes on one.",
            hint="Leave --verify out to get as far as this machine can, and verify again where the GPU is.",
        )
    return Reach(choice, seen)


def _as_far_as_possible(pin: Pin, target: Target) -> Reach:
    from sagefix.proof.numerics.load import has_proofs

    seen = target if pin.device == "cpu" else _with_gpus(target)
    if not has_proofs(pin):
        why = f"nobody has said how to compute with {pin.name}"
        return Reach(
            "import" if pin.device == "cpu" or seen.gpus or _driver_is_here() else "static", seen, why
        )
    if pin.device == "cpu" or seen.gpus:
        return Reach("numerics", seen)
    if _driver_is_here():
        return Reach("import", seen, f"there is no GPU {_of_archs(target)}here")
    why = "there is no NVIDIA driver here, so the kernels cannot even be loaded"
    return Reach("static", seen, why)


def _with_gpus(target: Target) -> Target:
    """Return the target with those of its GPUs that the wheel is for; with given archs nobody has looked yet."""
    wanted = {arch.capability for arch in target.archs}
    found = target.gpus
    if not found and _driver_is_here():
        found = find_gpus(target.interpreter).gpus
    return msgspec.structs.replace(
        target, gpus=tuple(gpu for gpu in found if not wanted or gpu.capability in wanted)
    )


def _of_archs(target: Target) -> str:
    archs = " or ".join(arch.capability for arch in target.archs)
    return f"of compute capability {archs} " if archs else ""


def _driver_is_here() -> bool:
    import ctypes

    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True
