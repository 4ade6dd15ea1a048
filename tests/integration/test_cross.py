"""Builds for another platform with a real cross compiler: what comes out, and each way in which it could be wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import msgspec
import pytest

from sagefix.building.cross import cross_variables, make_cross
from sagefix.checks import failures
from sagefix.errors import GpuError, TargetError, ToolchainError
from sagefix.files import sha256_file
from sagefix.installing.installer import require_writable
from sagefix.pins.load import load_pin
from sagefix.targets.cross.compilers import find_cross_compilers, library_folders, tool_environment
from sagefix.targets.cross.described import describe
from sagefix.targets.cross.platforms import load_platforms
from sagefix.targets.gpus import find_gpus
from sagefix.targets.interpreter import probe
from sagefix.targets.model import Interpreter
from sagefix.targets.stub import SONAME
from sagefix.targets.throwaway import make_throwaway
from sagefix.wheels.checking import check_wheel
from sagefix.wheels.elsewhere import System, check_for, check_gpu_code
from sagefix.workflows.situation import find_target

from .conftest import ROOT, Here, python_of

OTHER = next(platform for platform in load_platforms().platform if not platform.here)
CC = shutil.which(f"{OTHER.triplet}-gcc")
SHIM = ROOT / "sagefix" / "guest" / "shim.py"
PYTHON = ".".join(str(part) for part in sys.version_info[:2])
DRIVER_CALL = ROOT / "tests" / "packages" / "driver_call" / "driver_call.c"
SETUP = """\
from setuptools import Extension, setup

extension = Extension("driver_call", ["driver_call.c"], libraries={libraries}, library_dirs={folders})
setup(name="driver-call", version="1.0", ext_modules=[extension])
"""

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or CC is None or shutil.which(f"{OTHER.triplet}-g++") is None,
    reason=f"needs Linux and a cross compiler: {next(iter(OTHER.packages.values()))}",
)


# The whole line


def test_a_pin_without_torch_is_built_for_another_machine(here: Here, tmp_path: Path) -> None:
    said = here("build", "--pin", "demo", "--platform", OTHER.name, "--python", PYTHON, json_=True).result
    name, tag = said["wheel"]["filename"], PYTHON.replace(".", "")
    assert name.endswith(f"-cp{tag}-cp{tag}-{OTHER.name}.whl")
    checks = {check["name"]: check["status"] for check in said["checks"]}
    assert {checks[each] for each in ("platform", "symbols", "libraries", "symbol versions")} == {"ok"}
    assert checks["Python interface"] == "ok"
    tools = said["wheel"]["record"]["tools"]
    assert tools["built on"] == os.uname().machine
    assert tools["host compiler"].endswith(f"for {OTHER.machine}")
    assert said["plan"]["cross"]["platform"] == OTHER.name
    # Everything that sagefix compiled with stands where it can be read later.
    first = json.loads(Path(said["log"]).read_text().partition("\n")[0].removeprefix("sagefix: "))
    assert (first["machine"], first["built_on"]) == (OTHER.machine, os.uname().machine)


def test_it_is_the_same_in_another_place_and_another_one_than_the_native(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests, keys = set(), set()
    for place in ("one", "another place"):
        monkeypatch.setenv("SAGEFIX_CACHE_DIR", str(tmp_path / place / "cache"))
        monkeypatch.setenv("SAGEFIX_WHEELHOUSE", str(tmp_path / place / "wheels"))
        made = here("build", "--pin", "demo", "--platform", OTHER.name, "--python", PYTHON, json_=True).result
        digests.add(sha256_file(Path(made["wheel"]["where"])))
        keys.add(made["plan"]["key"])
    native = here("build", "--pin", "demo", "--python", PYTHON, json_=True).result
    assert (len(digests), len(keys)) == (1, 1)
    assert native["plan"]["key"] not in keys
    assert native["plan"]["cross"] is None


def test_the_platform_of_this_machine_is_an_ordinary_build(here: Here) -> None:
    mine = next(platform for platform in load_platforms().platform if platform.here)
    made = here("build", "--pin", "demo", "--platform", mine.name, "--python", PYTHON, json_=True).result
    assert made["plan"]["cross"] is None
    assert "built on" not in made["wheel"]["record"]["tools"]


# Refusals


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--platform", OTHER.name, "--python", sys.executable], 2, "--python has to be a version"),
        (["--platform", OTHER.name], 2, "--python has to be a version"),
        (["--platform", "linux_sparc64", "--python", PYTHON], 2, "is not known"),
        (["--platform", "", "--python", PYTHON], 2, "--platform is empty"),
    ],
)
def test_what_cannot_be_meant_is_refused(here: Here, options: list[str], code: int, words: str) -> None:
    said = here("build", "--pin", "demo", *options, json_=True)
    assert said.code == code
    assert words in said.answer["error"]["message"]


def test_an_arch_has_to_be_named_before_anything_is_fetched(here: Here, own_environment: Path) -> None:
    said = here("build", "--platform", OTHER.name, "--python", PYTHON, "--torch", "2.11", json_=True)
    assert (said.code, said.answer["error"]["name"]) == (7, "gpu")
    assert "--arch" in said.answer["error"]["hint"]
    assert not (own_environment / "environments").exists()


def test_without_a_cross_compiler_its_package_is_named(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("uv", "git", "gcc", "cc", "as", "ld", "ldconfig"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    (tools / f"python{PYTHON}").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tools))
    said = here("build", "--pin", "demo", "--platform", OTHER.name, "--python", PYTHON, json_=True)
    assert (said.code, said.answer["error"]["name"]) == (8, "toolchain")
    assert f"{OTHER.triplet}-gcc is not on PATH" in said.answer["error"]["message"]
    assert OTHER.packages["debian"] in said.answer["error"]["hint"]


def test_a_compiler_of_the_users_for_this_machine_is_refused() -> None:
    with pytest.raises(
        ToolchainError, match=f"CC names .*gcc, which compiles for .*, not for {OTHER.machine}"
    ):
        find_cross_compilers(OTHER, {**os.environ, "CC": "gcc"})
    with pytest.raises(ToolchainError, match="CXX names"):
        find_cross_compilers(OTHER, {**os.environ, "CXX": "g++"})
    with pytest.raises(ToolchainError, match="NVCC_PREPEND_FLAGS gives nvcc"):
        find_cross_compilers(OTHER, {**os.environ, "NVCC_PREPEND_FLAGS": "-ccbin g++"})


def test_a_compiler_of_the_users_for_that_machine_is_taken(tmp_path: Path) -> None:
    own = tmp_path / "my-compiler"
    assert CC is not None
    own.write_text(f'#!/bin/sh\nexec {CC} "$@"\n')
    own.chmod(0o755)
    assert find_cross_compilers(OTHER, {**os.environ, "CC": str(own)}, cxx=False).cc == (str(own),)


def test_a_compiler_without_a_c_library_is_found_out_before_the_build(tmp_path: Path) -> None:
    bare = tmp_path / f"{OTHER.triplet}-gcc"
    bare.write_text(f'#!/bin/sh\nexec {CC} -nostdinc "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(ToolchainError, match="cannot build a C library") as caught:
        find_cross_compilers(OTHER, {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, cxx=False)
    assert "may lack the C library" in caught.value.hint


@pytest.fixture
def target(base_target: Path) -> Interpreter:
    """The other platform, described for the environment that has setuptools."""
    return describe(OTHER, probe(python_of(base_target)))


def test_nothing_is_run_in_a_described_target_nor_installed_into_it(
    target: Interpreter, tmp_path: Path
) -> None:
    for work in (
        lambda: require_writable(target, break_system=False),
        lambda: make_throwaway(target, tmp_path / "trial", project="p", package="p"),
        lambda: find_gpus(target),
    ):
        with pytest.raises(TargetError, match="is described, not present"):
            work()
    pin = load_pin("sageattention")
    with pytest.raises(GpuError, match="cannot be asked") as caught:
        find_target(pin, pin.recipe[0], target, None)
    assert "--arch" in caught.value.hint


# What a build would leave if one thing was not said; each of them ends with status 0.


class Trial:
    """Builds the module that calls the driver, for the other platform, and checks it as a build is checked."""

    def __init__(self, folder: Path, target: Interpreter) -> None:
        self.folder, self.target = folder, target
        cross = make_cross(target, None, tool_environment(target))
        assert cross is not None
        self.stub("stub", "int cuTensorMapEncodeTiled(void) { return 34; }")
        self.cross = msgspec.structs.replace(cross, libraries=(str(folder / "stub"),))
        self.variables = {**os.environ, **cross_variables(self.cross, os.environ, folder)}
        self.libraries = ["cuda"]
        self.code = DRIVER_CALL.read_text()

    def library(self, path: Path, soname: str, code: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        source = path.with_suffix(".c")
        source.write_text(code)
        assert CC is not None
        subprocess.run(
            [CC, "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", str(path), str(source)], check=True
        )

    def stub(self, name: str, code: str) -> None:
        self.library(self.folder / name / "libcuda.so", SONAME, code)

    def build(self) -> Path:
        source = self.folder / "source"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        (source / "driver_call.c").write_text(self.code)
        (source / "setup.py").write_text(SETUP.format(libraries=self.libraries, folders=[]))
        facts = json.dumps({"cross": msgspec.to_builtins(self.cross)})
        done = subprocess.run(
            [self.target.builder.executable, str(SHIM), "setup.py", "-q", "bdist_wheel"],
            cwd=source, env={**self.variables, "SAGEFIX_SHIM": facts}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (wheel,) = (source / "dist").glob("*.whl")
        return wheel

    def bad(self, **described: str) -> list[str]:
        """Return the names of the checks that fail."""
        wheel = self.build()
        libraries = tuple(Path(folder) for folder in library_folders([self.cross.cc]))
        system = System(
            name=OTHER.name, machine=OTHER.machine, libraries=libraries,
            glibc=described.get("glibc", "2.99"), glibcxx="3.4.99",
            python=Path(self.target.builder.executable), python_machine=self.target.builder.machine,
        )  # fmt: skip
        checks = check_wheel(
            wheel, extensions=("driver_call",), archs=(), gencodes={}, libraries=libraries,
            machine=OTHER.machine, ext_suffix=self.target.ext_suffix,
        )  # fmt: skip
        return [check.name for check in failures((*checks, *check_for(wheel, system)))]


@pytest.fixture
def trial(target: Interpreter, tmp_path: Path) -> Trial:
    return Trial(tmp_path, target)


def test_with_everything_said_the_trial_is_right(trial: Trial) -> None:
    assert trial.bad() == []


def test_a_tag_of_this_machine_is_found(trial: Trial) -> None:
    del trial.variables["_PYTHON_HOST_PLATFORM"]
    assert trial.bad() == ["platform"]


def test_modules_named_for_this_machine_are_found(trial: Trial) -> None:
    del trial.variables["SETUPTOOLS_EXT_SUFFIX"]
    assert trial.bad() == ["platform"]


def test_code_for_this_machine_is_found(trial: Trial) -> None:
    trial.variables |= {"CC": "gcc", "LDSHARED": "gcc -shared", "LDFLAGS": ""}
    trial.libraries = []
    trial.code = trial.code.replace("cuTensorMapEncodeTiled()", "1L")
    assert "platform" in trial.bad()


def test_an_empty_stub_of_the_driver_is_found(trial: Trial) -> None:
    trial.stub("stub", "int nothing;")
    trial.variables["LDFLAGS"] += " -Wl,--as-needed"
    assert trial.bad() == ["symbols"]


def test_a_linked_libpython_is_found(trial: Trial) -> None:
    name = f"libpython{PYTHON}.so"
    trial.library(trial.folder / "stub" / name, f"{name}.1.0", "int PyModule_Create2(void) { return 0; }")
    trial.libraries.append(f"python{PYTHON}")
    assert trial.bad() == ["libraries"]


def test_the_shim_keeps_setuptools_from_linking_libpython(trial: Trial, base_target: Path) -> None:
    shared = sysconfig.get_config_var("Py_ENABLE_SHARED")
    if not shared or sys.version_info >= (3, 13):
        pytest.skip("this Python was built without a shared library, and setuptools links none")
    assert trial.bad() == []


def test_a_library_that_the_platform_has_not_is_found(trial: Trial) -> None:
    trial.library(
        trial.folder / "stub" / "libnowhere.so", "libnowhere.so.7", "int nowhere(void) { return 0; }"
    )
    trial.libraries.append("nowhere")
    trial.code = trial.code.replace(
        "cuTensorMapEncodeTiled()", "cuTensorMapEncodeTiled() + nowhere()"
    ).replace("extern int", "extern int nowhere(void);\nextern int", 1)
    assert "libraries" in trial.bad()


def test_a_function_that_this_version_of_python_has_not_is_found(trial: Trial) -> None:
    trial.code = trial.code.replace(
        "cuTensorMapEncodeTiled()", "cuTensorMapEncodeTiled() + PySagefix_Nothing()"
    ).replace("extern int", "extern int PySagefix_Nothing(void);\nextern int", 1)
    assert trial.bad() == ["Python interface"]


def test_a_newer_c_library_than_the_platforms_is_found(trial: Trial) -> None:
    trial.code = "#include <stdlib.h>\n" + trial.code.replace(
        "cuTensorMapEncodeTiled()", 'cuTensorMapEncodeTiled() + !getenv("HOME")'
    )
    assert trial.bad(glibc="2.35") == []
    assert trial.bad(glibc="2.2") == ["symbol versions"]


def test_gpu_code_is_compared_byte_for_byte(trial: Trial, tmp_path: Path) -> None:
    def with_code(name: str, code: str) -> Path:
        section = '\n__attribute__((section(".nv_fatbin"), used)) static const char code[16] = "%s";\n'
        trial.code = DRIVER_CALL.read_text() + section % code
        built = trial.build()
        return Path(shutil.copyfile(built, tmp_path / f"{name}-{built.name}"))

    one, same, other = (
        with_code(*pair) for pair in (("1", "kernel a"), ("2", "kernel a"), ("3", "kernel b"))
    )
    assert check_gpu_code(one, same).status == "ok"
    assert "1 of 16 bytes differ" in check_gpu_code(one, other).found
    assert check_gpu_code(one, other).status == "failure"
    assert check_gpu_code(one, None).status == "skipped"
