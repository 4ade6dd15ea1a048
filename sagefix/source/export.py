"""The selected files of a fetched commit, written into a folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from sagefix.errors import SourceError
from sagefix.files import aside, disk_errors
from sagefix.pins.model import Pin
from sagefix.source.failures import Damaged, Missing
from sagefix.source.folders import UNKNOWN_TIME
from sagefix.source.model import Fetched, File
from sagefix.source.repository import Repository
from sagefix.source.trees import is_full_commit, read_commit, select

_AGAIN = "Run the command again: the cached repository is checked and fetched anew."


def commit_time(fetched: Fetched) -> int:
    """Return the committer's time in Unix seconds, for ``SOURCE_DATE_EPOCH``.

    A plain folder has none, even one whose files were shown to be those of a commit; it gets 1980-01-01.
    """
    with Repository(Path(fetched.repository)) as repository:
        if not is_full_commit(fetched.commit) or repository.lacks([fetched.commit]):
            return UNKNOWN_TIME
        try:
            return read_commit(repository, fetched.commit).time
        except Damaged as error:
            raise SourceError(f"The cached commit {fetched.commit} is damaged.", hint=_AGAIN) from error


def export(fetched: Fetched, pin: Pin, destination: Path) -> int:
    """Write the files that the pin selects into a new folder; return how many.

    Bytes and executable bits are those of the commit; every file and folder has the commit's time. Links are
    written when they stay inside. The folder appears whole or not at all; an empty one may be there before.

    Raises :class:`SourceError`: no ``setup.py`` where the pin wants one, a link that leaves the folder, a
    folder that is in use, a damaged cache.
    """
    if destination.is_symlink() or (destination.exists() and any(destination.iterdir())):
        raise SourceError(f"{destination} is not empty; the source is written into a new folder.")
    time = commit_time(fetched)
    with (
        Repository(Path(fetched.repository)) as repository,
        disk_errors(destination, "write the source"),
        aside(destination) as folder,
    ):
        folder.mkdir()
        try:
            files = select(repository, fetched.tree, pin.source.files).files
            for file in files:
                _write(folder, file, repository.read(file.blob)[1])
        except (Missing, Damaged) as error:
            raise SourceError(f"The cached source of {fetched.commit} is damaged.", hint=_AGAIN) from error
        if "/setup.py" in pin.source.files and not (folder / "setup.py").is_file():
            raise SourceError(f"{fetched.commit} has no setup.py, and {pin.name} is built with one.")
        _set_times(folder, time)
    return len(files)


def _write(folder: Path, file: File, content: bytes) -> None:
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISLNK(file.mode):
        target = os.fsdecode(content)
        if not _stays_inside(file.path, target):
            raise SourceError(f"The link {file.path} -> {target} leaves the source.")
        path.symlink_to(target)
        return
    path.write_bytes(content)
    path.chmod(0o755 if file.mode & stat.S_IXUSR else 0o644)


def _stays_inside(path: str, target: str) -> bool:
    """True for a link that goes up no further than the root, and only before it goes down.

    A ``..`` after a name could pass through another link and end up anywhere.
    """
    parts = PurePosixPath(target).parts
    up = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    return bool(parts) and parts[0] != "/" and ".." not in parts[up:] and up < len(PurePosixPath(path).parts)


def _set_times(folder: Path, time: int) -> None:
    for above, folders, names in os.walk(folder, topdown=False):
        for name in (*folders, *names):
            os.utime(Path(above) / name, (time, time), follow_symlinks=False)
    os.utime(folder, (time, time))
