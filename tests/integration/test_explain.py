"""``sagefix explain`` on what real compilers, linkers, installers and builds print."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sagefix.building.diagnose import diagnose
from tests.integration.conftest import MakeTarget, Sagefix

Shell = Callable[..., str]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Run a line of shell that fails, in an empty folder; return what it printed."""

    def run(script: str, **files: str) -> str:
        for name, text in files.items():
            (tmp_path / name.replace("__", ".")).write_text(text)
        done = subprocess.run(
            ["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        assert done.returncode != 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def _name(text: str) -> str:
    best = diagnose(text).best
    return best.name if best else ""


# --- real tools, real messages ---


@pytest.mark.parametrize(
    ("script", "source", "name"),
    [
        ("g++ -c a.cpp", "#include <cusparse.h>\n", "cuda-header-missing"),
        ("g++ -c a.cpp", "#include <Python.h>\n", "python-h-missing"),
        ("g++ a.cpp -lcuda_of_nobody", "int main() {}\n", "library-not-linkable"),
        ("g++ -c a.cpp & sleep 0.2; kill -9 $(pgrep -P $!); wait $!", "slow", "out-of-memory"),
        ("(ulimit -v 60000; g++ -c a.cpp)", "slow", "out-of-memory"),
        ("/nonexistent/g++ -c a.cpp", "int x;\n", "compiler-missing"),
    ],
)
def test_compilers(shell: Shell, script: str, source: str, name: str) -> None:
    if "pgrep" in script and shutil.which("pgrep") is None:
        pytest.skip("needs pgrep")
    if source == "slow":
        source = "".join(
            f"struct S{n} {{ int a[{n % 7 + 1}]; virtual void f{n}() {{}} }};\n" for n in range(40_000)
        )
    assert _name(shell(script, a__cpp=source)) == name


@pytest.mark.skipif(sys.platform != "linux", reason="shared libraries of ELF")
@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("int cuTensorMapEncodeTiled(); int PyInit_m() { return cuTensorMapEncodeTiled(); }", "driver-not-linked"),
        ("int _ZN3c104goneEi(); int PyInit_m() { return _ZN3c104goneEi(); }", "built-for-another-torch"),
        ("int nothing;", "no-python-module"),
    ],
)  # fmt: skip
def test_the_dynamic_linker(shell: Shell, source: str, name: str) -> None:
    assert (
        _name(shell(f"gcc -shared -fPIC -o m.so m.c && {sys.executable} -c 'import m'", m__c=source)) == name
    )


@pytest.mark.skipif(sys.platform != "linux", reason="shared libraries of ELF")
def test_a_c_library_that_is_too_old(shell: Shell) -> None:
    script = (
        "gcc -shared -fPIC -nostdlib -Wl,--version-script=l.map -Wl,-soname,libc.so.6 -o libc.so.6 l.c && "
        f"gcc -shared -fPIC -nostdlib -o m.so m.c ./libc.so.6 && rm libc.so.6 && {sys.executable} -c 'import m'"
    )
    text = shell(
        script, l__c="int later(void) { return 1; }\n", l__map="GLIBC_2.99 { later; };\n",
        m__c="int later(void); void *PyInit_m(void) { later(); return 0; }\n",
    )  # fmt: skip
    best = diagnose(text).best
    assert best is not None
    assert (best.name, best.means) == (
        "glibc-too-old",
        "It was built on a system with a newer C library: GLIBC_2.99 is not here",
    )


@pytest.mark.skipif(shutil.which("ninja") is None, reason="needs ninja")
def test_ninja_with_several_failures_at_once(tmp_path: Path) -> None:
    rules = "rule cc\n  command = g++ -Wall -fdiagnostics-color=always -c $in -o $out\n"
    sources = {
        "a.cpp": '#warning "error: not really"\nint f() { return 1; }\n',
        "b.cpp": "[[noreturn]] void error_handler(int error) {}\n#include <cublas_v2.h>\n",
        "c.cpp": "int error_count;\n#include <cublas_v2.h>\n",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    edges = "".join(f"build {name[0]}.o: cc {name}\n" for name in sources)
    (tmp_path / "build.ninja").write_text(rules + edges)
    done = subprocess.run(
        ["ninja", "-v", "-k", "0", "-j", "3"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    made = diagnose(done.stdout + done.stderr)
    assert made.first.kind == "tool"
    assert "cublas_v2.h: No such file" in made.first.text.splitlines()[0]
    assert made.best is not None
    assert made.best.means == "The CUDA toolkit lacks the header cublas_v2.h"


def test_pips_build_isolation(shell: Shell) -> None:
    # The setup.py of a package that imports torch without asking for it.
    text = shell(
        f"{sys.executable} -m venv v && v/bin/python -m pip wheel --no-deps .",
        setup__py="import torch\nimport setuptools\nsetuptools.setup(name='x', version='1')\n",
        pyproject__toml="[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n",
    )
    assert _name(text) == "build-isolation"


# --- the command ---


def _feed(sagefix: Sagefix, text: str, *args: str) -> tuple[int, str, str]:
    done = subprocess.run(
        sagefix.command("explain", *args),
        input=text,
        cwd=sagefix.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_pasted_error(sagefix: Sagefix) -> None:
    code, out, _ = _feed(
        sagefix, "ValueError: Unsupported CUDA architecture: sm75\n", "-", "--python", sys.executable
    )
    assert code == 0
    assert "SageAttention 2 does not know what to do on sm75" in out
    assert "https://github.com/thu-ml/SageAttention/issues/137" in out
    assert "fix" in out


def test_a_log_in_json_with_what_was_different_then(sagefix: Sagefix, make_target: MakeTarget) -> None:
    log = sagefix.folder / "build.log"
    log.write_text(
        "[1/1] /opt/cuda-11.8/bin/nvcc -I/opt/old/lib/python3.9/site-packages/torch/include -c a.cu -o a.o\n"
        "FAILED: a.o\na.cu:1:10: fatal error: cusparse.h: No such file or directory\n"
    )
    result = sagefix("explain", log, "--python", make_target(build=False)).result
    assert result["explained"] is True
    assert result["log"] == str(log)
    assert result["matches"][0]["name"] == "cuda-header-missing"
    assert result["matches"][0]["seen"] is True
    assert result["first_error"].startswith("a.cu:1:10: fatal error: cusparse.h")
    assert result["then"]["nvcc"] == "11.8"
    assert [each["log"] for each in result["different"] if each["what"] == "Python"] == ["3.9"]
    assert result["report"] == ""


def test_an_unknown_failure_gives_a_report_and_its_own_exit_status(
    sagefix: Sagefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "ada"))
    text = (
        f"[1/1] c++ -I{tmp_path}/ada/include -c a.cpp\na.cpp:1:1: error: expected unqualified-id\n"
        + "".join(f"line {number} of https://me:geheim@index.example.org/simple\n" for number in range(100))
    )
    code, out, err = _feed(sagefix, text, "-")
    assert code == 22
    assert "not a known failure" in out
    assert "a.cpp:1:1: error: expected unqualified-id" in out
    assert "-I~/include" in out
    assert "line 99 of" in out
    assert "geheim" not in out
    assert str(tmp_path / "ada") not in out
    assert "Paste the report" in err
    code, out, _ = _feed(sagefix, text, "-", "--json")
    answer = json.loads(out)
    assert code == 22
    assert (answer["error"]["name"], answer["error"]["exit_code"]) == ("unexplained", 22)
    assert answer["result"]["explained"] is False
    assert "geheim" not in answer["result"]["report"]


@pytest.mark.parametrize("argument", ["nowhere.log", "."])
def test_a_log_that_is_not_there(sagefix: Sagefix, argument: str) -> None:
    said = sagefix("explain", argument)
    assert (said.code, said.answer["error"]["name"]) == (2, "usage")
    assert argument in said.answer["error"]["message"]


def test_nothing_to_explain(sagefix: Sagefix) -> None:
    said = sagefix("explain")
    assert said.code == 2
    assert "There is no log of a build" in said.answer["error"]["message"]
    code, _, err = _feed(sagefix, "\n \n", "-")
    assert code == 2
    assert "There is nothing in what was pasted" in err


def test_logs_of_windows_are_read(sagefix: Sagefix) -> None:
    log = sagefix.folder / "powershell.log"
    log.write_bytes("error: invalid command 'bdist_wheel'\r\n".encode("utf-16"))
    assert sagefix("explain", log).result["matches"][0]["name"] == "bdist-wheel-missing"


def test_of_a_huge_log_the_beginning_and_the_end_are_read(sagefix: Sagefix) -> None:
    log = sagefix.folder / "huge.log"
    with log.open("w") as stream:
        stream.write("torch 2.11.0+cpu\n")
        stream.writelines("copying a/b/c/d/e/f/g.py -> build/lib\n" * 1000 for _ in range(600))
        stream.write("RuntimeError: Cannot find CUDA_HOME. CUDA must be available to build the package.\n")
    assert log.stat().st_size > 20_000_000
    assert sagefix("explain", log).result["matches"][0]["name"] == "cuda-home-cpu-torch"


# --- builds of ours ---


def _install(target: Path) -> list[str]:
    return ["install", "--pin", "demo", "--python", str(target)]


def _compiler(path: Path, does: str) -> Path:
    """Write a C compiler that fails on the demo's kernel in its own way."""
    path.write_text(f'#!/bin/sh\ncase "$*" in\n*attention.c*) {does};;\nesac\nexec cc "$@"\n')
    path.chmod(0o755)
    return path


def test_a_failed_build_explains_itself_at_once_and_later(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path
) -> None:
    target = make_target()
    broken = _compiler(
        tmp_path / "no-header", 'echo "#include <cusparse.h>" | cc -x c -c -o /dev/null - || exit 1'
    )
    said = sagefix(*_install(target), env={"CC": str(broken)})
    assert said.code == 10
    error = said.answer["error"]
    assert error["message"].startswith("The build failed: The CUDA toolkit lacks the header cusparse.h.")
    assert error["details"]["failure"] == "cuda-header-missing"
    assert error["details"]["sources"]
    assert "--cuda pypi" in error["hint"]
    log = error["details"]["log"]

    later = sagefix("explain", "--python", target).result
    assert later["log"] == log
    assert later["matches"][0]["name"] == "cuda-header-missing"
    # The compiler is told by the log, since sagefix wrote down what it built with.
    assert later["then"]["key"] in log
    assert later["then"]["compiler"].startswith(("gcc ", "clang "))
    assert later["then"]["exit_status"] == 1

    # A build that succeeds since is not what is asked about.
    assert sagefix(*_install(target)).code == 0
    assert sagefix("explain", "--python", target).result["log"] == log


def test_after_builds_that_succeeded_there_is_nothing_to_explain(
    sagefix: Sagefix, make_target: MakeTarget
) -> None:
    sagefix(*_install(make_target()))
    said = sagefix("explain")
    assert said.code == 2
    assert "No build has failed: of the 1 logs" in said.answer["error"]["message"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_build_that_is_killed_without_a_word(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path
) -> None:
    # What the kernel does to the largest process when memory runs out: the parent of the compiler is the build itself.
    broken = _compiler(tmp_path / "oom", f"kill -{int(signal.SIGKILL)} $PPID; sleep 5")
    said = sagefix(*_install(make_target()), env={"CC": str(broken)})
    assert said.code == 10
    error = said.answer["error"]
    assert error["details"]["failure"] == "killed-silently"
    assert error["details"]["returncode"] == -9
    assert "MAX_JOBS=1" in error["hint"]
    assert sagefix("explain").result["matches"][0]["name"] == "killed-silently"


def test_an_unknown_failure_of_a_build_says_how_to_report_it(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path
) -> None:
    broken = _compiler(tmp_path / "odd", 'echo "attention.c:7:1: error: no such thing" >&2; exit 1')
    said = sagefix(*_install(make_target()), env={"CC": str(broken)})
    error = said.answer["error"]
    assert error["details"]["failure"] == ""
    assert f"`sagefix explain {error['details']['log']}`" in error["hint"]
    told = sagefix("explain")
    assert told.code == 22
    report = told.answer["result"]["report"]
    assert f"key {told.answer['result']['then']['key']}" in report
    assert "demoattention-1.0.0" in report
    assert "attention.c:7:1: error: no such thing" in report
