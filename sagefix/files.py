"""Files written aside and moved into place, and hashes of them."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sagefix.errors import DiskError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
# https://bford.info/cachedir/: backup programs skip a folder that holds this, and sagefix deletes only inside one.
CACHEDIR_TAG = "CACHEDIR.TAG"
_CACHEDIR_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"


@contextmanager
def disk_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn the operating system's refusals (full, read-only, not allowed) into :class:`DiskError`.

    ``doing`` completes "cannot ..." in the message: ``"write the wheel"``.
    """
    try:
        yield
    except OSError as error:
        # A copy names both ends, and it is the second that is full or closed.
        where = error.filename2 or error.filename or path
        if error.errno in _FULL:
            raise DiskError(
                f"Cannot {doing}: no space is left on the disk that holds {where}.",
                hint="Free some space, or point SAGEFIX_CACHE_DIR and SAGEFIX_WHEELHOUSE at another disk.",
            ) from error
        if error.errno in _DENIED:
            raise DiskError(
                f"Cannot {doing}: {where} is not writable ({error.strerror}).",
                hint="Choose another place with SAGEFIX_CACHE_DIR or --wheelhouse, or change its permissions.",
            ) from error
        raise


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def aside(path: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """Give a temporary path beside ``path``; move it there if the block ends well, remove it if not.

    The move is atomic on one file system (POSIX ``rename``), so readers see the old file or the new one.
    The block may create a file or a folder at the temporary path; a folder replaces nothing. A file gets ``mode``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: some writers (zip, pip) look at it.
    handle, name = tempfile.mkstemp(
        prefix=f".{path.stem[:40]}-", suffix=f".partial{path.suffix}", dir=path.parent
    )
    os.close(handle)
    temporary = Path(name)
    temporary.unlink()
    try:
        yield temporary
        if temporary.is_file():
            # mkstemp's files are private; what is kept here is for everybody who can read the folder.
            temporary.chmod(mode)
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file atomically; ``mode`` is its permissions."""
    with disk_errors(path, f"write {path.name}"), aside(path, mode=mode) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8 with ``\\n`` line ends."""
    write_bytes(path, text.encode())


def make_cache_dir(path: Path) -> Path:
    """Create a folder that may be deleted at any time and mark it so."""
    try:
        with disk_errors(path, "make the cache folder"):
            path.mkdir(parents=True, exist_ok=True)
            tag = path / CACHEDIR_TAG
            if not tag.exists():
                tag.write_text(
                    f"{_CACHEDIR_SIGNATURE}\n# This folder is a cache of sagefix and can be deleted.\n"
                )
    except OSError as error:
        raise DiskError(
            f"Cannot make the cache folder {path}: {error.strerror or error}.",
            hint="Choose another place with SAGEFIX_CACHE_DIR.",
        ) from error
    return path


def remove_tree(path: Path) -> None:
    """Delete a folder that stands somewhere inside a tagged cache; refuse any other."""
    if not path.exists():
        return
    if not any((parent / CACHEDIR_TAG).is_file() for parent in (path, *path.parents)):
        raise DiskError(f"{path} is not inside a cache folder of sagefix and was not deleted.")
    shutil.rmtree(path)


def human_size(count: float) -> str:
    """Write a number of bytes for people: ``11.7 MB`` (powers of 1000, as package indexes do)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
