"""What was installed before, kept until the new one has proven itself.

A stash is a copy of every file of a distribution with a list of them. It is written whole before anything in
the target changes, and deleted only when the outcome is settled; one that is still there when the next install
begins was left by a sagefix that was killed, and is put back first.
"""

from __future__ import annotations

import contextlib
import filecmp
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from packaging.utils import canonicalize_name

from sagefix.errors import InstallError
from sagefix.files import aside, disk_errors, make_cache_dir, remove_tree, sha256_bytes, write_bytes
from sagefix.installing.installer import Installer, call
from sagefix.progress import note
from sagefix.settings import cache_dir
from sagefix.targets.model import Interpreter

if TYPE_CHECKING:
    from importlib.metadata import Distribution


class Stashed(msgspec.Struct, frozen=True, kw_only=True):
    """The list of a stash: which project (its version, empty if it was not installed) of which target.

    ``files`` were there; ``incoming`` are those of the wheel that was about to be installed.
    """

    schema: Literal[1] = 1
    interpreter: str
    project: str
    version: str
    files: tuple[str, ...]
    incoming: tuple[str, ...] = ()


def installed(interpreter: Interpreter, project: str) -> Distribution | None:
    """Return the distribution that the target would import first, or None."""
    wanted = canonicalize_name(project)
    if not any(_names(folder, wanted) for folder in interpreter.sys_path):
        return None
    # Slow to import (it brings the email package), so only when there is something to read.
    from importlib.metadata import distributions

    return next(iter(distributions(name=project, path=list(interpreter.sys_path))), None)


class Stash:
    """The stash of one project in one target."""

    def __init__(self, interpreter: Interpreter, project: str) -> None:
        self.interpreter = interpreter
        self.project = project
        key = sha256_bytes(f"{interpreter.platlib}\n{canonicalize_name(project)}".encode())[:16]
        self.folder = make_cache_dir(cache_dir() / "stash") / key

    def take(self, wheel: Path | None = None) -> Stashed:
        """Copy what is installed now, and whatever else ``wheel`` would write over.

        An empty stash says that nothing was there.
        """
        distribution = installed(self.interpreter, self.project)
        incoming = _incoming(self.interpreter, wheel) if wheel else []
        files = set(_files_of(distribution)) if distribution else set()
        files.update(path for path in incoming if path.is_file())
        kept = sorted(files)
        remove_tree(self.folder)
        with disk_errors(self.folder, "keep what is installed"), aside(self.folder) as folder:
            folder.mkdir()
            for number, file in enumerate(kept):
                shutil.copy2(file, folder / str(number))
            stashed = Stashed(
                interpreter=self.interpreter.executable,
                project=self.project,
                version=distribution.version if distribution else "",
                files=tuple(str(file) for file in kept),
                incoming=tuple(str(path) for path in incoming),
            )
            (folder / "stash.json").write_bytes(msgspec.json.encode(stashed))
        return stashed

    def put_back(self, installer: Installer, *, break_system: bool = False) -> Stashed:
        """Remove what is installed now and put the stashed files where they were.

        Nothing is touched when they all still are; and the installer, which may be why this is needed, is asked
        only to remove what it alone knows how to (an ``.egg-info``, an editable installation of old).
        """
        stashed = self._read()
        if not self._untouched(stashed):
            self._remove(installer, break_system=break_system)
            for name in stashed.incoming:
                _delete(Path(name), self.interpreter)
            for number, name in enumerate(stashed.files):
                write_bytes(Path(name), (self.folder / str(number)).read_bytes())
                shutil.copystat(self.folder / str(number), name)
        self.discard()
        return stashed

    def _read(self) -> Stashed:
        try:
            return msgspec.json.decode((self.folder / "stash.json").read_bytes(), type=Stashed)
        except (OSError, msgspec.MsgspecError) as error:
            raise InstallError(
                f"What an earlier install kept in {self.folder} cannot be read: {error}.",
                hint="Delete that folder; what is installed now stays as it is.",
            ) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other installs into this target waiting: the stash of a living one is not to be put back."""
        from filelock import FileLock, Timeout

        lock = FileLock(f"{self.folder}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            note(f"Another sagefix is installing {self.project} there; waiting for it.")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _untouched(self, stashed: Stashed) -> bool:
        distribution = installed(self.interpreter, self.project)
        present = {str(path) for path in _files_of(distribution)} if distribution else set()
        present.update(name for name in stashed.incoming if Path(name).is_file())
        return present == set(stashed.files) and all(
            filecmp.cmp(self.folder / str(number), name, shallow=False)
            for number, name in enumerate(stashed.files)
        )

    def _remove(self, installer: Installer, *, break_system: bool) -> None:
        remove_incomplete(self.interpreter, self.project)
        distribution = installed(self.interpreter, self.project)
        if distribution is None:
            return
        files = _files_of(distribution)
        inside = (
            Path(self.interpreter.purelib),
            Path(self.interpreter.platlib),
            Path(self.interpreter.prefix),
        )
        wheel_like = any(path.name == "RECORD" and path.parent.suffix == ".dist-info" for path in files)
        if wheel_like and all(any(path.is_relative_to(root) for root in inside) for path in files):
            for path in files:
                _delete(path, self.interpreter)
        else:
            call(
                installer.uninstall_command(self.interpreter, self.project, break_system=break_system),
                f"remove {self.project}",
            )

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
    for site in dict.fromkeys((interpreter.purelib, interpreter.platlib)):
        for folder in Path(site).glob("*.dist-info"):
            # The folder's name tells; a METADATA file may be what is missing.
            named = canonicalize_name(folder.stem.rpartition("-")[0])
            if named == canonicalize_name(project) and not (folder / "RECORD").is_file():
                with contextlib.suppress(OSError):
                    shutil.rmtree(folder)


def _names(folder: str, wanted: str) -> bool:
    """Tell whether an entry of ``sys.path`` is, or holds, anything whose name begins as the project's does."""
    names = [Path(folder).name]
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names += [entry.name for entry in entries]
    return any(canonicalize_name(name).startswith(wanted) for name in names)


def _files_of(distribution: Distribution) -> list[Path]:
    """Every existing file of a distribution, those that its RECORD forgot inside ``.dist-info`` included."""
    paths = {Path(str(distribution.locate_file(file))) for file in distribution.files or ()}
    folder = getattr(distribution, "_path", None)
    if isinstance(folder, Path) and folder.is_dir():
        paths.update(path for path in folder.rglob("*"))
    return sorted(path for path in paths if path.is_file() and "__pycache__" not in path.parts)


def _incoming(interpreter: Interpreter, wheel: Path) -> list[Path]:
    """Where a wheel's modules and metadata will lie; scripts and data (``.data/``) the installer alone knows."""
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    roots = dict.fromkeys((interpreter.platlib, interpreter.purelib))
    return [
        Path(root, name) for name in names if not name.partition("/")[0].endswith(".data") for root in roots
    ]


def _delete(path: Path, interpreter: Interpreter) -> None:
    """Delete a file, its bytecode, and the folders that are empty then."""
    path.unlink(missing_ok=True)
    cache = path.parent / "__pycache__"
    if path.suffix == ".py":
        for compiled in cache.glob(f"{glob.escape(path.stem)}.*.pyc"):
            compiled.unlink()
    roots = {Path(interpreter.purelib), Path(interpreter.platlib), Path(interpreter.prefix)}
    for folder in (cache, *path.parents):
        if folder in roots:
            return
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            if folder is not cache:
                return
