"""The first real error is lifted from the noise around it."""

from __future__ import annotations

import pytest

from sagefix.building.diagnose import first_error

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
