"""``sagefix lock``: what it writes is what pip and uv take, from a folder and from a server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from packaging.pylock import Pylock
from support import LABEL, make_wheel, serving, verdict

from sagefix.errors import UsageError
from sagefix.files import sha256_file
from sagefix.wheelhouse.lockfiles import group, marker_of, one_marker, read_toml, write_pylock
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.archive import facts
from tests.integration.conftest import Here, MakeTarget, Said, python_of

HERE = f"cp{sys.version_info[0]}{sys.version_info[1]}"
VERSION = f"2.2.0+{LABEL}"
NEWER = "2.2.0+d1a57a5.fix1.cu130.torch2.12.sm90"
DEMO = ("--pin", "demo")
Client = Callable[..., subprocess.CompletedProcess[str]]


def tag(python: str, machine: str) -> str:
    return f"{python}-{python}-linux_{machine}"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheelhouse:
    """Wheels for three Pythons and two machines, of one version; those for this Python have a proof."""
    made = Wheelhouse.open(tmp_path / "house of wheels")
    for python in {HERE, "cp312", "cp313"}:
        for machine in ("x86_64", "aarch64"):
            wheel = made.add(
                make_wheel(tmp_path / "dist", tag=tag(python, machine), body=f"at = '{python} {machine}'")
            )
            if python == HERE:
                made.record_proof(wheel.filename, verdict("NVIDIA H200", "9.0", "right"), "numerics", True)
    monkeypatch.setenv("SAGEFIX_WHEELHOUSE", str(made.path))
    return made


@pytest.fixture
def target(make_target: MakeTarget, tmp_path: Path) -> Path:
    """An environment with an empty torch 2.11."""
    made = make_target(build=False)
    torch = make_wheel(tmp_path / "torch", project="torch", version="2.11.0", requires=[])
    run(["uv", "pip", "install", "--quiet", "--offline", "--python", made, torch], tmp_path)
    return made


def run(command: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    environment |= {"UV_NO_CONFIG": "1", "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)


@pytest.fixture(params=["uv", "pip"])
def client(request: pytest.FixtureRequest, tmp_path: Path, target: Path) -> Client:
    """A function that installs a lock into the target from another folder than the lock's."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if request.param == "pip":
        folder = tmp_path / "pip"
        run([sys.executable, "-m", "venv", folder], tmp_path)
        program = [folder / "bin" / "pip", "--python", python_of(target), "install"]
        program += ["--no-input", "--disable-pip-version-check", "--no-cache-dir", "--no-index"]
    else:
        program = [
            "uv",
            "pip",
            "install",
            "--python",
            python_of(target),
            "--cache-dir",
            tmp_path / "uv-cache",
        ]
        program += ["--no-index"]

    def install(lock: Path, *more: str | Path) -> subprocess.CompletedProcess[str]:
        return run([*program, "-r", lock, *more], elsewhere)

    return install


def lock(here: Here, *arguments: str | Path) -> Said:
    return here("lock", *arguments, json_=True)


def installed(target: Path) -> str:
    code = "import sageattention as s, importlib.metadata as m; print(m.version('sageattention'), s.at)"
    done = subprocess.run([python_of(target), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def machine() -> str:
    return os.uname().machine


# What is written, and that it installs


def test_requirements_install_the_wheel_for_this_python(
    here: Here, house: Wheelhouse, client: Client, target: Path, tmp_path: Path
) -> None:
    file = tmp_path / "my project" / "requirements-sage.txt"
    file.parent.mkdir()
    result = lock(here, "--wheel", "*", "--output", file).result
    text = file.read_text()
    assert text == result["files"][0]["text"]
    assert '--find-links "../house of wheels/sageattention"' in text
    assert text.count("--hash=sha256:") == len({HERE, "cp312", "cp313"}) * 2
    assert (
        "for torch 2.11, CUDA 13.0, compute capability 9.0; requires torch==2.11.*; numerics on NVIDIA H200"
        in text
    )
    done = client(file)
    assert done.returncode == 0, done.stderr
    assert installed(target) == f"{VERSION} {HERE} {machine()}"


def test_a_file_that_was_exchanged_is_refused_by_its_hash(
    here: Here, house: Wheelhouse, client: Client, tmp_path: Path
) -> None:
    lock(here, "--wheel", "*", "--output", tmp_path / "r.txt", "--output", tmp_path / "pylock.toml")
    shutil.copy(tmp_path / "r.txt", tmp_path / "house of wheels")
    wheel = house.path_of(f"sageattention-{VERSION}-{tag(HERE, machine())}.whl")
    make_wheel(wheel.parent, tag=tag(HERE, machine()), body="at = 'somewhere else'")
    done = client(tmp_path / "r.txt")
    assert done.returncode != 0
    assert "hash" in done.stderr.lower()
    # What is written down is what lies there now, or nothing.
    said = lock(here, "--wheel", "*", "--output", tmp_path / "again.txt")
    assert (said.code, said.answer["error"]["name"]) == (12, "wheelhouse")
    assert not (tmp_path / "again.txt").exists()


def test_uv_installs_from_pylock(here: Here, house: Wheelhouse, target: Path, tmp_path: Path) -> None:
    file = tmp_path / "project" / "pylock.sage.toml"
    file.parent.mkdir()
    lock(here, "--wheel", "*", "--output", file)
    uv = ["uv", "pip", "install", "--offline", "--preview", "--python", target, "-r", file]
    assert (done := run(uv, tmp_path)).returncode == 0, done.stderr
    assert installed(target) == f"{VERSION} {HERE} {machine()}"
    # sync makes the environment what the lock says, and that is without torch.
    bare = tmp_path / "bare"
    run(["uv", "venv", "--quiet", "--python", sys.executable, bare], tmp_path)
    sync = ["uv", "pip", "sync", "--offline", "--preview", "--python", bare, file]
    assert (done := run(sync, tmp_path)).returncode == 0, done.stderr
    assert installed(bare) == f"{VERSION} {HERE} {machine()}"


@pytest.mark.network
def test_pip_installs_from_pylock(here: Here, house: Wheelhouse, target: Path, tmp_path: Path) -> None:
    file = tmp_path / "pylock.toml"
    lock(here, "--wheel", "*", "--output", file)
    # The pip that came with Python may be older than PEP 751.
    assert (
        subprocess.run(
            ["uv", "pip", "install", "--quiet", "--python", target, "pip>=26.1"], check=False
        ).returncode
        == 0
    )
    command = [python_of(target), "-m", "pip", "install", "--no-index", "--no-input", "-r", file]
    assert (done := run(command, tmp_path)).returncode == 0, done.stderr
    assert installed(target) == f"{VERSION} {HERE} {machine()}"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", ["3.12", "3.13"])
def test_a_lock_for_several_versions_selects_rightly(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str, machine: str
) -> None:
    """Another torch for the newer Python: markers choose the version, tags the file."""
    house = Wheelhouse.open(tmp_path / "house")
    for version, name in ((VERSION, "cp312"), (NEWER, "cp313")):
        for each in ("x86_64", "aarch64"):
            platform = f"{name}-{name}-manylinux_2_28_{each}"
            house.add(make_wheel(tmp_path / "dist", version=version, tag=platform, requires=()))
    monkeypatch.setenv("SAGEFIX_WHEELHOUSE", str(house.path))
    files = (tmp_path / "pylock.toml", tmp_path / "r.txt")
    lock(here, "--wheel", "*", *(word for file in files for word in ("--output", file)))
    wanted = VERSION if python == "3.12" else NEWER
    for file in files:
        site = tmp_path / f"site-{file.suffix}"
        command = ["uv", "pip", "install", "--offline", "--preview", "--no-index", "--python", sys.executable]
        command += ["--target", site, "--python-version", python]
        command += ["--python-platform", f"{machine}-manylinux_2_28", "-r", file]
        assert (done := run(command, tmp_path)).returncode == 0, done.stderr
        (info,) = site.glob("sageattention-*.dist-info")
        assert info.name == f"sageattention-{wanted}.dist-info"
        assert f"_{machine}" in (info / "WHEEL").read_text()
    # Where none is for, the lock says so; markers alone would install nothing and call it a success.
    other = [
        "uv",
        "pip",
        "install",
        "--offline",
        "--preview",
        "--python",
        sys.executable,
        "--target",
        tmp_path / "none",
    ]
    other += ["--python-version", "3.10", "-r", files[0]]
    assert run(other, tmp_path).returncode != 0


def test_wheels_of_a_server_are_named_by_their_url(
    here: Here, house: Wheelhouse, client: Client, target: Path, tmp_path: Path
) -> None:
    name = f"sageattention-{VERSION}-{tag(HERE, machine())}.whl"
    file, other = tmp_path / "requirements.txt", tmp_path / "pylock.toml"
    with serving(house.path) as server:
        command = ("--index", server.url, "--wheelhouse", tmp_path / "none", "--wheel", name)
        lock(here, *command, "--output", file, "--output", other)
        done = client(file)
        assert done.returncode == 0, done.stderr
    url = f"{server.url}sageattention/{name.replace('+', '%2B')}"
    assert (
        f"sageattention @ {url} \\\n    --hash=sha256:{sha256_file(house.path_of(name))}\n"
        in file.read_text()
    )
    (package,) = Pylock.from_dict(read_toml(other.read_text())).packages
    assert [(wheel.url, wheel.path) for wheel in package.wheels or ()] == [(url, None)]
    assert installed(target).startswith(VERSION)
    assert lock(here, "--index", "https://example.org/simple/", "--offline", "--wheel", "*").code == 13


# Which wheels


def test_what_is_installed_is_locked(here: Here, make_target: MakeTarget, tmp_path: Path) -> None:
    target = make_target()
    said = lock(here, *DEMO, "--python", target)
    assert (said.code, said.answer["error"]["name"]) == (14, "no-wheel")
    assert "nothing to lock" in said.answer["error"]["message"]
    done = here("install", *DEMO, "--python", target, json_=True).result
    result = lock(here, *DEMO, "--python", target).result
    (only,) = result["groups"]
    (wheel,) = only["wheels"]
    assert (only["version"], wheel["where"]) == (done["version"], done["wheel"])
    (package,) = Pylock.from_dict(read_toml((tmp_path / "pylock.toml").read_text())).packages
    assert package.wheels is not None and package.tool is not None
    assert package.wheels[0].hashes == {"sha256": sha256_file(Path(done["wheel"]))}
    assert re.fullmatch(r"[0-9a-f]{40}", package.tool["sagefix"]["commit"])
    assert package.tool["sagefix"]["proof"][wheel["filename"]].startswith("numerics on ")
    words = here("lock", *DEMO, "--python", target).out
    assert wheel["sha256"] in words and "uv pip install -r " in words
    # By the path of a file that is in no wheelhouse.
    elsewhere = shutil.copy(done["wheel"], tmp_path)
    empty = ("--wheelhouse", tmp_path / "empty")
    assert lock(here, *DEMO, *empty, "--wheel", elsewhere, "--output", tmp_path / "r.txt").code == 0
    assert "--find-links .\n" in (tmp_path / "r.txt").read_text()
    # Without the wheel there is no hash to write down.
    said = lock(here, *DEMO, "--python", target, *empty)
    assert said.code == 14
    assert "sagefix save-wheel" in said.answer["error"]["hint"]
    assert not (tmp_path / "empty").exists()


def test_what_cannot_be_locked_is_refused_and_nothing_is_written(
    here: Here, house: Wheelhouse, tmp_path: Path
) -> None:
    file = tmp_path / "pylock.toml"
    said = lock(here, "--wheel", "nothing-*", "--output", file)
    assert (said.code, said.answer["error"]["name"]) == (14, "no-wheel")
    assert lock(here, *DEMO, "--wheel", house.entries()[0].where, "--output", file).code == 2
    newer = house.add(make_wheel(tmp_path / "dist", version=NEWER, tag=tag(HERE, machine())))
    said = lock(here, "--wheel", "*", "--output", file)
    assert said.code == 2
    assert "no lock file can tell them apart" in said.answer["error"]["message"]
    house.record_proof(newer.filename, verdict("NVIDIA H200", "9.0", "wrong"), "numerics", False)
    said = lock(here, "--wheel", newer.filename, "--output", file)
    assert said.code == 16
    assert "failed level numerics on NVIDIA H200 (9.0)" in said.answer["error"]["message"]
    assert not file.exists()


@pytest.mark.parametrize("name", ["pylock.toml", "requirements.txt"])
def test_a_file_of_somebody_else_is_kept(here: Here, house: Wheelhouse, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    theirs = (
        'lock-version = "1.0"\ncreated-by = "uv"\npackages = []\n' if name == "pylock.toml" else "torch\n"
    )
    file.write_text(theirs)
    said = lock(here, "--wheel", "*", "--output", file)
    assert (said.code, said.answer["error"]["name"]) == (2, "usage")
    assert file.read_text() == theirs
    assert lock(here, "--wheel", "*", "--output", file, "--replace").code == 0
    assert lock(here, "--wheel", "*", "--output", file).code == 0, "its own is written again"
    for other in (tmp_path, tmp_path / "lock.toml", tmp_path / "requirements"):
        assert lock(here, "--wheel", "*", "--output", other).code == 2


# Markers


LINUX = 'sys_platform == "linux" and platform_machine'


@pytest.mark.parametrize(
    ("tag", "marker"),
    [
        ("py3-none-any", ""),
        ("cp312-cp312-linux_x86_64", f'python_version == "3.12" and {LINUX} == "x86_64"'),
        ("cp39-abi3-manylinux_2_34_aarch64", f'python_version >= "3.9" and {LINUX} == "aarch64"'),
        ("cp310-cp310-manylinux2014_x86_64", f'python_version == "3.10" and {LINUX} == "x86_64"'),
        ("py3-none-win_amd64", 'sys_platform == "win32" and platform_machine == "AMD64"'),
        ("py3-none-macosx_14_0_arm64", 'sys_platform == "darwin" and platform_machine == "arm64"'),
    ],
)
def test_where_a_tag_is_for(tag: str, marker: str) -> None:
    assert marker_of(tag) == marker


def test_markers_of_every_python_with_every_platform_are_short() -> None:
    markers = [
        marker_of(tag(python, machine)) for python in ("cp311", "cp312") for machine in ("x86_64", "aarch64")
    ]
    assert one_marker(markers) == (
        '(python_version == "3.11" or python_version == "3.12") and '
        '((sys_platform == "linux" and platform_machine == "x86_64") or '
        '(sys_platform == "linux" and platform_machine == "aarch64"))'
    )
    assert one_marker(markers[1:]).count("python_version") == 3
    assert one_marker([]) == ""


def test_any_python_and_one_python_overlap(tmp_path: Path) -> None:
    wheels: list[Any] = [
        facts(make_wheel(tmp_path, tag="py3-none-any")),
        facts(make_wheel(tmp_path, version=NEWER, tag=tag("cp312", "x86_64"))),
    ]
    with pytest.raises(UsageError, match=r"are both for Python 3\.12 on linux x86_64"):
        group(wheels)
    text = write_pylock(group(wheels[:1]), tmp_path / "pylock.toml", pin="sageattention").decode()
    assert "environments" not in text and "marker" not in text
