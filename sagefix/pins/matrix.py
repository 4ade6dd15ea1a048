"""What could be built ahead and what is wanted of it: the types and the loading of ``manifests/matrix.toml``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from sagefix import settings
from sagefix.archs import parse_archs
from sagefix.errors import UsageError
from sagefix.pins.load import convert_table, read_table
from sagefix.pins.locate import KeyPath
from sagefix.pins.rules import Problem

NAME = "matrix.toml"

_PYTHON = re.compile(r"3\.[0-9]{1,2}")
_RELEASE = re.compile(r"[0-9]+\.[0-9]+")


class TorchRelease(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A minor release of torch as PyPI has it for Linux.

    ``version`` is its newest patch. ``pythons`` have a wheel on each platform of ``cuda``, which maps a platform
    to the CUDA its wheel was built with (``""``: CPU only).
    """

    release: str
    version: str
    pythons: tuple[str, ...]
    cuda: dict[str, str]
    sources: tuple[str, ...]


class NewAbi(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The minor release of torch from which on all of its wheels for Linux have the new C++ string ABI."""

    since: str
    sources: tuple[str, ...]


class Platform(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kind of machine, named as ``platform.machine()`` does, and the CI runner that is one.

    ``cross`` is the kind that builds its wheels by cross build; empty: a machine of its own kind builds them.
    """

    name: str
    runner: str
    cross: str = ""
    sources: tuple[str, ...]


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cells that are wanted of a pin: every combination of the lists.

    ``archs``: one wheel for each entry; an entry with several (``"8.0;9.0"``) is one wheel that holds them all.
    Pins that need no torch have no ``torch``, and those for the CPU no ``archs``.
    """

    pin: str
    pythons: tuple[str, ...]
    platforms: tuple[str, ...]
    torch: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()


class Exclude(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cells that are not to be built, and why. An empty field stands for any value."""

    pin: str = ""
    pythons: tuple[str, ...] = ()
    torch: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()
    reason: str
    sources: tuple[str, ...]


class Matrix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``manifests/matrix.toml`` says."""

    schema: Literal[1]
    cxx11_abi: NewAbi | None = None
    torch: tuple[TorchRelease, ...] = ()
    platform: tuple[Platform, ...] = ()
    wanted: tuple[Wanted, ...] = ()
    exclude: tuple[Exclude, ...] = ()

    def torch_of(self, release: str) -> TorchRelease | None:
        """Return what is known of a minor release of torch (``"2.11"``), or None."""
        return next((row for row in self.torch if row.release == release), None)

    def has_new_abi(self, release: str) -> bool | None:
        """Tell whether the wheels of a release of torch have the new C++ string ABI; None: that is not known."""
        known = self.cxx11_abi is not None and _numbers(release) >= _numbers(self.cxx11_abi.since)
        return True if known else None

    def platform_of(self, name: str) -> Platform | None:
        """Return a platform by its name, or None."""
        return next((row for row in self.platform if row.name == name), None)

    def wanted_of(self, pin: str) -> tuple[Wanted, ...]:
        """Return the rows of a pin."""
        return tuple(row for row in self.wanted if row.pin == pin)


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One wheel that could be built, and whether it can be.

    ``id`` names it in files, tables and CI (``cp312-torch2.11-cu130-sm90-x86_64``). ``python`` is ``"3.12"``,
    ``abi`` the tag of what is built (``cp312``), ``interpreter`` the Python to build with when one was named.
    ``torch`` is a minor release, ``torch_version`` the whole version, ``cuda`` the CUDA of its wheel; all empty for
    a pin that needs no torch. ``archs`` is in the form of ``--arch``. ``host`` is the kind of machine that builds it:
    where it is another than ``platform``, by cross build. ``runner`` is a CI runner of that kind. ``reason`` says why a
    cell is impossible.
    """

    id: str
    pin: str
    python: str
    abi: str
    interpreter: str = ""
    torch: str = ""
    torch_version: str = ""
    cuda: str = ""
    platform: str
    host: str = ""
    runner: str = ""
    archs: str = ""
    status: Literal["possible", "impossible"] = "possible"
    reason: str = ""

    @property
    def cross(self) -> bool:
        """Whether a machine of another kind builds it."""
        return self.host not in ("", self.platform)


def load_matrix(folder: Path | None = None) -> Matrix:
    """Read the matrix of a folder of manifests, else the one sagefix comes with.

    Raises :class:`~sagefix.errors.PinError` with the line and key of what is wrong.
    """
    own = (settings.manifests_dir() if folder is None else folder) / NAME
    path = own if own.is_file() or folder is not None else settings.shipped_manifests() / NAME
    return convert_table(path, read_table(path), Matrix, _problems, described_in="sagefix/pins/matrix.py")


def _problems(matrix: Matrix, path: Path) -> Iterator[Problem]:
    del path
    yield from _twice("torch", "release", [row.release for row in matrix.torch])
    yield from _twice("platform", "name", [row.name for row in matrix.platform])
    known = {row.name for row in matrix.platform}
    yield from _told(matrix)
    yield from _crossing(matrix)
    for index, row in enumerate(matrix.torch):
        at = ("torch", index)
        yield from _like(_RELEASE, (*at, "release"), row.release, "a release such as '2.11'")
        if not row.version.startswith(f"{row.release}."):
            yield (*at, "version"), f"{row.version!r} is not a patch of {row.release}"
        yield from _each(_PYTHON, (*at, "pythons"), row.pythons, "a Python such as '3.12'")
        for name, cuda in row.cuda.items():
            if name not in known:
                yield (*at, "cuda", name), f"there is no platform {name!r}"
            if cuda:
                yield from _like(_RELEASE, (*at, "cuda", name), cuda, "a CUDA version such as '13.0'")
    for index, wanted in enumerate(matrix.wanted):
        yield from _lists(("wanted", index), wanted, known)
        for field in ("pythons", "platforms"):
            if not getattr(wanted, field):
                yield ("wanted", index, field), "must name at least one"
    for index, exclude in enumerate(matrix.exclude):
        yield from _lists(("exclude", index), exclude, known)


def _crossing(matrix: Matrix) -> Iterator[Problem]:
    for index, row in enumerate(matrix.platform):
        if row.cross and (row.cross == row.name or matrix.platform_of(row.cross) is None):
            yield ("platform", index, "cross"), f"there is no other platform {row.cross!r}"


def _told(matrix: Matrix) -> Iterator[Problem]:
    """Every fact names where it was read."""
    if (abi := matrix.cxx11_abi) is not None:
        yield from _like(_RELEASE, ("cxx11_abi", "since"), abi.since, "a release such as '2.11'")
        if not abi.sources:
            yield ("cxx11_abi", "sources"), "must name at least one source"
    for table, told in (
        ("torch", [row.sources for row in matrix.torch]),
        ("platform", [row.sources for row in matrix.platform]),
        ("exclude", [row.sources for row in matrix.exclude]),
    ):
        for index, sources in enumerate(told):
            if not sources:
                yield (table, index, "sources"), "must name at least one source"


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def _lists(at: KeyPath, row: Wanted | Exclude, platforms: set[str]) -> Iterator[Problem]:
    yield from _each(_PYTHON, (*at, "pythons"), row.pythons, "a Python such as '3.12'")
    yield from _each(_RELEASE, (*at, "torch"), row.torch, "a release such as '2.11'")
    for index, name in enumerate(row.platforms):
        if name not in platforms:
            yield (*at, "platforms", index), f"there is no platform {name!r}"
    for index, text in enumerate(row.archs):
        try:
            parse_archs(text)
        except UsageError as error:
            yield (*at, "archs", index), error.message


def _twice(table: str, key: str, values: Iterable[str]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield (table, index, key), f"{value} is there twice"
        seen.add(value)


def _each(form: re.Pattern[str], at: KeyPath, values: Iterable[str], what: str) -> Iterator[Problem]:
    for index, value in enumerate(values):
        yield from _like(form, (*at, index), value, what)


def _like(form: re.Pattern[str], at: KeyPath, value: str, what: str) -> Iterator[Problem]:
    if not form.fullmatch(value):
        yield at, f"{value!r} is not {what}"
