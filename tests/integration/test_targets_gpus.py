"""The ways to the GPUs, each asked for real: an interpreter with a small torch, NVML, and an nvidia-smi."""

from __future__ import annotations

import os
import shutil
import sys
import venv
from pathlib import Path

import msgspec
import pytest

from sagefix.process import run
from sagefix.targets.gpus import find_gpus
from sagefix.targets.interpreter import find_python, probe
from sagefix.targets.model import Interpreter, Torch

# A Python with the real torch, for the test with a GPU (read here: tests run in a scrubbed environment).
REAL = os.environ.get("SAGEFIX_TEST_PYTHON", "")
TORCH = """\
import os
class _Properties:
    name, major, minor, total_memory = "Test Card", 9, 0, 1 << 37
class cuda:
    @staticmethod
    def init():
        {init}
    @staticmethod
    def device_count():
        return int(os.environ.get("CARDS", "1"))
    @staticmethod
    def get_device_properties(index):
        return _Properties
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    folder = tmp_path / "venv"
    venv.create(folder, symlinks=True, with_pip=False)
    return folder


def with_torch(environment: Path, init: str = "pass", *, text: str = "") -> Interpreter:
    """Put a torch into the environment that answers what is asked of it."""
    found = probe(find_python(str(environment)))
    folder = Path(found.purelib) / "torch"
    folder.mkdir()
    (folder / "__init__.py").write_text(text or TORCH.format(init=init), encoding="ascii")
    torch = Torch(version="2.11.0+cu130", cuda="13.0", cxx11_abi=True, folder=str(folder))
    return msgspec.structs.replace(found, torch=torch)


def environ(path: Path, **more: str) -> dict[str, str]:
    return {"PATH": str(path), "HOME": str(path), **more}


def smi(folder: Path, text: str) -> Path:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{text}\n", encoding="ascii")
    program.chmod(0o755)
    return folder


def no_nvml() -> bool:
    """NVML belongs to the driver; where there is one, the ways after it are not reached."""
    return find_gpus(None, {"PATH": ""}).found_by == ""


def test_torch_in_the_target_is_asked_first(environment: Path, tmp_path: Path) -> None:
    found = find_gpus(with_torch(environment), environ(tmp_path, CARDS="2"))
    assert found.found_by == "torch"
    assert [(gpu.index, gpu.name, gpu.capability, gpu.memory) for gpu in found.gpus] == [
        (0, "Test Card", "9.0", 1 << 37),
        (1, "Test Card", "9.0", 1 << 37),
    ]


@pytest.mark.skipif(not no_nvml(), reason="this machine has a driver")
@pytest.mark.parametrize(
    ("init", "said"),
    [
        (
            'raise RuntimeError("Found no NVIDIA driver\\n on your system.")',
            "torch: RuntimeError: Found no NVIDIA driver on your system.",
        ),
        ("raise AssertionError", "torch: AssertionError"),
        ("os._exit(11)", "failed with exit status 11"),
        ("os.environ['CARDS'] = '0'", "torch: torch sees no GPU"),
    ],
)
def test_the_words_of_torch_are_kept_and_the_next_way_is_tried(
    environment: Path, tmp_path: Path, init: str, said: str
) -> None:
    found = find_gpus(with_torch(environment, init), environ(tmp_path))
    assert (found.gpus, found.found_by) == ((), "")
    assert said in found.tried[0]
    assert found.tried[1].startswith("nvml: ")
    assert found.tried[2] == "nvidia-smi: nvidia-smi was not found."


DRIVER = """\
#include <stdlib.h>
#include <string.h>
int cuInit(unsigned flags) { return getenv("NO_CARD") ? 100 : 0; }
int cuDriverGetVersion(int *version) { *version = getenv("OLD") ? 12080 : 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strcpy(name, device ? "Second" : "First"); return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    *value = which == 75 ? 8 + device : 9 * !device;
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)1 << 36; return 0; }
"""


@pytest.mark.skipif(
    shutil.which("cc") is None or not sys.platform.startswith("linux"), reason="needs cc on Linux"
)
def test_the_driver_answers_before_torch_is_imported(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "driver.c").write_text(DRIVER)
    run(["cc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", tmp_path / "driver.c"])
    target = with_torch(environment, text="raise ImportError('this takes seconds')")
    env = environ(tmp_path, LD_LIBRARY_PATH=str(tmp_path))
    found = find_gpus(target, env)
    assert found.found_by == "driver"
    assert [(gpu.index, gpu.name, gpu.capability, gpu.memory) for gpu in found.gpus] == [
        (0, "First", "8.9", 1 << 36),
        (1, "Second", "9.0", 1 << 36),
    ]
    # torch says best why it cannot use what is there.
    for reason in ("OLD", "NO_CARD"):
        tried = find_gpus(target, {**env, reason: "1"}).tried
        assert tried[0] == "torch: torch cannot be imported: ImportError: this takes seconds"


def test_a_torch_that_cannot_be_imported(environment: Path, tmp_path: Path) -> None:
    broken = with_torch(environment, text="raise ImportError('libcudart.so.13: cannot open')")
    tried = find_gpus(broken, environ(tmp_path)).tried
    assert tried[0] == "torch: torch cannot be imported: ImportError: libcudart.so.13: cannot open"


def test_a_target_without_a_torch_of_use_is_not_started() -> None:
    this = probe(Path(sys.executable))
    none = msgspec.structs.replace(this, torch=None, executable="/not/there")
    assert find_gpus(none, {"PATH": ""}).tried[0] == "torch: there is none in /not/there"
    cpu = msgspec.structs.replace(
        none, torch=Torch(version="2.9.0+cpu", cuda="", cxx11_abi=True, folder="/t")
    )
    assert find_gpus(cpu, {"PATH": ""}).tried[0] == "torch: 2.9.0+cpu has no CUDA"
    assert find_gpus(None, {"PATH": ""}).tried[0] == "torch: no interpreter was asked"


@pytest.mark.skipif(not no_nvml(), reason="this machine has a driver")
def test_nvidia_smi_is_the_last_way(tmp_path: Path) -> None:
    path = smi(tmp_path, "echo '0, GPU-a, 8.9, 24564, 570.1, RTX'; echo '1, GPU-b, 8.9, 24564, 570.1, RTX'")
    found = find_gpus(None, environ(path))
    assert (found.found_by, len(found.gpus), found.gpus[0].driver) == ("nvidia-smi", 2, "570.1")
    one = find_gpus(None, environ(path, CUDA_VISIBLE_DEVICES="1"))
    assert (len(one.gpus), one.gpus[0].index) == (1, 0)
    hidden = find_gpus(None, environ(path, CUDA_VISIBLE_DEVICES=""))
    assert hidden.gpus == ()
    assert hidden.tried[-1] == "nvidia-smi: CUDA_VISIBLE_DEVICES='' hides every GPU"


@pytest.mark.skipif(not no_nvml(), reason="this machine has a driver")
def test_the_words_of_nvidia_smi_are_kept(tmp_path: Path) -> None:
    path = smi(tmp_path, "echo 'Field \"compute_cap\" is not a valid field to query.'; exit 2")
    assert find_gpus(None, environ(path)).tried[-1] == (
        'nvidia-smi: Field "compute_cap" is not a valid field to query.'
    )
    assert (
        find_gpus(None, environ(smi(tmp_path, "exit 9"))).tried[-1] == "nvidia-smi: failed with exit status 9"
    )


@pytest.mark.gpu
@pytest.mark.skipif(no_nvml() or not REAL, reason="needs a GPU and torch")
def test_every_way_agrees_on_a_real_gpu() -> None:
    target = probe(find_python(REAL))
    by_torch, by_nvml = find_gpus(target), find_gpus(None)
    assert (by_torch.found_by, by_nvml.found_by) == ("driver", "nvml")
    assert [gpu.capability for gpu in by_torch.gpus] == [gpu.capability for gpu in by_nvml.gpus]
    said = run([REAL, "-c", "import torch; print(torch.cuda.get_device_properties(0).total_memory)"]).stdout
    assert by_torch.gpus[0].memory == int(said)
    assert by_nvml.driver_cuda
