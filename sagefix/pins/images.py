"""What a Docker image is made of: the types and the loading of ``manifests/docker.toml``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from sagefix import settings
from sagefix.pins.load import convert_table, read_table
from sagefix.pins.rules import Problem

NAME = "docker.toml"

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+")
_VERSION = re.compile(r"\d+(\.\d+)+")


class BuildPackages(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The distribution's packages of a build stage, for a pin that needs CUDA and for one that does not."""

    cuda: tuple[str, ...]
    cpu: tuple[str, ...]


class Runtime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a Python package needs of the system while it runs.

    ``package`` is one that a pin's ``import_requires`` names, ``apt`` the distribution's packages; ``headers``:
    also Python's. ``reason`` is a sentence without its period.
    """

    package: str
    apt: tuple[str, ...]
    headers: bool
    reason: str
    sources: tuple[str, ...]


class Images(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``manifests/docker.toml`` says.

    ``base`` is the image that both stages begin with (``{python}`` stands for a minor version), ``uv`` the version
    of uv in it.
    """

    schema: Literal[1]
    base: str
    uv: str
    sources: tuple[str, ...]
    build: BuildPackages
    runtime: tuple[Runtime, ...] = ()


def load_images() -> Images:
    """Read the table of a folder of manifests, else the one sagefix comes with.

    Raises :class:`~sagefix.errors.PinError` with the line and key of what is wrong.
    """
    own = settings.manifests_dir() / NAME
    path = own if own.is_file() else settings.shipped_manifests() / NAME
    return convert_table(path, read_table(path), Images, _problems, described_in="sagefix/pins/images.py")


def _problems(images: Images, path: Path) -> Iterator[Problem]:
    del path
    if "{python}" not in images.base:
        yield ("base",), f"{images.base!r} does not say where the version of Python goes: {{python}}"
    if not _VERSION.fullmatch(images.uv):
        yield ("uv",), f"{images.uv!r} is not a version"
    lists = [
        (("build", "cuda"), images.build.cuda),
        (("build", "cpu"), images.build.cpu),
        *((("runtime", index, "apt"), row.apt) for index, row in enumerate(images.runtime)),
    ]
    for at, names in lists:
        for index, name in enumerate(names):
            if not _PACKAGE.fullmatch(name):
                yield (*at, index), f"{name!r} is not the name of a package"
