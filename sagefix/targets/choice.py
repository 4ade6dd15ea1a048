"""Which archs a wheel is built for, and what the driver and the GPUs have to say about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sagefix.archs import Arch, parse_arch, parse_archs, sort_archs
from sagefix.checks import Check
from sagefix.errors import GpuError, UsageError
from sagefix.files import human_size
from sagefix.pins.model import Pin, Recipe
from sagefix.progress import note, warn
from sagefix.targets.model import Gpu, Gpus, Torch

_CAPABILITIES = "https://developer.nvidia.com/cuda-gpus"
_DRIVERS = "https://docs.nvidia.com/deploy/cuda-compatibility/"


def choose_archs(
    pin: Pin, recipe: Recipe, arch_option: str | None, gpus: Callable[[], Gpus]
) -> tuple[tuple[Arch, ...], str]:
    """Decide the archs, and say what decided: ``--arch``, ``torch``, ``nvml``, ``nvidia-smi``, or ``pin``.

    ``gpus`` is called only when ``arch_option`` is empty and the pin needs a GPU. With GPUs of several
    kinds the wheel gets an arch for each; those that the commit cannot use are left out with a warning as
    long as another GPU remains.

    Raises :class:`GpuError`: no GPU, or an arch that this commit cannot build or use; :class:`UsageError` when
    ``arch_option`` cannot be read.
    """
    if arch_option is not None and not arch_option.strip():
        raise UsageError(
            "--arch is empty.", hint="Leave it out to ask the GPU, or give a number such as 9.0."
        )
    archs = parse_archs(arch_option) if arch_option else ()
    if pin.device == "cpu":
        if archs:
            note(f"{pin.name} runs on the CPU: --arch changes nothing.")
        return (), "pin"
    if archs:
        for arch in archs:
            if reason := why_not(recipe, arch):
                raise GpuError(
                    f"{pin.name} cannot be built for {arch.capability}: {reason}",
                    hint=_works(recipe),
                    details={"arch": str(arch), "works": _working(recipe)},
                )
        return archs, "--arch"
    found = gpus()
    if not found.gpus:
        raise GpuError(
            "No NVIDIA GPU was found.",
            hint="To build for a GPU that is not here, give its compute capability "
            f"({_CAPABILITIES}) with --arch. {_works(recipe)} Asked: {'; '.join(found.tried)}",
            details={"tried": list(found.tried)},
        )
    return _from_gpus(pin, recipe, found), found.found_by


def _from_gpus(pin: Pin, recipe: Recipe, found: Gpus) -> tuple[Arch, ...]:
    refused = {gpu.index: reason for gpu in found.gpus if (reason := why_not(recipe, _arch_of(gpu)))}
    usable = [gpu for gpu in found.gpus if gpu.index not in refused]
    if not usable:
        first = found.gpus[0]
        raise GpuError(
            f"{pin.name} does not work on {_names(found.gpus)}: {refused[first.index]}",
            hint=f"{_works(recipe)} Another commit (--ref) may know more.",
            details={"gpus": [gpu.capability for gpu in found.gpus], "works": _working(recipe)},
        )
    for gpu in found.gpus:
        if gpu.index in refused:
            warn(f"No code is built for {_names([gpu])}: {refused[gpu.index]}")
    return sort_archs(_arch_of(gpu) for gpu in usable)


def why_not(recipe: Recipe, arch: Arch) -> str:
    """Return why a recipe's wheel would not work on an arch, or nothing when it would."""
    row = recipe.for_arch(arch)
    if row is None:
        refusal = recipe.refusal_of(arch)
        return refusal.reason if refusal else f"the build files of this commit know no {arch.capability}."
    if not row.dispatch:
        return row.reason or f"the package refuses a GPU of compute capability {arch.capability}."
    return ""


def _arch_of(gpu: Gpu) -> Arch:
    return parse_arch(gpu.capability)


def _names(gpus: Iterable[Gpu]) -> str:
    return ", ".join(f"GPU {gpu.index} ({gpu.name}, {gpu.capability})" for gpu in gpus)


def _working(recipe: Recipe) -> list[str]:
    return [row.arch for row in recipe.capability if row.dispatch]


def _works(recipe: Recipe) -> str:
    return f"It works on {', '.join(_working(recipe)) or 'no arch'}."


def check_gpus(found: Gpus, recipe: Recipe) -> Check:
    """Say which GPUs there are and whether the recipe's code runs on them."""
    if not found.gpus:
        return Check(
            name="GPU",
            status="warning",
            found=f"none: {'; '.join(found.tried)}",
            fix="A build needs --arch; only a machine with a GPU can prove the numbers right.",
        )
    listed = ", ".join(
        f"{gpu.index}: {gpu.name}, {gpu.capability}" + (f", {human_size(gpu.memory)}" if gpu.memory else "")
        for gpu in found.gpus
    )
    refused = {gpu.capability: reason for gpu in found.gpus if (reason := why_not(recipe, _arch_of(gpu)))}
    if not refused:
        return Check(name="GPU", status="ok", found=f"{listed} (said by {found.found_by})")
    reasons = " ".join(f"{capability}: {reason}" for capability, reason in refused.items())
    everything = {gpu.capability for gpu in found.gpus} <= set(refused)
    return Check(
        name="GPU",
        status="failure" if everything else "warning",
        found=f"{listed}; {reasons}",
        fix=_works(recipe),
    )


def check_driver(found: Gpus, torch: Torch | None) -> Check:
    """Say whether the driver is new enough for torch's CUDA; minor versions are compatible within a major."""
    driver = next((gpu.driver for gpu in found.gpus if gpu.driver), "")
    if not driver and not found.driver_cuda:
        return Check(
            name="driver",
            status="warning",
            found=found.tried[-1] if found.tried else "no NVIDIA driver answered",
            fix="To run on this machine, install NVIDIA's driver; to build with --arch, none is needed.",
            sources=(_DRIVERS,),
        )
    text = driver or "present"
    if not found.driver_cuda:
        return Check(name="driver", status="ok", found=text)
    text = f"{text}, supports CUDA {found.driver_cuda}"
    if torch is None or not torch.cuda or _major(found.driver_cuda) >= _major(torch.cuda):
        return Check(name="driver", status="ok", found=text)
    return Check(
        name="driver",
        status="failure",
        found=f"{text}, and torch {torch.version} needs CUDA {torch.cuda}",
        fix=f"Install a newer driver, or a torch built for CUDA {_major(found.driver_cuda)}.",
        sources=(_DRIVERS,),
    )


def _major(version: str) -> int:
    return int(version.split(".", maxsplit=1)[0])
