"""Wheel tags computed from what a target says, compared with what packaging says of this very Python."""

from __future__ import annotations

import os
import struct
import sys
import sysconfig

import pytest
from packaging.tags import sys_tags

from sagefix.targets.tags import platform_tag, platform_tags, python_tags, wheel_tags


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is asked as on Linux")
def test_tags_of_this_python_are_those_that_packaging_finds() -> None:
    name, _, glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    if name != "glibc":
        pytest.skip("not a glibc system")
    version = "{}.{}".format(*sys.version_info[:2])
    own = platform_tag(sysconfig.get_platform(), 8 * struct.calcsize("P"))
    _, abis = python_tags(
        version,
        debug=bool(sysconfig.get_config_var("Py_DEBUG")),
        free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    )
    ours = wheel_tags(version, abis, platform_tags(own, glibc=glibc))
    assert set(ours) == {str(tag) for tag in sys_tags()}
    assert ours[0] == f"{abis[0].rstrip('td')}-{abis[0]}-{own}"
    assert ours[-1] == "py30-none-any"


def test_manylinux_tags_go_down_to_the_oldest_of_the_machine() -> None:
    x86 = platform_tags("linux_x86_64", glibc="2.18")
    assert x86[:4] == [
        "linux_x86_64",
        "manylinux_2_18_x86_64",
        "manylinux_2_17_x86_64",
        "manylinux2014_x86_64",
    ]
    assert x86[-2:] == ["manylinux_2_5_x86_64", "manylinux1_x86_64"]
    arm = platform_tags("linux_aarch64", glibc="2.39")
    assert arm[1] == "manylinux_2_39_aarch64"
    assert arm[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]


def test_a_target_with_an_old_glibc_takes_no_newer_wheel() -> None:
    assert platform_tags("linux_x86_64", glibc="2.4") == ["linux_x86_64"]
    assert "manylinux_2_28_x86_64" not in platform_tags("linux_x86_64", glibc="2.27")


def test_musl_takes_musllinux_and_no_manylinux() -> None:
    assert platform_tags("linux_x86_64", musl="1.2") == [
        "linux_x86_64",
        "musllinux_1_2_x86_64",
        "musllinux_1_1_x86_64",
        "musllinux_1_0_x86_64",
    ]


@pytest.mark.parametrize(
    ("platform", "bits", "tag"),
    [
        ("linux-x86_64", 64, "linux_x86_64"),
        ("linux-x86_64", 32, "linux_i686"),
        ("linux-aarch64", 64, "linux_aarch64"),
        ("macosx-11.0-arm64", 64, "macosx_11_0_arm64"),
        ("win-amd64", 64, "win_amd64"),
    ],
)
def test_own_platform_tag(platform: str, bits: int, tag: str) -> None:
    assert platform_tag(platform, bits) == tag


def test_a_mac_takes_what_was_made_for_older_systems() -> None:
    tags = platform_tags("macosx_11_0_arm64", mac_version="14.5")
    assert tags[0] == "macosx_14_0_arm64"
    assert "macosx_11_0_arm64" in tags
    assert platform_tags("win_amd64") == ["win_amd64"]


def test_debug_and_free_threaded_builds_have_their_own_abi() -> None:
    assert python_tags("3.12.1") == ("cp312", ["cp312"])
    assert python_tags("3.12.1", debug=True) == ("cp312", ["cp312d", "cp312"])
    assert python_tags("3.13.0", free_threaded=True) == ("cp313", ["cp313t"])
    free = wheel_tags("3.13.0", ["cp313t"], ["linux_x86_64"])
    assert free[0] == "cp313-cp313t-linux_x86_64"
    assert not any("-abi3-" in tag for tag in free)
    assert "cp39-abi3-linux_x86_64" in wheel_tags("3.12.1", ["cp312"], ["linux_x86_64"])
