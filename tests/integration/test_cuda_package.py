"""A CUDA extension shaped like the ones that are hard to prebuild, from nothing but packages, without a GPU.

``make test-cuda``: it fetches torch with its libraries (4.7 GB) and a compiler (100 MB), which stay in the folder
that ``CUDA_TEST_CACHE`` names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sagefix.pins.load import load_file
from sagefix.targets.cross.platforms import load_platforms
from sagefix.wheels.elf import Extension, read_extension
from tests.integration.conftest import CUDA_CACHE, CUDA_PIN, CUDA_PYTHON, CUDA_TORCH, Sagefix

OTHER = next(platform for platform in load_platforms().platform if not platform.here)
# Fetching torch is most of it; with all at hand a build takes 20 s.
TIMEOUT_S = 1200


def test_the_pin_names_the_commit_of_its_embedded_source(
    sagefix: Sagefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(CUDA_PIN.parent))
    pin = load_file(CUDA_PIN)
    fetched = sagefix("source", "fetch", "--pin", pin.name).result
    assert fetched["commit"] == pin.source.commit


@pytest.mark.cuda
@pytest.mark.network
@pytest.mark.skipif(
    shutil.which("g++") is None or not sys.platform.startswith("linux"), reason="needs g++ on Linux"
)
@pytest.mark.parametrize(
    ("archs", "cubins"), [("9.0", ("9.0a",)), ("8.0;9.0", ("8.0", "9.0a"))], ids=["one arch", "two archs"]
)
def test_it_is_built_from_packages_for_gpus_that_are_not_here(
    sagefix: Sagefix, tmp_path: Path, archs: str, cubins: tuple[str, ...]
) -> None:
    made = build(sagefix, tmp_path, archs)
    assert made["compiled"] is True
    assert {check["status"] for check in made["checks"]} <= {"ok", "warning", "skipped"}
    record = made["wheel"]["record"]
    assert record["torch"].startswith("2.11.")
    assert record["tools"]["nvcc"].startswith(f"{record['cuda']}.")

    extension = read(Path(made["wheel"]["where"]))
    assert extension.cubins == cubins
    # Without it the module imports where it is not looked at, and is not there on the GPU machine.
    assert "libcuda.so.1" in extension.needed
    assert any(name.startswith("libcudart.so.") for name in extension.needed)
    toolchains = Path(CUDA_CACHE or tmp_path, "toolchains")
    made_here = [
        path for path in toolchains.glob("cuda-13.0.*/sagefix.json") if OTHER.machine not in str(path)
    ]
    assert len(made_here) == 1


@pytest.mark.cuda
@pytest.mark.network
@pytest.mark.skipif(
    shutil.which("g++") is None or not sys.platform.startswith("linux"), reason="needs g++ on Linux"
)
def test_objects_of_an_earlier_build_are_reused_and_change_nothing(
    sagefix: Sagefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCCACHE_DIR", str(tmp_path / "objects"))
    plain = build(sagefix, tmp_path, "9.0", "--object-cache", "off")
    cold = build(sagefix, tmp_path, "9.0")
    warm = build(sagefix, tmp_path, "9.0")
    assert plain["objects"] is None
    assert cold["objects"]["reused"] == 0
    assert warm["objects"] == {"reused": cold["objects"]["compiled"], "compiled": 0}
    assert plain["wheel"]["sha256"] == cold["wheel"]["sha256"] == warm["wheel"]["sha256"]


@pytest.mark.cuda
@pytest.mark.network
@pytest.mark.skipif(
    shutil.which(f"{OTHER.triplet}-g++") is None or not sys.platform.startswith("linux"),
    reason=f"needs a cross compiler: {OTHER.packages['debian']}",
)
def test_for_another_platform_it_has_the_gpu_code_of_the_native_build(
    sagefix: Sagefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCCACHE_DIR", str(tmp_path / "objects"))
    build(sagefix, tmp_path, "8.0;9.0", "--object-cache", "off")
    made = build(sagefix, tmp_path, "8.0;9.0", "--platform", OTHER.name)
    statuses = {check["name"]: check["status"] for check in made["checks"]}
    assert set(statuses.values()) == {"ok"}, made["checks"]
    assert statuses["GPU code against the native build's"] == "ok"
    extension = read(Path(made["wheel"]["where"]))
    assert (extension.machine, extension.cubins) == (OTHER.machine, ("8.0", "9.0a"))
    assert "libcuda.so.1" in extension.needed
    assert made["wheel"]["requires_torch"] == "==2.11.*"
    again = build(sagefix, tmp_path, "8.0;9.0", "--platform", OTHER.name)
    assert again["objects"]["reused"] > 0
    plain = build(sagefix, tmp_path, "8.0;9.0", "--platform", OTHER.name, "--object-cache", "off")
    assert plain["wheel"]["sha256"] == again["wheel"]["sha256"] == made["wheel"]["sha256"]


def build(sagefix: Sagefix, tmp_path: Path, archs: str, *options: str) -> dict[str, Any]:
    command = sagefix.command(
        "build", "--pin", CUDA_PIN.stem, "--python", CUDA_PYTHON, "--torch", CUDA_TORCH, "--cuda", "pypi",
        "--arch", archs, "--wheelhouse", tmp_path / "wheels", "--rebuild", "--json", *options,
    )  # fmt: skip
    env = {
        **os.environ,
        "SAGEFIX_MANIFESTS": str(CUDA_PIN.parent),
        "SAGEFIX_CACHE_DIR": CUDA_CACHE or str(tmp_path),
    }
    done = subprocess.run(
        command, cwd=sagefix.folder, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)["result"]
    return answer


def read(wheel: Path) -> Extension:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".so")]
        return read_extension(archive.read(name), name)
