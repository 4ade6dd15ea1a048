"""pip and uv take wheels from a wheelhouse, from ``file://`` and from a plain static server, with hashes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from support import LABEL, Server, make_wheel, serving, verdict

from sagefix.errors import ProcessError
from sagefix.files import sha256_file
from sagefix.process import Completed, find_program, run
from sagefix.wheelhouse.store import Wheelhouse

VERSION = f"2.2.0+{LABEL}"
NAME = f"sageattention-{VERSION}-py3-none-any.whl"
FILE = "/sageattention/" + quote(NAME)
OTHER = "2.2.0+d1a57a5.cu130.torch2.10.sm90"
WRONG = "2.3.0+eb615cf.cu130.torch2.11.sm90"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Wheelhouse:
    """A wheelhouse with wheels for two releases of torch, and an empty torch to match the first."""
    folder = tmp_path_factory.mktemp("wheels")
    house = Wheelhouse.open(folder / "house")
    house.add(make_wheel(folder))
    house.add(make_wheel(folder, version=OTHER, requires=["torch==2.10.*"]))
    house.add(make_wheel(folder, project="torch", version="2.11.0", requires=[]))
    # Newer, and wrong on some GPU: the pages do not offer it. What they say of the other is read by nobody here.
    wrong = house.add(make_wheel(folder, version=WRONG))
    house.record_proof(wrong.filename, verdict("NVIDIA H200", "9.0", "wrong"), "numerics", False)
    house.record_proof(NAME, verdict("NVIDIA H200", "9.0", "right"), "numerics", True)
    return house


@pytest.fixture(scope="module")
def pip_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the pip that Python brings along."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    run([sys.executable, "-m", "venv", folder])
    return folder / "bin" / "python"


@pytest.fixture
def server(house: Wheelhouse) -> Iterator[Server]:
    with serving(house.path) as running:
        yield running


@pytest.fixture(params=["pip", "uv"])
def install(request: pytest.FixtureRequest, pip_python: Path, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Return a function that installs into a new folder, by pip or by uv."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("PIP_", "UV_")) and not name.upper().endswith("_PROXY")
    }
    environment["UV_CACHE_DIR"] = str(tmp_path / "uv-cache")

    def call(index: str, *arguments: str) -> Completed:
        where = ["--target", str(tmp_path / "site"), "--index-url", index]
        if request.param == "pip":
            command = [str(pip_python), "-m", "pip", "--isolated", "--no-cache-dir", "install"]
            command += ["--no-input", "--disable-pip-version-check"]
        else:
            uv = find_program("uv") or Path(sys.executable).with_name("uv")
            if not uv.is_file():
                pytest.skip("uv is not here")
            command = [str(uv), "--no-config", "pip", "install", "--python", str(pip_python), "--offline"]
            if index.startswith("http"):
                command.remove("--offline")
        return run([*command, *where, *arguments], env=environment, cwd=tmp_path, timeout=120)

    return call


def versions(folder: Path) -> dict[str, str]:
    return dict(path.name.removesuffix(".dist-info").split("-", 1) for path in folder.glob("*.dist-info"))


def test_from_a_folder(house: Wheelhouse, install, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    install(house.path.as_uri(), "sageattention")
    # Both wheels are of version 2.2.0; METADATA beside them says which one goes with the torch that is there.
    assert versions(tmp_path / "site") == {"sageattention": VERSION, "torch": "2.11.0"}


def test_from_a_server_by_metadata(server: Server, install, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    install(server.url, "sageattention")
    assert versions(tmp_path / "site") == {"sageattention": VERSION, "torch": "2.11.0"}
    paths = server.paths()
    assert FILE + ".metadata" in paths
    assert paths.index(FILE + ".metadata") < paths.index(FILE)
    refused = f"/sageattention/{quote(f'sageattention-{OTHER}-py3-none-any.whl')}"
    assert refused not in paths, "METADATA is enough to refuse the other"


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_with_hashes(house: Wheelhouse, server: Server, install, tmp_path: Path, scheme: str) -> None:  # type: ignore[no-untyped-def]
    index = house.path.as_uri() if scheme == "file" else server.url
    digest = sha256_file(house.path / "sageattention" / NAME)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"sageattention=={VERSION} --hash=sha256:{digest}\n")
    install(index, "--no-deps", "--require-hashes", "-r", str(requirements))
    assert versions(tmp_path / "site") == {"sageattention": VERSION}


def test_with_a_wrong_hash(house: Wheelhouse, install, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"sageattention=={VERSION} --hash=sha256:{'0' * 64}\n")
    with pytest.raises(ProcessError) as raised:
        install(house.path.as_uri(), "--no-deps", "--require-hashes", "-r", str(requirements))
    assert "hash" in raised.value.details["tail"].lower()


def test_a_changed_wheel_is_refused_by_the_pages_hash(install, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    house = Wheelhouse.open(tmp_path / "own")
    house.add(make_wheel(tmp_path / "a"))
    make_wheel(tmp_path / "b", body="value = 'evil'\n").replace(house.path / "sageattention" / NAME)
    with pytest.raises(ProcessError):
        install(house.path.as_uri(), "--no-deps", "sageattention")
    assert versions(tmp_path / "site") == {}
