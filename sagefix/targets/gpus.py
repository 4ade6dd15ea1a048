"""The GPUs of this machine, asked of the driver and torch in the target, NVML and nvidia-smi in this order.

The compute capability always comes from the driver, never from a marketing name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from sagefix.errors import ProcessError
from sagefix.process import run
from sagefix.targets.choice import choose_archs
from sagefix.targets.guests import ask, guest_environment
from sagefix.targets.model import Gpu, Gpus, Interpreter
from sagefix.targets.needs import require_present

__all__ = ["choose_archs", "find_gpus", "visible"]

TORCH_TIMEOUT_S = 180.0
"""Importing torch from a slow disk takes a minute; more than this is a hang."""
_SMI_TIMEOUT_S = 60.0
# Names last: nothing else may hold a comma. https://docs.nvidia.com/deploy/nvidia-smi/
_SMI_FIELDS = ("index", "uuid", "compute_cap", "memory.total", "driver_version", "name")
_MIB = 1 << 20


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one way said: GPUs with their UUIDs, or why there are none, and the newest CUDA of the driver."""

    gpus: tuple[tuple[Gpu, str], ...] = ()
    error: str = ""
    driver: str = ""
    driver_cuda: str = ""
    by: str = ""


def find_gpus(interpreter: Interpreter | None = None, env: Mapping[str, str] | None = None) -> Gpus:
    """Return the GPUs that a program started from here would see.

    A process of the target is asked first, the driver in it and then torch: both honour ``CUDA_VISIBLE_DEVICES`` in
    full. NVML and nvidia-smi ignore that variable, so it is applied to what they say. ``tried`` holds a line for
    each way that gave nothing.
    """
    if interpreter is not None:
        require_present(interpreter, "The question for its GPUs")
    environment = guest_environment(env)
    tried: list[str] = []
    in_target = _ask_target(interpreter, environment)
    from_nvml = _ask_nvml()
    if in_target.gpus:
        gpus = tuple(msgspec.structs.replace(gpu, driver=from_nvml.driver) for gpu, _ in in_target.gpus)
        return Gpus(gpus=gpus, found_by=in_target.by, tried=(), driver_cuda=from_nvml.driver_cuda)
    tried.append(f"torch: {in_target.error}")
    ways: tuple[tuple[str, Callable[[], _Seen]], ...] = (
        ("nvml", lambda: from_nvml),
        ("nvidia-smi", lambda: _ask_smi(environment)),
    )
    for way, look in ways:
        seen = look()
        if seen.error:
            tried.append(f"{way}: {seen.error}")
            continue
        gpus, note = visible(seen.gpus, environment)
        if note:
            tried.append(f"{way}: {note}")
        if gpus:
            return Gpus(gpus=gpus, found_by=way, tried=tuple(tried), driver_cuda=seen.driver_cuda)
    return Gpus(gpus=(), found_by="", tried=tuple(tried), driver_cuda=from_nvml.driver_cuda)


def visible(gpus: Sequence[tuple[Gpu, str]], env: Mapping[str, str]) -> tuple[tuple[Gpu, ...], str]:
    """Apply ``CUDA_VISIBLE_DEVICES`` to GPUs with their UUIDs; also return what has to be said about it.

    Its rules (https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables): indices
    or UUIDs that may be cut short; the first that names nothing ends the list. Indices count the fastest
    GPU first unless ``CUDA_DEVICE_ORDER`` is ``PCI_BUS_ID``, while the driver's tools count by bus: with
    GPUs of several kinds an index then says nothing here, and all GPUs stay.
    """
    everything = tuple(gpu for gpu, _ in gpus)
    wished = env.get("CUDA_VISIBLE_DEVICES")
    if wished is None or not gpus:
        return everything, "" if gpus else "the driver lists no GPU"
    entries = [entry.strip() for entry in wished.split(",")]
    by_index = any(entry.isdigit() for entry in entries)
    kinds = {gpu.capability for gpu in everything}
    if by_index and len(kinds) > 1 and env.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        return everything, (
            f"CUDA_VISIBLE_DEVICES={wished} counts the fastest GPU first and the driver counts by bus, "
            "so it cannot be applied to GPUs of several kinds; set CUDA_DEVICE_ORDER=PCI_BUS_ID"
        )
    if any(entry.startswith("MIG-") for entry in entries):
        return (
            everything,
            f"CUDA_VISIBLE_DEVICES={wished} names a part of a GPU (MIG); all GPUs are considered",
        )
    chosen: list[Gpu] = []
    for entry in entries:
        found = _named(gpus, entry)
        if found is None or found in chosen:
            break
        chosen.append(found)
    renumbered = tuple(msgspec.structs.replace(gpu, index=place) for place, gpu in enumerate(chosen))
    return renumbered, "" if chosen else f"CUDA_VISIBLE_DEVICES={wished!r} hides every GPU"


def _named(gpus: Sequence[tuple[Gpu, str]], entry: str) -> Gpu | None:
    if entry.isdigit():
        return next((gpu for gpu, _ in gpus if gpu.index == int(entry)), None)
    matching = [gpu for gpu, uuid in gpus if len(entry) > len("GPU-") and uuid.startswith(entry)]
    return matching[0] if len(matching) == 1 else None


def _ask_target(interpreter: Interpreter | None, env: Mapping[str, str]) -> _Seen:
    if interpreter is None:
        return _Seen(error="no interpreter was asked")
    torch = interpreter.torch
    if torch is None:
        return _Seen(error=interpreter.torch_error or f"there is none in {interpreter.executable}")
    if not torch.cuda:
        return _Seen(error=f"{torch.version} has no CUDA")
    try:
        answer: dict[str, Any] = ask(
            interpreter.executable, "gpus.py", torch.cuda, timeout=TORCH_TIMEOUT_S, env=env
        )
    except ProcessError as error:
        return _Seen(error=error.message)
    gpus = tuple((msgspec.convert(row, Gpu), "") for row in answer["gpus"])
    return _Seen(gpus=gpus, error=str(answer["error"]), by=str(answer["by"]))


def _ask_nvml() -> _Seen:
    """Ask the driver's own library (https://docs.nvidia.com/deploy/nvml-api/) through nvidia-ml-py."""
    try:
        # By name, since the module has no types.
        pynvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return _Seen(error="nvidia-ml-py is not installed beside sagefix")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return _Seen(error=str(error))
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        newest = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
        gpus = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
            gpu = Gpu(
                index=index,
                name=_text(pynvml.nvmlDeviceGetName(handle)),
                capability=f"{major}.{minor}",
                memory=_nvml_memory(pynvml, handle),
                driver=driver,
            )
            gpus.append((gpu, _text(pynvml.nvmlDeviceGetUUID(handle))))
    except pynvml.NVMLError as error:
        return _Seen(error=str(error))
    finally:
        pynvml.nvmlShutdown()
    return _Seen(gpus=tuple(gpus), driver=driver, driver_cuda=f"{newest // 1000}.{newest % 1000 // 10}")


def _nvml_memory(pynvml: Any, handle: Any) -> int:
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError:
        # GPUs that share the machine's memory (GB10, Jetson) have none of their own to tell.
        return 0


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _ask_smi(env: Mapping[str, str]) -> _Seen:
    command = ["nvidia-smi", f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = run(command, env=env, timeout=_SMI_TIMEOUT_S, check=False)
    except ProcessError as error:
        return _Seen(error=error.message)
    if done.returncode != 0:
        said = " ".join((done.stdout.strip() or done.stderr.strip()).split())
        return _Seen(error=said or f"failed with exit status {done.returncode}")
    return read_smi(done.stdout)


def read_smi(text: str) -> _Seen:
    """Read the table that nvidia-smi prints for ``_SMI_FIELDS``; what it cannot tell (``[N/A]``) counts as
    0."""
    gpus = []
    driver = ""
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",", len(_SMI_FIELDS) - 1)]
        if len(fields) != len(_SMI_FIELDS) or not fields[0].isdigit():
            return _Seen(error=f"cannot be understood: {line.strip()!r}")
        index, uuid, capability, memory, driver, name = fields
        if not capability.replace(".", "", 1).isdigit():
            return _Seen(error=f"does not tell the compute capability of GPU {index} ({capability})")
        mib = int(memory) if memory.isdigit() else 0
        gpus.append(
            (Gpu(index=int(index), name=name, capability=capability, memory=mib * _MIB, driver=driver), uuid)
        )
    return _Seen(gpus=tuple(gpus), driver=driver)
