"""What was installed before, kept until the new one has proven itself.

A stash is a copy of every file of a distribution with a list of them. It is written whole before anything in
the target changes, and deleted only when the outcome is settled; one that is still there when the next install
begins was left by a sagefix that was killed, and is put back first.
"""

from __future__ import annotations

import contextlib
import shutil
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Literal

import msgspec
from packaging.utils import canonicalize_name

from sagefix.files import aside, disk_errors, make_cache_dir, remove_tree, sha256_bytes, write_bytes
from sagefix.installing.installer import Installer, call
from sagefix.progress import note
from sagefix.settings import cache_dir
from sagefix.targets.model import Interpreter


class Stashed(msgspec.Struct, frozen=True, kw_only=True):
    """The list of a stash: which project (its version, empty if it was not installed) of which target."""

    schema: Literal[1] = 1
    interpreter: str
    project: str
    version: str
    files: tuple[str, ...]


def installed(interpreter: Interpreter, project: str) -> Distribution | None:
    """Return the distribution that the target would import first, or None."""
    return next(iter(distributions(name=project, path=list(interpreter.sys_path))), None)


class Stash:
    """The stash of one project in one target."""

    def __init__(self, interpreter: Interpreter, project: str) -> None:
        self.interpreter = interpreter
        self.project = project
        key = sha256_bytes(f"{interpreter.platlib}\n{canonicalize_name(project)}".encode())[:16]
        self.folder = make_cache_dir(cache_dir() / "stash") / key

    def take(self) -> Stashed:
        """Copy what is installed now. An empty stash says that nothing was."""
        distribution = installed(self.interpreter, self.project)
        files = _files_of(distribution) if distribution else []
        remove_tree(self.folder)
        with disk_errors(self.folder, "keep what is installed"), aside(self.folder) as folder:
            folder.mkdir()
            for number, file in enumerate(files):
                shutil.copy2(file, folder / str(number))
            stashed = Stashed(
                interpreter=self.interpreter.executable,
                project=self.project,
                version=distribution.version if distribution else "",
                files=tuple(str(file) for file in files),
            )
            (folder / "stash.json").write_bytes(msgspec.json.encode(stashed))
        return stashed

    def put_back(self, installer: Installer, *, break_system: bool = False) -> Stashed:
        """Remove what is installed now and put the stashed files where they were."""
        stashed = msgspec.json.decode((self.folder / "stash.json").read_bytes(), type=Stashed)
        if installed(self.interpreter, self.project) is not None:
            remove_incomplete(self.interpreter, self.project)
        if installed(self.interpreter, self.project) is not None:
            call(
                installer.uninstall_command(self.interpreter, self.project, break_system=break_system),
                f"remove {self.project}",
            )
        for number, name in enumerate(stashed.files):
            write_bytes(Path(name), (self.folder / str(number)).read_bytes())
            shutil.copystat(self.folder / str(number), name)
        self.discard()
        return stashed

    def recover(self, installer: Installer) -> None:
        """Put back what an install that was killed has left behind, if one was."""
        if (self.folder / "stash.json").is_file():
            stashed = self.put_back(installer)
            before = f"{stashed.project} {stashed.version}" if stashed.version else "nothing"
            note(f"An earlier install was interrupted; what was there before ({before}) was put back.")

    def discard(self) -> None:
        """Forget the stash: the new installation stays."""
        remove_tree(self.folder)


def remove_incomplete(interpreter: Interpreter, project: str) -> None:
    """Delete ``.dist-info`` folders of the project that have no RECORD: what a killed installer leaves.

    Neither pip nor uv can remove or replace such an installation.
    """
    for distribution in distributions(path=[interpreter.purelib, interpreter.platlib]):
        name = distribution.metadata["Name"]
        folder = getattr(distribution, "_path", None)
        if not isinstance(folder, Path) or folder.suffix != ".dist-info":
            continue
        named = canonicalize_name(name or folder.name.split("-")[0])
        if named == canonicalize_name(project) and not (folder / "RECORD").is_file():
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)


def _files_of(distribution: Distribution) -> list[Path]:
    """Every existing file of a distribution, those that its RECORD forgot inside ``.dist-info`` included."""
    paths = {Path(str(distribution.locate_file(file))) for file in distribution.files or ()}
    folder = getattr(distribution, "_path", None)
    if isinstance(folder, Path) and folder.is_dir():
        paths.update(path for path in folder.rglob("*"))
    return sorted(path for path in paths if path.is_file() and "__pycache__" not in path.parts)
