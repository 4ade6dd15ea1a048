"""A kit opened: every file is compared with the manifest before one of them is used."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from sagefix.errors import KitError
from sagefix.files import disk_errors, make_cache_dir
from sagefix.kits.model import MANIFEST, SCHEMA, WHEELS, Entry, Manifest
from sagefix.progress import task
from sagefix.settings import cache_dir

_AGAIN = "Copy it again, and compare its SHA-256 with what `sagefix kit` printed."
_UNSAFE = "Do not use it."
_LARGEST_MANIFEST = 16_000_000
_BLOCK = 1 << 20
_PREFIX = "work-"
_ABANDONED_S = 24 * 3600
# As on a package index: plain names, no hidden file but the mark of a wheelhouse.
_PATH = re.compile(r"[A-Za-z0-9._+-][A-Za-z0-9._+!-]*(/[A-Za-z0-9._+-][A-Za-z0-9._+!-]*)*", re.ASCII)


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A kit whose files are all as its manifest says; ``folder`` holds them but for sagefix's own wheels."""

    file: str
    manifest: Manifest
    folder: str

    @property
    def wheels(self) -> Path:
        """The wheelhouse."""
        return Path(self.folder) / WHEELS

    @property
    def source(self) -> str:
        """The bundle."""
        return str(Path(self.folder) / self.manifest.source)

    def shown(self, path: str) -> str:
        """Name a file for people and machines after the folder has gone: ``KIT:wheels/...``."""
        return path.replace(f"{self.folder}/", f"{self.file}:", 1)


def read_manifest(file: Path) -> Manifest:
    """Return the manifest of a kit; its other files are not looked at. Raises :class:`KitError`."""
    with _archive(file) as archive:
        return _manifest(file, archive)


@contextmanager
def work_folder(doing: str) -> Iterator[Path]:
    """Give a folder of the cache that goes away with the block; those that a killed sagefix left go now.

    Raises :class:`~sagefix.errors.DiskError`; ``doing`` completes "cannot ..." in its message.
    """
    root = make_cache_dir(cache_dir() / "kits")
    with disk_errors(root, doing):
        for left in root.glob(f"{_PREFIX}*"):
            if left.stat().st_mtime < time.time() - _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=_PREFIX) as name:
            yield Path(name)


@contextmanager
def opened(file: Path) -> Iterator[Opened]:
    """Unpack a kit into a folder of the cache that goes away with the block.

    Raises :class:`KitError`: not a kit, of a newer sagefix, damaged, or with anything in it that its manifest does not
    list. :class:`~sagefix.errors.DiskError`.
    """
    with work_folder("unpack the kit") as folder:
        with _archive(file) as archive, task(f"Checking {file.name}", unit="bytes") as running:
            manifest = _manifest(file, archive)
            listed = {entry.path: entry for entry in manifest.files}
            total, done = sum(entry.size for entry in manifest.files), 0
            while (member := archive.next()) is not None:
                entry = listed.pop(member.name, None)
                if entry is None:
                    raise _damaged(
                        file, f"it holds {member.name!r}, which its manifest does not list, or twice"
                    )
                _take(file, archive, member, entry, folder)
                done += entry.size
                running.update(done=done, total=total)
            if listed:
                raise _damaged(file, f"it lacks {min(listed)}")
        yield Opened(file=str(file), manifest=manifest, folder=str(folder))


def _take(file: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, entry: Entry, folder: Path) -> None:
    """Hash a member and, unless it is one of sagefix's own wheels, write it. Its path was looked at before."""
    if not member.isreg() or member.size != entry.size:
        raise _damaged(file, f"{member.name} is not the file of its manifest")
    # The standard library's own rules as well, where it has them (PEP 706).
    if hasattr(tarfile, "data_filter"):
        member = tarfile.data_filter(member, str(folder))
    stream = archive.extractfile(member)
    assert stream is not None
    digest = hashlib.sha256()
    target = folder / entry.path
    with contextlib.ExitStack() as stack:
        sink = None
        if entry.kind != "sagefix":
            target.parent.mkdir(parents=True, exist_ok=True)
            sink = stack.enter_context(target.open("xb"))
        while block := stream.read(_BLOCK):
            digest.update(block)
            if sink is not None:
                sink.write(block)
    if digest.hexdigest() != entry.sha256:
        raise _damaged(file, f"{entry.path} has another SHA-256 than its manifest says")
    if sink is not None:
        # What a wheelhouse knows its wheels by.
        os.utime(target, (member.mtime, member.mtime))


@contextmanager
def _archive(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        archive = tarfile.open(file, "r:")  # noqa: SIM115 - closed below; only its opening has these errors
    except FileNotFoundError as error:
        raise KitError(f"There is no {file}.", hint="`sagefix kit` writes one.") from error
    except IsADirectoryError as error:
        raise KitError(f"{file} is a folder.", hint="Name the file that `sagefix kit` wrote.") from error
    except OSError as error:
        raise KitError(
            f"{file} cannot be read: {error.strerror or error}.", hint="Check its permissions."
        ) from error
    except tarfile.TarError as error:
        raise _no_kit(file) from error
    try:
        with archive:
            yield archive
    except (tarfile.TarError, EOFError) as error:
        raise _damaged(file, str(error) or "it cannot be read as a tar archive") from error


def _manifest(file: Path, archive: tarfile.TarFile) -> Manifest:
    """Read the first member and make sure that every path in it stays in its folder."""
    first = archive.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > _LARGEST_MANIFEST:
        raise _no_kit(file)
    stream = archive.extractfile(first)
    assert stream is not None
    data = stream.read()
    try:
        schema = msgspec.json.decode(data, type=_Versioned).schema
        if schema > SCHEMA:
            raise KitError(
                f"{file} has schema {schema}; this sagefix reads schema {SCHEMA}.",
                hint="Use the sagefix that is in the kit: see its README.txt.",
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _damaged(file, f"its {MANIFEST} cannot be understood ({error})") from error
    for entry in manifest.files:
        if not _PATH.fullmatch(entry.path) or {".", ".."} & set(entry.path.split("/")):
            raise KitError(
                f"{file} holds the path {entry.path!r}, which could leave its folder.", hint=_UNSAFE
            )
    if manifest.source and manifest.source not in {entry.path for entry in manifest.files}:
        raise _damaged(file, f"it lacks {manifest.source}")
    return manifest


class _Versioned(msgspec.Struct):
    schema: int


def _damaged(file: Path, why: str) -> KitError:
    return KitError(f"The kit {file} is damaged: {why}.", hint=_AGAIN)


def _no_kit(file: Path) -> KitError:
    return KitError(
        f"{file} is not a kit: it does not begin with {MANIFEST}.", hint="`sagefix kit` writes one."
    )
