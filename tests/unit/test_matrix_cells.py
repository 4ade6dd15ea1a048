"""Which cells there are, which are impossible and why, and which wheels count for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import make_wheel

from sagefix.errors import UsageError
from sagefix.pins.load import load_pin
from sagefix.pins.matrix import Cell, Matrix, Wanted, load_matrix
from sagefix.pins.refs import resolve_ref
from sagefix.targets.model import Interpreter, Torch
from sagefix.wheels.archive import facts
from sagefix.workflows.coverage import (
    GITHUB_MOST,
    Found,
    MatrixRequest,
    described,
    github_matrix,
    look,
    survey_matrix,
)
from sagefix.workflows.matrix import Choice, cells

SAGE = load_pin("sageattention")
DEMO = load_pin("demo")
PINNED = resolve_ref(SAGE, None)
assert PINNED is not None


def reasons(**choice: object) -> dict[str, str]:
    made = cells(load_matrix(), SAGE, None, msgspec.convert(choice, Choice))
    return {cell.id: cell.reason for cell in made}


def one(**choice: str) -> str:
    """The reason against the one cell of a choice."""
    (reason,) = reasons(**{name: (value,) for name, value in choice.items()}).values()
    return reason


def test_what_is_wanted_is_possible() -> None:
    made = cells(load_matrix(), SAGE)
    assert len(made) == len({cell.id for cell in made}) == 54
    assert {cell.status for cell in made} == {"possible"}
    assert made[0] == Cell(
        id="cp311-torch2.11-cu130-sm80-x86_64",
        pin="sageattention",
        python="3.11",
        abi="cp311",
        torch="2.11",
        torch_version="2.11.0",
        cuda="13.0",
        platform="x86_64",
        host="x86_64",
        runner="ubuntu-24.04",
        archs="8.0",
    )
    there = [cell for cell in made if cell.platform == "aarch64"]
    assert {cell.archs for cell in there} == {"9.0"}
    assert {(cell.host, cell.cross, cell.runner) for cell in there} == {("x86_64", True, "ubuntu-24.04")}


def test_cells_of_a_pin_for_the_cpu_are_pythons() -> None:
    made = cells(load_matrix(), DEMO, None, Choice(pythons=("3.12",), torch=("2.11",), archs=("9.0",)))
    assert [cell.id for cell in made] == ["cp312-x86_64", "cp312-aarch64"]
    assert not any(cell.torch or cell.cuda or cell.archs for cell in made)


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"pythons": "3.14", "torch": "2.8"}, "torch 2.8 has no build for Python 3.14, only for 3.9, 3.10,"),
        ({"torch": "2.10", "platforms": "aarch64"}, "torch 2.10 is for the CPU only on aarch64; it has CUDA from 2.11"),
        ({"torch": "2.10"}, "PyPI has no compiler for CUDA 12: nvidia-cuda-nvcc-cu12 holds ptxas and no nvcc"),
        ({"torch": "3.0"}, "the matrix does not know torch 3.0, only 2.8, 2.9,"),
        ({"torch": "2.14"}, "torch's headers need C++20 from 2.14 on"),
        ({"archs": "7.5"}, "7.5: setup.py skips GPUs below 8.0"),
        ({"archs": "10.0"}, "10.0: B200: setup.py of this commit does not know it."),
        ({"archs": "8.0;12.1"}, "12.1: DGX Spark"),
        ({"pythons": "3.8"}, "sageattention needs Python >=3.9"),
        ({"platforms": "riscv64"}, "the matrix has no platform riscv64"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_why_a_cell_is_impossible(choice: dict[str, str], says: str) -> None:
    wanted = {"pythons": "3.12", "torch": "2.11", "platforms": "x86_64", "archs": "9.0", **choice}
    assert one(**wanted).startswith(says)


def test_an_arch_can_need_a_later_cuda_than_torch_has() -> None:
    matrix = load_matrix()
    old = msgspec.structs.replace(matrix.torch[0], cuda={"x86_64": "12.6"})
    choice = Choice(
        pythons=("3.12",), torch=("2.8",), archs=("8.9", "9.0"), platforms=("x86_64",), cuda="system"
    )
    made = cells(msgspec.structs.replace(matrix, torch=(old,)), SAGE, None, choice)
    assert [cell.reason for cell in made] == ["8.9 needs CUDA 12.8, and torch 2.8 is for 12.6", ""]


def test_a_toolkit_of_ones_own_needs_no_package() -> None:
    chosen = {"pythons": ("3.12",), "torch": ("2.10",), "platforms": ("x86_64",), "archs": ("9.0",)}
    assert list(reasons(**chosen, cuda="/opt/cuda").values()) == [""]
    assert "PyPI has no compiler" in next(iter(reasons(**chosen, cuda="pypi").values()))


def test_another_kind_of_machine() -> None:
    def made(**choice: Any) -> dict[str, tuple[str, str]]:
        wanted = Choice(pythons=("3.12",), torch=("2.11",), archs=("9.0",), **choice)
        return {cell.platform: (cell.host, cell.reason) for cell in cells(load_matrix(), SAGE, None, wanted)}

    here = {"x86_64": ("x86_64", ""), "aarch64": ("x86_64", "")}
    assert made() == made(machine="x86_64") == here
    assert made(machine="x86_64", native=True) == here | {
        "aarch64": ("aarch64", "it needs an aarch64 machine, and this one is x86_64")
    }
    # A machine of its own kind builds natively, asked or not.
    assert made(machine="aarch64") == {
        "x86_64": ("x86_64", "it needs an x86_64 machine, and this one is aarch64"),
        "aarch64": ("aarch64", ""),
    }


def test_a_native_runner_is_of_the_kind_of_the_wheel() -> None:
    chosen = Choice(pythons=("3.12",), torch=("2.11",), platforms=("aarch64",), native=True)
    (cell,) = cells(load_matrix(), SAGE, None, chosen)
    assert (cell.host, cell.cross, cell.runner) == ("aarch64", False, "ubuntu-24.04-arm")


@pytest.mark.parametrize("native", [True, False])
def test_what_torch_is_not_there_for_no_cross_build_is_for(native: bool) -> None:
    chosen = Choice(pythons=("3.12",), torch=("2.10",), platforms=("aarch64",), archs=("9.0",), native=native)
    (cell,) = cells(load_matrix(), SAGE, None, chosen)
    assert (cell.status, cell.reason) == (
        "impossible", "torch 2.10 is for the CPU only on aarch64; it has CUDA from 2.11 on",
    )  # fmt: skip


def test_a_platform_narrows_the_rows_down() -> None:
    made = reasons(platforms=("aarch64",))
    assert len(made) == 9
    assert all(name.endswith("sm90-aarch64") for name in made)


def test_a_commit_that_is_known_to_be_broken() -> None:
    bad = resolve_ref(SAGE, "v2.2.0")
    choice = Choice(pythons=("3.12",), torch=("2.11",), platforms=("x86_64",), archs=("8.9", "9.0"))
    good, broken = cells(load_matrix(), SAGE, bad, choice)
    assert (good.status, broken.status) == ("possible", "impossible")
    assert broken.reason.startswith("eb615cf is known to be bad: The kernel is never launched")
    allowed = msgspec.structs.replace(choice, allow_known_bad=True)
    assert [cell.reason for cell in cells(load_matrix(), SAGE, bad, allowed)] == ["", ""]


def interpreter(torch: Torch | None) -> Interpreter:
    target = described(cells(load_matrix(), SAGE)[0]).interpreter
    return msgspec.structs.replace(target, executable="/somewhere/python", version="3.11.7", torch=torch)


@pytest.mark.parametrize(
    ("torch", "name", "reason"),
    [
        (Torch(version="2.9.0+cu126", cuda="12.6", cxx11_abi=True, folder=""), "cp311-torch2.9-cu126-sm90-x86_64", ""),
        (
            Torch(version="2.9.0+cpu", cuda="", cxx11_abi=True, folder=""),
            "cp311-torch2.9-sm90-x86_64",
            "the torch of /somewhere/python is for the CPU only",
        ),
        (None, "cp311-sm90-x86_64", "there is no torch in /somewhere/python"),
    ],
    ids=["cuda", "cpu", "none"],
)  # fmt: skip
def test_a_python_by_its_path_brings_its_torch(torch: Torch | None, name: str, reason: str) -> None:
    choice = Choice(interpreters=(interpreter(torch),), archs=("9.0",))
    (cell,) = cells(load_matrix(), SAGE, None, choice)
    assert (cell.id, cell.reason, cell.interpreter) == (name, reason, "/somewhere/python")


def test_a_pin_that_the_matrix_does_not_want() -> None:
    empty = msgspec.structs.replace(load_matrix(), wanted=())
    with pytest.raises(UsageError, match="wants nothing of the pin sageattention") as caught:
        cells(empty, SAGE, None, Choice(pythons=("3.12",)))
    assert "--torch, --arch" in caught.value.hint
    choice = Choice(pythons=("3.12",), torch=("2.11",), archs=("9.0",))
    assert [cell.platform for cell in cells(empty, SAGE, None, choice)] == ["x86_64", "aarch64"]


def test_rows_that_overlap_give_a_cell_once() -> None:
    row = Wanted(pin="demo", pythons=("3.12",), platforms=("x86_64",))
    matrix = Matrix(schema=1, platform=load_matrix().platform, wanted=(row, row))
    assert len(cells(matrix, DEMO)) == 1


@pytest.mark.parametrize(
    ("version", "tag", "status"),
    [
        ("68de379.fix1.cu130.torch2.11.sm90", "cp312-cp312-linux_x86_64", "have"),
        ("68de379.fix1.cu130.torch2.11.sm90", "cp312-cp312-manylinux_2_34_x86_64", "have"),
        ("68de379.fix1.cu130.torch2.11.sm80.sm90", "cp312-cp312-linux_x86_64", "have"),
        ("68de379.fix1.cu130.torch2.11.sm90", "cp313-cp313-linux_x86_64", "missing"),
        ("68de379.fix1.cu130.torch2.11.sm90", "cp312-cp312-linux_aarch64", "missing"),
        ("68de379.fix1.cu130.torch2.12.sm90", "cp312-cp312-linux_x86_64", "missing"),
        ("68de379.fix1.cu128.torch2.11.sm90", "cp312-cp312-linux_x86_64", "missing"),
        ("68de379.fix1.cu130.torch2.11.sm80", "cp312-cp312-linux_x86_64", "missing"),
        ("68de379.cu130.torch2.11.sm90", "cp312-cp312-linux_x86_64", "missing"),
        ("d1a57a5.fix1.cu130.torch2.11.sm90", "cp312-cp312-linux_x86_64", "missing"),
    ],
)
def test_which_wheels_count_for_a_cell(tmp_path: Path, version: str, tag: str, status: str) -> None:
    torch = version.partition("torch")[2][:4]
    wheel = make_wheel(tmp_path, version=f"2.2.0+{version}", tag=tag, requires=[f"torch=={torch}.*"])
    wanted = [cell for cell in cells(load_matrix(), SAGE) if cell.id == "cp312-torch2.11-cu130-sm90-x86_64"]
    assert PINNED is not None
    (answer,) = look(wanted, SAGE, PINNED, at_hand=[facts(wheel, where="x")])
    assert answer.status == status
    assert (answer.wheel is not None) == (status == "have")


def test_github_gets_what_is_missing_and_no_more_than_it_takes() -> None:
    (cell,) = cells(
        load_matrix(), SAGE, None, Choice(pythons=("3.12",), torch=("2.11",), archs=("8.0 9.0",), platforms=("x86_64",))
    )  # fmt: skip
    missing = Found(cell=cell, status="missing")
    others = [Found(cell=cell, status="have"), Found(cell=cell, status="impossible", reason="why")]
    assert github_matrix([missing, *others]) == {
        "include": [
            {
                "cell": "cp312-torch2.11-cu130-sm80.sm90-x86_64",
                "pin": "sageattention",
                "python": "3.12",
                "torch": "2.11",
                "cuda": "13.0",
                "arch": "8.0;9.0",
                "platform": "x86_64",
                "host": "x86_64",
                "runner": "ubuntu-24.04",
            }
        ]
    }
    assert len(github_matrix([missing] * 300)["include"]) == GITHUB_MOST


def test_requests_that_cannot_be(tmp_path: Path) -> None:
    wheels = str(tmp_path / "wheels")
    with pytest.raises(UsageError, match="has no cell cp399-x86_64") as caught:
        survey_matrix(MatrixRequest(pin="demo", cells=("cp312-x86_64", "cp399-x86_64"), wheelhouse=wheels))
    assert "cp310-x86_64" in caught.value.hint
    request = MatrixRequest(pin="demo", pythons=("3.12, 3.13",), cells=("cp313-x86_64",), wheelhouse=wheels)
    assert [each.cell.id for each in survey_matrix(request).found] == ["cp313-x86_64"]
