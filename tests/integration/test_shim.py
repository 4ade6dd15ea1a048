"""The build shim: one ninja for extensions that compile at the same time."""

from __future__ import annotations

import importlib.util
import subprocess
import threading
from pathlib import Path
from types import ModuleType

import pytest

SHIM = Path(__file__).parents[2] / "sagefix" / "guest" / "shim.py"


@pytest.fixture
def shim() -> ModuleType:
    """The shim as a module; it is guest code, so it is loaded by path."""
    spec = importlib.util.spec_from_file_location("shim", SHIM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Ninja:
    """Runs the real ninja and remembers what it said; raises like torch does when it fails."""

    def __init__(self) -> None:
        self.outputs: list[str] = []

    def __call__(self, build_directory: str, verbose: bool, error_prefix: str) -> None:
        done = subprocess.run(
            ["ninja", "-v", "-j", "2"], cwd=build_directory, capture_output=True, text=True, check=False
        )
        self.outputs.append(done.stdout)
        if done.returncode:
            raise RuntimeError(error_prefix)


def _extension(folder: Path, name: str, *, fails: bool = False) -> Path:
    """A build folder like those that torch writes: absolute paths, a rule of its own, two objects."""
    place = folder / name
    place.mkdir()
    command = "false" if fails else "touch $out"
    objects = [place / f"{name}{number}.o" for number in range(2)]
    lines = ["rule compile", f"  command = {command}", *(f"build {path}: compile" for path in objects)]
    (place / "build.ninja").write_text("\n".join([*lines, "default " + " ".join(map(str, objects)), ""]))
    return place


def _compile(gathering: object, folders: list[Path]) -> list[BaseException | None]:
    outcomes: list[BaseException | None] = [None] * len(folders)

    def work(number: int) -> None:
        try:
            gathering(str(folders[number]), True, "Error compiling objects for extension")  # type: ignore[operator]
        except RuntimeError as error:
            outcomes[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(folders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return outcomes


def test_three_extensions_become_one_ninja_with_one_counter(shim: ModuleType, tmp_path: Path) -> None:
    ninja = Ninja()
    folders = [_extension(tmp_path, name) for name in ("one", "two", "three")]
    assert _compile(shim.Gathering(3, ninja), folders) == [None, None, None]
    assert len(ninja.outputs) == 1
    assert "[6/6]" in ninja.outputs[0]
    assert all(len(list(folder.glob("*.o"))) == 2 for folder in folders)


def test_the_largest_source_starts_first(shim: ModuleType, tmp_path: Path) -> None:
    folders = []
    for name, sizes in (("one", (10, 300)), ("two", (2000, 20))):
        place = tmp_path / name
        place.mkdir()
        lines = ["rule compile", "  command = echo $in >> " + str(tmp_path / "order") + " && touch $out"]
        for size in sizes:
            (place / f"{size}.cu").write_text("x" * size)
            lines.append(f"build {place / str(size)}.o: compile {place / str(size)}.cu")
        (place / "build.ninja").write_text("\n".join([*lines, ""]))
        folders.append(place)

    def one_at_a_time(build_directory: str, verbose: bool, error_prefix: str) -> None:
        subprocess.run(["ninja", "-j", "1"], cwd=build_directory, check=True, capture_output=True)

    assert _compile(shim.Gathering(2, one_at_a_time), folders) == [None, None]
    started = [Path(line).stem for line in (tmp_path / "order").read_text().split()]
    assert started == ["2000", "300", "20", "10"]


def test_a_failure_reaches_every_extension(shim: ModuleType, tmp_path: Path) -> None:
    folders = [_extension(tmp_path, "good"), _extension(tmp_path, "bad", fails=True)]
    outcomes = _compile(shim.Gathering(2, Ninja()), folders)
    assert [type(outcome) for outcome in outcomes] == [RuntimeError, RuntimeError]


def test_an_extension_that_never_comes_holds_nobody_up(
    shim: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shim, "GATHER_S", 0.2)
    ninja = Ninja()
    folders = [_extension(tmp_path, "one"), _extension(tmp_path, "two")]
    assert _compile(shim.Gathering(3, ninja), folders) == [None, None]
    assert all(len(list(folder.glob("*.o"))) == 2 for folder in folders)


def test_paths_with_spaces_survive(shim: ModuleType, tmp_path: Path) -> None:
    spaced = tmp_path / "a place: here"
    spaced.mkdir()
    folders = []
    for name in ("one", "two"):
        place = spaced / name
        place.mkdir()
        (place / "build.ninja").write_text(f"rule t\n  command = touch {name}.out\nbuild {name}.out: t\n")
        folders.append(place)
    assert _compile(shim.Gathering(2, Ninja()), folders) == [None, None]


def test_the_hook_script_sees_itself_as_main(tmp_path: Path) -> None:
    script = tmp_path / "hook.py"
    script.write_text(
        "import sys; print(__name__, sys.argv[1:], sys.path[0] == __import__('os').path.dirname(sys.argv[0]))"
    )
    import sys

    done = subprocess.run(
        [sys.executable, SHIM, script, "a", "b"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "__main__ ['a', 'b'] True\n"
