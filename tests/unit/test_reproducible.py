"""Which flags make compilers forget where they work, and how commands of a build's log read without places."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from sagefix.building.commands import read_commands
from sagefix.building.plan import Identity, key_of
from sagefix.building.reproducible import places_of, reproducible_flags, shown
from sagefix.targets.model import Interpreter, Torch
from sagefix.targets.toolkit import Toolkit
from sagefix.wheels.model import Command

ROOT = Path("/home/u/.cache/sagefix/builds/0123")
PLACES = {
    "/opt/cuda-13.0": "cuda",
    "/home/u/env": "environment",
    "/home/u/env/lib/site-packages": "site-packages",
}


def interpreter(**changes: object) -> Interpreter:
    made = Interpreter(
        executable="/home/u/env/bin/python",
        version="3.12.1",
        implementation="cpython",
        machine="x86_64",
        prefix="/home/u/env",
        base_prefix="/usr",
        platform_tag="linux_x86_64",
        python_tag="cp312",
        abi_tag="cp312",
        tags=(),
        glibc="2.36",
        ext_suffix=".cpython-312-x86_64-linux-gnu.so",
        purelib="/home/u/env/lib/site-packages",
        platlib="/home/u/env/lib/site-packages",
        sys_path=(),
        python_h="/usr/include/python3.12/Python.h",
        externally_managed=False,
        packages={},
        include="/usr/include/python3.12",
    )
    return msgspec.structs.replace(made, **changes)


def toolkit(home: str) -> Toolkit:
    return Toolkit(
        home=home, nvcc=f"{home}/bin/nvcc", version="13.0", full_version="13.0.88", found_in="option",
        include_folders=(), lib_folders=(), stub_folders=(),
    )  # fmt: skip


def test_places_are_those_of_target_and_toolkit_and_not_the_systems() -> None:
    torch = Torch(version="2.11.0", cuda="13.0", cxx11_abi=True, folder="/home/u/.local/lib/python3.12/torch")
    places = places_of(interpreter(torch=torch), toolkit("/opt/cuda-13.0"))
    assert places["/home/u/env/lib/site-packages"] == "site-packages"
    assert places["/home/u/.local/lib/python3.12"] == "site-packages"
    assert places["/opt/cuda-13.0"] == "cuda"
    assert places["/usr/include/python3.12"] == "include"
    # A header of the system has the same path everywhere.
    assert "/usr" not in places


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"-I{ROOT}/src/csrc", "-I{build}/src/csrc"),
        ("/home/u/env/lib/site-packages/torch/lib", "{site-packages}/torch/lib"),
        ("/home/u/env/include", "{environment}/include"),
        ("/opt/cuda-13.0", "{cuda}"),
        ("/opt/cuda-13.0.1/include", "/opt/cuda-13.0.1/include"),
    ],
)
def test_the_longest_place_wins_and_only_whole_names_count(text: str, told: str) -> None:
    assert shown(text, PLACES, ROOT) == told


def test_flags_stand_behind_the_users_and_the_last_map_is_the_longest_folder() -> None:
    env = {"CPPFLAGS": "-DX", "LDFLAGS": "-Wl,-z,now", "CFLAGS": "-O1"}
    flags = reproducible_flags(PLACES, ROOT, compiler="gcc 12.2.0", nvcc="", env=env)
    assert flags["LDFLAGS"] == "-Wl,-z,now -Wl,--strip-all"
    words = flags["CPPFLAGS"].split()
    assert words[0] == "-DX"
    assert f"-ffile-prefix-map={ROOT}=/sagefix/build" in words
    # Compilers take the last one that fits.
    order = [word for word in words if "/home/u/env" in word]
    assert [word.rpartition("/")[2] for word in order] == ["environment", "site-packages"]
    assert "CFLAGS" not in flags


@pytest.mark.parametrize("compiler", ["gcc 7.5.0", "clang 9.0.1", "", "icx 2024.1"])
def test_a_compiler_that_may_not_know_the_flag_gets_none(compiler: str) -> None:
    flags = reproducible_flags(PLACES, ROOT, compiler=compiler, nvcc="", env={})
    assert flags == {"LDFLAGS": "-Wl,--strip-all"}


def test_a_folder_that_cannot_be_written_in_a_variable_is_left_out() -> None:
    flags = reproducible_flags(
        {"/opt/my cuda": "cuda", "/opt/a,b": "x"}, ROOT, compiler="gcc 12.2.0", nvcc="", env={}
    )
    assert flags["CPPFLAGS"].count("-ffile-prefix-map=") == 1


@pytest.mark.parametrize("knows", [True, False])
def test_nvcc_gets_a_name_for_its_sources_if_it_takes_one(tmp_path: Path, knows: bool) -> None:
    nvcc = tmp_path / "nvcc"
    option = ' --orig_src_path_name "/x/sagefix.cu"' if knows else ""
    nvcc.write_text(f"#!/bin/sh\necho '#$ cudafe++{option}' >&2\n")
    nvcc.chmod(nvcc.stat().st_mode | stat.S_IXUSR)
    flags = reproducible_flags(
        PLACES, ROOT, compiler="gcc 12.2.0", nvcc=str(nvcc), env={"NVCC_APPEND_FLAGS": "-lineinfo"}
    )
    words = flags["NVCC_APPEND_FLAGS"].split()
    assert words[0] == "-lineinfo"
    assert "-Xcompiler=-ffile-prefix-map=/opt/cuda-13.0=/sagefix/cuda" in words
    assert ("--orig_src_path_name=/sagefix/build/source.cu" in words) is knows


def test_an_nvcc_that_does_not_start_gets_maps_only(tmp_path: Path) -> None:
    flags = reproducible_flags({}, ROOT, compiler="gcc 12.2.0", nvcc=str(tmp_path / "none"), env={})
    assert "-Xcudafe" not in flags["NVCC_APPEND_FLAGS"]


OBJECTS = f"{ROOT}/build/temp"
NVCC = "sccache /opt/cuda-13.0/bin/nvcc -MD -MF x.d -O3"
LIB = f"{ROOT}/build/lib.linux/pkg"
SM90 = "-gencode arch=compute_90a,code=sm_90a"
LOG = f"""running build_ext
building 'pkg._c' extension
[1/3] c++ -MMD -MF a.d -O3 -I/opt/cuda-13.0/include -c -c {ROOT}/src/csrc/a.cpp -o {OBJECTS}/a.o -DNAME=_c
[2/3] {NVCC} --threads=8 -c -c {ROOT}/src/csrc/b.cu -o {OBJECTS}/b.o {SM90} --threads 4
[3/3] {NVCC} -t=2 -c -c {ROOT}/src/csrc/c.cu -o {OBJECTS}/c.o {SM90}
g++ -shared {OBJECTS}/a.o {OBJECTS}/b.o {OBJECTS}/c.o -L/opt/lib -lcudart -Wl,-rpath,/x -o {LIB}/_c.so -lcuda
x86_64-linux-gnu-gcc-12 -O2 -c {ROOT}/src/d.c -o {ROOT}/build/temp/d.o
x86_64-linux-gnu-gcc-12 -shared {ROOT}/build/temp/d.o -o {LIB}/_d.so -lm
warning: this is no command -o at all 'quoted
gcc -v
"""


def test_commands_are_told_by_library_without_places_objects_and_threads() -> None:
    first, second = read_commands(LOG, PLACES, ROOT)
    assert (first.path, second.path) == ("pkg/_c.so", "pkg/_d.so")
    assert first.compile == (
        Command(program="c++", flags=("-O3", "-DNAME=_c"), sources=("csrc/a.cpp",)),
        Command(
            program="nvcc",
            flags=("-O3", "-gencode", "arch=compute_90a,code=sm_90a"),
            sources=("csrc/b.cu", "csrc/c.cu"),
        ),
    )
    assert first.link == Command(program="g++", flags=("-shared", "-lcudart", "-lcuda"))
    assert second.compile == (Command(program="gcc", flags=("-O2",), sources=("d.c",)),)


def test_a_log_without_commands_tells_nothing() -> None:
    assert read_commands("running build_py\n", PLACES, ROOT) == ()


def test_a_key_can_be_computed_from_what_a_record_keeps() -> None:
    identity = Identity(
        pin="p", commit="c", tree="t", version="1", archs=("9.0",), gencodes={"9.0": "90a"}, extensions=("p._c",),
        archs_of={"p._c": ("9.0",)}, python_tag="cp312", abi_tag="cp312", platform_tag="linux_x86_64", torch="",
        cuda="", cxx11_abi=None, nvcc="", host_compiler="gcc 12.2.0", setuptools="81", fixes={"b": "1", "a": "2"},
        patches=(), environment={"CC": "gcc"}, shim=1, tools={"ld": "2.40", "glibc": "2.36"},
    )  # fmt: skip
    kept = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(identity)))
    assert key_of(kept) == key_of(identity)
    assert key_of(msgspec.structs.replace(identity, manylinux=True)) != key_of(identity)
    kept["tools"]["ld"] = "2.41"
    assert key_of(kept) != key_of(identity)
