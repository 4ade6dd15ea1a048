"""Installed packages turned into wheels again, whatever put them there."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import uv
from git import Repo

from sagefix.errors import WheelError
from sagefix.pins.model import Build, Capability, Pin, Recipe, Ref, Source
from sagefix.progress import SilentReporter, reporting
from sagefix.targets.interpreter import probe
from sagefix.targets.model import Interpreter
from sagefix.wheels.archive import read_wheel, validate
from sagefix.wheels.finish import finish_wheel
from sagefix.wheels.gittree import tree_id
from sagefix.wheels.label import short_commit
from sagefix.wheels.metadata import set_version
from sagefix.wheels.model import Record
from sagefix.wheels.saved import wheel_from_installed
from sagefix.wheels.writing import write_wheel

PACKAGE = Path(__file__).parents[1] / "packages" / "tiny_attention"
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
MODULE = Path(__file__).parents[1] / "packages" / "driver_call" / "driver_call.c"
NO_COMPILER = (
    sys.platform != "linux"
    or shutil.which("gcc") is None
    or not (Path(sysconfig.get_path("include")) / "Python.h").is_file()
)

Install = Callable[..., None]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """The package's source as a git repository with one commit."""
    folder = tmp_path_factory.mktemp("source") / "tiny"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    repo = Repo.init(folder)
    repo.git.add(all=True)
    repo.git.execute(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "one"]
    )
    return repo


@pytest.fixture
def pin(source: Repo) -> Pin:
    commit = source.head.commit.hexsha
    ref = Ref(
        names=("pin",),
        commit=commit,
        tree=source.head.commit.tree.hexsha,
        recipe="one",
        package_tree=source.head.commit.tree["tiny_attention"].hexsha,
    )
    cpu = Capability(arch="9.0", gencode="90a", min_cuda="12.3", extensions=(), dispatch="x", sources=())
    return Pin(
        schema=1,
        name="tiny",
        project="tiny-attention",
        package="tiny_attention",
        version="1.0",
        summary="",
        device="cpu",
        license="",
        source=Source(url="https://example.org/tiny", commit=commit, tree=ref.tree, files=("/",)),
        build=Build(torch=False),
        recipe=(Recipe(name="one", setup_py=(), capability=(cpu,), sources=()),),
        ref=(ref,),
    )


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An empty environment."""
    folder = tmp_path / "venv"
    subprocess.run([uv.find_uv_bin(), "venv", "-q", "-p", sys.executable, str(folder)], check=True)
    return folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"


@pytest.fixture
def target(python: Path) -> Interpreter:
    return probe(python)


def with_pip(python: Path, *what: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install"]
    subprocess.run([*command, "-q", "--no-deps", *map(str, what)], check=True, capture_output=True)


def with_uv(python: Path, *what: str | Path) -> None:
    command = [uv.find_uv_bin(), "pip", "install", "-q", "-p", str(python), "--no-deps", *map(str, what)]
    subprocess.run(command, check=True, capture_output=True)


def site_packages(target: Interpreter) -> Path:
    return Path(target.purelib)


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(params=[with_pip, with_uv], ids=["pip", "uv"])
def install(request: pytest.FixtureRequest) -> Install:
    found: Install = request.param
    return found


def test_the_tree_of_installed_files_is_git_s(source: Repo, tmp_path: Path) -> None:
    assert tree_id({}) == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    folder = tmp_path / "tree"
    names = ["b.py", "b/x.py", "b-c", "b0/deep/er/file", "ä", "a b"]
    for name in names:
        path = folder / name if name != "b.py" else folder / "b.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    repo = Repo.init(folder)
    repo.git.add(all=True)
    files = {path: folder / path for path in repo.git.execute(["git", "ls-files", "-z"]).split("\0") if path}
    assert len(files) == len(names)
    assert tree_id(files) == repo.git.write_tree()


def test_a_folder_install_is_recognised_by_its_files(
    pin: Pin, source: Repo, target: Interpreter, python: Path, tmp_path: Path, install: Install
) -> None:
    install(python, Path(str(source.working_dir)))
    saved = wheel_from_installed(pin, target, tmp_path / "out")
    assert saved.name == f"tiny_attention-1.0+{short_commit(pin.source.commit)}-py3-none-any.whl"
    archive = validate(saved)
    record = archive.record
    assert record is not None
    assert record.commit == pin.source.commit
    assert (record.origin, record.tree, record.recipe) == ("saved", pin.source.tree, "one")
    assert record.extra["told_by"] == {"commit": "package tree"}
    assert record.extra["saved_version"] == "1.0"
    assert record.unknown[:5] == ("fixes", "patches", "key", "tools", "environment")
    assert record.unknown[5:] == ("sources", "packages", "compiled")
    assert record.source_url == ""
    assert archive.version == record.version
    assert [name for name in archive.members if name.startswith("tiny_attention/")] == [
        "tiny_attention/__init__.py",
        "tiny_attention/core.txt",
        "tiny_attention/core/__init__.py",
    ]
    notes = {"INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"}
    assert not notes & {name.rpartition("/")[2] for name in archive.members}
    assert archive.metadata_bytes.endswith(b"Summary: A package for tests\n\nText.\n")


def test_a_git_install_names_its_commit(
    pin: Pin, source: Repo, target: Interpreter, python: Path, tmp_path: Path, install: Install
) -> None:
    commit = source.head.commit.hexsha
    # Without a name in front: older pips take an address without a host only so.
    install(python, f"git+file://{source.working_dir}@{commit}")
    record = read_wheel(wheel_from_installed(pin, target, tmp_path / "out")).record
    assert record is not None
    assert record.commit == commit
    assert record.extra["told_by"] == {"commit": "direct_url.json"}


def test_a_saved_wheel_installs_the_same_files_elsewhere(
    pin: Pin, source: Repo, target: Interpreter, python: Path, tmp_path: Path, install: Install
) -> None:
    install(python, Path(str(source.working_dir)))
    saved = wheel_from_installed(pin, target, tmp_path / "out")
    other = tmp_path / "other"
    subprocess.run([uv.find_uv_bin(), "venv", "-q", "-p", sys.executable, str(other)], check=True)
    second = probe(other / python.parent.name / "python")
    install(Path(second.executable), saved)
    assert contents(site_packages(second) / "tiny_attention") == contents(
        site_packages(target) / "tiny_attention"
    )
    # A wheel that holds a record comes out as it went in.
    assert wheel_from_installed(pin, second, tmp_path / "again").read_bytes() == saved.read_bytes()


def test_the_label_of_others_is_replaced(
    pin: Pin, source: Repo, target: Interpreter, python: Path, tmp_path: Path
) -> None:
    built = tmp_path / "built"
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(built), str(source.working_dir)],
        check=True,
        capture_output=True,
    )
    (plain,) = built.iterdir()
    with_uv(python, relabelled(plain, "1.0+cu128.torch2.8", tmp_path))
    saved = read_wheel(wheel_from_installed(pin, target, tmp_path / "out"))
    assert saved.version.startswith("1.0+")
    assert "cu128" not in saved.version
    assert saved.record is not None
    assert saved.record.extra["saved_version"] == "1.0+cu128.torch2.8"


def relabelled(wheel: Path, version: str, folder: Path) -> Path:
    """Unpack a wheel and write it again with another version."""
    archive = read_wheel(wheel)
    unpacked = folder / "unpacked"
    shutil.unpack_archive(wheel, unpacked, "zip")
    info = f"tiny_attention-{version}.dist-info"
    files = {
        name.replace(archive.dist_info, info): (unpacked / name).read_bytes()
        for name in archive.members
        if not name.endswith("/RECORD")
    }
    files[f"{info}/METADATA"] = set_version(files[f"{info}/METADATA"], version)
    filename = f"tiny_attention-{version}-py3-none-any.whl"
    return write_wheel(folder / "relabelled", filename, dist_info=info, files=dict(files), epoch=0)


def test_what_nobody_knows_is_unknown(
    pin: Pin, source: Repo, target: Interpreter, python: Path, tmp_path: Path
) -> None:
    with_uv(python, Path(str(source.working_dir)))
    stranger = msgspec.structs.replace(pin, ref=())
    saved = read_wheel(wheel_from_installed(stranger, target, tmp_path / "out"))
    assert saved.version == "1.0+unknown"
    assert saved.record is not None
    assert saved.record.commit == ""
    assert saved.record.unknown[:3] == ("commit", "tree", "recipe")


def test_changed_and_missing_files_are_listed(
    pin: Pin, source: Repo, target: Interpreter, python: Path, tmp_path: Path, install: Install
) -> None:
    install(python, Path(str(source.working_dir)))
    folder = site_packages(target) / "tiny_attention"
    # Installers may link files to a cache; what is changed here has to be a file of its own.
    (folder / "__init__.py").unlink()
    (folder / "__init__.py").write_text("changed = True\n")
    (folder / "core" / "__init__.py").unlink()
    with pytest.raises(WheelError) as caught:
        wheel_from_installed(pin, target, tmp_path / "out")
    assert "tiny_attention/__init__.py was changed" in caught.value.message
    assert "tiny_attention/core/__init__.py is missing" in caught.value.message
    assert not (tmp_path / "out").exists()


class Hearing(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_files_that_record_does_not_know_are_left_out_and_told(
    pin: Pin, source: Repo, target: Interpreter, python: Path, tmp_path: Path
) -> None:
    with_uv(python, Path(str(source.working_dir)))
    (site_packages(target) / "tiny_attention" / "added.py").write_text("")
    with reporting(Hearing()) as hearing:
        saved = wheel_from_installed(pin, target, tmp_path / "out")
    assert isinstance(hearing, Hearing)
    assert hearing.warnings == ["Left out, because RECORD does not list them: tiny_attention/added.py."]
    assert "tiny_attention/added.py" not in read_wheel(saved).members


def test_not_installed(pin: Pin, target: Interpreter, tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="tiny-attention is not installed in this Python"):
        wheel_from_installed(pin, target, tmp_path / "out")


def test_an_editable_installation(
    pin: Pin, source: Repo, target: Interpreter, python: Path, tmp_path: Path, install: Install
) -> None:
    install(python, "-e", Path(str(source.working_dir)))
    with pytest.raises(WheelError, match="is an editable installation") as caught:
        wheel_from_installed(pin, target, tmp_path / "out")
    assert "without -e" in caught.value.hint


def test_an_egg_link(pin: Pin, target: Interpreter, tmp_path: Path) -> None:
    (site_packages(target) / "tiny-attention.egg-link").write_text("/somewhere\n.")
    with pytest.raises(WheelError, match="is an editable installation"):
        wheel_from_installed(pin, target, tmp_path / "out")


def test_an_installation_without_record(pin: Pin, target: Interpreter, tmp_path: Path) -> None:
    info = site_packages(target) / "tiny_attention-1.0-py3.12.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: tiny-attention\nVersion: 1.0\n")
    with pytest.raises(WheelError, match="was installed without a RECORD"):
        wheel_from_installed(pin, target, tmp_path / "out")


def test_two_in_one_folder(pin: Pin, source: Repo, target: Interpreter, python: Path, tmp_path: Path) -> None:
    with_uv(python, Path(str(source.working_dir)))
    info = site_packages(target) / "tiny_attention-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-attention\nVersion: 2.0\n")
    with pytest.raises(WheelError, match=r"is installed 2 times in .*: (1\.0, 2\.0|2\.0, 1\.0)"):
        wheel_from_installed(pin, target, tmp_path / "out")


def test_data_outside_of_site_packages(
    pin: Pin, source: Repo, target: Interpreter, python: Path, tmp_path: Path, install: Install
) -> None:
    folder = tmp_path / "with-data"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data.cfg").write_text("x = 1\n")
    install(python, folder)
    with pytest.raises(WheelError, match=r"outside of site-packages.*etc/tiny\.cfg"):
        wheel_from_installed(pin, target, tmp_path / "out")


# Compiled wheels


@pytest.fixture
def compiled(tmp_path: Path, target: Interpreter) -> Iterator[Path]:
    """A wheel of ours with a module whose symbols all resolve, built for this Python."""
    include = sysconfig.get_path("include")
    library = tmp_path / "build" / f"driver_call{SUFFIX}"
    library.parent.mkdir()
    define = "-DcuTensorMapEncodeTiled=getpid"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", define, f"-I{include}", "-o", str(library), str(MODULE)], check=True
    )
    version = "1.0+" + "a" * 7
    info = f"tiny_attention-{version}.dist-info"
    tags = f"{target.python_tag}-{target.abi_tag}-{target.platform_tag}"
    files = {
        "tiny_attention/__init__.py": b"",
        f"tiny_attention/{library.name}": library.read_bytes(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny-attention\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tags}\n".encode(),
    }
    yield write_wheel(
        tmp_path / "built", f"tiny_attention-{version}-{tags}.whl", dist_info=info, files=dict(files), epoch=0
    )


@pytest.mark.skipif(NO_COMPILER, reason="needs Linux, gcc and Python.h")
def test_a_wheel_of_ours_comes_out_as_it_went_in(
    pin: Pin, target: Interpreter, python: Path, tmp_path: Path, install: Install, compiled: Path
) -> None:
    archive = read_wheel(compiled)
    record = Record(
        origin="built",
        pin="tiny",
        project="tiny-attention",
        version=archive.version,
        commit="a" * 40,
        tree="",
        recipe="one",
        archs=(),
        extensions=("tiny_attention.driver_call",),
        python_tag=archive.python_tag,
        abi_tag=archive.abi_tag,
        platform_tag=archive.platform_tag,
        glibc="2.17",
        torch="",
        cuda="",
        cxx11_abi=None,
        key="k",
        tools={},
        environment={},
        source_url="",
        source_date_epoch=1_700_000_000,
        sagefix="0",
    )
    finished = finish_wheel(
        compiled, tmp_path / "final", record=record, requires=["pip"], epoch=1_700_000_000
    )
    install(python, finished)
    saved = wheel_from_installed(pin, target, tmp_path / "out")
    assert saved.name == finished.name
    assert saved.read_bytes() == finished.read_bytes()


@pytest.mark.skipif(NO_COMPILER, reason="needs Linux, gcc and Python.h")
def test_a_compiled_wheel_of_others(
    pin: Pin, target: Interpreter, python: Path, tmp_path: Path, install: Install, compiled: Path
) -> None:
    install(python, compiled)
    saved = read_wheel(wheel_from_installed(pin, target, tmp_path / "out"))
    assert saved.record is not None
    assert saved.record.extensions == ("tiny_attention.driver_call",)
    assert saved.record.platform_tag == target.platform_tag
    assert saved.record.commit == "aaaaaaa"
    assert saved.record.extra["told_by"] == {"commit": "version label"}


@pytest.mark.skipif(NO_COMPILER, reason="needs Linux, gcc and Python.h")
def test_a_module_copied_from_another_python(
    pin: Pin, target: Interpreter, python: Path, tmp_path: Path, compiled: Path
) -> None:
    with_uv(python, compiled)
    foreign = msgspec.structs.replace(target, ext_suffix=".cpython-399-x86_64-linux-gnu.so")
    with pytest.raises(WheelError, match="does not fit this Python"):
        wheel_from_installed(pin, foreign, tmp_path / "out")


def test_a_record_of_another_version(
    pin: Pin, source: Repo, target: Interpreter, python: Path, tmp_path: Path
) -> None:
    with_uv(python, Path(str(source.working_dir)))
    saved = wheel_from_installed(pin, target, tmp_path / "out")
    forged = relabelled(saved, "1.0+bbbbbbb", tmp_path)
    with_uv(python, "--force-reinstall", forged)
    with pytest.raises(WheelError, match=r"tiny-attention 1\.0\+bbbbbbb carries the record of 1\.0\+"):
        wheel_from_installed(pin, target, tmp_path / "again")
