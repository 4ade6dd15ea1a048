"""How far an installation verifies, by what the machine has."""

from __future__ import annotations

import msgspec
import pytest

from sagefix.archs import parse_archs
from sagefix.errors import GpuError, PinError
from sagefix.pins.load import load_pin
from sagefix.targets.model import Gpu, Gpus, Interpreter, Target
from sagefix.workflows import reach as module
from sagefix.workflows.reach import reach

SAGE, DEMO = load_pin("sageattention"), load_pin("demo")
H200 = Gpu(index=0, name="NVIDIA H200", capability="9.0", driver="580.1")
T4 = Gpu(index=1, name="NVIDIA T4", capability="7.5", driver="580.1")
INTERPRETER = Interpreter(
    executable="/t/python", version="3.12.3", implementation="cpython", machine="x86_64", prefix="",
    base_prefix="", platform_tag="", python_tag="", abi_tag="", tags=(), glibc="", ext_suffix="", purelib="",
    platlib="", sys_path=(), python_h="", externally_managed=False, packages={},
)  # fmt: skip
TARGET = Target(interpreter=INTERPRETER, archs=parse_archs("9.0"), archs_from="--arch")


def machine(monkeypatch: pytest.MonkeyPatch, *gpus: Gpu, driver: bool = True) -> None:
    """Let the machine have these GPUs, and a driver."""
    monkeypatch.setattr(module, "_driver_is_here", lambda: driver)
    monkeypatch.setattr(module, "find_gpus", lambda _: Gpus(gpus=gpus, found_by="nvml", tried=()))


def test_where_the_gpu_is_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, H200, T4)
    for target in (TARGET, msgspec.structs.replace(TARGET, gpus=(H200, T4))):
        # The archs were given, so nobody has looked for GPUs before; and one that the wheel is not for says nothing.
        found = reach("auto", SAGE, target)
        assert (found.level, found.target.gpus, found.why) == ("numerics", (H200,), "")
        assert reach("full", SAGE, target)[:2] == ("full", found.target)


def test_where_it_is_not_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, T4)
    found = reach("auto", SAGE, TARGET)
    assert (found.level, found.why) == ("import", "there is no GPU of compute capability 9.0 here")
    machine(monkeypatch, driver=False)
    found = reach("auto", SAGE, TARGET)
    assert (found.level, "no NVIDIA driver here" in found.why) == ("static", True)
    for level in ("numerics", "full"):
        with pytest.raises(GpuError, match=rf"no GPU of compute capability 9.0 here, and level {level}"):
            reach(level, SAGE, TARGET)  # type: ignore[arg-type]


def test_a_package_without_gpu_code_is_always_computed_with(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, driver=False)
    target = msgspec.structs.replace(TARGET, archs=())
    assert reach("auto", DEMO, target) == ("numerics", target, "")
    unknown = msgspec.structs.replace(DEMO, name="unknown")
    found = reach("auto", unknown, target)
    assert (found.level, found.why) == ("import", "nobody has said how to compute with unknown")
    with pytest.raises(PinError, match="nobody has said how to compute with unknown"):
        reach("numerics", unknown, target)


def test_what_is_asked_for_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, H200)
    assert reach("static", SAGE, TARGET) == (
        "static",
        TARGET,
        "the numbers were left out by --verify static",
    )
    assert reach("none", SAGE, TARGET).level is None
