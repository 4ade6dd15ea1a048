"""Zip archives of unknown origin: opened, listed and read so that a hostile or damaged one does no harm."""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sagefix.errors import WheelError
from sagefix.files import human_size

MAX_UNPACKED = 20_000_000_000
"""Bytes; the largest wheels of this field (torch with CUDA) unpack to about 4 GB."""
REBUILD = "Delete it and build or download it again."

_MAX_TEXT = 16_000_000
_DRIVE = re.compile(r"^[A-Za-z]:")
_UNSAFE = "Do not install it."


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a wheel for reading; what a damaged one makes ``zipfile`` raise becomes :class:`WheelError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError as error:
        raise WheelError(f"{path} does not exist.", hint="Check the path.") from error
    except zipfile.BadZipFile as error:
        size = path.stat().st_size
        raise WheelError(
            f"{path.name} is not a zip archive or is cut off ({human_size(size)}): {error}.", hint=REBUILD
        ) from error
    except (zlib.error, EOFError, struct.error, RuntimeError, UnicodeDecodeError) as error:
        raise WheelError(f"{path.name} is damaged: {error}.", hint=REBUILD) from error
    except OSError as error:
        raise WheelError(f"{path} cannot be read: {error.strerror or error}.") from error


def safe_members(archive: zipfile.ZipFile, name: str) -> tuple[str, ...]:
    """Return the paths of all files after refusing what could write elsewhere or fill the disk."""
    total = 0
    members: list[str] = []
    for info in archive.infolist():
        path = info.orig_filename
        parts = path.rstrip("/").split("/")
        if (
            path.startswith("/")
            or "\\" in path
            or "\0" in path
            or _DRIVE.match(path)
            or {"", ".", ".."} & set(parts)
        ):
            raise WheelError(f"{name} holds the path {path!r}, which could leave its folder.", hint=_UNSAFE)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise WheelError(f"{name} holds {path!r}, which is a link or device, no file.", hint=_UNSAFE)
        if info.flag_bits & 0x1:
            raise WheelError(f"{name} holds {path!r}, which is encrypted.")
        total += info.file_size
        if not info.is_dir():
            members.append(path)
    if total > MAX_UNPACKED:
        raise WheelError(f"{name} would unpack to {human_size(total)}, which no wheel of this kind does.")
    if twice := sorted(member for member, count in Counter(members).items() if count > 1):
        raise WheelError(f"{name} holds a file twice: {some(twice)}.", hint=REBUILD)
    return tuple(members)


def read_text(archive: zipfile.ZipFile, member: str, name: str) -> bytes:
    """Read a member that is a small text; refuse one that claims to be huge."""
    if archive.getinfo(member).file_size > _MAX_TEXT:
        raise WheelError(f"{name}: {member} is too large to be what it is called.")
    return archive.read(member)


def some(items: Sequence[str], limit: int = 3) -> str:
    """Write the first of many, and how many more there are."""
    rest = len(items) - limit
    return "; ".join(items[:limit]) + (f"; and {rest} more" if rest > 0 else "")
