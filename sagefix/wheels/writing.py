"""Wheels written so that the same content gives the same bytes, and a half-written one is never seen."""

from __future__ import annotations

import contextlib
import stat
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wheel.wheelfile import WheelFile

from sagefix.files import disk_errors
from sagefix.wheels.elf import is_library

_EARLIEST = 315532800  # 1980-01-01: the zip format knows nothing older.

Content = bytes | Path | Callable[[], bytes]
"""A file's bytes, or where to read them when it is that file's turn."""


class _ReproducibleWheel(WheelFile):  # type: ignore[misc]  # the wheel project ships no types
    """A :class:`WheelFile` whose entries, RECORD included, depend on nothing but name, content and epoch."""

    epoch = _EARLIEST
    fp: Any  # of zipfile, None once it is closed

    def writestr(
        self,
        zinfo_or_arcname: str | zipfile.ZipInfo,
        data: object,
        compress_type: int | None = None,
    ) -> None:
        name = zinfo_or_arcname if isinstance(zinfo_or_arcname, str) else zinfo_or_arcname.filename
        date = time.gmtime(max(self.epoch, _EARLIEST))
        info = zipfile.ZipInfo(
            name, date_time=(date.tm_year, date.tm_mon, date.tm_mday, date.tm_hour, date.tm_min, date.tm_sec)
        )
        info.create_system = 3  # Unix, wherever this runs, so that the permissions count
        executable = is_library(name) or ".data/scripts/" in name
        info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
        info.compress_type = self.compression
        super().writestr(info, data, compress_type)

    def close(self) -> None:
        """Write RECORD and the end of the archive, once: on a full disk the destructor would try again."""
        try:
            super().close()
        except OSError:
            stream, self.fp = self.fp, None
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
            raise


def write_wheel(
    folder: Path, filename: str, *, dist_info: str, files: Mapping[str, Content], epoch: int
) -> Path:
    """Write a wheel into ``folder`` and return its path; a file of that name is replaced.

    ``files`` maps paths in the wheel to contents and leaves RECORD out, which is made here. Entries are
    sorted, with ``dist_info`` last as the specification recommends. ``epoch`` (seconds since 1970, UTC) is
    the time of every entry. Raises :class:`~sagefix.errors.DiskError`.
    """
    path = folder / filename
    with disk_errors(path, "write the wheel"):
        folder.mkdir(parents=True, exist_ok=True)
        # A folder of its own, not a temporary name: WheelFile takes the name of RECORD's folder from the
        # file's.
        with tempfile.TemporaryDirectory(
            prefix=f".{path.stem[:40]}-", suffix=".partial", dir=folder
        ) as aside:
            temporary = Path(aside) / filename
            with _ReproducibleWheel(temporary, "w") as wheel:
                wheel.epoch = epoch
                wheel.dist_info_path, wheel.record_path = dist_info, f"{dist_info}/RECORD"
                for name in sorted(files, key=lambda name: (name.startswith(f"{dist_info}/"), name)):
                    wheel.writestr(name, _read(files[name]))
            temporary.chmod(0o644)
            temporary.replace(path)
    return path


def _read(content: Content) -> bytes:
    if isinstance(content, bytes):
        return content
    return content.read_bytes() if isinstance(content, Path) else content()
