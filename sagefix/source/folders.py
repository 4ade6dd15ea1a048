"""Plain folders turned into git objects: the embedded demo package, and a ``--source`` without history."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from sagefix.errors import SourceError
from sagefix.files import disk_errors
from sagefix.source.failures import GitFailed, reason
from sagefix.source.repository import Repository

# 1980-01-01, the first day that a zip file (a wheel) can give as the time of a file.
UNKNOWN_TIME = 315532800

_BRANCH = "refs/heads/main"


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """Who and when (Unix seconds, UTC) of a commit, and its message: with the tree they decide its id."""

    message: str
    time: int
    who: str = "sagefix <sagefix@localhost>"


# 2026-01-01T00:00:00+00:00; the commits in manifests/ of embedded pins follow from this.
EMBEDDED = Signature(message="Demo package of sagefix\n", time=1767225600)


def list_files(folder: Path) -> list[str]:
    """Return the files and links below a folder as paths with ``/``, without what Python leaves behind."""
    found = []

    def fail(error: OSError) -> None:
        raise error

    with disk_errors(folder, "read the source"):
        for above, folders, names in os.walk(folder, onerror=fail):
            here = Path(above)
            links = [name for name in folders if (here / name).is_symlink()]
            folders[:] = sorted(name for name in folders if name != "__pycache__" and name not in links)
            for name in (*names, *links):
                if not name.endswith(".pyc"):
                    found.append((here / name).relative_to(folder).as_posix())
    return sorted(found)


def commit_folder(
    repository: Repository, folder: Path, paths: Iterable[str], signature: Signature, *, modes: bool = True
) -> str:
    """Make a root commit of files on the branch ``main`` of an empty repository; return its id.

    With ``modes`` the executable bit counts and links stay links; without it all is mode 100644. Files go in
    byte for byte: https://git-scm.com/docs/git-fast-import knows no filters, ignore rules or line ends.
    """
    parts = [
        f"commit {_BRANCH}\n".encode(),
        f"author {signature.who} {signature.time} +0000\n".encode(),
        f"committer {signature.who} {signature.time} +0000\n".encode(),
        _data(signature.message.encode()),
    ]
    with disk_errors(folder, "read the source"):
        for path in paths:
            file = folder / path
            link = modes and file.is_symlink()
            if link:
                mode, content = "120000", os.fsencode(file.readlink())
            elif file.is_file():
                mode = "100755" if modes and file.stat().st_mode & stat.S_IXUSR else "100644"
                content = file.read_bytes()
            else:
                raise SourceError(
                    f"{file} is neither a file nor a link to one.", hint="Take it out of the source."
                )
            parts += [b"M ", mode.encode(), b" inline ", _quoted(path), b"\n", _data(content)]
    try:
        repository.feed("fast-import", "--quiet", "--date-format=raw", data=b"".join(parts))
    except GitFailed as failure:
        raise SourceError(f"The folder {folder} cannot become a commit: {reason(failure.said)}") from failure
    return repository.rev_parse(_BRANCH)


def _data(content: bytes) -> bytes:
    return f"data {len(content)}\n".encode() + content + b"\n"


def _quoted(path: str) -> bytes:
    name = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + name + b'"'
