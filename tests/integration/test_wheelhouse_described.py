"""One wheelhouse with wheels of two architectures: what sagefix, pip and uv take from it for a target not here."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Server, make_wheel, serving

from sagefix.errors import NoWheelError, ProcessError, TargetError
from sagefix.installing.installer import require_writable
from sagefix.process import find_program, run
from sagefix.targets.cross.expected import expected_interpreter
from sagefix.targets.gpus import find_gpus
from sagefix.targets.guests import ask
from sagefix.targets.model import Torch
from sagefix.targets.tags import platform_tags
from sagefix.targets.throwaway import make_throwaway
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.elf import read_extensions
from tests.integration.conftest import Sagefix, Said

LABEL = "68de379.fix1.cu130.torch2.11.sm90"
LATER = "68de379.fix1.cu130.torch2.12.sm90"
MACHINES = ("x86_64", "aarch64")
# Needs no header and no library, so that a bare cross compiler is enough.
EXTENSION = "void *PyInit__qattn_sm90(void) { return 0; }\n"
OF_GH200 = ("--platform", "linux_aarch64", "--python", "3.12", "--torch", "2.11.0+cu130", "--arch", "9.0")


def name_of(machine: str, label: str = LABEL, python: str = "cp312", system: str = "linux") -> str:
    return f"sageattention-2.2.0+{label}-{python}-{python}-{system}_{machine}.whl"


def compiled(machine: str, folder: Path) -> bytes:
    """Return an extension for a machine; nothing where its compiler is not here."""
    own = platform.machine() == machine
    compiler = find_program("cc" if own else f"{machine}-linux-gnu-gcc")
    if compiler is None:
        return b""
    (folder / "kernel.c").write_text(EXTENSION)
    made = folder / f"{machine}.so"
    command = [compiler, "-shared", "-fPIC", "-nostdlib", "-o", made, folder / "kernel.c"]
    subprocess.run(command, check=True)
    return made.read_bytes()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Wheelhouse:
    """Wheels of two architectures, Pythons, commits, archs and torches."""
    folder = tmp_path_factory.mktemp("wheels")
    house = Wheelhouse.open(folder / "house")
    code = {machine: compiled(machine, folder) for machine in MACHINES}

    def add(machine: str, label: str = LABEL, python: str = "cp312", system: str = "linux") -> None:
        suffix = f"{python.replace('cp', 'cpython-')}-{machine}-linux-gnu.so"
        torch = label.partition("torch")[2].partition(".sm")[0]
        files = {f"sageattention_kernels/_qattn_sm90.{suffix}": code[machine]} if code[machine] else {}
        house.add(
            make_wheel(
                folder,
                version=f"2.2.0+{label}",
                tag=f"{python}-{python}-{system}_{machine}",
                requires=[f"torch=={torch}.*"],
                files=files,
            )
        )

    for machine in MACHINES:
        add(machine)
    add("aarch64", python="cp311")
    add("aarch64", LATER)
    add("aarch64", "68de379.fix1.cu130.torch2.11.sm80")
    add("aarch64", "d1a57a5.fix1.cu130.torch2.11.sm90")
    return house


@pytest.fixture(params=["http", "file"])
def index(request: pytest.FixtureRequest, house: Wheelhouse) -> Iterator[str]:
    """The address of the wheelhouse as an index."""
    if request.param == "file":
        yield house.path.as_uri()
        return
    with serving(house.path) as server:
        yield server.url


def reasons(said: Said) -> dict[str, tuple[bool, str]]:
    return {
        each["facts"]["filename"]: (each["accepted"], "; ".join(each["reasons"]))
        for each in said.answer["result"]["decisions"]
    }


def test_an_aarch64_target_that_is_not_here_takes_its_wheel(
    sagefix: Sagefix, house: Wheelhouse, index: str, tmp_path: Path
) -> None:
    choose = ("wheelhouse", "choose", *OF_GH200, "--wheelhouse", tmp_path / "none", "--index", index)
    said = sagefix(*choose)
    result = said.result
    assert result["wheel"]["filename"] == name_of("aarch64")
    assert (result["torch"], result["cuda"], result["torch_told_by"]) == ("2.11.0", "13.0", "as given")
    assert (result["platform"], result["glibc"], result["archs"]) == ("linux_aarch64", "2.35", ["9.0"])
    decided = reasons(said)
    assert [name for name, (accepted, _) in decided.items() if accepted] == [name_of("aarch64")]
    for name, why in {
        name_of("x86_64"): "for the platform linux_x86_64, not linux_aarch64",
        name_of("aarch64", python="cp311"): "for Python cp311-cp311, not cp312-cp312",
        name_of("aarch64", LATER): "it requires torch ==2.12.*, and the target has 2.11.0",
        name_of("aarch64", "68de379.fix1.cu130.torch2.11.sm80"): "it holds code for 8.0, not for 9.0",
        name_of("aarch64", "d1a57a5.fix1.cu130.torch2.11.sm90"): "it is of commit d1a57a5, not 68de379",
    }.items():
        assert why in decided[name][1], name
    shown = sagefix(*choose, json_=False)
    assert shown.code == 0
    assert (
        "For linux_aarch64 with glibc 2.35, Python 3.12, torch 2.11.0 with CUDA 13.0 (as given), 9.0:"
        in shown.out
    )
    assert f"It takes {result['wheel']['where']}" in shown.out
    assert not (tmp_path / "none" / "sageattention").exists(), "nothing is downloaded"


def test_the_same_from_the_wheelhouse_itself_and_for_the_other_architecture(
    sagefix: Sagefix, house: Wheelhouse
) -> None:
    for machine in MACHINES:
        wanted = ("--platform", f"linux_{machine}", *OF_GH200[2:], "--wheelhouse", house.path)
        result = sagefix("wheelhouse", "choose", *wanted, "--offline").result
        assert result["wheel"]["where"] == str(house.path / "sageattention" / name_of(machine))


def test_nothing_that_fits_is_told_with_the_way_to_build_it(sagefix: Sagefix, house: Wheelhouse) -> None:
    ask = ("wheelhouse", "choose", "--wheelhouse", house.path, "--offline", "--platform", "linux_aarch64")
    said = sagefix(*ask, "--python", "3.13", "--torch", "2.11", "--arch", "9.0")
    assert said.code == NoWheelError.exit_code == 14
    assert said.answer["result"]["wheel"] is None
    assert said.answer["error"]["message"] == (
        "None of 6 wheels of sageattention at hand fits linux_aarch64 with Python 3.13 and torch 2.11.0."
    )
    build = said.answer["result"]["build"]
    own = "" if platform.machine() == "aarch64" else "--platform linux_aarch64 "
    assert build == f"sagefix build {own}--python 3.13 --torch 2.11 --arch 9.0 --wheelhouse {house.path}"
    assert build in said.answer["error"]["hint"]
    # PyPI's torch is for the CPU there, so that nothing could be built against it.
    said = sagefix(*ask, "--python", "3.12", "--torch", "2.10", "--arch", "9.0")
    assert (said.code, said.answer["result"]["build"]) == (14, "")
    assert "torch 2.10 is for the CPU only on aarch64" in said.answer["error"]["hint"]
    assert "the target's torch is for the CPU only" in reasons(said)[name_of("aarch64")][1]
    # A torch from elsewhere, with a CUDA that no package has.
    said = sagefix(*ask, "--python", "3.12", "--torch", "2.11.0", "--cuda", "12.8", "--arch", "9.0")
    assert said.code == 14
    assert "with CUDA 13.0 for aarch64, not with 12.8" in said.answer["error"]["hint"]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--torch", "2.11", "--arch", "9.0"), 2, "Nobody said which Python the target has."),
        (("--python", "3.12", "--arch", "9.0"), 2, "nobody said which one the target has"),
        (("--python", "3.12", "--torch", "2.11"), 7, "cannot be asked"),
        (("--python", "/usr/bin/python3", "--torch", "2.11", "--arch", "9.0"), 2, "is no version"),
        (("--python", "3.12", "--torch", "new", "--arch", "9.0"), 2, "--torch new is not a version."),
        (
            ("--python", "3.12", "--torch", "2.11", "--cuda", "pypi", "--arch", "9.0"),
            2,
            "not a version of CUDA",
        ),
        (("--python", "3.12", "--torch", "2.11+cu130", "--cuda", "12.8", "--arch", "9.0"), 2, "contradict"),
        (("--python", "3.12", "--torch", "2.5", "--arch", "9.0"), 6, "Nothing here says what torch 2.5"),
        (("--python", "3.12", "--torch", "2.11", "--arch", "5.0"), 7, "cannot be built for 5.0"),
        (("--platform", "linux_sparc", "--python", "3.12", "--torch", "2.11"), 2, "linux_sparc is not known"),
    ],
)
def test_too_little_or_wrong_is_said_of_the_target(
    sagefix: Sagefix, tmp_path: Path, options: tuple[str, ...], status: int, message: str
) -> None:
    said = sagefix("wheelhouse", "choose", *options, "--wheelhouse", tmp_path / "none", "--offline")
    assert (said.code, message in said.answer["error"]["message"]) == (status, True), said.answer["error"]


def test_the_glibc_of_the_target_counts(sagefix: Sagefix, tmp_path: Path) -> None:
    house = Wheelhouse.open(tmp_path / "house")
    tag = "cp312-cp312-manylinux_2_38_aarch64"
    name = house.add(make_wheel(tmp_path, version=f"2.2.0+{LABEL}", tag=tag)).filename
    for named, code in (("linux_aarch64", 14), ("manylinux_2_38_aarch64", 0), ("manylinux_2_37_aarch64", 14)):
        target = ("--platform", named, *OF_GH200[2:], "--wheelhouse", house.path, "--offline")
        said = sagefix("wheelhouse", "choose", *target)
        assert said.code == code, named
        assert reasons(said)[name][0] is (code == 0)


def test_a_pin_without_torch_needs_a_python_alone(sagefix: Sagefix, tmp_path: Path) -> None:
    said = sagefix(
        "wheelhouse", "choose", "--pin", "demo", "--python", "3.12", "--wheelhouse", tmp_path / "none"
    )
    assert said.code == 14
    assert said.answer["result"]["build"] == (
        f"sagefix build --pin demo --python 3.12 --wheelhouse {tmp_path / 'none'}"
    )
    assert said.answer["result"]["platform"] == f"linux_{platform.machine()}"


def test_settings_of_this_machine_do_not_describe_another(sagefix: Sagefix, house: Wheelhouse) -> None:
    (sagefix.folder / "sagefix.toml").write_text(
        'python = "/usr/bin/python3"\ncuda = "system"\narch = "8.6"\n'
    )
    said = sagefix("wheelhouse", "choose", *OF_GH200, "--wheelhouse", house.path, "--offline")
    assert said.result["wheel"]["filename"] == name_of("aarch64")


@pytest.fixture
def torch_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An index with torches that differ by platform as those of PyPI do, as the one that uv and pip use."""
    house = Wheelhouse.open(tmp_path / "torches")
    tags = {machine: f"cp312-cp312-manylinux_2_28_{machine}" for machine in MACHINES}

    def add(machine: str, version: str, *requires: str) -> None:
        house.add(
            make_wheel(
                tmp_path,
                project="torch",
                version=version,
                tag=tags[machine],
                requires=requires,
                requires_python="",
            )
        )

    add("x86_64", "2.10.1", "nvidia-cuda-runtime-cu12==12.8.90")
    add("aarch64", "2.10.0")
    add("aarch64", "2.11.7", "nvidia-cuda-runtime==13.0.96")
    for project, version in (("nvidia-cuda-runtime", "13.0.96"), ("nvidia-cuda-runtime-cu12", "12.8.90")):
        house.add(make_wheel(tmp_path, project=project, version=version, requires=[]))
    with serving(house.path) as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", server.url)
        monkeypatch.setenv("PIP_INDEX_URL", server.url)
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
        yield server


def test_what_torch_is_there_is_read_from_the_index(
    sagefix: Sagefix, torch_index: Server, tmp_path: Path
) -> None:
    def chosen(machine: str, torch: str, *more: str) -> dict[str, Any]:
        target = ("--platform", f"linux_{machine}", "--python", "3.12", "--torch", torch, "--arch", "9.0")
        said = sagefix("wheelhouse", "choose", *target, *more, "--wheelhouse", tmp_path / "none")
        told: dict[str, Any] = said.answer["result"] or said.answer["error"]
        return told

    def short(told: dict[str, Any]) -> tuple[str, str, str]:
        return told["torch"], told["cuda"], told["torch_told_by"]

    index = "as the package index has it"
    assert short(chosen("aarch64", "2.11")) == ("2.11.7", "13.0", index)
    assert short(chosen("aarch64", "2.10")) == ("2.10.0", "", index)
    assert short(chosen("x86_64", "2.10")) == ("2.10.1", "12.8", index)
    assert short(chosen("x86_64", "2.10", "--cuda", "12.6")) == ("2.10.1", "12.6", index)
    missing = chosen("x86_64", "2.11")
    assert missing["name"] == "torch"
    assert "The package index has no torch==2.11.* for Python 3.12 on linux_x86_64" in missing["message"]
    torch_index.behaviour["/torch/"] = lambda handler: handler.answer(b"", status=500)
    # Offline nothing is asked.
    before = len(torch_index.requests)
    assert short(chosen("aarch64", "2.11", "--offline")) == ("2.11.0", "13.0", "as matrix.toml says")
    assert len(torch_index.requests) == before


def test_an_index_that_does_not_answer_leaves_what_the_table_says(
    sagefix: Sagefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    said = sagefix(
        "wheelhouse",
        "choose",
        *OF_GH200[:4],
        "--torch",
        "2.11",
        "--arch",
        "9.0",
        "--wheelhouse",
        tmp_path / "none",
    )
    assert said.code == 14
    assert said.answer["result"]["torch_told_by"] == "as matrix.toml says"
    assert "What matrix.toml says counts." in said.err


def test_nothing_is_run_or_installed_in_a_target_that_is_not_here(tmp_path: Path) -> None:
    torch = Torch(version="2.11.0", cuda="13.0", cxx11_abi=True, folder="")
    there = expected_interpreter("aarch64", "3.12", glibc="2.35", torch=torch)
    with pytest.raises(TargetError, match="described, and not on this machine"):
        ask(there.executable, "probe.py", timeout=10)
    with pytest.raises(TargetError, match="described"):
        find_gpus(there)
    with pytest.raises(TargetError, match="An installation needs a Python that runs here"):
        require_writable(there, break_system=True)
    with pytest.raises(TargetError, match="described"):
        make_throwaway(there, tmp_path / "new", project="x", package="x")
    with pytest.raises(ProcessError):
        run([there.executable, "-c", "pass"])


# What pip and uv take from the same index.


def clean_environment(tmp_path: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("PIP_", "UV_")) and not name.upper().endswith("_PROXY")
    }
    return kept | {"UV_CACHE_DIR": str(tmp_path / "uv-cache")}


def find_uv() -> Path:
    uv = find_program("uv") or Path(sys.executable).with_name("uv")
    if not uv.is_file():
        pytest.skip("uv is not here")
    return uv


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the pip that Python brings along."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    run([sys.executable, "-m", "venv", folder])
    return folder / "bin" / "python"


@pytest.mark.parametrize("machine", MACHINES)
def test_pip_downloads_the_wheel_of_the_platform_it_is_told(
    index: str, pip: Path, tmp_path: Path, machine: str
) -> None:
    # pip does not expand a platform downward, so every tag has to be named: https://github.com/pypa/pip/issues/10760
    tags = platform_tags(f"linux_{machine}", glibc="2.39")
    run(
        [
            pip, "-m", "pip", "--isolated", "--no-cache-dir", "download", "--disable-pip-version-check", "--no-deps",
            "--index-url", index, "--only-binary", ":all:", "--python-version", "3.12", "--implementation", "cp",
            "--abi", "cp312", *(word for tag in tags for word in ("--platform", tag)),
            "--dest", tmp_path / "got", f"sageattention==2.2.0+{LABEL}",
        ],
        env=clean_environment(tmp_path), cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert [path.name for path in (tmp_path / "got").iterdir()] == [name_of(machine)]


@pytest.mark.parametrize("machine", MACHINES)
def test_uv_installs_the_wheel_of_the_platform_it_is_told(
    index: str, pip: Path, tmp_path: Path, machine: str
) -> None:
    run(
        [
            find_uv(), "--no-config", "pip", "install", "--python", pip, "--no-deps", "--index-url", index, "--target",
            tmp_path / "site", "--python-platform", f"{machine}-manylinux_2_39", "--python-version", "3.12",
            f"sageattention==2.2.0+{LABEL}",
        ],
        env=clean_environment(tmp_path), cwd=tmp_path, timeout=120,
    )  # fmt: skip
    (info,) = (tmp_path / "site").glob("*.dist-info")
    assert f"Tag: cp312-cp312-linux_{machine}" in (info / "WHEEL").read_text()


@pytest.mark.parametrize(
    ("machine", "label"), [("x86_64", LABEL), ("aarch64", "d1a57a5.fix1.cu130.torch2.11.sm90")]
)
def test_uv_resolves_for_the_platform_it_is_told(
    index: str, tmp_path: Path, machine: str, label: str
) -> None:
    """Without the full label the one that sorts last is taken, of those that the platform has."""
    (tmp_path / "asked.in").write_text("sageattention==2.2.0\n")
    done = run(
        [
            find_uv(), "--no-config", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-deps",
            "--only-binary", ":all:", "--python", sys.executable, "--index-url", index, "--python-platform",
            f"{machine}-manylinux_2_39", "--python-version", "3.12", tmp_path / "asked.in",
        ],
        env=clean_environment(tmp_path), cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert done.stdout.split() == [f"sageattention==2.2.0+{label}"]


def test_what_is_compiled_inside_is_for_the_machine_of_the_tag(house: Wheelhouse, tmp_path: Path) -> None:
    """So that the wheels above are those of two architectures and not only called so."""
    missing = [
        machine
        for machine in MACHINES
        if platform.machine() != machine and not shutil.which(f"{machine}-linux-gnu-gcc")
    ]
    if missing:
        pytest.skip(
            f"there is no {missing[0]}-linux-gnu-gcc (Debian: g++-{missing[0].replace('_', '-')}-linux-gnu)"
        )
    for machine in MACHINES:
        (extension,) = read_extensions(house.path / "sageattention" / name_of(machine))
        assert extension.machine == machine


def test_two_builds_of_one_wheel_are_held_against_each_other(sagefix: Sagefix, tmp_path: Path) -> None:
    """The code for the GPU has to be the same whichever machine made the wheel; that for the processor need not."""
    compiler = find_program("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")

    def build(name: str, gpu: str, cpu: int, label: str = LABEL) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        code = f'__attribute__((section("__nv_relfatbin"), used)) const char code[] = "{gpu}";\n'
        (folder / "a.c").write_text(f"{code}int PyInit__k(void) {{ return {cpu}; }}\n")
        module = folder / "_k.so"
        run([compiler, "-shared", "-fPIC", "-nostdlib", "-o", module, folder / "a.c"])
        files = {"kernels/_k.abi3.so": module.read_bytes()}
        make_wheel(folder, version=f"2.2.0+{label}", tag="cp312-cp312-linux_aarch64", files=files)
        return folder

    crossed = build("crossed", "the same", 1)

    def compare(first: Path, second: Path) -> tuple[int, list[str]]:
        said = sagefix("wheelhouse", "compare", first, second)
        checks = [check["status"] for each in said.answer["result"] or () for check in each["checks"]]
        return said.code, checks

    assert compare(crossed, build("native", "the same", 2)) == (0, ["ok", "ok", "ok"])
    assert compare(crossed, build("other", "no other", 1)) == (11, ["ok", "ok", "failure"])
    later = build("later", "the same", 1, LATER)
    assert compare(crossed, later) == (2, [])
    assert compare(*(next(folder.glob("*.whl")) for folder in (crossed, later))) == (
        11,
        ["failure", "ok", "ok"],
    )
    assert compare(crossed, tmp_path / "nothing") == (2, [])
