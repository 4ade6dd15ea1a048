"""What torch's headers include, and which compilers the headers accept, read out of their text."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagefix.targets.compilers import read_bounds
from sagefix.targets.headers import included

GUARDED = """\
#if !defined(STABLE_ONLY) && !defined(TARGET_VERSION)
#pragma once
#include <cstdint>
#  include <cusparse.h>
#ifdef CUDART_VERSION
#include <cusolverDn.h>
#else
#include <cu_never.h>
#endif
#if defined(USE_CUDSS)
#include <cudss.h>
#endif
#ifndef CUDART_VERSION
#include <cu_old.h>
#endif
#ifndef ANYTHING
#include <cublas_v2.h>
#endif
#if CUDART_VERSION >= 12000
#include <cu_new.h>
#elif 1
#include <cu_other.h>
#endif
#include "cu_quoted.h"
#include <cusparse.h>
#endif
#ifdef __CUDACC__
#include <cu_device.h>
#endif
"""


def test_only_what_is_always_included() -> None:
    assert included(GUARDED) == ["cstdint", "cusparse.h", "cusolverDn.h", "cublas_v2.h"]


@pytest.mark.parametrize("text", ["", "#endif\n#else\n", "#if\n#include <x.h>\n", "#ifdef\n#include <x.h>\n"])
def test_broken_text_is_read_as_far_as_it_goes(text: str) -> None:
    assert included(text) == []


def test_bounds_of_the_host_compiler(tmp_path: Path) -> None:
    toolkit, torch = tmp_path / "include", tmp_path / "torch"
    (toolkit / "crt").mkdir(parents=True)
    (torch / "include/c10/util").mkdir(parents=True)
    (toolkit / "crt/host_config.h").write_text(
        "#if (__VENDOR_CLANG__ == 1) && ((__clang_major__ < 16) || (__clang_major__ > 20))\n#endif\n"
        "#if __GNUC__ > 15\n#error too new\n#endif\n"
        "#if (__clang_major__ >= 21) || (__clang_major__ < 3)\n#endif\n",
        encoding="ascii",
    )
    (torch / "include/c10/util/C++17.h").write_text(
        "#if !defined(__clang__) && defined(__GNUC__) && \\\n    __GNUC__ < 9\n#error\n#endif\n"
        "#if defined(__clang__) && __clang_major__ < 9\n#error\n#endif\n",
        encoding="ascii",
    )
    bounds = read_bounds([tmp_path / "not there", toolkit], torch)
    assert bounds.of("gcc") == (9, 15)
    assert bounds.of("clang") == (9, 20)


def test_no_headers_no_bounds(tmp_path: Path) -> None:
    bounds = read_bounds([tmp_path], tmp_path)
    assert bounds.of("gcc") == (0, 0)
    assert bounds.of("clang") == (0, 0)
