"""``sagefix toolchain``, ``sagefix environments``, and a build for a Python that is named by its version."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from cuda_wheels import GXX, cuda_wheels, only_from, torch_wheels, write_wheel

from tests.integration.conftest import Sagefix

pytestmark = pytest.mark.skipif(
    GXX is None or not sys.platform.startswith("linux"), reason="needs g++ and the linker of Linux"
)

HERE = ".".join(str(part) for part in sys.version_info[:2])


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder, scratch = tmp_path / "wheels", tmp_path / "scratch"
    scratch.mkdir()
    torch_wheels(cuda_wheels(folder, scratch), scratch)
    for name in ("setuptools", "wheel", "packaging", "ninja"):
        write_wheel(folder, name, "99")
    only_from(monkeypatch, folder, tmp_path / "fetching")
    return folder


def test_a_toolchain_ahead_for_an_environment_and_both_removed(sagefix: Sagefix, wheels: Path) -> None:
    target = ("--python", HERE, "--torch", "2.11", "--arch", "9.0")
    lost = sagefix("toolchain", "show", *target)
    assert lost.answer["error"]["name"] == "target"
    assert "is not there yet" in lost.answer["error"]["message"]

    made = sagefix("toolchain", "install", *target).result
    assert made["fetched"] is True
    assert made["toolkit"]["full_version"] == "13.0.88"
    assert {check["status"] for check in made["checks"]} == {"ok"}
    assert sagefix("toolchain", "install", *target, "--offline").result["fetched"] is False

    shown = sagefix("toolchain", "show", *target, "--cuda", "pypi").result
    (ours,) = [row for row in shown["toolkits"] if row["origin"] == "PyPI"]
    assert ours["version"] == "13.0.88"
    assert ours["packages"]["nvidia-nvvm"] == "13.0.88"
    assert ours["packages"]["nvidia-cusparse"] == "12.6.3.3"
    assert shown["checks"][0]["found"] == "CUDA 13.0.2 from PyPI: --cuda pypi asks for it"
    assert "13.0.88" in sagefix("toolchain", "show", json_=False).out

    (kept,) = sagefix("environments", "list").result
    assert kept["environment"]["torch"] == "2.11.0+cu130"
    assert kept["name"] in sagefix("environments", "list", json_=False).out
    (gone,) = sagefix("environments", "remove", kept["name"]).result
    assert gone["freed"] > 0
    assert "no build environment" in sagefix("environments", "list", json_=False).out

    assert f"Removed {ours['name']}" in sagefix("toolchain", "remove", "--all", json_=False).out
    assert "nothing to remove" in sagefix("toolchain", "remove", "--all", json_=False).out


@pytest.mark.parametrize("group", ["toolchain", "environments"])
def test_a_removal_has_to_name_something(sagefix: Sagefix, group: str) -> None:
    assert sagefix(group, "remove").answer["error"]["message"] == "Name what to remove, or give --all."
    assert sagefix(group, "remove", "x", "--all").answer["error"]["name"] == "usage"
    assert "'x' is not the name of" in sagefix(group, "remove", "x").answer["error"]["message"]


def test_a_version_of_python_alone_is_not_enough_for_torch(sagefix: Sagefix) -> None:
    said = sagefix("build", "--python", HERE, "--arch", "9.0")
    assert said.answer["error"]["name"] == "usage"
    assert f"--python {HERE} --torch 2.11" in said.answer["error"]["hint"]


@pytest.mark.network
def test_a_wheel_for_a_python_that_is_named_by_its_version(sagefix: Sagefix) -> None:
    """The demo needs no torch, so a version of Python is a whole target."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    built = sagefix("build", "--pin", "demo", "--python", HERE).result
    assert built["compiled"] is True
    tag = f"cp{HERE.replace('.', '')}"
    assert f"-{tag}-{tag}-" in built["wheel"]["filename"]
    (kept,) = sagefix("environments", "list").result
    assert kept["environment"]["spec"]["torch"] == ""
    assert sagefix("build", "--pin", "demo", "--python", HERE).result["compiled"] is False
    assert len(sagefix("environments", "list").result) == 1
