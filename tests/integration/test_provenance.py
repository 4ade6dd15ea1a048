"""What a wheel says about its build, and the same wheel built again: real compilers, pip, uv and auditwheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from wheel.wheelfile import WheelFile

from sagefix.errors import RebuildError, WheelError
from sagefix.files import sha256_file
from sagefix.settings import shipped_manifests
from sagefix.targets.distributions import find_packages
from sagefix.targets.interpreter import probe
from sagefix.targets.tags import platform_tags, wheel_tags
from sagefix.wheels.archive import read_wheel, validate
from sagefix.wheels.manylinux import lowest_policy
from sagefix.wheels.model import Record
from tests.integration.conftest import MakeTarget, Sagefix, ask, python_of

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not (shutil.which("cc") or shutil.which("gcc")),
    reason="needs Linux and a C compiler",
)

MAIN = "import demoattention.__main__ as m; print(m.main())"


def build(
    sagefix: Sagefix, target: Path, *more: str | Path, pin: str = "demo", env: dict[str, str] | None = None
) -> Path:
    """Build a pin and return the wheel in the wheelhouse."""
    result = sagefix("build", "--pin", pin, "--python", target, *more, env=env).result
    assert result["compiled"] is True
    return Path(result["wheel"]["where"])


def record_of(wheel: Path) -> Record:
    record = read_wheel(wheel).record
    assert record is not None
    return record


# A package whose module holds the path of a header and the date, which the demo's does not.
C_SOURCE = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <cassert>
#include <cstdio>
static PyObject *where(PyObject *, PyObject *) {
    assert(std::fputs("", stdout) >= 0);
    return PyUnicode_FromFormat("%s %s", place(), __DATE__);
}
static PyMethodDef methods[] = {{"where", where, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_place", nullptr, -1, methods};
PyMODINIT_FUNC PyInit__place(void) { return PyModule_Create(&definition); }
"""
# Included by its absolute path, as torch's headers are.
C_HEADER = "static inline const char *place() { return __FILE__; }\n"
SETUP = """
import os
from setuptools import Extension, setup
here = os.path.dirname(os.path.abspath(__file__))
setup(name="placed", version="1.0.0", packages=["placed"], ext_modules=[Extension(
    "placed._place", [os.path.join("csrc", "place.cpp")], language="c++", undef_macros=["NDEBUG"],
    extra_compile_args=["-I" + os.path.join(here, "csrc"), "-include", os.path.join(here, "csrc", "place.h")])])
"""
PIN = """
schema = 1
name = "placed"
project = "placed"
package = "placed"
version = "1.0.0"
summary = "Tells where it was compiled"
device = "cpu"
license = "Apache-2.0"
[source]
embedded = "placed"
commit = "{commit}"
tree = "{tree}"
files = ["/setup.py", "/csrc/", "/placed/"]
[build]
torch = false
requires = ["setuptools"]
memory_gib = 0.1
[[recipe]]
name = "only"
setup_py = ["{setup_py}"]
extensions = ["placed._place"]
sources = ["tests"]
[[ref]]
names = ["v1"]
commit = "{commit}"
tree = "{tree}"
recipe = "only"
"""


@pytest.fixture
def placed(tmp_path: Path, sagefix: Sagefix, monkeypatch: pytest.MonkeyPatch) -> str:
    """A pin for a package of one C++ module; returns its name."""
    folder = tmp_path / "manifests" / "placed"
    for name, text in {
        "setup.py": SETUP,
        "csrc/place.cpp": C_SOURCE,
        "csrc/place.h": C_HEADER,
        "placed/__init__.py": "",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    manifest = folder.with_suffix(".toml")
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(folder.parent))
    ids = {"commit": "1" * 40, "tree": "2" * 40, "setup_py": "3" * 40}
    manifest.write_text(PIN.format(**ids))
    told = sagefix("source", "fetch", "--pin", "placed").answer["error"]["details"]
    manifest.write_text(PIN.format(**{**ids, "commit": told["commit"], "tree": told["tree"]}))
    return "placed"


def test_two_cache_folders_give_the_same_bytes(
    sagefix: Sagefix, make_target: MakeTarget, placed: str, tmp_path: Path
) -> None:
    targets = make_target("one"), make_target("a-target-with-a-longer-name")
    wheels = []
    for number, target in enumerate(targets):
        cache = tmp_path / ("cache" * (number + 1))
        env = {"SAGEFIX_CACHE_DIR": str(cache), "SAGEFIX_WHEELHOUSE": str(tmp_path / f"wheels{number}")}
        wheels.append(build(sagefix, target, pin=placed, env=env))
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", targets[0], wheels[1]], check=True)
    told = ask(targets[0], "import placed._place as p; print(p.where())")
    assert told == "/sagefix/build/src/csrc/place.h Jan  1 2026"
    with zipfile.ZipFile(wheels[0]) as archive:
        (library,) = (name for name in archive.namelist() if name.endswith(".so"))
        assert str(tmp_path).encode() not in b"".join(map(archive.read, archive.namelist()))
        assert b".symtab" not in archive.read(library)


def test_everything_is_in_the_wheel_and_beside_it(sagefix: Sagefix, make_target: MakeTarget) -> None:
    target = make_target()
    wheel = build(sagefix, target)
    record = record_of(wheel)
    assert record.identity["tools"] == record.tools
    assert {"python", "glibc", "host compiler", "ld", "setuptools"} <= set(record.tools)
    assert record.source_url == "embedded:demo"
    source = shipped_manifests() / "demo"
    assert record.sources["csrc/attention.c"] == sha256_file(source / "csrc" / "attention.c")
    assert {"setup.py", "README.md", "LICENSE"} <= set(record.sources)
    (compiled,) = record.compiled
    assert compiled.path.startswith("demoattention/_attention.")
    assert "-O2" in compiled.compile[0].flags
    assert compiled.compile[0].sources == ("csrc/attention.c",)
    assert "-Wl,--strip-all" in compiled.link.flags
    assert record.unknown == ()
    (setuptools,) = (package for package in record.packages if package.name == "setuptools")
    assert setuptools.version == record.tools["setuptools"]
    assert len(setuptools.record_sha256) == 64
    shown = sagefix("wheelhouse", "show", wheel.name).result
    assert [check["status"] for check in shown["checks"]] == ["ok", "ok", "ok", "ok", "skipped"]
    assert shown["statement"]["subject"] == [{"name": wheel.name, "digest": {"sha256": sha256_file(wheel)}}]
    ((name, sbom),) = shown["sboms"].items()
    assert name.endswith(".dist-info/sboms/demoattention.cdx.json")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(sbom)) is None
    explained = "\n".join(sagefix("wheelhouse", "show", wheel, "--explain").result["lines"])
    assert f"setuptools=={record.tools['setuptools']}" in explained
    assert f"sagefix rebuild {wheel} --python rebuild-env" in explained
    printed = sagefix("wheelhouse", "show", wheel, json_=False)
    assert printed.code == 0
    assert record.key in printed.out


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_installers_take_it_and_saving_gives_it_back(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path, tool: str
) -> None:
    wheel = build(sagefix, make_target(), "--manylinux")
    user = make_target("user", build=False)
    if tool == "uv":
        command = ["uv", "pip", "install", "--quiet", "--python", user, wheel]
    else:
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python_of(user),
            "install",
            "--quiet",
            "--no-index",
            wheel,
        ]
    subprocess.run(command, check=True)
    assert ask(user, MAIN).endswith("right\n0")
    (site,) = user.glob("lib/python*/site-packages")
    assert len([*site.glob("demoattention-*.dist-info/sboms/demoattention.cdx.json")]) == 1
    saved = sagefix(
        "save-wheel", "--pin", "demo", "--python", user, "--wheelhouse", tmp_path / "saved"
    ).result
    assert Path(saved["wheel"]["where"]).read_bytes() == wheel.read_bytes()
    with WheelFile(wheel) as opened:
        opened.extractall(tmp_path / "unpacked")
    validate(wheel)


def test_pip_and_uv_installations_of_one_wheel_are_known_to_be_the_same(
    sagefix: Sagefix, make_target: MakeTarget
) -> None:
    wheel = build(sagefix, make_target())
    found = []
    for name, command in (
        ("by-uv", ["uv", "pip", "install", "--quiet", "--compile-bytecode", "--python"]),
        ("by-pip", [sys.executable, "-m", "pip", "--quiet", "--python"]),
    ):
        user = make_target(name, build=False)
        more = [python_of(user), "install", "--no-index", wheel] if name == "by-pip" else [user, wheel]
        subprocess.run([*command, *more], check=True)
        found.append(find_packages(user.glob("lib/python*/site-packages"), ["demoattention"]))
    assert found[0] == found[1]
    assert len(found[0][0].record_sha256) == 64


def test_a_manylinux_wheel_is_refused_where_glibc_is_too_old(
    sagefix: Sagefix, make_target: MakeTarget
) -> None:
    target = make_target()
    plain, tagged = build(sagefix, target), build(sagefix, target, "--manylinux")
    assert "-linux_" in plain.name
    policy = lowest_policy(plain)
    archive = validate(tagged)
    assert archive.platform_tag == policy.tag
    assert record_of(tagged).platform_tag == policy.tag
    assert record_of(tagged).version == record_of(plain).version
    interpreter = probe(python_of(target))
    older = f"2.{int(policy.glibc.partition('.')[2]) - 1}"
    for glibc, fits in ((policy.glibc, True), (older, False)):
        platforms = platform_tags(interpreter.platform_tag, glibc=glibc)
        tags = wheel_tags(interpreter.version, [interpreter.abi_tag], platforms)
        assert bool(set(archive.tags) & set(tags)) is fits
    # A build of the plain one is not the tagged one, and neither compiles twice.
    for option, wheel in (((), plain), (("--manylinux",), tagged)):
        again = sagefix("build", "--pin", "demo", "--python", target, *option).result
        assert (again["compiled"], again["wheel"]["filename"]) == (False, wheel.name)


def test_a_wheel_that_needs_a_library_of_its_machine_gets_no_manylinux_tag(tmp_path: Path) -> None:
    (tmp_path / "odd.c").write_text("int odd(void) { return 1; }\n")
    (tmp_path / "c.c").write_text(
        '#include <stdio.h>\nint odd(void);\nint PyInit__c(void) { puts(""); return odd(); }\n'
    )
    cc = shutil.which("gcc") or "cc"
    subprocess.run(
        [cc, "-shared", "-fPIC", "odd.c", "-Wl,-soname,libodd.so.1", "-o", "libodd.so"],
        cwd=tmp_path,
        check=True,
    )
    module = tmp_path / "tiny" / "_c.abi3.so"
    module.parent.mkdir()
    subprocess.run([cc, "-shared", "-fPIC", "c.c", "-L.", "-lodd", "-o", module], cwd=tmp_path, check=True)
    info = tmp_path / "tiny-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    machine = os.uname().machine
    (info / "WHEEL").write_text(
        f"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: false\nTag: cp39-abi3-linux_{machine}\n"
    )
    path = tmp_path / f"tiny-1.0-cp39-abi3-linux_{machine}.whl"
    with WheelFile(path, "w") as archive:
        for file in (module, info / "METADATA", info / "WHEEL"):
            archive.write(file, file.relative_to(tmp_path).as_posix())
    with pytest.raises(WheelError, match=r"no manylinux tag: it needs libodd\.so\.1"):
        lowest_policy(path)
    # The driver and torch are the user's own.
    module.write_bytes(module.read_bytes().replace(b"libodd.so.1", b"libcu.so.13"))
    with WheelFile(path, "w") as archive:
        for file in (module, info / "METADATA", info / "WHEEL"):
            archive.write(file, file.relative_to(tmp_path).as_posix())
    assert lowest_policy(path).tag.startswith("manylinux_2_")


def test_the_statement_is_part_of_the_wheelhouse(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path
) -> None:
    wheel = build(sagefix, make_target(), "--output", tmp_path / "dist")
    statement = wheel.with_name(wheel.name + ".provenance.json")
    copied = tmp_path / "dist" / wheel.name
    assert copied.with_name(statement.name).read_bytes() == statement.read_bytes()
    assert sagefix("wheelhouse", "check").code == 0
    other = tmp_path / "other"
    sagefix("wheelhouse", "add", copied, "--wheelhouse", other).result  # noqa: B018 - asserts that it went well
    assert (other / "demoattention" / statement.name).read_bytes() == statement.read_bytes()

    told = json.loads(statement.read_bytes())
    told["subject"][0]["digest"]["sha256"] = "0" * 64
    for text in (json.dumps(told), "no json"):
        statement.write_text(text)
        checked = sagefix("wheelhouse", "check")
        assert checked.code == 12
        assert any(statement.name in check["found"] for check in checked.answer["result"])
    shown = sagefix("wheelhouse", "show", wheel.name)
    assert (shown.code, shown.answer["error"]["name"]) == (11, "wheel")
    copied.with_name(statement.name).write_text(json.dumps(told))
    refused = sagefix("wheelhouse", "add", copied, "--wheelhouse", tmp_path / "third")
    assert refused.code == 11
    assert "is about" in refused.answer["error"]["message"]

    sagefix("wheelhouse", "remove", wheel.name, "--wheelhouse", other).result  # noqa: B018
    assert not (other / "demoattention").exists()
    wheel.unlink()
    wheel.with_name(wheel.name + ".sagefix.json").unlink()
    checks = sagefix("wheelhouse", "check").answer["result"]
    assert any("the wheel is gone, its statement is still there" in check["found"] for check in checks)


def test_published_wheels_have_a_record_in_the_repository(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = make_target()
    manifests = tmp_path / "manifests"
    shutil.copytree(shipped_manifests(), manifests)
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(manifests))
    wheel = build(sagefix, target)
    (written,) = sagefix("wheelhouse", "record", wheel.name).result
    assert Path(written) == manifests / "builds" / f"{wheel.stem}.json"
    kept = json.loads(Path(written).read_bytes())
    assert kept["sha256"] == sha256_file(wheel)
    assert kept["key"] == record_of(wheel).key
    assert kept["statement_sha256"] == sha256_file(wheel.with_name(wheel.name + ".provenance.json"))
    assert (
        sagefix("wheelhouse", "show", wheel.name).result["checks"][-1]["found"]
        == "this is the published wheel"
    )
    # The same once more changes nothing; another wheel under this name is refused.
    assert sagefix("wheelhouse", "record", wheel.name).result == [written]
    kept["sha256"] = "0" * 64
    Path(written).write_text(json.dumps(kept))
    refused = sagefix("wheelhouse", "record", wheel.name)
    assert (refused.code, refused.answer["error"]["name"]) == (11, "wheel")
    assert "is the record of another wheel" in refused.answer["error"]["message"]
    shown = sagefix("wheelhouse", "show", wheel.name)
    assert shown.code == 11
    assert "published wheel of this name has the sha256 0000" in shown.answer["error"]["message"]
    sagefix("wheelhouse", "record", wheel.name, "--replace").result  # noqa: B018
    Path(written).write_text("{}")
    assert (
        "is not a record of a build" in sagefix("wheelhouse", "record", wheel.name).answer["error"]["message"]
    )


def test_rebuilding_gives_the_same_bytes(sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path) -> None:
    wheel = build(sagefix, make_target("first"), "--manylinux")
    result = sagefix(
        "rebuild", wheel, "--python", make_target("second"), "-o", tmp_path / "again",
        env={"SAGEFIX_CACHE_DIR": str(tmp_path / "elsewhere")},
    ).result  # fmt: skip
    assert result["comparison"]["identical"] is True
    assert result["environment"] == []
    assert result["key"] == record_of(wheel).key
    assert (tmp_path / "again" / wheel.name).read_bytes() == wheel.read_bytes()


def test_a_difference_is_named_from_the_environment_to_the_section(
    sagefix: Sagefix, make_target: MakeTarget
) -> None:
    target = make_target()
    wheel = build(sagefix, target)
    said = sagefix("rebuild", wheel.name, "--python", target, env={"CFLAGS": "-DEXTRA -O0"})
    assert (said.code, said.answer["error"]["name"]) == (RebuildError.exit_code, "rebuild")
    result: dict[str, Any] = said.answer["result"]
    assert result["environment"] == [{"what": "environment.CFLAGS", "recorded": "", "here": "-DEXTRA -O0"}]
    members = {member["path"].rpartition("/")[2]: member for member in result["comparison"]["members"]}
    library = next(member for name, member in members.items() if name.endswith(".so"))
    assert ".text" in [section["name"] for section in library["sections"]]
    assert any("-DEXTRA" in line[2] for line in members["sagefix.json"]["lines"]) or members["sagefix.json"]
    assert "RECORD" not in members
    printed = sagefix(
        "rebuild", wheel.name, "--python", target, "--dry-run", env={"CFLAGS": "-O0"}, json_=False
    )
    assert printed.code == 0
    assert "environment.CFLAGS" in printed.out


def test_what_cannot_be_rebuilt_says_why(sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path) -> None:
    target = make_target()
    wheel = build(sagefix, target)

    def refusal(path: Path) -> str:
        said = sagefix("rebuild", path, "--python", target)
        assert (said.code, said.answer["error"]["name"]) == (23, "rebuild")
        return str(said.answer["error"]["message"])

    def changed(name: str, **changes: object) -> Path:
        folder = tmp_path / name
        shutil.rmtree(folder, ignore_errors=True)
        with WheelFile(wheel) as opened:
            opened.extractall(folder / "files")
        (info,) = (folder / "files").glob("*.dist-info")
        record = msgspec.structs.replace(record_of(wheel), **changes)
        (info / "sagefix.json").write_bytes(msgspec.json.encode(record))
        (info / "RECORD").unlink()
        with WheelFile(folder / wheel.name, "w") as made:
            made.write_files(folder / "files")
        return folder / wheel.name

    assert "was saved from an installation" in refusal(changed("saved", origin="saved"))
    assert "which kept too little" in refusal(changed("old", identity={}, sagefix="0.0.1"))
    assert "was changed after the build" in refusal(changed("forged", key="0" * 20))
    identity = {**record_of(wheel).identity, "python_tag": "cp39", "abi_tag": "cp39"}
    from sagefix.building.plan import key_of

    message = refusal(changed("python", identity=identity, key=key_of(identity)))
    assert "cannot be built again with this target: abi_tag cp39" in message
    said = sagefix("rebuild", "demoattention-9.9-py3-none-any.whl", "--python", target)
    assert (said.code, said.answer["error"]["name"]) == (12, "wheelhouse")
