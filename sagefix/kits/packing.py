"""A kit written so that the same content gives the same bytes: a plain tar, since wheels are compressed already."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sagefix.files import aside, disk_errors, sha256_bytes, sha256_file
from sagefix.kits.model import MANIFEST, Entry, Kind, Manifest
from sagefix.progress import Task

EARLIEST = 315532800
"""1980-01-01, which wheels know as well."""
Content = bytes | Path


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is to go into a kit: where in there, what, and its content or where that stands."""

    path: str
    kind: Kind
    what: str
    content: Content

    def entry(self) -> Entry:
        """Return what the manifest says about it."""
        if isinstance(self.content, bytes):
            size, digest = len(self.content), sha256_bytes(self.content)
        else:
            size, digest = self.content.stat().st_size, sha256_file(self.content)
        return Entry(path=self.path, size=size, sha256=digest, kind=self.kind, what=self.what)


def epoch() -> int:
    """Return the time that every file of a kit gets: ``SOURCE_DATE_EPOCH``, else 1980-01-01 (seconds, UTC).

    https://reproducible-builds.org/specs/source-date-epoch/
    """
    told = os.environ.get("SOURCE_DATE_EPOCH", "")
    return max(int(told), EARLIEST) if told.isdecimal() else EARLIEST


def encode(manifest: Manifest) -> bytes:
    """Write a manifest."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def write_kit(file: Path, manifest: Manifest, packed: Sequence[Packed], running: Task) -> Manifest:
    """Write the archive, the manifest first and the rest in its order; return the manifest with every file.

    A file of that name is replaced as a whole. Raises :class:`~sagefix.errors.DiskError`.
    """
    whole = msgspec.structs.replace(manifest, files=tuple(each.entry() for each in packed))
    with (
        disk_errors(file, "write the kit"),
        aside(file) as temporary,
        tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive,
    ):
        _add(archive, MANIFEST, encode(whole))
        for number, each in enumerate(packed, 1):
            _add(archive, each.path, each.content)
            running.update(done=number, total=len(packed), text=each.path)
    return whole


def _add(archive: tarfile.TarFile, path: str, content: Content) -> None:
    info = tarfile.TarInfo(path)
    info.mtime = epoch()
    info.mode = 0o755 if path.endswith(".sh") else 0o644
    if isinstance(content, bytes):
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
        return
    info.size = content.stat().st_size
    with content.open("rb") as stream:
        archive.addfile(info, stream)
