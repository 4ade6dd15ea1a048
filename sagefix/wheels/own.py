"""sagefix's own wheel, from what runs here: an image and a kit take it along, and no index has to have it."""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from sagefix import __version__
from sagefix.errors import WheelError
from sagefix.settings import PACKAGE, checkout, shipped_manifests
from sagefix.wheels.writing import Content, write_wheel

PROJECT = "sagefix"
TAG = "py3-none-any"
_EPOCH = 315532800  # 1980-01-01: the same content gives the same bytes, whenever it is written.
_WHEEL = f"Wheel-Version: 1.0\nGenerator: sagefix ({__version__})\nRoot-Is-Purelib: true\nTag: {TAG}\n"
_SKIPPED = re.compile(r"(^|/)(__pycache__|\.[^/]*)(/|$)|\.py[co]$")
_INSTALL = "Install sagefix (`pip install .` in its checkout) and try again."


def own_filename() -> str:
    """Return the name of sagefix's own wheel."""
    return f"{PROJECT}-{__version__}-{TAG}.whl"


def write_own_wheel(folder: Path) -> Path:
    """Write sagefix's own wheel into a folder and return its path; a file of that name is replaced.

    It holds the package and the manifests as they are here, changes in a checkout included, and METADATA as it was
    installed. Raises :class:`WheelError`: sagefix is not installed, or its METADATA is that of other sources;
    :class:`~sagefix.errors.DiskError`.
    """
    found = _installed()
    info = f"{PROJECT}-{__version__}.dist-info"
    files: dict[str, Content] = {f"{PROJECT}/{name}": path for name, path in _files(PACKAGE)}
    files |= {f"{PROJECT}/manifests/{name}": path for name, path in _files(shipped_manifests())}
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    for name in ("METADATA", "entry_points.txt", "licenses/LICENSE"):
        if (text := found.read_text(name)) is not None:
            files[f"{info}/{name}"] = text.encode()
    return write_wheel(folder, own_filename(), dist_info=info, files=files, epoch=_EPOCH)


def _installed() -> Distribution:
    try:
        found = distribution(PROJECT)
    except PackageNotFoundError as error:
        raise WheelError(
            "sagefix is not installed, so nothing tells what its wheel would need.", hint=_INSTALL
        ) from error
    if found.version != __version__ or _outdated(found):
        raise WheelError(
            f"The installed sagefix {found.version} is not the one that runs: its METADATA differs.",
            hint=_INSTALL,
        )
    return found


def _outdated(found: Distribution) -> bool:
    """Tell whether a checkout asks for other packages than when it was installed."""
    root = checkout()
    if root is None:
        return False
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    from packaging.requirements import Requirement

    wanted = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    has = [line for line in found.requires or () if "extra ==" not in line]
    return {str(Requirement(line)) for line in wanted} != {str(Requirement(line)) for line in has}


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Return the files below a folder by their paths in it, without caches and hidden ones."""
    named = ((path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("*")))
    return [(name, path) for name, path in named if path.is_file() and not _SKIPPED.search(name)]
