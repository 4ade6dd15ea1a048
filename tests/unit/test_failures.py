"""The table of known failures: each row is held to its example, and what is wrong in a table is told with its line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sagefix.building.diagnose import Diagnosis, diagnose, explain_failure
from sagefix.building.facts import Facts
from sagefix.building.failures import Failure, When, judge, load_failures, match_text
from sagefix.errors import PinError
from sagefix.settings import checkout

TABLE = load_failures()

_ROW = """
[[failure]]
name = "x"
strikes = ["build"]
patterns = ['cannot find -l(\\w+)']
means = "lib{0} is missing"
cause = "Because."
fix = "Install {0}."
sources = ["https://example.org"]
example = "cannot find -lx"
"""


def _facts_for(when: When) -> Facts:
    """Facts under which a condition holds."""
    return Facts(
        torch_cuda=None if when.torch_cuda is None else "13.0" if when.torch_cuda else "",
        toolkit=when.toolkit,
        torch=when.torch.lstrip(">=<!~") + ".0" if when.torch else "",
        nvcc=when.cuda.lstrip(">=<!~") if when.cuda else "",
        machine=when.machine,
        system=when.system,
        memory_gib=when.memory_gib_below - 1 if when.memory_gib_below is not None else None,
        exit_status=when.exit_status[0] if when.exit_status else None,
    )


@pytest.mark.parametrize("row", TABLE.failure, ids=lambda row: row.name)
def test_each_row_explains_its_example(row: Failure) -> None:
    made = diagnose(row.example, _facts_for(row.when))
    assert made.best is not None
    assert made.best.name == row.name
    assert "{" not in made.best.means + made.best.cause + made.best.fix


@pytest.mark.parametrize("row", TABLE.failure, ids=lambda row: row.name)
def test_each_row_is_a_fact_with_a_source(row: Failure) -> None:
    assert row.means and row.cause.endswith((".", "`.")) and row.fix.endswith((".", ")."))
    assert all(source.startswith("https://") for source in row.sources)
    # Only what was provoked names what it was provoked with.
    assert row.seen == bool(row.provoked)


@pytest.mark.parametrize(
    "name",
    [
        "build-isolation", "cuda-home-cpu-torch", "cuda-home-missing", "cuda-mismatch", "no-gpus-found",
        "gpu-unknown-to-setup", "wgmma-for-other-gpu", "libcuda-not-linkable", "driver-not-linked",
        "cuda-header-missing", "msvc-ambiguous-std",
        "gcc-too-new", "python-h-missing", "torch-needs-cxx20", "out-of-memory", "ninja-missing", "gpu-unknown-to-nvcc",
        "gpu-unknown-to-ptxas", "toolkit-mixed-ptx", "toolkit-mixed-headers", "bdist-wheel-missing",
        "built-for-another-torch", "glibc-too-old", "driver-library-missing", "disk-full", "kernel-not-available",
        "no-kernel-image", "gpu-unknown-to-package", "triton-missing",
    ],
)  # fmt: skip
def test_what_people_meet_most_is_known(name: str) -> None:
    assert TABLE.named(name) is not None


@pytest.mark.parametrize(
    ("text", "name", "means"),
    [
        (
            "RuntimeError: \nThe detected CUDA version (11.8) mismatches the version that was used to compile\n"
            "PyTorch (12.4). Please make sure to use the same CUDA versions.\n",
            "cuda-mismatch",
            "nvcc is CUDA 11.8, torch was built with CUDA 12.4",
        ),
        (
            "ptxas /tmp/a.ptx, line 20; error   : Instruction 'wgmma.fence' cannot be compiled for architecture "
            "'sm_120'\n",
            "wgmma-for-other-gpu",
            "Hopper's instructions (wgmma.fence) were compiled for sm_120",
        ),
        (
            "ptxas /t/x.ptx, line 5; error   : Instruction 'wgmma.mma_async with FP8 types' not supported on "
            ".target 'sm_89'\n",
            "wgmma-for-other-gpu",
            "Hopper's instructions (wgmma.mma_async) were compiled for sm_89",
        ),
        ("nvcc fatal   : Unsupported gpu architecture 'compute_120'\n", "gpu-unknown-to-nvcc", "compute_120"),
        (
            "a.cpp:1:10: fatal error: cublas_v2.h: No such file or directory\n",
            "cuda-header-missing",
            "cublas_v2.h",
        ),
        (
            "a.cu:1:10: fatal error: nv/target: No such file or directory\n",
            "cuda-header-missing",
            "nv/target",
        ),
        ("g++: fatal error: Killed signal terminated program cc1plus\n", "out-of-memory", "memory"),
        ("nvcc error   : 'cicc' died due to signal 9 (Kill signal)\n", "out-of-memory", "memory"),
        (
            "Error running sage attention: SM89 kernel is not available. Make sure you GPUs with compute capability "
            "8.9., using pytorch attention instead.\n",
            "kernel-not-available",
            "extension for SM89",
        ),
        (
            "RuntimeError: The current installed version of g++ (16.1.0) is greater than the maximum required version "
            "by CUDA 13.0. Please make sure to use an adequate version of g++ (>=6.0.0, <16.0).\n",
            "gcc-too-new",
            "16 is the bound",
        ),
        (
            "LINK : fatal error LNK1181: cannot open file 'cuda.lib'\n",
            "libcuda-not-linkable",
            "driver library",
        ),
    ],
)
def test_the_forms_a_message_has(text: str, name: str, means: str) -> None:
    best = diagnose(text).best
    assert best is not None
    assert best.name == name
    assert means in best.means


def test_what_is_known_of_the_target_decides_between_rows_with_one_message() -> None:
    text = "OSError: CUDA_HOME environment variable is not set. Please set it to your CUDA install root.\n"

    def names(facts: Facts) -> list[str]:
        return [match.name for match in diagnose(text, facts).matches]

    assert names(Facts(torch_cuda="")) == ["cuda-home-cpu-torch"]
    assert names(Facts(torch_cuda="13.0")) == ["cuda-home-missing"]
    # Nothing known: the one that holds for anybody first, the other as a possibility.
    made = diagnose(text)
    assert [(match.name, match.certain) for match in made.matches] == [
        ("cuda-home-missing", True),
        ("cuda-home-cpu-torch", False),
    ]


def test_what_the_log_says_comes_before_what_is_here_now() -> None:
    text = "torch 2.11.0+cpu\nRuntimeError: Cannot find CUDA_HOME. CUDA must be available to build the package.\n"
    best = diagnose(text, Facts(torch="2.11.0+cu130", torch_cuda="13.0")).best
    assert best is not None
    assert best.name == "cuda-home-cpu-torch"


def test_memory_decides_what_to_do_about_a_killed_compiler() -> None:
    killed = "[1/2] nvcc -c a.cu -o a.o\nFAILED: a.o\nnvcc -c a.cu -o a.o\nKilled\nninja: build stopped\n"
    large, small = (diagnose(killed, Facts(memory_gib=gib)).best for gib in (23.5, 2.0))
    assert large and "MAX_JOBS=1" in large.fix
    assert small and "MAX_JOBS" not in small.fix


def test_an_exit_status_alone_explains_a_silent_end() -> None:
    assert [match.name for match in diagnose("running build_ext\n", Facts(exit_status=-9)).matches] == [
        "killed-silently"
    ]
    assert diagnose("running build_ext\n", Facts(exit_status=1)).matches == ()
    assert diagnose("running build_ext\n").matches == ()


def test_a_message_elsewhere_does_not_explain_a_compile_error() -> None:
    log = (
        "UserWarning: Attempted to use ninja as the BuildExtension backend but we could not find ninja.\n"
        "ModuleNotFoundError: No module named 'triton'\n"
        'kernel.cu(12): error: identifier "foo" is undefined\n'
    )
    assert diagnose(log).matches == ()


def test_memory_of_the_gpu_is_not_that_of_the_machine() -> None:
    assert diagnose("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n").matches == ()


def test_conditions() -> None:
    assert judge(When(), Facts()) is True
    assert judge(When(torch=">=2.14"), Facts()) is None
    assert judge(When(torch=">=2.14"), Facts(torch="2.14.0a0+gitabc")) is True
    assert judge(When(torch=">=2.14"), Facts(torch="2.11.0+cu130")) is False
    assert judge(When(torch=">=2.14"), Facts(torch="unknown")) is None
    assert judge(When(cuda="<12.8", machine="x86_64"), Facts(nvcc="12.4.131")) is None
    assert judge(When(cuda="<12.8", machine="x86_64"), Facts(nvcc="13.0.88")) is False
    assert judge(When(toolkit=False), Facts(toolkit=True)) is False
    assert judge(When(system="windows"), Facts(system="linux")) is False
    assert judge(When(exit_status=(-9, 137)), Facts(exit_status=137)) is True


def test_a_failed_build_tells_what_is_known(tmp_path: Path) -> None:
    error = explain_failure(
        "/usr/bin/ld: cannot find -lcuda: No such file or directory\n",
        Facts(exit_status=1),
        tmp_path / "log",
        otherwise="",
    )
    assert error.message.startswith(
        "The build failed: There is no driver library to link with.\n\n/usr/bin/ld: cannot"
    )
    assert str(tmp_path / "log") in error.message
    assert "LIBRARY_PATH" in error.hint
    assert error.details["failure"] == "libcuda-not-linkable"
    assert error.details["returncode"] == 1
    assert error.details["sources"]


def test_a_failed_build_that_nobody_knows_says_where_to_go(tmp_path: Path) -> None:
    error = explain_failure("all quiet\n", Facts(exit_status=1), tmp_path / "log", otherwise="the tail")
    assert error.message == f"The build failed.\n\nthe tail\n\nThe whole log: {tmp_path / 'log'}"
    assert f"`sagefix explain {tmp_path / 'log'}`" in error.hint
    assert (error.details["failure"], error.details["sources"]) == ("", [])


def test_a_wrong_table_does_not_hide_why_a_build_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failures.toml").write_text("schema = 2\n")
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(tmp_path))
    error = explain_failure("a.c:1:1: error: expected ';'\n", Facts(), tmp_path / "log", otherwise="")
    assert "expected ';'" in error.message
    with pytest.raises(PinError):
        diagnose("x")


def test_messages_of_one_error_are_matched_whatever_the_condition() -> None:
    met = [row for row in TABLE.failure if "run" in row.strikes]
    found = match_text(met, "/x/_k.so: undefined symbol: cuTensorMapEncodeTiled")
    assert found is not None
    assert found.name == "driver-not-linked"
    assert match_text(met, "nothing of the kind") is None


def test_a_folder_of_own_manifests_may_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(tmp_path))
    assert load_failures() == TABLE
    (tmp_path / "failures.toml").write_text(f"schema = 1\n{_ROW}")
    assert [row.name for row in load_failures().failure] == ["x"]
    assert diagnose("ld: cannot find -lfoo\n").best.means == "libfoo is missing"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "line", "problem"),
    [
        (("schema = 1", "schema = 2"), 1, "schema: invalid enum value 2"),
        (('name = "x"', 'name = "X y"'), 4, "failure[0].name: 'X y' has to be lower-case words"),
        (('strikes = ["build"]', 'strikes = ["later"]'), 5, "failure[0].strikes[0]: invalid enum value"),
        (('strikes = ["build"]', "strikes = []"), 5, "failure[0].strikes: must name at least one"),
        (("-l(\\w+)", "-l(\\w+"), 6, "failure[0].patterns[0]: not a regular expression"),
        (("Install {0}.", "Install {1}."), 9, "failure[0].fix: no pattern of the row, or not each, captures {1}"),
        (("Because.", "Because {."), 8, "failure[0].cause: its braces are wrong"),
        (("is missing", "is missing."), 7, "failure[0].means: must not end with a full stop"),
        (("https://example.org", "http://example.org"), 10, "failure[0].sources[0]: 'http://example.org' is not"),
        (('example =', 'seen = true\nexample ='), 3, "failure[0].provoked: must say how"),
        (('example =', 'when = { torch = "2,14" }\nexample ='), 11, "failure[0].when.torch: '2,14' is not a version"),
        (('example =', 'colour = "red"\nexample ='), 11, "failure[0].colour: unknown key"),
        (("patterns = ['cannot find -l(\\w+)']\nmeans = \"lib{0}", 'means = "lib'), 3, "failure[0]"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_told_with_its_line(
    tmp_path: Path, change: tuple[str, str], line: int, problem: str
) -> None:
    path = tmp_path / "failures.toml"
    text = f"schema = 1\n{_ROW}"
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(PinError) as caught:
        load_failures(tmp_path)
    assert f"failures.toml:{line}: {problem}" in caught.value.message
    assert "sagefix/building/failures.py" in caught.value.hint


def test_a_name_is_there_once(tmp_path: Path) -> None:
    (tmp_path / "failures.toml").write_text(f"schema = 1\n{_ROW}{_ROW}")
    with pytest.raises(PinError, match="'x' is there twice"):
        load_failures(tmp_path)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PinError, match="cannot be read"):
        load_failures(tmp_path)


@pytest.mark.skipif(checkout() is None, reason="the page is in a checkout only")
def test_the_page_is_what_the_table_says() -> None:
    root = checkout()
    assert root is not None
    done = subprocess.run(
        [sys.executable, root / "scripts" / "failures_page.py"],
        env={"PYTHONPATH": str(root), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_diagnosis_without_matches_has_no_best() -> None:
    made = diagnose("")
    assert isinstance(made, Diagnosis)
    assert made.best is None
