"""Levels `numerics` and `full` without a GPU: the demo package, right and with one planted fault of each kind."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Here, MakeTarget, python_of

DEMO = ROOT / "manifests" / "demo"
C, PYTHON = "csrc/attention.c", "demoattention/__init__.py"
STORE = "out[i * shape->width + c] = (TYPE)(sums[c] / total);"
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, make_target: MakeTarget) -> Install:
    """A function that compiles a copy of the demo with changes (file, old, new) and installs it."""

    def made(*changes: tuple[str, str, str]) -> Path:
        source = shutil.copytree(DEMO, tmp_path / "source")
        for name, old, new in changes:
            text = (source / name).read_text(encoding="utf-8")
            assert text.count(old) == 1, (name, old)
            (source / name).write_text(text.replace(old, new), encoding="utf-8")
        target = make_target()
        command = [
            "uv",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--python",
            target,
            source,
        ]
        subprocess.run(command, check=True)
        return target

    return made


def judged(here: Here, target: Path, level: str, *more: str, code: int = 16) -> dict[str, Any]:
    """Verify, and return the verdict."""
    said = here("verify", "--pin", "demo", "--python", python_of(target), "--level", level, *more, json_=True)
    assert said.code == code, said.answer
    verdict: dict[str, Any] = said.answer["result"]
    return verdict


def check(verdict: dict[str, Any], name: str) -> dict[str, Any]:
    """Return one check of a verdict."""
    (found,) = [row for row in verdict["checks"] if row["name"] == name]
    return dict(found)


def failed(verdict: dict[str, Any]) -> list[str]:
    """Return the names of the checks that failed."""
    return [row["name"] for row in verdict["checks"] if row["status"] == "failure"]


@pytest.mark.parametrize("level", ["numerics", "full"])
def test_the_demo_is_right(install: Install, here: Here, level: str) -> None:
    verdict = judged(here, install(), level, code=0)
    assert verdict["level"] == level
    assert (
        "cases are right, the worst with a relative error of" in check(verdict, "numerics attention")["found"]
    )
    assert check(verdict, "refusals")["found"] == "2 of 2 are refused."
    numerics = verdict["numerics"]
    assert [device["capability"] for device in numerics["devices"]] == ["cpu"]
    assert {case["status"] for case in numerics["cases"]} == {"right"}
    assert {row["name"] for row in numerics["thresholds"]} == {"exact, fp64", "exact, fp32"}
    assert all(row["derived"] for row in numerics["thresholds"])
    lengths = {case["shape"][3] for case in numerics["cases"]}
    assert {1, 63, 64, 65, 129, 700} <= lengths
    assert (4097 in lengths) == (level == "full")


@pytest.mark.parametrize("level", ["numerics", "full"])
def test_an_output_that_nobody_writes_is_named(install: Install, here: Here, level: str) -> None:
    verdict = judged(here, install((C, STORE, "(void)out;")), level)
    assert failed(verdict) == ["numerics attention"]
    assert check(verdict, "numerics attention")["found"] == "The output was never written."
    assert verdict["numerics"]["words"] == ["attention: the output was never written."]
    assert "All of the output is zero: " in verdict["numerics"]["cases"][0]["text"]


def test_a_kernel_of_another_machine_is_named(install: Install, here: Here) -> None:
    """Machine code that this processor has not: the same signal that a real one gets."""
    changes = (
        (C, "#include <math.h>", "#include <math.h>\n#include <signal.h>"),
        (C, "    Py_BEGIN_ALLOW_THREADS\n", "    raise(SIGILL);\n    Py_BEGIN_ALLOW_THREADS\n"),
    )
    verdict = judged(here, install(*changes), "numerics")
    assert failed(verdict) == ["numerics attention"]
    assert check(verdict, "numerics attention")["found"] == (
        "Every call ends the process: The process was ended by SIGILL. It has no kernel for this GPU or machine: "
        "it was built for another."
    )
    statuses = [case["status"] for case in verdict["numerics"]["cases"]]
    assert statuses.count("crashed") == 3
    assert "Left out after 3 crashes of attention." in {case["text"] for case in verdict["numerics"]["cases"]}


def test_an_extension_of_another_machine_is_named(install: Install, here: Here) -> None:
    target = install()
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    (module,) = target.glob(f"lib/python*/site-packages/demoattention/_attention{suffix}")
    module.rename(module.with_name("_attention.cpython-312-riscv64-linux-gnu.so"))
    verdict = judged(here, target, "numerics", "--skip", "static")
    assert verdict["skipped"] == ["static"]
    assert check(verdict, "import demoattention")["status"] == "failure"
    assert check(verdict, "numerics")["found"] == "Nothing was computed: demoattention does not import."
    # The level that was left out names the file.
    assert "extensions" in failed(judged(here, target, "numerics"))


@pytest.mark.parametrize("level", ["numerics", "full"])
def test_one_wrong_dtype_is_named(install: Install, here: Here, level: str) -> None:
    change = (
        C,
        "attention_float(views[Q].buf, views[K].buf, views[V].buf",
        "attention_float(views[Q].buf, views[K].buf, views[K].buf",
    )
    verdict = judged(here, install(change), level)
    assert failed(verdict) == ["numerics attention"]
    assert check(verdict, "numerics attention")["found"].endswith(" for float32 only.")


@pytest.mark.parametrize(("level", "limit"), [("numerics", 129), ("full", 129)])
def test_wrong_beyond_a_length_is_named(install: Install, here: Here, level: str, limit: int) -> None:
    change = (
        C,
        "(double)v[j * shape->width + c]",
        "(double)v[(shape->keys > 512 ? (j * 7) % 499 : j) * shape->width + c]",
    )
    verdict = judged(here, install(change), level)
    found = check(verdict, "numerics attention")["found"]
    assert found.startswith(f"Right up to {limit} tokens, ")
    assert found.endswith(" beyond.")


@pytest.mark.parametrize(("level", "words"), [("numerics", "odd lengths"), ("full", "odd numbers of keys")])
def test_nan_at_odd_lengths_is_named(install: Install, here: Here, level: str, words: str) -> None:
    change = (C, STORE, "out[i * shape->width + c] = (TYPE)(shape->keys % 2 ? NAN : sums[c] / total);")
    verdict = judged(here, install(change), level)
    assert check(verdict, "numerics attention")["found"] == f"NaN at {words}."
    bad = [case for case in verdict["numerics"]["cases"] if case["status"] == "wrong"]
    assert all(case["numbers"]["nan"] and case["numbers"]["relative_l2"] is None for case in bad)


def test_an_import_that_is_swallowed_is_named(install: Install, here: Here) -> None:
    changes = (
        (
            C,
            "    Py_BEGIN_ALLOW_THREADS\n",
            "    extern void nobody_has_this(void);\n    nobody_has_this();\n    Py_BEGIN_ALLOW_THREADS\n",
        ),
        (
            PYTHON,
            "from demoattention import _attention\n",
            "try:\n    from demoattention import _attention\nexcept ImportError:\n    _attention = None\n",
        ),
    )
    verdict = judged(here, install(*changes), "numerics", "--skip", "static")
    package = check(verdict, "import demoattention")
    assert "imports without an error and hides what its extensions raise" in package["found"]
    assert "nobody_has_this" in package["found"]
    assert check(verdict, "numerics attention")["found"].startswith(
        "No call works: It raises AttributeError: 'NoneType' object has no attribute 'attention'"
    )


def test_a_gpu_cannot_be_chosen_for_a_pin_without_one(install: Install, here: Here) -> None:
    said = here(
        "verify",
        "--pin",
        "demo",
        "--python",
        python_of(install()),
        "--level",
        "numerics",
        "--gpu",
        "0",
        json_=True,
    )
    assert said.code == 2
    assert "there is no GPU to choose" in said.answer["error"]["message"]


def test_the_table_names_functions_and_verbose_names_cases(install: Install, here: Here) -> None:
    target = install((C, STORE, "(void)out;"))
    words = ("verify", "--pin", "demo", "--python", python_of(target), "--level", "numerics")
    short, long = here(*words), here(*words, "--verbose")
    assert "22 wrong" not in short.out
    assert "10 wrong" in short.out
    assert "attention/float64/1x1x700x16" not in short.out
    assert "attention/float64/1x1x700x16" in long.out
