"""What a log says of the build: from sagefix's own lines, else from commands, paths and messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagefix.building.facts import Facts, differences, facts_of_log, header, merged

# The first lines of real logs, shortened.
_TORCH = (
    "W1120 12:13:15.468000 4690 torch/utils/cpp_extension.py:140] No CUDA runtime is found, using "
    "CUDA_HOME='/usr/local/cuda-13.0'\n"
    "[1/1] /usr/local/cuda-13.0/bin/nvcc -MD -MF /tmp/t/build/temp.linux-x86_64-cpython-312/at.o.d "
    "-I/opt/venv/lib/python3.12/site-packages/torch/include -c /tmp/t/at.cu -gencode=arch=compute_90a,code=sm_90a "
    "-gencode=arch=compute_80,code=sm_80\n"
)


def test_commands_tell_toolkit_torch_python_machine_and_archs() -> None:
    facts = facts_of_log(_TORCH)
    assert facts == Facts(
        python="3.12",
        torch_folder="/opt/venv/lib/python3.12/site-packages/torch",
        toolkit=True,
        cuda_home="/usr/local/cuda-13.0",
        nvcc="13.0",
        machine="x86_64",
        system="linux",
        archs=("80", "90a"),
    )


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("Cuda compilation tools, release 12.4, V12.4.131\n", "nvcc", "12.4.131"),
        ("gcc version 12.2.0 (Debian 12.2.0-14+deb12u1)\n", "compiler", "gcc 12.2.0"),
        ("g++ (Debian 12.2.0-14) 12.2.0\ngcc (Debian 12.2.0-14) 12.2.0\n", "compiler", "gcc 12.2.0"),
        ("In file included from /usr/include/c++/14/vector:66,\n", "compiler", "gcc 14"),
        ("/usr/lib/gcc/x86_64-linux-gnu/11/../../../x.o\n", "compiler", "gcc 11"),
        ("torch==2.9.1+cu128\n", "torch", "2.9.1+cu128"),
        ("pytorch version: 2.8.0+cu129\n", "torch", "2.8.0+cu129"),
        ("torch.__version__  = 2.9.1+cu130\n", "torch", "2.9.1+cu130"),
        ("torch 2.11.0+cpu\n", "torch_cuda", ""),
        ("CUDA version (11.8) mismatches the version used to compile\nPyTorch (12.4)", "torch_cuda", "12.4"),
        ("sameCUDA versions.', '12.4', '13.0')", "nvcc", "12.4"),
        ("sameCUDA versions.', '12.4', '13.0')", "torch_cuda", "13.0"),
        ("C:\\Program Files\\NVIDIA GPU Computing Toolkit\\CUDA\\v12.8\\bin\\nvcc.exe -c a.cu\n", "system", "windows"),
        ("C:\\Program Files\\NVIDIA GPU Computing Toolkit\\CUDA\\v12.8\\bin\\nvcc.exe -c a.cu\n", "nvcc", "12.8"),
        ("build\\temp.win-amd64-cpython-313\\a.obj\n", "machine", "amd64"),
        ("executor failed running: exit code: 137\n", "exit_status", -9),
        ("returned non-zero exit status 1.\n", "exit_status", None),
        ("exit code: 1374\n", "exit_status", None),
    ],
)  # fmt: skip
def test_each_thing_a_log_may_tell(text: str, name: str, value: object) -> None:
    assert getattr(facts_of_log(text), name) == value


def test_pips_own_python_is_not_that_of_the_build() -> None:
    pip = '  File "/a/lib/python3.11/site-packages/pip/_vendor/pyproject_hooks/_in_process.py", line 1\n' * 3
    assert (
        facts_of_log(pip + '  File "/b/lib/python3.12/site-packages/setuptools/build_meta.py"\n').python
        == "3.12"
    )


def test_sagefixs_own_lines_count_most_and_the_last_one_most_of_all() -> None:
    text = (
        header(Facts(torch="2.11.0+cu130", torch_cuda="13.0", nvcc="13.0.88", key="abc", archs=("9.0",)))
        + _TORCH
        + header(Facts(exit_status=1))
        + "sagefix: {broken\n"
    )
    facts = facts_of_log(text)
    assert (facts.torch, facts.nvcc, facts.key, facts.archs) == ("2.11.0+cu130", "13.0.88", "abc", ("9.0",))
    assert facts.torch_folder
    assert facts.exit_status == 1


def test_nothing_is_made_up() -> None:
    assert facts_of_log("hello\n") == Facts()


def test_what_one_does_not_say_the_other_does() -> None:
    assert merged(Facts(torch_cuda=""), Facts(torch_cuda="13.0", nvcc="13.0")) == Facts(
        torch_cuda="", nvcc="13.0"
    )
    assert merged(Facts(), Facts(memory_gib=2.0)) == Facts(memory_gib=2.0)


def test_differences_are_what_both_know_and_disagree_on(tmp_path: Path) -> None:
    then = Facts(python="3.12", torch="2.11.0+cu130", nvcc="13.0", compiler="gcc 14", machine="x86_64")
    now = Facts(
        python="3.12.1", torch="2.9.1+cu128", nvcc="13.0.88", compiler="gcc 12.2.0", cuda_home="/opt/cuda"
    )
    assert [(each.what, each.log, each.now) for each in differences(then, now)] == [
        ("torch", "2.11.0+cu130", "2.9.1+cu128"),
        ("C++ compiler", "gcc 14", "gcc 12.2.0"),
    ]
    # Less exact is not different, but 3.1 is not the beginning of 3.12.
    assert not differences(Facts(torch="2.11.0"), Facts(torch="2.11.0+cu130"))
    assert differences(Facts(python="3.1"), Facts(python="3.12"))
    assert [each.log for each in differences(Facts(torch_cuda=""), Facts(torch_cuda="13.0"))] == ["none"]
    (tmp_path / "cuda-13.0").mkdir()
    (tmp_path / "cuda").symlink_to("cuda-13.0")
    links = [Facts(cuda_home=str(tmp_path / name)) for name in ("cuda", "cuda-13.0")]
    assert not differences(*links)
