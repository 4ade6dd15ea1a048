"""Installed distributions that take part in a build, identified by what they hold rather than by their names.

An installation does not keep the hash of the wheel it came from, unless it came from a URL. What it keeps is
RECORD, with the hash of every file. Format:
https://packaging.python.org/en/latest/specifications/recording-installed-packages/
"""

from __future__ import annotations

import csv
import importlib.metadata
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
from packaging.utils import canonicalize_name

from sagefix.files import sha256_bytes
from sagefix.targets.model import Package

INSTALLER_FILES = frozenset(
    {
        "RECORD",
        "INSTALLER",
        "REQUESTED",
        "direct_url.json",
        "uv_cache.json",
        "uv_build.json",
        "RECORD.jws",
        "RECORD.p7s",
    }
)
"""What installers write into ``.dist-info`` about an installation; none of it is part of the wheel."""

_LONGEST_LICENSE = 100


def find_packages(folders: Iterable[str | Path], names: Iterable[str]) -> tuple[Package, ...]:
    """Return the distributions of these names that an interpreter with these import folders has, sorted.

    What is not installed is left out.
    """
    path = [str(folder) for folder in folders if Path(folder).exists()]
    found: dict[str, Package] = {}
    for name in names:
        for distribution in importlib.metadata.distributions(name=name, path=path):
            if (package := _package(distribution)) is not None:
                found.setdefault(package.name, package)
                break
    return tuple(found[name] for name in sorted(found))


def packages_below(folder: Path) -> tuple[Package, ...]:
    """Return the distributions whose files are below a folder that stands inside some site-packages, sorted.

    So the parts of a CUDA toolkit that came as packages are found, wherever its programs are linked from; empty for
    a toolkit that came otherwise.
    """
    real = folder.resolve()
    site = next((parent for parent in real.parents if any(parent.glob("*.dist-info"))), None)
    if site is None:
        return ()
    inside = f"\n{real.relative_to(site).as_posix()}/"
    first = real.relative_to(site).parts[0]
    found = []
    for distribution in importlib.metadata.distributions(path=[str(site)]):
        # Reading every RECORD of an environment takes a second; NVIDIA's packages are named for their folder.
        if canonicalize_name(str(distribution.metadata["Name"] or "")).startswith(f"{first}-"):
            text = "\n" + (distribution.read_text("RECORD") or "")
            if inside in text and (package := _package(distribution)) is not None:
                found.append(package)
    return tuple(sorted(found, key=lambda package: package.name))


def installed_from(folders: Iterable[str | Path], name: str) -> dict[str, str]:
    """Return what an installation says about the wheel it came from: ``url``, ``sha256`` and ``installer``.

    Only an installation from a URL names a hash (PEP 610); what is not said is not in the answer.
    https://packaging.python.org/en/latest/specifications/direct-url/
    """
    path = [str(folder) for folder in folders if Path(folder).exists()]
    for distribution in importlib.metadata.distributions(name=name, path=path):
        told = {"installer": (distribution.read_text("INSTALLER") or "").strip()}
        try:
            direct: Any = msgspec.json.decode(distribution.read_text("direct_url.json") or "{}")
        except msgspec.DecodeError:
            direct = {}
        url, archive = str(direct.get("url", "")), direct.get("archive_info") or {}
        if not url.startswith("file:"):
            told["url"] = _without_credentials(url)
        told["sha256"] = str((archive.get("hashes") or {}).get("sha256", "")) or str(
            archive.get("hash", "")
        ).removeprefix("sha256=")
        return {key: value for key, value in told.items() if value}
    return {}


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def record_sha256(record: str, dist_info: str) -> str:
    """Return the hash described at :class:`~sagefix.targets.model.Package`."""
    rows = [row for row in csv.reader(record.splitlines()) if row and _from_the_wheel(row[0], dist_info)]
    return sha256_bytes("\n".join(sorted(",".join(row) for row in rows)).encode())


def _from_the_wheel(path: str, dist_info: str) -> bool:
    """False for byte code, scripts that installers generate or rewrite, and notes about the installation."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or "__pycache__" in parts:
        return False
    return not (len(parts) == 2 and parts[0] == dist_info and parts[1] in INSTALLER_FILES)


def _package(distribution: importlib.metadata.Distribution) -> Package | None:
    metadata = distribution.metadata
    name, version = metadata["Name"], metadata["Version"]
    if not name or not version:
        return None
    record = distribution.read_text("RECORD")
    return Package(
        name=canonicalize_name(str(name)),
        version=str(version),
        record_sha256=record_sha256(record, _dist_info(distribution)) if record else "",
        license=_license(metadata.get_all("License-Expression"), metadata.get_all("License"), metadata),
    )


def _dist_info(distribution: importlib.metadata.Distribution) -> str:
    return next((file.parts[0] for file in distribution.files or () if file.name == "METADATA"), "")


def _license(expressions: Sequence[str] | None, texts: Sequence[str] | None, metadata: Any) -> str:
    """Return the expression, else a short text, else what the classifiers say; older metadata holds whole texts."""
    for text in (*(expressions or ()), *(texts or ())):
        if text and len(text) <= _LONGEST_LICENSE and "\n" not in text:
            return str(text)
    classifiers = metadata.get_all("Classifier") or []
    found = [
        str(line).rpartition("::")[2].strip() for line in classifiers if re.match("License ::", str(line))
    ]
    return ", ".join(found)
