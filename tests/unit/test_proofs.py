"""Which failures are held against a wheel, which then is never chosen again, and which are not."""

from __future__ import annotations

import pytest

from sagefix.checks import Check
from sagefix.pins.load import load_pin
from sagefix.proof.model import Verdict
from sagefix.workflows.proofs import blames_wheel

SAGE, DEMO = load_pin("sageattention"), load_pin("demo")


def verdict(*failed: str, gpus: tuple[str, ...] = ("NVIDIA H200",)) -> Verdict:
    checks = [Check(name=name, status="failure", found="") for name in failed]
    return Verdict(
        pin="p",
        level="import",
        subject="",
        wheel_sha256="",
        interpreter="",
        gpus=gpus,
        torch="",
        when="",
        sagefix="",
        checks=(Check(name="extensions", status="ok", found=""), *checks),
    )


@pytest.mark.parametrize(
    "failed",
    [
        ["symbols"],
        ["fault: shadowed-custom-op"],
        ["source parses", "version"],
        ["GPU code"],
        ["import sageattention._qattn_sm90"],
        ["import sageattention"],
    ],
)
def test_the_wheel_is_to_blame(failed: list[str]) -> None:
    assert blames_wheel(verdict(*failed), SAGE)


@pytest.mark.parametrize(
    "failed",
    [
        ["one copy"],
        ["files", "source parses", "import sageattention"],
        ["torch", "import sageattention._qattn_sm90"],
        ["record"],
        ["import torch", "import sageattention"],
        ["import triton"],
    ],
)
def test_the_place_is_to_blame(failed: list[str]) -> None:
    assert not blames_wheel(verdict(*failed), SAGE)


def test_without_a_gpu_an_import_says_nothing_about_a_wheel_for_one() -> None:
    imports = ("import sageattention._qattn_sm90", "import sageattention")
    assert not blames_wheel(verdict(*imports, gpus=()), SAGE)
    assert blames_wheel(verdict(*imports, "symbols", gpus=()), SAGE)
    assert blames_wheel(verdict("import demoattention", gpus=()), DEMO)
