"""Both levels on small real packages, each built, installed and named for its fault."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from sagefix.archs import Arch
from sagefix.checks import Check, Level
from sagefix.pins.model import Build, Fault, Pin, Recipe, Ref, Source
from sagefix.proof import importing
from sagefix.proof.explain import explain
from sagefix.proof.extensions import read_modules
from sagefix.proof.installed import find_copies, read_installed
from sagefix.proof.model import Verdict
from sagefix.proof.verify import verify
from sagefix.targets.interpreter import probe
from sagefix.targets.model import Target

PACKAGES = Path(__file__).parents[1] / "packages"
NAMES = ("swallowed_import", "crashing_import", "shadowed_op", "unparsable", "wrong_record")
COMMIT = "abcdef1" + "0" * 33


def build_wheel(name: str, folder: Path) -> Path:
    """Build one of `tests/packages` in a copy; its `sagefix.json`, if there is one, goes where records do."""
    from build import ProjectBuilder

    source = shutil.copytree(PACKAGES / name, folder / "src" / name)
    builder = ProjectBuilder(source, runner=_quiet)
    wheel = Path(builder.build("wheel", folder / "wheels"))
    record = source / "sagefix.json"
    if record.is_file():
        unpacked = folder / "unpacked" / name
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        (info,) = unpacked.glob("*.dist-info")
        shutil.copy(record, info)
        command = [sys.executable, "-m", "wheel", "pack", str(unpacked), "-d", str(wheel.parent)]
        subprocess.run(command, check=True, capture_output=True)
    return wheel


def _quiet(command: list[str], cwd: str | None = None, extra_environ: dict[str, str] | None = None) -> None:
    environment = {**os.environ, **(extra_environ or {})}
    subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packages")
    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(zip(NAMES, pool.map(lambda name: build_wheel(name, folder), NAMES), strict=True))


@pytest.fixture(scope="session")
def python(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with all of them installed."""
    folder = tmp_path_factory.mktemp("target") / "venv"
    uv = [sys.executable, "-m", "uv", "--offline", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(folder)], check=True, capture_output=True)
    python = folder / "bin" / "python"
    command = [
        *uv,
        "pip",
        "install",
        "--no-deps",
        "--no-cache",
        "--python",
        str(python),
        *map(str, wheels.values()),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return python


def pin(name: str, *modules: str, **more: object) -> Pin:
    facts: dict[str, object] = {
        "schema": 1,
        "name": name,
        "project": name.replace("_", "-"),
        "package": name,
        "version": "1.0.0",
        "summary": "",
        "device": "cpu",
        "license": "",
        "source": Source(url="https://example.org/x", commit=COMMIT, tree="0" * 40, files=("/setup.py",)),
        "build": Build(torch=False),
        "recipe": (
            Recipe(
                name="only",
                setup_py=(),
                extensions=tuple(f"{name}.{module}" for module in modules),
                sources=(),
            ),
        ),
        "ref": (Ref(commit=COMMIT, tree="0" * 40, recipe="only"),),
    }
    return Pin(**{**facts, **more})  # type: ignore[arg-type]


@pytest.fixture
def judge(python: Path) -> Callable[..., Verdict]:
    def judged(a_pin: Pin, level: Level = "static", archs: tuple[Arch, ...] = ()) -> Verdict:
        return verify(a_pin, Target(interpreter=probe(python), archs=archs, archs_from=""), level=level)

    return judged


def check(verdict: Verdict, name: str) -> Check:
    (found,) = [row for row in verdict.checks if row.name == name]
    return found


def test_an_error_that_the_package_swallows_is_shown(judge: Callable[..., Verdict]) -> None:
    verdict = judge(pin("swallowed_import", "_fine", "_broken"), "import")
    assert check(verdict, "files").status == "ok"
    assert check(verdict, "extensions").status == "ok"
    symbols = check(verdict, "symbols")
    assert symbols.status == "failure"
    assert symbols.found.startswith(
        "swallowed_import._broken: nothing that it is linked to provides kernel_that_nobody_has"
    )
    assert check(verdict, "import swallowed_import._fine").status == "ok"
    alone = check(verdict, "import swallowed_import._broken")
    assert alone.status == "failure"
    assert "No library that it names has the symbol kernel_that_nobody_has (ImportError: " in alone.found
    assert "sagefix install --rebuild" in alone.fix
    package = check(verdict, "import swallowed_import")
    assert package.status == "failure"
    assert package.found.startswith(
        "The package imports without an error and hides what its extensions raise: "
    )
    assert not verdict.passed


def test_a_process_that_crashes_hides_no_other_import(judge: Callable[..., Verdict]) -> None:
    a_pin = pin(
        "crashing_import", "_abort", build=Build(torch=False, import_requires=("json", "no_such_module"))
    )
    verdict = judge(a_pin, "import")
    assert check(verdict, "symbols").status == "ok"
    alone = check(verdict, "import crashing_import._abort")
    assert (alone.status, alone.found) == ("failure", "The process was ended by SIGABRT while importing.")
    # By name, too, the extension takes the process with it.
    assert check(verdict, "import crashing_import").status == "failure"
    assert check(verdict, "import json").status == "skipped"


def test_warnings_of_an_import_are_passed_on_and_needs_are_checked(python: Path) -> None:
    a_pin = pin("crashing_import", build=Build(torch=False, import_requires=("json", "no_such_module")))
    interpreter = probe(python)
    copies = find_copies(a_pin, interpreter)
    installed = read_installed(copies.infos[0], copies.packages[0], a_pin)
    rows = {row.name: row for row in importing.check_imports(a_pin, interpreter, installed, ())}
    assert rows["import crashing_import"].status == "warning"
    assert "RuntimeWarning: the fast path is off" in rows["import crashing_import"].found
    assert rows["import json"].status == "ok"
    missing = rows["import no_such_module"]
    assert missing.found == (
        "The module no_such_module is not installed (ModuleNotFoundError: No module named 'no_such_module')."
    )
    assert missing.fix == "Install no_such_module in the target."


def test_what_is_needed_first_is_told_once_and_the_rest_is_skipped(judge: Callable[..., Verdict]) -> None:
    verdict = judge(
        pin("swallowed_import", "_fine", build=Build(torch=True, import_requires=("json",))), "import"
    )
    assert check(verdict, "torch").status == "failure"
    assert check(verdict, "import torch").found.startswith("The module torch is not installed")
    for name in ("json", "swallowed_import", "swallowed_import._fine", "swallowed_import._broken"):
        assert check(verdict, f"import {name}").status == "skipped"


def test_an_import_that_takes_too_long_is_ended(
    python: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "shadowed_op").mkdir()
    (tmp_path / "shadowed_op" / "__init__.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    a_pin = pin("shadowed_op")
    interpreter = probe(python)
    copies = find_copies(a_pin, interpreter)
    installed = read_installed(copies.infos[0], copies.packages[0], a_pin)
    (row,) = importing.check_imports(a_pin, interpreter, installed, (), timeout=0.8)
    assert row.status == "failure"
    assert "did not end within" in row.found
    assert not _guests()


def test_ctrl_c_ends_the_imports(python: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "shadowed_op").mkdir()
    (tmp_path / "shadowed_op" / "__init__.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    a_pin = pin("shadowed_op")
    interpreter = probe(python)

    def interrupt() -> None:
        deadline = time.monotonic() + 20
        while not _guests() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    started = time.monotonic()
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        verify(a_pin, Target(interpreter=interpreter, archs=(), archs_from=""), level="import")
    assert time.monotonic() - started < 20
    assert not _guests()


def _guests() -> list[int]:
    """The processes that this one started and that run the import script."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if any(part.endswith("imports.py") for part in child.cmdline()):
                found.append(child.pid)
        except psutil.Error:
            continue
    return found


def test_another_copy_that_python_would_import_is_named(
    python: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    interpreter = probe(python)
    (tmp_path / "shadowed_op").mkdir()
    (tmp_path / "shadowed_op" / "__init__.py").write_text("")
    # It comes after the interpreter was asked, as a hook of the target may do.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    verdict = verify(
        pin("shadowed_op"), Target(interpreter=interpreter, archs=(), archs_from=""), level="import"
    )
    row = check(verdict, "import shadowed_op")
    assert row.status == "failure"
    assert row.found.startswith(
        f"Python imports {tmp_path / 'shadowed_op' / '__init__.py'}, and what was checked"
    )


def fault(kind: str, file: str) -> Fault:
    return Fault(
        name="known",
        kind=kind,  # type: ignore[arg-type]
        files=(file,),
        archs=("*",),
        reason="It was reported.",
        sources=("https://example.org/report",),
    )


def test_a_shadowed_operator_is_found_and_is_real(judge: Callable[..., Verdict], python: Path) -> None:
    a_pin = pin("shadowed_op", fault=(fault("shadowed-custom-op", "shadowed_op/kernels.py"),))
    verdict = judge(a_pin, "import")
    found = check(verdict, "fault: known")
    assert found.status == "failure"
    assert "the operator shadowed::triple (line 15) is replaced" in found.found
    assert found.found.endswith("It was reported.")
    assert "double" not in found.found
    # Nothing else looks wrong, and the rule is right about what happens.
    assert [row.name for row in verdict.checks if row.status == "failure"] == ["fault: known"]
    code = "import shadowed_op; print(shadowed_op.double(2), shadowed_op.triple(2))"
    assert (
        subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout == "4 None\n"
    )


def test_conflict_markers_behind_a_bare_except_are_found(judge: Callable[..., Verdict]) -> None:
    verdict = judge(pin("unparsable", fault=(fault("unparsable", "unparsable/late.py"),)), "import")
    assert check(verdict, "source parses").found == (
        "Does not parse: unparsable/late.py: conflict markers of an unfinished merge stand at line 2."
    )
    assert check(verdict, "fault: known").status == "failure"
    assert check(verdict, "import unparsable").status == "ok"


def test_a_record_of_something_else_is_taken_apart(judge: Callable[..., Verdict]) -> None:
    a_pin = pin("wrong_record", build=Build(torch=True))
    found = check(judge(a_pin, archs=(Arch(9, 0),)), "record")
    assert found.status == "failure"
    for said in (
        "The record is of version 1.0.1+abcdef1.torch2.11.sm90, the metadata of 1.0.0+abcdef1.torch2.11.sm90",
        "it was built for cp27-cp27mu-linux_ppc64le",
        "it was built for 8.9, and the target is 9.0",
    ):
        assert said in found.found


def test_verifying_writes_nothing_into_the_target(judge: Callable[..., Verdict], python: Path) -> None:
    def listing() -> set[Path]:
        return set(python.parents[1].rglob("*"))

    before = listing()
    for name in NAMES:
        judge(pin(name), "import")
    assert listing() == before


def test_modules_are_read_with_their_import_names(python: Path) -> None:
    a_pin = pin("swallowed_import")
    interpreter = probe(python)
    copies = find_copies(a_pin, interpreter)
    installed = read_installed(copies.infos[0], copies.packages[0], a_pin)
    modules = read_modules(installed, interpreter)
    assert [module.module for module in modules.usable] == [
        "swallowed_import._broken",
        "swallowed_import._fine",
    ]
    assert [importing.module_name(installed, path) for path in modules.paths] == [
        module.module for module in modules.usable
    ]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (
            "libcuda.so.1: cannot open shared object file: No such file",
            "There is no NVIDIA driver on this machine",
        ),
        (
            "/x/_k.so: undefined symbol: _ZN3c104cuda20CUDACachingAllocator9allocatorE",
            "built for another torch",
        ),
        ("/x/_k.so: undefined symbol: _ZNK2at10TensorBase4dataEv", "built for another torch"),
        ("/x/_k.so: undefined symbol: cuTensorMapEncodeTiled", "no libcuda.so.1 in NEEDED"),
        ("/x/_k.so: undefined symbol: _PyUnicode_Ready", "built for another Python"),
        ("/x/_k.so: undefined symbol: other_symbol", "No library that it names has the symbol other_symbol"),
        (
            "/lib/libc.so.6: version `GLIBC_2.38' not found (required by /x/_k.so)",
            "newer C library: GLIBC_2.38",
        ),
        (
            "libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by /x)",
            "newer C++ library: GLIBCXX_3.4.32",
        ),
        ("libc10.so: cannot open shared object file", "libc10.so is not there: torch is missing"),
        (
            "libcudart.so.12: cannot open shared object file",
            "libcudart.so.12 is not there: it was built for another",
        ),
        ("libgomp.so.1: cannot open shared object file", "The library libgomp.so.1 is not there"),
        ("/x/_k.so: wrong ELF class: ELFCLASS32", "another kind of machine"),
        ("/x/_k.so: file too short", "The file is damaged"),
        (
            "dynamic module does not define module export function (PyInit__k)",
            "no Python module of this name",
        ),
        ("No module named 'triton'", "The module triton is not installed"),
    ],
)
def test_errors_of_the_dynamic_linker_are_explained(text: str, meaning: str) -> None:
    told = explain("ImportError", text)
    assert meaning in told.text
    assert text in told.text
    assert told.fix


def test_an_error_that_nobody_knows_is_passed_on() -> None:
    assert explain("ValueError", "strange\n  things.").text == "ValueError: strange things."
    assert explain("SystemExit", "").text == "SystemExit."
