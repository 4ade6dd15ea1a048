"""Platform tags that may take each other's place, and the WHEEL file under another one."""

from __future__ import annotations

import pytest

from sagefix.wheels.manylinux import Policy, narrows, retag


@pytest.mark.parametrize(
    ("plain", "wanted", "fits"),
    [
        ("linux_x86_64", "manylinux_2_34_x86_64", True),
        ("linux_aarch64", "manylinux_2_28_aarch64", True),
        ("linux_x86_64", "musllinux_1_2_x86_64", True),
        ("linux_x86_64", "manylinux_2_34_aarch64", False),
        ("linux_x86_64", "linux_x86_64", False),
        ("manylinux_2_28_x86_64", "manylinux_2_34_x86_64", False),
        ("any", "manylinux_2_34_x86_64", False),
    ],
)
def test_only_a_plain_tag_of_the_same_machine_is_narrowed(plain: str, wanted: str, fits: bool) -> None:
    assert narrows(plain, wanted) is fits


def test_the_wheel_file_keeps_everything_but_the_platform() -> None:
    before = (
        b"Wheel-Version: 1.0\nGenerator: setuptools (81.0.0)\nRoot-Is-Purelib: false\n"
        b"Tag: cp312-cp312-linux_x86_64\nTag: cp311-cp311-linux_x86_64\n\n"
    )
    assert retag(before, "manylinux_2_34_x86_64").decode().splitlines() == [
        "Wheel-Version: 1.0",
        "Generator: setuptools (81.0.0)",
        "Root-Is-Purelib: false",
        "Tag: cp312-cp312-manylinux_2_34_x86_64",
        "Tag: cp311-cp311-manylinux_2_34_x86_64",
    ]


def test_a_policy_says_its_glibc() -> None:
    assert Policy(tag="manylinux_2_34_x86_64", symbols={}).glibc == "2.34"
