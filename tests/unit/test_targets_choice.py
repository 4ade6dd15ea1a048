"""Which archs a wheel gets, and every way in which that can be refused."""

from __future__ import annotations

from typing import Literal, NoReturn

import msgspec
import pytest

from sagefix.archs import parse_archs
from sagefix.errors import GpuError, UsageError
from sagefix.pins.model import Build, Capability, Pin, Recipe, Refusal, Source
from sagefix.progress import SilentReporter, reporting
from sagefix.targets.choice import check_driver, check_gpus, choose_archs
from sagefix.targets.model import Gpu, Gpus, Torch


def row(arch: str, *, dispatch: str = "kernel", reason: str = "") -> Capability:
    return Capability(
        arch=arch,
        gencode=arch.replace(".", ""),
        min_cuda="12.0",
        extensions=("pkg._c",),
        dispatch=dispatch,
        reason=reason,
        sources=(),
    )


RECIPE = Recipe(
    name="r",
    setup_py=("x",),
    capability=(row("8.0"), row("8.9"), row("9.0"), row("10.0", dispatch="", reason="It is not dispatched.")),
    refusal=(Refusal(archs=("7.5",), reason="Turing has no such instruction.", sources=()),),
    sources=(),
)


def pin(device: Literal["cuda", "cpu"] = "cuda") -> Pin:
    return Pin(
        schema=1,
        name="demo",
        project="demo",
        package="demo",
        version="1",
        summary="",
        device=device,
        license="",
        source=Source(commit="c", tree="t", files=()),
        build=Build(),
        recipe=(RECIPE,),
        ref=(),
    )


def gpus(*capabilities: str) -> Gpus:
    found = tuple(
        Gpu(index=n, name="Card", capability=text, memory=80 << 30) for n, text in enumerate(capabilities)
    )
    return Gpus(
        gpus=found,
        found_by="nvml" if found else "",
        tried=("torch: none", "nvml: no driver", "nvidia-smi: gone"),
    )


def forbidden() -> NoReturn:
    raise AssertionError("a GPU was looked for")


def choose(arch: str | None, *capabilities: str) -> tuple[list[str], str]:
    archs, why = choose_archs(pin(), RECIPE, arch, lambda: gpus(*capabilities))
    return [str(arch) for arch in archs], why


def test_the_option_wins_and_no_gpu_is_looked_for() -> None:
    assert choose_archs(pin(), RECIPE, "sm_90", forbidden) == (parse_archs("9.0"), "--arch")
    assert choose_archs(pin(), RECIPE, "8.9+PTX 80", forbidden) == (parse_archs("8.0;8.9+PTX"), "--arch")


def test_a_pin_without_gpu_has_no_archs() -> None:
    assert choose_archs(pin("cpu"), RECIPE, None, forbidden) == ((), "pin")
    assert choose_archs(pin("cpu"), RECIPE, "9.0", forbidden) == ((), "pin")


def test_the_gpu_decides_and_several_of_one_kind_are_one() -> None:
    assert choose(None, "9.0", "9.0") == (["9.0"], "nvml")


def test_several_kinds_go_into_one_wheel_if_they_can() -> None:
    assert choose(None, "8.9", "8.0") == (["8.0", "8.9"], "nvml")


def test_hopper_goes_into_one_wheel_with_others() -> None:
    """Upstream's one list of flags does not allow it; the build shim gives each extension its own."""
    assert choose(None, "8.0", "9.0") == (["8.0", "9.0"], "nvml")
    assert choose("8.0;9.0") == (["8.0", "9.0"], "--arch")


def test_no_gpu_says_what_was_tried_and_offers_the_option() -> None:
    with pytest.raises(GpuError, match="No NVIDIA GPU was found") as caught:
        choose(None)
    assert "--arch" in caught.value.hint
    for way in ("torch: none", "nvml: no driver", "nvidia-smi: gone"):
        assert way in caught.value.hint
    assert caught.value.details["tried"]


@pytest.mark.parametrize(
    ("arch", "reason"),
    [
        ("7.5", "Turing has no such instruction."),
        ("10.0", "It is not dispatched."),
        ("12.1", "the build files of this commit know no 12.1."),
    ],
)
def test_an_arch_that_cannot_work_is_refused_with_the_reason(arch: str, reason: str) -> None:
    for option, found in ((arch, ()), (None, (arch,))):
        with pytest.raises(GpuError) as caught:
            choose(option, *found)
        assert reason in caught.value.message
        assert "8.0, 8.9, 9.0" in caught.value.hint


def test_a_gpu_that_cannot_work_is_left_out_with_a_warning_beside_one_that_can() -> None:
    class Listener(SilentReporter):
        heard: list[str] = []  # noqa: RUF012 - one listener, one test

        def warn(self, text: str) -> None:
            self.heard.append(text)

    with reporting(Listener()):
        assert choose(None, "7.5", "9.0") == (["9.0"], "nvml")
    assert Listener.heard == ["No code is built for GPU 0 (Card, 7.5): Turing has no such instruction."]


def test_nonsense_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="is not a GPU architecture"):
        choose("H200")


def test_checks_of_gpus() -> None:
    assert check_gpus(gpus("9.0"), RECIPE).status == "ok"
    assert check_gpus(gpus("9.0", "7.5"), RECIPE).status == "warning"
    refused = check_gpus(gpus("7.5"), RECIPE)
    assert (refused.status, "Turing" in refused.found) == ("failure", True)
    none = check_gpus(gpus(), RECIPE)
    assert (none.status, "nvml: no driver" in none.found) == ("warning", True)


def test_the_driver_must_support_the_cuda_of_torch() -> None:
    torch = Torch(version="2.11.0+cu130", cuda="13.0", cxx11_abi=True, folder="/t")
    card = Gpu(index=0, name="Card", capability="9.0", driver="570.1")
    old = Gpus(gpus=(card,), found_by="nvml", tried=(), driver_cuda="12.8")
    assert check_driver(old, torch).status == "failure"
    assert "supports CUDA 12.8, and torch 2.11.0+cu130 needs CUDA 13.0" in check_driver(old, torch).found
    assert check_driver(old, None).status == "ok"
    new = msgspec.structs.replace(old, driver_cuda="13.2")
    assert check_driver(new, torch).status == "ok"
    assert check_driver(gpus(), torch).status == "warning"
    assert check_driver(msgspec.structs.replace(old, driver_cuda=""), torch).status == "ok"
