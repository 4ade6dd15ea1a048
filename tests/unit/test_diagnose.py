"""The first real error is lifted from the noise around it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sagefix.building.diagnose import clean, find_first_error, first_error

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NINJA_TAIL = """ninja: build stopped: subcommand failed.
Traceback (most recent call last):
  File "cpp_extension.py", line 2506, in _run_ninja_build
    subprocess.run(
subprocess.CalledProcessError: Command '['ninja', '-v', '-j', '2']' returned non-zero exit status 1.

The above exception was the direct cause of the following exception:

RuntimeError: Error compiling objects for extension
"""


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (
            "[1/2] nvcc -c a.cu\nFAILED: [code=1] a.o\nnvcc -c a.cu\n"
            "/opt/torch/include/ATen/cuda/CUDAContextLight.h:6:10: fatal error: cusparse.h: No such file or directory\n"
            "    6 | #include <cusparse.h>\n      |          ^~~~~~~~~~~~\ncompilation terminated.\n" + _NINJA_TAIL,
            "cusparse.h: No such file or directory",
        ),
        (
            "ptxas /tmp/x.ptx, line 4; error   : Instruction 'wgmma.fence' not supported on .target 'sm_80'\n"
            "ptxas fatal   : Ptx assembly aborted due to errors\n" + _NINJA_TAIL,
            "wgmma.fence",
        ),
        ("kernel.cu(12): error: identifier \"foo\" is undefined\n1 error detected\n" + _NINJA_TAIL, 'identifier "foo"'),
        ("/usr/bin/ld: cannot find -lcuda: No such file or directory\ncollect2: error: ld returned 1 exit status\n"
         "error: command '/usr/bin/g++' failed with exit code 1\n", "cannot find -lcuda"),
        ("Traceback (most recent call last):\n  File \"setup.py\"\nModuleNotFoundError: No module named 'torch'\n",
         "No module named 'torch'"),
        ("Killed\n" + _NINJA_TAIL, "Killed"),
        ("x86_64-linux-gnu-gcc: fatal error: Killed signal terminated program cc1plus\n" + _NINJA_TAIL, "cc1plus"),
        ("RuntimeError: No GPUs found. Please specify the target GPU architectures.\n", "No GPUs found"),
    ],
)  # fmt: skip
def test_the_cause_comes_first(log: str, expected: str) -> None:
    assert expected in first_error(log).splitlines()[0]


def test_a_log_without_an_error_says_nothing() -> None:
    assert first_error("running build_ext\n[1/1] cc -Werror=format-security -c a.c\ncreating a.so\n") == ""


_CASES = tomllib.loads(Path(__file__).with_name("first_errors.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", _CASES["case"], ids=lambda case: case["name"])
def test_the_cause_is_lifted_from_the_noise(case: dict[str, str]) -> None:
    assert case["expected"] in first_error(case["log"]).splitlines()[0]


@pytest.mark.parametrize("case", _CASES["quiet"])
def test_what_is_no_error(case: dict[str, str]) -> None:
    assert find_first_error(clean(case["log"])).kind == "none"


def test_what_belongs_to_an_error_is_shown_with_it() -> None:
    shown = first_error(_CASES["case"][0]["log"]).splitlines()
    assert len(shown) == 3
    assert shown[1].strip().startswith("3 |")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n", "\r", ""])
def test_ends_of_lines(end: str) -> None:
    assert first_error(f"a.c:1:1: error: x{end}") == "a.c:1:1: error: x"


def test_a_message_may_begin_below_its_name() -> None:
    log = (
        "RuntimeError: \nThe detected CUDA version (11.8) mismatches the version that was used to compile\n"
        "PyTorch (12.4). Please make sure to use the same CUDA versions.\n\nmore\n"
    )
    assert first_error(log).splitlines()[-1].startswith("PyTorch (12.4)")


def test_the_first_of_chained_exceptions_is_the_cause() -> None:
    log = "KeyError: 'x'\n\nDuring handling of the above exception, another exception occurred:\n\nValueError: y\n"
    assert first_error(log) == "KeyError: 'x'"


def test_a_long_log_is_read_quickly() -> None:
    line = "[1/9] nvcc " + "-DNAME=error:value " * 40 + "-c a.cu -o a.o\n"
    assert first_error(line * 20_000 + "a.cu(1): error: x\n") == "a.cu(1): error: x"
