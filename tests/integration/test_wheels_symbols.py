"""The whole-wheel rule on modules made by the real linker: who provides what, and what if nobody does."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import msgspec
import pytest

from sagefix.archs import Arch
from sagefix.checks import Check
from sagefix.errors import WheelError
from sagefix.wheels.checking import check_wheel
from sagefix.wheels.elf import read_extension, read_extensions
from sagefix.wheels.model import Extension
from sagefix.wheels.symbols import Resolution, unprovided
from sagefix.wheels.writing import write_wheel

SOURCE = Path(__file__).parents[1] / "packages" / "driver_call" / "driver_call.c"
INCLUDE = Path(sysconfig.get_path("include"))
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
MACHINE = sysconfig.get_platform().removeprefix("linux-")
TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None or not (INCLUDE / "Python.h").is_file(),
    reason="needs Linux, gcc and Python.h",
)


def compile_shared(output: Path, *arguments: str | Path, code: str | None = None) -> Path:
    """Run gcc as a build would; --as-needed is what Debian's gcc does by itself and others do not."""
    output.parent.mkdir(parents=True, exist_ok=True)
    source = []
    if code is not None:
        text = output.with_suffix(".c")
        text.write_text(code)
        source = [str(text)]
    command = ["gcc", "-shared", "-fPIC", "-Wl,--as-needed", "-o", str(output), *source, *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)
    return output


def stub(folder: Path, code: str) -> Path:
    return compile_shared(folder / "libcuda.so", "-Wl,-soname,libcuda.so.1", code=code)


def module(folder: Path, *arguments: str | Path) -> Extension:
    path = compile_shared(folder / f"driver_call{SUFFIX}", SOURCE, f"-I{INCLUDE}", *arguments)
    return read_extension(path.read_bytes(), f"pkg/{path.name}")


def resolve(extension: Extension, *libraries: Path, interpreter_exports: bool = True) -> Resolution:
    (resolution,) = unprovided([extension], libraries, interpreter_exports=interpreter_exports)
    return resolution


@pytest.fixture
def good(tmp_path: Path) -> Extension:
    """A module linked with a stub that defines the driver's function, as a build should."""
    stub(tmp_path / "good", "int cuTensorMapEncodeTiled(void) { return 1; }")
    return module(tmp_path, f"-L{tmp_path / 'good'}", "-lcuda")


@pytest.fixture
def bad(tmp_path: Path) -> Extension:
    """A module linked with an empty stub: it links, and the driver is not among NEEDED."""
    stub(tmp_path / "empty", "")
    return module(tmp_path, f"-L{tmp_path / 'empty'}", "-lcuda")


def test_an_empty_driver_stub_leaves_a_symbol_without_provider(bad: Extension) -> None:
    assert "libcuda.so.1" not in bad.needed
    resolution = resolve(bad)
    assert resolution.missing == ("cuTensorMapEncodeTiled",)
    assert resolution.assumed == ()


def test_the_loader_agrees(tmp_path: Path, bad: Extension) -> None:
    command = [sys.executable, "-c", "import driver_call"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "undefined symbol: cuTensorMapEncodeTiled" in ended.stderr


def test_a_driver_that_is_not_here_is_assumed(good: Extension) -> None:
    assert "libcuda.so.1" in good.needed
    resolution = resolve(good)
    if resolution.absent:
        assert resolution.absent == ("libcuda.so.1",)
        assert resolution.assumed == (("cuTensorMapEncodeTiled", "libcuda.so.1"),)
    assert resolution.missing == ()


def test_a_driver_that_is_here_provides(tmp_path: Path, good: Extension) -> None:
    folder = tmp_path / "driver"
    folder.mkdir()
    (folder / "libcuda.so.1").symlink_to(tmp_path / "good" / "libcuda.so")
    resolution = resolve(good, folder)
    assert (resolution.missing, resolution.assumed, resolution.absent) == ((), (), ())


def test_a_driver_too_old_for_a_function_does_not(tmp_path: Path, good: Extension) -> None:
    old = stub(tmp_path / "old", "int cuInit(void) { return 0; }")
    old.rename(old.with_name("libcuda.so.1"))
    assert resolve(good, tmp_path / "old").missing == ("cuTensorMapEncodeTiled",)


def test_only_names_of_the_driver_are_assumed(tmp_path: Path) -> None:
    code = "int cuInit(void) { return 0; } int custom(void) { return 0; }"
    folder = stub(tmp_path / "s", code).parent
    user = compile_shared(
        tmp_path / "user.so",
        f"-L{folder}",
        "-lcuda",
        code="int cuInit(void); int custom(void); int f(void) { return cuInit() + custom(); }",
    )
    resolution = resolve(
        msgspec.structs.replace(read_extension(user.read_bytes(), "user.so"), path="user.so")
    )
    if "libcuda.so.1" in resolution.absent:
        assert resolution.missing == ("custom",)
        assert resolution.assumed == (("cuInit", "libcuda.so.1"),)


@pytest.mark.parametrize("style", ["gnu", "sysv"])
def test_libraries_of_libraries_provide(tmp_path: Path, style: str) -> None:
    libraries = tmp_path / "lib"
    hashed = f"-Wl,--hash-style={style}"
    compile_shared(libraries / "libinner.so", hashed, code="int inner(void) { return 1; }")
    compile_shared(
        libraries / "libouter.so",
        hashed,
        f"-L{libraries}",
        "-linner",
        code="int inner(void); int outer(void) { return inner(); }",
    )
    code = (
        "int inner(void), outer(void), unheard(void); int f(void) { return inner() + outer() + unheard(); }"
    )
    user = compile_shared(
        tmp_path / "user.so", f"-L{libraries}", "-louter", f"-Wl,-rpath-link,{libraries}", code=code
    )
    extension = read_extension(user.read_bytes(), "user.so")
    assert extension.needed[0] == "libouter.so"
    assert "libinner.so" not in extension.needed
    assert resolve(extension, libraries).missing == ("unheard",)
    assert resolve(extension).missing == ("inner", "outer", "unheard")
    assert resolve(extension).absent[0] == "libouter.so"


def test_a_library_finds_its_neighbours_by_its_own_path(tmp_path: Path) -> None:
    inner = compile_shared(tmp_path / "deep" / "libinner.so", code="int inner(void) { return 1; }")
    compile_shared(
        tmp_path / "lib" / "libouter.so",
        f"-L{inner.parent}",
        "-linner",
        "-Wl,-rpath,$ORIGIN/../deep",
        code="int inner(void); int outer(void) { return inner(); }",
    )
    user = compile_shared(
        tmp_path / "user.so",
        f"-L{tmp_path / 'lib'}",
        "-louter",
        f"-Wl,-rpath-link,{inner.parent}",
        code="int inner(void); int outer(void); int f(void) { return inner() + outer(); }",
    )
    extension = read_extension(user.read_bytes(), "user.so")
    assert resolve(extension, tmp_path / "lib").missing == ()


def test_a_sibling_counts_where_it_is_named(tmp_path: Path) -> None:
    sibling = compile_shared(tmp_path / "libshared.so", code="int shared(void) { return 1; }")
    code = "int shared(void); int f(void) { return shared(); }"
    named = compile_shared(tmp_path / "named.so", f"-L{tmp_path}", "-lshared", code=code)
    unnamed = compile_shared(tmp_path / "unnamed.so", code=code)
    wheel = [read_extension(path.read_bytes(), f"pkg/{path.name}") for path in (sibling, named, unnamed)]
    assert [resolution.missing for resolution in unprovided(wheel, [])] == [(), (), ("shared",)]


def test_a_library_for_another_machine_is_passed_over(tmp_path: Path) -> None:
    right = compile_shared(tmp_path / "right" / "libneeded.so", code="int needed(void) { return 1; }")
    foreign = bytearray(right.read_bytes())
    foreign[18:20] = (8).to_bytes(2, "little")  # e_machine: MIPS
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "libneeded.so").write_bytes(foreign)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "libneeded.so").write_text("INPUT(libneeded.so.1)\n")
    code = "int needed(void); int f(void) { return needed(); }"
    user = compile_shared(tmp_path / "user.so", f"-L{right.parent}", "-lneeded", code=code)
    extension = read_extension(user.read_bytes(), "user.so")
    assert resolve(extension, tmp_path / "foreign", tmp_path / "text").absent == ("libneeded.so",)
    assert resolve(extension, tmp_path / "foreign", tmp_path / "text", right.parent).missing == ()


def test_weak_symbols_may_stay_undefined(tmp_path: Path) -> None:
    code = "int maybe(void) __attribute__((weak)); int f(void) { return maybe ? maybe() : 0; }"
    user = compile_shared(tmp_path / "user.so", code=code)
    assert "maybe" not in read_extension(user.read_bytes(), "user.so").undefined


def test_the_python_api_comes_from_the_interpreter(good: Extension) -> None:
    assert {"PyModule_Create2", "PyLong_FromLong"} <= set(good.undefined)
    without = resolve(good, interpreter_exports=False)
    if not any(name.startswith("libpython") for name in good.needed):
        assert "PyModule_Create2" in without.missing


def test_a_program_is_no_extension(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("int main(void) { return 0; }")
    command = [
        "gcc",
        "-static",
        "-nostdlib",
        "-Wl,-e,main",
        "-o",
        str(tmp_path / "program"),
        str(tmp_path / "main.c"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(WheelError, match=r"a/b\.so: it is an ELF file, but not a shared library"):
        read_extension((tmp_path / "program").read_bytes(), "a/b.so")


def wheel_of(
    folder: Path, *modules: Path, tag: str = f"linux_{MACHINE}", extra: dict[str, bytes] | None = None
) -> Path:
    info = "pkg-1.0.dist-info"
    tags = f"{TAG}-{TAG}-{tag}"
    files: dict[str, bytes | Path] = {f"pkg/{path.name}": path for path in modules}
    files[f"{info}/METADATA"] = b"Metadata-Version: 2.1\nName: pkg\nVersion: 1.0\n"
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tags}\n".encode()
    files.update(extra or {})
    return write_wheel(folder, f"pkg-1.0-{tags}.whl", dist_info=info, files=dict(files), epoch=0)


def check(path: Path, *extensions: str, archs: tuple[Arch, ...] = (), **changes: object) -> dict[str, Check]:
    arguments: dict[str, object] = {
        "gencodes": {},
        "libraries": [],
        "machine": MACHINE,
        "ext_suffix": SUFFIX,
        **changes,
    }
    checks = check_wheel(path, extensions=extensions, archs=archs, **arguments)
    return {found.name: found for found in checks}


def test_a_good_wheel_passes_every_check(tmp_path: Path, good: Extension) -> None:
    path = wheel_of(tmp_path / "out", tmp_path / f"driver_call{SUFFIX}")
    assert read_extensions(path)[0].undefined == good.undefined
    checks = check(path, "pkg.driver_call")
    assert {name: found.status for name, found in checks.items()} == {
        "wheel": "ok",
        "extensions": "ok",
        "platform": "ok",
        "GPU code": "ok",
        "symbols": "ok",
        "search paths": "ok",
        "record": "skipped",
    }


def test_the_empty_stub_is_found_in_a_wheel(tmp_path: Path, bad: Extension) -> None:
    found = check(wheel_of(tmp_path / "out", tmp_path / f"driver_call{SUFFIX}"), "pkg.driver_call")["symbols"]
    assert found.status == "failure"
    assert "nothing in NEEDED provides cuTensorMapEncodeTiled" in found.found
    assert "stub of libcuda.so.1" in found.fix


def test_promises_that_are_not_kept(tmp_path: Path, good: Extension) -> None:
    path = wheel_of(tmp_path / "out", tmp_path / f"driver_call{SUFFIX}")
    assert check(path, "pkg.driver_call", "pkg._other")["extensions"].found == "pkg._other is missing"
    unexpected = check(path)["extensions"]
    assert (unexpected.status, unexpected.found) == (
        "warning",
        "beside the promised ones there is pkg.driver_call",
    )
    code = check(path, "pkg.driver_call", archs=(Arch(9, 0),), gencodes={"9.0": "90a"})["GPU code"]
    assert (code.status, code.found) == ("failure", "pkg.driver_call holds no code for 9.0a")
    own = check(path, "pkg.driver_call", archs=(Arch(9, 0),), archs_of={"pkg.driver_call": ()})["GPU code"]
    assert own.status == "ok"
    assert check(path, "pkg.driver_call", machine="riscv64")["platform"].status == "failure"


def test_a_module_renamed_after_the_build_cannot_be_imported(tmp_path: Path, good: Extension) -> None:
    renamed = (tmp_path / f"driver_call{SUFFIX}").rename(tmp_path / f"_call{SUFFIX}")
    found = check(wheel_of(tmp_path / "out", renamed), "pkg._call")["extensions"]
    assert (found.status, found.found) == (
        "failure",
        "pkg._call has no function PyInit__call, so it cannot be imported",
    )


def test_an_x86_tag_around_other_code(tmp_path: Path, good: Extension) -> None:
    path = wheel_of(tmp_path / "out", tmp_path / f"driver_call{SUFFIX}", tag="linux_armv7l")
    assert "the tag linux_armv7l does not fit" in check(path, "pkg.driver_call")["platform"].found


@pytest.mark.parametrize(
    ("rpath", "status"),
    [("$ORIGIN/../lib", "ok"), ("/opt/python/lib", "warning"), ("{tmp}/stub", "failure"), ("lib", "failure")],
)
def test_search_paths_of_the_building_machine(tmp_path: Path, rpath: str, status: str) -> None:
    where = rpath.format(tmp=tmp_path)
    stub(tmp_path / "good", "int cuTensorMapEncodeTiled(void) { return 1; }")
    module(tmp_path, f"-L{tmp_path / 'good'}", "-lcuda", f"-Wl,-rpath,{where}")
    path = wheel_of(tmp_path / "out", tmp_path / f"driver_call{SUFFIX}")
    found = check(path, "pkg.driver_call", build_folders=[tmp_path])["search paths"]
    assert found.status == status
    assert status == "ok" or where in found.found


def test_a_wheel_that_cannot_be_read_is_one_failure(tmp_path: Path, good: Extension) -> None:
    path = wheel_of(tmp_path / "out", extra={f"pkg/_c{SUFFIX}": b"no ELF"})
    (found,) = check(path).values()
    assert (found.name, found.status) == ("wheel", "failure")
    assert "is not a readable ELF file" in found.found
