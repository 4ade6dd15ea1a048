"""torch is exchanged under an installed wheel, and one command puts the right one there: real compilers and uv.

torch is a stand-in whose libc10 gives the same function another mangled name in each release, as torch's does.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cuda_wheels import CONTEXT, GXX, cuda_wheels, only_from, shared_library, write_wheel

from tests.integration.conftest import ROOT, Here, MakeTarget, ask

pytestmark = pytest.mark.skipif(
    GXX is None or not sys.platform.startswith("linux"), reason="needs g++ and the linker of Linux"
)

PIN = ("--pin", "linked_to_torch")
CALL = "import linked_to_torch; print(linked_to_torch.answer())"
LIBRARY = """\
#include <string>
namespace c10 {
struct SourceLocation { int line; };
struct Error { Error(SourceLocation, std::string); };
Error::Error(SourceLocation, std::string) {}
int answer(@TYPE@) { return @VALUE@; }
}
"""
HEADER = "#pragma once\nnamespace c10 { int answer(@TYPE@); }\n"
LOAD = """\
import ctypes, os
ctypes.CDLL(os.path.join(os.path.dirname(__file__), "lib", "libc10.so"), ctypes.RTLD_GLOBAL)
"""
# What a build that sagefix starts looks for in torch, whether or not the package uses it.
CPP_EXTENSION = "def CUDAExtension(*args, **kwargs):\n    raise NotImplementedError\n"
RELEASES = {"2.11.0": ("int", "211"), "2.11.1": ("int", "2111"), "2.12.0": ("unsigned long", "212")}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three releases of torch and a CUDA compiler, as wheels."""
    folder, scratch = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("scratch")
    cuda_wheels(folder, scratch)
    for version, (kind, value) in RELEASES.items():
        library = LIBRARY.replace("@TYPE@", kind).replace("@VALUE@", value)
        files = {
            "torch/__init__.py": f"__version__ = '{version}+cu130'\n{LOAD}",
            "torch/version.py": f"__version__ = '{version}+cu130'\ncuda = '13.0'\nhip = None\n",
            "torch/utils/__init__.py": "",
            "torch/utils/cpp_extension.py": CPP_EXTENSION,
            "torch/include/c10/answer.h": HEADER.replace("@TYPE@", kind),
            "torch/include/ATen/cuda/CUDAContextLight.h": CONTEXT,
            "torch/lib/libc10.so": shared_library(
                scratch, library, "-D_GLIBCXX_USE_CXX11_ABI=1", "-Wl,-soname,libc10.so"
            ),
        }
        brought = ["cuda-toolkit[cublas,cudart,cusparse]==13.0.2"]
        write_wheel(folder, "torch", version, files, requires=brought)
    return folder


@pytest.fixture
def target(wheels: Path, make_target: MakeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with torch 2.11.0 and the package built for it."""
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(ROOT / "tests/packages"))
    made = make_target()
    only_from(monkeypatch, wheels, tmp_path / "fetching")
    put_torch(made, "2.11.0")
    return made


def put_torch(target: Path, version: str) -> None:
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", target, f"torch=={version}"], check=True)


def check(result: Any, name: str) -> Any:
    checks = result if isinstance(result, list) else result["checks"]
    (found,) = [row for row in checks if row["name"] == name]
    return found


def test_torch_is_upgraded_and_one_install_repairs_it(here: Here, target: Path) -> None:
    install = ("install", *PIN, "--python", target, "--arch", "9.0", "--cuda", "pypi", "--verify", "import")
    first = here(*install, json_=True).result
    assert (first["compiled"], ".torch2.11.sm90" in first["version"]) == (True, True)
    assert ask(target, CALL) == "211"

    # Another patch release of the same minor is no other torch.
    put_torch(target, "2.11.1")
    assert here("verify", *PIN, "--python", target, "--arch", "9.0").code == 0
    assert ask(target, CALL) == "2111"

    put_torch(target, "2.12.0")
    broken = ask(target, CALL)
    assert "undefined symbol: _ZN3c106answerEi" in broken
    words = (
        "Built for torch 2.11, as its record says, and 2.12.0+cu130 is installed: "
        "undefined symbol _ZN3c106answerEi."
    )
    for level in ("static", "import"):
        said = here("verify", *PIN, "--python", target, "--arch", "9.0", "--level", level, json_=True)
        assert said.code == 16
        torch = check(said.answer["result"], "torch")
        assert (torch["found"], torch["fix"]) == (words, "Run `sagefix install`.")
        assert said.answer["error"]["hint"] == "Run `sagefix install`."
    doctor = here("doctor", *PIN, "--python", target, "--arch", "9.0", "--cuda", "pypi", json_=True).result
    now = check(doctor, "linked_to_torch now")
    assert (now["status"], now["fix"]) == ("warning", "Run `sagefix install`: it replaces it.")
    assert now["found"] == f"{first['version']}: torch: {words}"
    outdated = here("outdated", *PIN, "--python", target, "--arch", "9.0", "--exit-code", json_=True)
    assert outdated.code == 25
    assert outdated.answer["result"]["reasons"] == [f"torch: {words}"]

    second = here(*install, json_=True).result
    assert (second["action"], second["compiled"], second["before"]) == ("installed", True, first["version"])
    assert ".torch2.12.sm90" in second["version"]
    assert ask(target, CALL) == "212"
    assert here("outdated", *PIN, "--python", target, "--arch", "9.0", "--exit-code").code == 0

    # Back again: the first wheel is still there, and nothing is compiled.
    put_torch(target, "2.11.0")
    third = here(*install, json_=True).result
    assert (third["action"], third["compiled"], third["version"]) == ("installed", False, first["version"])
    assert ask(target, CALL) == "211"


def test_a_wheel_that_says_nothing_of_torch_is_known_by_its_symbols(here: Here, target: Path) -> None:
    """What pip built from a checkout has no label and no record."""
    source = ROOT / "tests/packages/linked_to_torch"
    folder = target.parent / "checkout"
    subprocess.run(["cp", "-r", source, folder], check=True)
    build = ["pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--python", target, folder]
    subprocess.run(["uv", *build], check=True)
    assert ask(target, CALL) == "211"
    put_torch(target, "2.12.0")
    said = here("verify", *PIN, "--python", target, "--arch", "9.0", "--level", "static", json_=True)
    torch = check(said.answer["result"], "torch")
    assert torch["status"] == "failure"
    assert torch["found"].startswith("Built for another torch than 2.12.0+cu130, which is installed")
    assert "_ZN3c106answerEi" in torch["found"]
