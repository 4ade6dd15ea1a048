"""Platforms that wheels are built for without a machine of theirs: the types behind ``manifests/platforms.toml``."""

from __future__ import annotations

import platform as host
import re
import sys
from pathlib import Path
from typing import Literal

import msgspec

from sagefix import settings
from sagefix.errors import PinError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "platforms.toml"
# https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/#manylinux
_MANYLINUX = re.compile(r"manylinux_(\d+_\d+)_(\w+)")


class Platform(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A platform that is described, not present.

    ``name`` is its wheel tag (``linux_aarch64``), ``machine`` what ``uname -m`` says there, ``triplet`` the prefix of
    its compilers, ``glibc`` the version a target is taken to have, ``emulators`` the programs that run its programs
    here, ``debian`` Debian's name of the architecture. ``packages`` and ``emulator_packages`` say by distribution
    (``ID`` or ``ID_LIKE`` of os-release) how the cross compiler and the emulator are installed. ``other_triplets`` are
    prefixes that some distributions and conda give to these compilers, ``without_libc`` says of a distribution why
    its cross compiler does not do. ``cuda_target`` is the folder of a toolkit's libraries for the platform, below
    ``targets``; ``torch_cuda`` what is known of the torch with CUDA for it.
    """

    name: str
    machine: str
    triplet: str
    glibc: str
    emulators: tuple[str, ...]
    debian: str
    packages: dict[str, str]
    emulator_packages: dict[str, str]
    other_triplets: tuple[str, ...]
    without_libc: dict[str, str]
    cuda_target: str
    torch_cuda: str
    sources: tuple[str, ...]

    @property
    def here(self) -> bool:
        """Whether it is this machine's own."""
        return host.machine() == self.machine and sys.platform == "linux"

    def ext_suffix(self, python: str) -> str:
        """Return the suffix of modules of a CPython (``"3.12"``): ``.cpython-312-aarch64-linux-gnu.so``."""
        major, minor = python.split(".")[:2]
        return f".cpython-{major}{minor}-{self.triplet}.so"


class Repository(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A repository as apt knows it: https://manpages.debian.org/bookworm/apt/sources.list.5.en.html."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]


class Archive(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A release of a distribution: which Pythons it has for which machines, and whose signature counts.

    ``keyring`` is the file of its keys where ``keyring_package`` puts it.
    """

    name: str
    pythons: tuple[str, ...]
    machines: tuple[str, ...]
    keyring: str
    keyring_package: str
    repositories: tuple[Repository, ...]
    sources: tuple[str, ...]

    def source_list(self) -> str:
        """Return it in apt's one-line format, with nothing trusted but its own keyring."""
        return "".join(
            f"deb [signed-by={self.keyring}] {each.uri} {suite} {' '.join(each.components)}\n"
            for each in self.repositories
            for suite in each.suites
        )


class Libraries(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The version of libstdc++ (``GLIBCXX_``) that a system with a glibc has."""

    glibc: str
    glibcxx: str
    sources: tuple[str, ...]


class PlatformTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``manifests/platforms.toml`` says."""

    schema: Literal[1]
    platform: tuple[Platform, ...]
    libraries: tuple[Libraries, ...]
    archive: tuple[Archive, ...] = ()

    def glibcxx_of(self, glibc: str) -> str:
        """Return the libstdc++ that goes with a glibc, as its newest symbol version (``"3.4.30"``); empty where it is
        older than any in the table."""
        fitting = [row for row in self.libraries if _numbers(row.glibc) <= _numbers(glibc)]
        return max(fitting, key=lambda row: _numbers(row.glibc)).glibcxx if fitting else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def load_platforms(folder: Path | None = None) -> PlatformTable:
    """Read the table: that of the folder of manifests, else the one sagefix comes with.

    Raises :class:`PinError` when it is missing or wrong.
    """
    where = settings.manifests_dir() if folder is None else folder
    path = where / NAME if (where / NAME).is_file() else settings.shipped_manifests() / NAME
    try:
        table = tomllib.loads(path.read_bytes().decode("utf-8"))
        return msgspec.convert(table, PlatformTable, strict=True)
    except OSError as error:
        raise PinError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise PinError(
            f"{path} is wrong: {error}.",
            hint="Correct the table; sagefix/targets/cross/platforms.py describes every key.",
            details={"file": str(path)},
        ) from error


def platform_named(text: str) -> Platform:
    """Return the platform of ``--platform``: a wheel's tag (``linux_aarch64``), or ``manylinux_2_39_aarch64`` for a
    target with another glibc than the table's.

    Raises :class:`UsageError` for one that is not in the table.
    """
    table = load_platforms()
    found = _MANYLINUX.fullmatch(text)
    name = f"linux_{found[2]}" if found else text
    for each in table.platform:
        if each.name == name:
            return msgspec.structs.replace(each, glibc=found[1].replace("_", ".")) if found else each
    raise UsageError(
        f"--platform {text} is not known.",
        hint=f"Known are {', '.join(each.name for each in table.platform)}, and for another glibc than "
        f"{table.platform[0].glibc} for example manylinux_2_39_aarch64.",
    )
