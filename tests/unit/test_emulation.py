"""What an emulated verification counts for, and the parts that make a Python of another architecture."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sagefix.checks import Check, Level
from sagefix.errors import PinError
from sagefix.pins.load import load_pin
from sagefix.proof.model import Emulated, Verdict
from sagefix.targets.cross.debs import _settle_links
from sagefix.targets.cross.emulated import Emulator, for_this_machine, make_interpreter
from sagefix.targets.cross.platforms import load_platforms, platform_named
from sagefix.targets.cross.rootfs import Kept, Root
from sagefix.targets.linking import library_folders
from sagefix.targets.model import SLOWER
from sagefix.wheelhouse.evidence import entry, settle
from sagefix.wheelhouse.proving import failed_somewhere, in_words, proof_of, rows_of, standing
from sagefix.wheels.model import Proof
from sagefix.workflows.proofs import worth_keeping

EMULATED: dict[str, Any] = {"emulated": {"machine": "aarch64"}}
H200 = {"name": "NVIDIA H200", "capability": "9.0", "driver": "580.1", "index": 0}


def row(level: str, passed: bool = True, *, emulated: bool = True, capability: str = "") -> Proof:
    gpu = "NVIDIA H200" if capability else ""
    return Proof(level=level, passed=passed, when="", emulated=emulated, gpu=gpu, capability=capability)


def verdict(level: Level, *failing: str, pin: str = "sageattention") -> Verdict:
    checks = tuple(Check(name=name, status="failure", found="x") for name in failing)
    emulated = Emulated(
        machine="aarch64",
        emulator="qemu 1.0",
        python="3.11",
        glibc="2.36",
        stub=True,
        unproven=(),
        command="",
    )
    return Verdict(
        pin=pin, level=level, subject="x", wheel_sha256="0" * 64, interpreter="", gpus=(), torch="", when="",
        checks=checks, sagefix="0", emulated=emulated,
    )  # fmt: skip


def test_an_emulated_pass_is_at_most_one_of_level_import_and_about_no_kind() -> None:
    computed = {**EMULATED, "numerics": {"devices": [H200], "cases": [{"status": "right", "device": 0}]}}
    for level, counted in (
        ("static", "static"),
        ("import", "import"),
        ("numerics", "import"),
        ("full", "import"),
    ):
        (found,) = rows_of(computed, level=level, passed=True, when="t")
        assert (found.level, found.capability, found.gpu, found.emulated) == (counted, "", "", True)
    (failed,) = rows_of(computed, level="numerics", passed=False, when="t")
    assert (failed.level, failed.capability, failed.emulated) == ("numerics", "", True)


@pytest.mark.parametrize(
    ("proofs", "level", "words"),
    [
        ((row("import"),), "import", "import, emulated, numbers unproven"),
        ((row("static", emulated=False), row("import")), "import", "import, emulated, numbers unproven"),
        ((row("import"), row("import", emulated=False)), "import", "import, numbers unproven"),
        (
            (row("import"), row("full", emulated=False, capability="9.0")),
            "full",
            "full on NVIDIA H200 (9.0)",
        ),
        # Neither settles what a real machine saw, nor takes it back.
        (
            (row("import", False, emulated=False), row("import")),
            "failed:import",
            "FAILED level import",
        ),
        (
            (row("numerics", emulated=False, capability="9.0"), row("static", False)),
            "numerics",
            "numerics on NVIDIA H200 (9.0)",
        ),
        ((row("static", False),), "failed:static", "FAILED level static"),
        ((row("static", False), row("import", emulated=False)), "import", "import, numbers unproven"),
    ],
)
def test_an_emulated_proof_counts_where_no_real_machine_said_otherwise(
    proofs: tuple[Proof, ...], level: str, words: str
) -> None:
    assert proof_of(proofs) == level
    assert in_words(proofs) == words


def test_an_emulated_proof_never_proves_numbers_on_a_kind_of_gpu() -> None:
    assert standing((row("import"),), "9.0") == "import"
    assert failed_somewhere((row("import"),)) == ""


def test_emulated_and_real_proofs_of_one_level_are_both_kept() -> None:
    entries = [
        entry(EMULATED, level="import", passed=True, when="2026-01-02T00:00:00Z"),
        entry({}, level="import", passed=True, when="2026-01-01T00:00:00Z"),
        entry(EMULATED, level="import", passed=True, when="2026-01-03T00:00:00Z"),
    ]
    kept, rows = settle(entries)
    assert [each.when[:10] for each in kept] == ["2026-01-01", "2026-01-03"]
    assert [each.emulated for each in rows] == [False, True]


def test_what_fails_under_emulation_alone_is_not_held_against_the_wheel() -> None:
    cuda, cpu = load_pin("sageattention"), load_pin("demo")
    assert worth_keeping(verdict("import"), cuda)
    assert worth_keeping(verdict("import", "symbols", "import sageattention"), cuda)
    assert not worth_keeping(verdict("import", "import sageattention"), cuda)
    assert not worth_keeping(verdict("import", "import demoattention", pin="demo"), cpu)
    assert not worth_keeping(verdict("numerics", "numerics attention", pin="demo"), cpu)


def test_a_verdict_says_in_json_that_it_was_emulated() -> None:
    told = msgspec.json.decode(msgspec.json.encode(verdict("import")))
    assert told["emulated"]["machine"] == "aarch64"
    assert msgspec.convert(told, Verdict) == verdict("import")


def test_every_archive_of_the_table_is_for_a_known_machine_and_signed() -> None:
    table = load_platforms()
    machines = {each.machine for each in table.platform}
    for archive in table.archive:
        assert set(archive.machines) <= machines
        lines = archive.source_list().splitlines()
        assert lines
        assert all(line.startswith(f"deb [signed-by={archive.keyring}] http") for line in lines)


def test_a_table_of_ones_own_is_read_and_a_wrong_one_refused(tmp_path: Path) -> None:
    (tmp_path / "platforms.toml").write_text("schema = 1\nplatform = []\nlibraries = []\narchive = [{}]\n")
    with pytest.raises(PinError, match=r"archive\[0\]"):
        load_platforms(tmp_path)


def test_links_of_an_unpacked_root_stay_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr" / "lib").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc" / "real").write_text("inside")
    (root / "usr" / "lib" / "absolute").symlink_to("/etc/real")
    (root / "usr" / "lib" / "relative").symlink_to("../../etc/real")
    _settle_links(root)
    assert (root / "usr" / "lib" / "absolute").read_text() == "inside"
    assert (root / "usr" / "lib" / "relative").read_text() == "inside"
    # https://wiki.debian.org/UsrMerge
    assert (root / "lib" / "absolute").read_text() == "inside"


def test_the_command_of_a_distribution_or_all_of_them() -> None:
    assert for_this_machine({"alpine-like": "a", "gentoo-like": "b"}) == "alpine-like: a; gentoo-like: b"


def test_the_launcher_hands_over_every_word_and_no_setting_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator is a script that leaves out its own options: what it then starts is this machine's Python."""
    import sys

    folder = tmp_path / "with space, comma and 'quote'"
    folder.mkdir()
    emulator = folder / "qemu"
    emulator.write_text(f'#!/bin/sh\nshift 3\nexec "{sys.executable}" "$@"\n')
    emulator.chmod(emulator.stat().st_mode | stat.S_IXUSR)
    root = Root(
        platform="x", python="3.11", origin="x", program="python3.11", sysroot="root", bytes=0, made=""
    )
    kept = Kept(name="x", root=root, folder=str(folder), size=0)
    (folder / "first").mkdir()
    monkeypatch.setenv("PYTHONPATH", "/nowhere/of/the/users")
    monkeypatch.setenv("LD_PRELOAD", "")
    made = make_interpreter(
        Emulator(program=str(emulator), name="qemu", version="1.0"), kept, folder, imports=(folder / "first",)
    )
    assert made.executable == str(folder / "python3.11")
    assert (made.emulator, made.sysroot, made.patience) == ("qemu 1.0", str(folder / "root"), SLOWER)
    assert str(folder / "first") in made.sys_path
    assert "/nowhere/of/the/users" not in made.sys_path
    said = subprocess.run(
        [made.executable, "-c", "import sys; print(sys.argv[1:])", "a b", "$HOME"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.strip() == "['a b', '$HOME']"


def test_libraries_are_looked_for_in_the_emulated_system(tmp_path: Path) -> None:
    import sys

    from sagefix.targets.interpreter import probe

    own = probe(Path(sys.executable))
    inside = tmp_path / "usr" / "lib" / f"{own.machine}-linux-gnu"
    inside.mkdir(parents=True)
    assert inside not in library_folders(own, env={})
    assert inside in library_folders(msgspec.structs.replace(own, sysroot=str(tmp_path)), env={})


def test_the_platform_of_the_emulators_is_in_the_table() -> None:
    platform = platform_named("linux_aarch64")
    assert "qemu-aarch64-static" in platform.emulators
    assert platform.debian == "arm64"
