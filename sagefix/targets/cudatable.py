"""The table of CUDA compilers that exist as packages: the types behind ``manifests/cuda.toml``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import msgspec

from sagefix import settings
from sagefix.errors import PinError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "cuda.toml"


class Library(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A library of the toolkit: the extra of the release package that names it, its package, and headers."""

    extra: str
    package: str
    headers: tuple[str, ...]


class Packaged(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one CUDA major (``"13"``) is packaged.

    ``folder`` is where its wheels unpack to, below site-packages. ``release`` is the package whose version is
    the toolkit's (``cuda-toolkit==13.0.2``) and whose ``extras`` name the exact version of each part.
    ``pinned`` are held to the toolkit's minor beside that. ``compiler`` is the package of nvcc, whose version
    is nvcc's own; ``runtime`` that of the library every extension is linked with. ``machines`` are those there are
    wheels for (``platform.machine()``).
    """

    cuda: str
    folder: str
    release: str
    extras: tuple[str, ...]
    pinned: tuple[str, ...]
    compiler: str
    runtime: str
    machines: tuple[str, ...]
    download_mb: int
    disk_mb: int
    library: tuple[Library, ...]
    sources: tuple[str, ...]

    def library_with(self, header: str) -> Library | None:
        """Return the library that brings a header, or None."""
        return next((each for each in self.library if header in each.headers), None)


class Unpackaged(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A CUDA major that is not packaged: why, and what to do (``{version}`` is that of the torch)."""

    cuda: str
    reason: str
    fix: str
    sources: tuple[str, ...]


class CudaTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``manifests/cuda.toml`` says."""

    schema: Literal[1]
    packaged: tuple[Packaged, ...] = ()
    unpackaged: tuple[Unpackaged, ...] = ()

    def of(self, major: str) -> Packaged | None:
        """Return how a CUDA major is packaged, or None when it is not."""
        return next((each for each in self.packaged if each.cuda == major), None)

    def refusal_of(self, major: str) -> Unpackaged | None:
        """Return why a CUDA major is not packaged, or None when nothing is known."""
        return next((each for each in self.unpackaged if each.cuda == major), None)


def load_cuda_table(folder: Path | None = None) -> CudaTable:
    """Read the table: that of the folder of manifests, else the one sagefix comes with.

    Raises :class:`PinError` when it is missing or wrong.
    """
    where = settings.manifests_dir() if folder is None else folder
    path = where / NAME if (where / NAME).is_file() else settings.shipped_manifests() / NAME
    try:
        table = tomllib.loads(path.read_bytes().decode("utf-8"))
        return msgspec.convert(table, CudaTable, strict=True)
    except OSError as error:
        raise PinError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise PinError(
            f"{path} is wrong: {error}.",
            hint="Correct the table; sagefix/targets/cudatable.py describes every key.",
            details={"file": str(path)},
        ) from error
