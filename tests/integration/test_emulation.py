"""`sagefix verify --emulate`: wheels of another architecture, run by qemu with a Python out of Debian's packages."""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import make_wheel
from wheel.wheelfile import WheelFile

from sagefix.cli.app import main
from sagefix.errors import SagefixError
from sagefix.files import sha256_file
from sagefix.targets.cross.platforms import platform_named
from sagefix.targets.cross.rootfs import make_root
from sagefix.targets.kept import shelf

from .conftest import Here, MakeTarget, Sagefix, python_of

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
PLATFORM = platform_named("linux_aarch64")
CC = f"{PLATFORM.triplet}-gcc"
NAME = "demoattention/_attention" + PLATFORM.ext_suffix(PYTHON)
QEMU = next((name for name in PLATFORM.emulators if shutil.which(name)), "")
SYMBOL = """
#include <Python.h>
extern int nowhere_to_be_found(void);
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_attention", NULL, -1, NULL};
PyMODINIT_FUNC PyInit__attention(void) { nowhere_to_be_found(); return PyModule_Create(&module); }
"""
SYSCONFIG = b"""\
# system configuration generated and used by the sysconfig module
build_time_vars = {}
"""

elsewhere = pytest.mark.skipif(
    PLATFORM.here or sys.platform != "linux", reason="aarch64 is this machine's own architecture"
)
emulates = pytest.mark.skipif(
    not (QEMU and shutil.which(CC)), reason=f"needs {' or '.join(PLATFORM.emulators)}, and {CC}"
)
pytestmark = [elsewhere, pytest.mark.network]


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a Python for aarch64 in it, fetched once."""
    cache = tmp_path_factory.mktemp("emulation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAGEFIX_CACHE_DIR", str(cache))
        try:
            make_root(PLATFORM, PYTHON, offline=False)
        except SagefixError as error:
            pytest.skip(f"no Python {PYTHON} for aarch64 can be had here: {error}")
    return cache


@pytest.fixture(scope="session")
def built(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, cross compiled by sagefix."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAGEFIX_CACHE_DIR", str(shared_cache))
        patch.chdir(folder)
        words = ["build", "--pin", "demo", "--platform", PLATFORM.name, "--python", PYTHON]
        with pytest.raises(SystemExit) as ended:
            main([*words, "--wheelhouse", str(folder / "made"), "--output", str(folder), "--quiet"])
        assert ended.value.code == 0
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture
def cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared cache, in use."""
    monkeypatch.setenv("SAGEFIX_CACHE_DIR", str(shared_cache))
    return shared_cache


@pytest.fixture
def wheel(built: Path, cache: Path, tmp_path: Path) -> Path:
    """A copy of the wheel, for one test."""
    return Path(shutil.copy(built, tmp_path / built.name))


def repacked(wheel: Path, extension: bytes) -> Path:
    """Put another file in the place of the extension; RECORD agrees."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}
    assert NAME in files
    with WheelFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, extension if name == NAME else data)
    return wheel


def compiled(folder: Path, compiler: str, source: str) -> bytes:
    """Compile an extension."""
    (folder / "module.c").write_text(source)
    include = sysconfig.get_paths()["include"]
    command = [compiler, "-shared", "-fPIC", f"-I{include}", "module.c", "-o", "module.so"]
    subprocess.run(command, cwd=folder, check=True)
    return (folder / "module.so").read_bytes()


def emulated(here: Here, wheel: Path | str, *more: str, code: int = 0) -> dict[str, Any]:
    """Verify under emulation; return the answer."""
    said = here("verify", "--pin", "demo", "--emulate", wheel, *more, json_=True)
    assert said.code == code, said.answer
    return said.answer


def check(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """Return one check of the verdict."""
    (found,) = [row for row in answer["result"]["checks"] if row["name"] == name]
    return dict(found)


@emulates
def test_a_wheel_is_imported_under_emulation_and_the_proof_says_so(here: Here, wheel: Path) -> None:
    verdict = emulated(here, wheel)["result"]
    assert verdict["level"] == "import"
    assert {row["status"] for row in verdict["checks"]} == {"ok"}
    told = verdict["emulated"]
    assert told["machine"] == "aarch64"
    assert told["emulator"].startswith(QEMU)
    assert told["python"].startswith(PYTHON)
    assert told["unproven"]
    assert not told["stub"]

    beside = json.loads(wheel.with_name(f"{wheel.name}.proofs.json").read_text())
    assert beside["sha256"] == sha256_file(wheel)
    assert [each["verdict"]["emulated"] for each in beside["proofs"]] == [told]
    # It goes into a wheelhouse with the wheel, and stands there as what it is.
    assert here("wheelhouse", "add", wheel).code == 0
    assert "import, emulated, numbers" in " ".join(here("wheelhouse", "list").out.split())


@emulates
def test_numbers_that_were_computed_under_emulation_prove_no_kind_of_device(here: Here, wheel: Path) -> None:
    (kept,) = here("wheelhouse", "add", wheel, json_=True).result
    wheel.unlink()
    verdict = emulated(here, wheel.name, "--level", "numerics")["result"]
    assert verdict["numerics"]["devices"][0]["name"].startswith("aarch64 under qemu")
    (facts,) = here("wheelhouse", "list", json_=True).result
    assert facts["filename"] == kept["filename"]
    assert facts["proof"] == "import"
    (row,) = facts["proofs"]
    assert (row["level"], row["capability"], row["gpu"], row["emulated"]) == ("import", "", "", True)
    assert here("wheelhouse", "check").code == 0


@emulates
def test_nothing_of_this_machines_pythons_counts_in_there(
    here: Here, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "path" / "demoattention").mkdir(parents=True)
    (tmp_path / "path" / "demoattention" / "__init__.py").write_text("raise ImportError('of this machine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    verdict = emulated(here, wheel)["result"]
    assert {row["status"] for row in verdict["checks"]} == {"ok"}


@emulates
def test_an_import_that_fails_is_told_with_the_true_error(here: Here, wheel: Path, tmp_path: Path) -> None:
    answer = emulated(here, repacked(wheel, compiled(tmp_path, CC, SYMBOL)), code=16)
    assert "nowhere_to_be_found" in check(answer, "symbols")["found"]
    loaded = check(answer, "import demoattention._attention")
    assert loaded["status"] == "failure"
    assert "undefined symbol: nowhere_to_be_found" in loaded["found"]
    # What the files show is kept, so that the wheel is not chosen.
    beside = json.loads(wheel.with_name(f"{wheel.name}.proofs.json").read_text())
    assert [each["passed"] for each in beside["proofs"]] == [False]


@emulates
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_an_extension_for_another_machine_than_the_tag_is_found(
    here: Here, wheel: Path, tmp_path: Path
) -> None:
    source = SYMBOL.replace("nowhere_to_be_found();", "")
    answer = emulated(here, repacked(wheel, compiled(tmp_path, "cc", source)), code=16)
    found = check(answer, "extensions")["found"]
    assert f"is for {platform.machine()}, this machine is aarch64" in found
    assert check(answer, "import demoattention._attention")["status"] == "failure"


@emulates
def test_ctrl_c_ends_what_the_emulator_runs(sagefix: Sagefix, wheel: Path, cache: Path) -> None:
    running = sagefix.start("verify", "--pin", "demo", "--emulate", wheel, "--level", "full")
    try:
        deadline = time.monotonic() + 60
        while not list(emulators(cache)) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(emulators(cache))
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130, said
    assert list(emulators(cache)) == []
    assert list((cache / "emulating").glob("verify-*")) == []


def emulators(cache: Path) -> Iterator[psutil.Process]:
    """Yield every emulator that runs a Python of this cache."""
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if alive and words and "qemu" in words[0] and any(str(cache) in word for word in words):
            yield process


@emulates
def test_a_damaged_python_is_made_anew_or_refused(
    here: Here, built: Path, shared_cache: Path, tmp_path: Path
) -> None:
    name = f"aarch64-py{PYTHON}"
    mine = shelf("emulated") / name
    shutil.copytree(shared_cache / "emulated" / name, mine, symlinks=True)
    (mine / "root" / "usr" / "lib" / f"python{PYTHON}" / "json" / "decoder.py").write_text("")
    answer = emulated(here, built, "--offline", "--wheelhouse", str(tmp_path / "none"), code=5)
    assert "is damaged" in answer["error"]["message"]
    assert "without --offline" in answer["error"]["hint"]
    said = here("verify", "--pin", "demo", "--emulate", built, "--wheelhouse", tmp_path / "none")
    assert said.code == 0, said.err
    assert "is made anew" in said.err


@emulates
def test_a_python_is_shown_and_removed_with_the_toolchains(here: Here, shared_cache: Path) -> None:
    name = f"aarch64-py{PYTHON}"
    mine = shelf("emulated") / name
    shutil.copytree(shared_cache / "emulated" / name, mine, symlinks=True)
    rows = here("toolchain", "show", json_=True).result["toolkits"]
    (row,) = [row for row in rows if row["kind"] == "Python"]
    assert (row["name"], row["version"], row["machine"]) == (name, PYTHON, "aarch64")
    assert row["packages"]["libstdc++6"]
    (gone,) = here("toolchain", "remove", name, json_=True).result
    assert gone["name"] == name
    assert min(gone["freed"], row["size"]) > 10_000_000
    assert not mine.exists()


@emulates
def test_a_real_proof_stands_beside_the_emulated_one_and_says_more(
    here: Here, make_target: MakeTarget, tmp_path: Path
) -> None:
    target = make_target()
    wheel = here("build", "--pin", "demo", "--python", python_of(target), json_=True).result["wheel"]
    proof = tmp_path / "proof.json"
    told = {
        "machine": platform.machine(), "emulator": "qemu 1.0", "python": PYTHON, "glibc": "", "stub": False,
        "unproven": ["its speed"], "command": "sagefix install --no-build --verify full --pin demo",
    }  # fmt: skip
    verdict = {
        "pin": "demo", "level": "import", "subject": "", "wheel_sha256": wheel["sha256"], "interpreter": "",
        "gpus": [], "torch": "", "when": "2026-01-01T00:00:00Z", "checks": [], "sagefix": "", "emulated": told,
    }  # fmt: skip
    proof.write_text(json.dumps(verdict))
    said = here("wheelhouse", "prove", wheel["filename"], proof)
    assert said.out.strip().endswith("import, emulated, numbers unproven")
    refused = here("install", "--pin", "demo", "--python", python_of(target), "--require-proof")
    assert refused.code == 14

    words = told["command"].split()[1:]  # type: ignore[attr-defined]
    done = here(*words, "--python", python_of(target))
    assert done.code == 0, done.err
    (facts,) = here("wheelhouse", "list", json_=True).result
    assert facts["proof"] == "full"
    assert sorted((row["level"], row["emulated"]) for row in facts["proofs"]) == [
        ("full", False),
        ("import", True),
    ]
    # And back to where it was built.
    elsewhere = ["--wheelhouse", str(tmp_path / "elsewhere")]
    bare = shutil.copy(wheel["where"], tmp_path)
    assert here("wheelhouse", "add", bare, *elsewhere).code == 0
    taken = here("wheelhouse", "prove", wheel["filename"], f"{wheel['where']}.proofs.json", *elsewhere)
    assert taken.out.strip().endswith("(cpu)"), taken.err
    assert "full on" in taken.out


@pytest.mark.parametrize("tag", ["linux_x86_64", "manylinux_2_28_x86_64", "any"])
def test_a_wheel_of_this_machine_needs_no_emulator(here: Here, tmp_path: Path, tag: str) -> None:
    tag = tag.replace("x86_64", platform.machine())
    wheel = make_wheel(
        tmp_path, project="demoattention", version="1.0.0", tag=f"cp311-cp311-{tag}", requires=()
    )
    error = emulated(here, wheel, code=2)["error"]
    assert "needs no emulator" in error["message"]
    assert "sagefix install" in error["hint"]


@pytest.mark.parametrize(
    ("tag", "more", "words"),
    [
        ("cp311-cp311-win_amd64", (), "cannot be emulated"),
        ("cp39-abi3-linux_aarch64", (), "does not name one Python"),
        ("cp311-cp311-linux_aarch64", ("--python", "3.12"), "is for Python 3.11, not for 3.12"),
        ("cp311-cp311-linux_aarch64", ("--pin", "sageattention"), "the pin sageattention is sageattention"),
        ("cp311-cp311-linux_aarch64", ("--gpu", "0"), "exclude each other"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    here: Here, tmp_path: Path, tag: str, more: tuple[str, ...], words: str
) -> None:
    wheel = make_wheel(tmp_path, project="demoattention", version="1.0.0", tag=tag, requires=())
    assert words in emulated(here, wheel, *more, code=2)["error"]["message"]


def test_numbers_of_a_gpu_are_not_emulated(here: Here, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, tag="cp311-cp311-linux_aarch64")
    said = here("verify", "--emulate", wheel, "--level", "numerics", json_=True)
    assert said.code == 2
    assert "an emulator has none" in said.answer["error"]["message"]


def test_a_missing_emulator_is_named_with_its_package(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(
        tmp_path, project="demoattention", version="1.0.0", tag="cp311-cp311-linux_aarch64", requires=()
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    error = emulated(here, wheel, code=8)["error"]
    assert "qemu-aarch64-static" in error["message"]
    assert "qemu-user-static" in error["hint"]


@emulates
def test_offline_with_nothing_at_hand_says_what_is_missing(here: Here, tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path, project="demoattention", version="1.0.0", tag="cp311-cp311-linux_aarch64", requires=()
    )
    error = emulated(here, wheel, "--offline", code=5)["error"]
    assert "Python 3.11 for aarch64 is not at hand" in error["message"]


@emulates
def test_a_python_that_nobody_has_is_refused_with_every_reason(here: Here, tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path, project="demoattention", version="1.0.0", tag="cp399-cp399-linux_aarch64", requires=()
    )
    said = here("verify", "--pin", "demo", "--emulate", wheel, json_=True)
    # Without a network it is the index that fails.
    assert said.code in (5, 13)
    error = said.answer["error"]
    assert "Python 3.99 for aarch64 cannot be had" in error["message"]
    assert "uv" in error["message"]
    assert "looked up every undefined symbol" in error["hint"]
    assert not (Path(os.environ["SAGEFIX_CACHE_DIR"]) / "emulated" / "aarch64-py3.99").exists()


@emulates
def test_uv_brings_a_python_where_there_are_no_packages_of_a_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv reads what it can install from a table; this one names an archive on this machine."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "uv").symlink_to(Path(sys.executable).with_name("uv"))
    archive = tmp_path / "cpython-3.99.0-aarch64-unknown-linux-gnu-install_only.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        files = {
            "bin/python3.99": b"ELF\n",
            "lib/python3.99/os.py": b"",
            "lib/python3.99/_sysconfigdata__linux_aarch64-linux-gnu.py": SYSCONFIG,
        }
        for name, data in files.items():
            member = tarfile.TarInfo(f"python/{name}")
            member.size, member.mode = len(data), 0o755
            packed.addfile(member, io.BytesIO(data))
    table = {
        "cpython-3.99.0-linux-aarch64-gnu": {
            "name": "cpython", "arch": {"family": "aarch64", "variant": None}, "os": "linux", "libc": "gnu",
            "major": 3, "minor": 99, "patch": 0, "prerelease": "", "url": archive.as_uri(),
            "sha256": sha256_file(archive), "variant": None, "build": "20260101",
        }
    }  # fmt: skip
    (tmp_path / "table.json").write_text(json.dumps(table))
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS_JSON_URL", str(tmp_path / "table.json"))
    monkeypatch.setenv("PATH", str(programs))
    kept = make_root(PLATFORM, "3.99", offline=False)
    assert kept.program.read_bytes() == b"ELF\n"
    assert list((kept.sysroot / "lib").glob("ld-linux-aarch64*"))
    assert kept.root.origin == "python-build-standalone, by uv"
    # It is there now, and nothing is asked again.
    monkeypatch.delenv("UV_PYTHON_DOWNLOADS_JSON_URL")
    assert make_root(PLATFORM, "3.99", offline=True) == kept
