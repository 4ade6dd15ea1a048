"""What a GPU is doing right now: clocks, power, temperature, and what holds its clocks down, by the driver's library.

Source: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import msgspec

# https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
_LIMITS = {
    0x02: "clocks set by an administrator",
    0x04: "the power limit",
    0x08: "a slowdown by the hardware",
    0x10: "synchronised clocks",
    0x20: "the temperature (driver)",
    0x40: "the temperature (hardware)",
    0x80: "the power supply",
}


class GpuState(msgspec.Struct, frozen=True, kw_only=True):
    """What a GPU is doing. Clocks are in MHz, power in W, temperature in °C.

    ``performance`` is NVML's state (0: the fastest). ``limits`` names what holds the clocks down, in words.
    Whatever the driver does not tell is 0.
    """

    clock: int = 0
    max_clock: int = 0
    memory_clock: int = 0
    power: float = 0.0
    power_limit: float = 0.0
    temperature: int = 0
    performance: int = 0
    limits: tuple[str, ...] = ()


class Watcher:
    """Reads the state of one GPU as often as it is asked; without the driver's library it knows nothing."""

    def __init__(self, uuid: str, index: int) -> None:
        """``uuid`` as torch tells it (empty: older versions do not), else ``index`` among all GPUs counts."""
        self._nvml: Any = None
        try:
            # By name, since the module has no types.
            nvml: Any = importlib.import_module("pynvml")
            nvml.nvmlInit()
        except Exception:  # noqa: BLE001 - its errors have no type when the module itself is missing
            return
        self._nvml = nvml
        try:
            self._handle = (
                nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}".encode())
                if uuid
                else nvml.nvmlDeviceGetHandleByIndex(index)
            )
        except nvml.NVMLError:
            self.close()

    def driver(self) -> str:
        """Return the version of the driver, or nothing."""
        if self._nvml is None:
            return ""
        said = self._ask(self._nvml.nvmlSystemGetDriverVersion, "")
        return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)

    def read(self) -> GpuState | None:
        """Return the state, or None when nobody tells it."""
        nvml = self._nvml
        if nvml is None:
            return None
        handle = self._handle
        # The newer name is missing in older libraries, and the older one may go.
        names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        reasons = next((name for name in names if hasattr(nvml, name)), names[0])
        bits = int(self._ask(lambda: getattr(nvml, reasons)(handle), 0))
        return GpuState(
            clock=int(self._ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM), 0)),
            max_clock=int(self._ask(lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM), 0)),
            memory_clock=int(self._ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM), 0)),
            power=float(self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle), 0)) / 1e3,
            power_limit=float(self._ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle), 0)) / 1e3,
            temperature=int(self._ask(lambda: nvml.nvmlDeviceGetTemperature(handle, 0), 0)),
            performance=int(self._ask(lambda: nvml.nvmlDeviceGetPerformanceState(handle), 0)),
            limits=tuple(word for bit, word in _LIMITS.items() if bits & bit),
        )

    def _ask(self, what: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return what()
        except (self._nvml.NVMLError, AttributeError):
            return otherwise

    def close(self) -> None:
        """Let the library go."""
        if self._nvml is not None:
            self._ask(self._nvml.nvmlShutdown, None)
            self._nvml = None
