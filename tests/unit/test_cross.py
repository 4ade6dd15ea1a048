"""What is known of platforms, and what a build for another one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagefix.building.cross import HEADERS, Cross, cross_variables, make_cross, provide_headers
from sagefix.targets.cross.platforms import load_platforms, platform_named
from sagefix.targets.model import Interpreter

CROSS = Cross(
    platform="linux_aarch64", machine="aarch64", built_on="x86_64", ext_suffix=".cpython-312-aarch64-linux-gnu.so",
    cc="aarch64-linux-gnu-gcc", cxx="aarch64-linux-gnu-g++", libraries=("/cache/torch/lib", "/cache/with space"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("glibc", "glibcxx"),
    [("2.17", ""), ("2.28", "3.4.25"), ("2.35", "3.4.30"), ("2.36", "3.4.30"), ("2.41", "3.4.33")],
)
def test_the_libstdcxx_that_goes_with_a_glibc(glibc: str, glibcxx: str) -> None:
    assert load_platforms().glibcxx_of(glibc) == glibcxx


def test_everything_that_setuptools_would_ask_this_machine_is_answered() -> None:
    variables = cross_variables(CROSS, {"LDFLAGS": "-Wl,--strip-all"}, Path("/build"))
    assert variables == {
        "CC": "aarch64-linux-gnu-gcc",
        "CXX": "aarch64-linux-gnu-g++",
        "LDSHARED": "aarch64-linux-gnu-gcc -shared",
        "LDCXXSHARED": "aarch64-linux-gnu-g++ -shared",
        "LDFLAGS": "-Wl,--strip-all -L/cache/torch/lib -L'/cache/with space'",
        "_PYTHON_HOST_PLATFORM": "linux-aarch64",
        "SETUPTOOLS_EXT_SUFFIX": ".cpython-312-aarch64-linux-gnu.so",
    }


def interpreter(machine: str, python_h: Path, **more: object) -> Interpreter:
    facts = {
        "executable": "python", "version": "3.12.1", "implementation": "cpython", "machine": machine, "prefix": "",
        "base_prefix": "", "platform_tag": f"linux_{machine}", "python_tag": "cp312", "abi_tag": "cp312",
        "tags": (), "glibc": "2.35", "ext_suffix": "", "purelib": "", "platlib": "", "sys_path": (),
        "python_h": str(python_h), "externally_managed": False, "packages": {}, **more,
    }  # fmt: skip
    return Interpreter(**facts)  # type: ignore[arg-type]


def test_headers_that_are_looked_for_by_machine_are_provided(tmp_path: Path) -> None:
    """Debian's pyconfig.h includes one of several, of which one is installed."""
    include = tmp_path / "include" / "python3.12"
    own = tmp_path / "include" / "x86_64-linux-gnu" / "python3.12" / "pyconfig.h"
    for folder in (include, own.parent):
        folder.mkdir(parents=True)
    own.write_text("#define SIZEOF_LONG 8\n")
    switch = "\n".join(
        f"# if defined(__{machine}__)\n# include <{machine}-linux-gnu/python3.12/pyconfig.h>\n# endif"
        for machine in ("x86_64", "aarch64")
    )
    (include / "pyconfig.h").write_text(switch)
    builder = interpreter("x86_64", include / "Python.h")
    cross = make_cross(
        interpreter("aarch64", include / "Python.h", built_by=builder), None, {"CC": "aarch64-linux-gnu-gcc"}
    )
    assert cross is not None
    provide_headers(cross, tmp_path / "build")
    provided = tmp_path / "build" / HEADERS / "aarch64-linux-gnu" / "python3.12" / "pyconfig.h"
    assert provided.read_text() == own.read_text()
    assert cross_variables(cross, {}, tmp_path / "build")["CPPFLAGS"] == f"-I{tmp_path / 'build' / HEADERS}"


def test_one_header_for_all_machines_needs_no_other(tmp_path: Path) -> None:
    (tmp_path / "pyconfig.h").write_text("#define SIZEOF_LONG 8\n")
    builder = interpreter("x86_64", tmp_path / "Python.h")
    target = interpreter("aarch64", tmp_path / "Python.h", built_by=builder)
    cross = make_cross(target, None, {"CC": "aarch64-linux-gnu-gcc"})
    assert cross is not None and cross.pyconfig == ()
    assert make_cross(builder, None, {}) is None


def test_platforms_name_a_package_of_their_compiler_and_their_suffix() -> None:
    for platform in load_platforms().platform:
        assert "debian" in platform.packages
        assert platform.ext_suffix("3.9") == f".cpython-39-{platform.triplet}.so"
    assert platform_named("manylinux_2_39_aarch64").glibc == "2.39"
