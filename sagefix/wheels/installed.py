"""An installed distribution, found in a target's folders and compared with its RECORD.

Nothing runs inside the target: its import folders are read from here, so a broken package can be read as
well. Formats: https://packaging.python.org/en/latest/specifications/recording-installed-packages/ and
https://packaging.python.org/en/latest/specifications/direct-url/
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from packaging.utils import canonicalize_name

from sagefix.errors import WheelError
from sagefix.targets.distributions import INSTALLER_FILES
from sagefix.wheels.model import RECORD_NAME, Record
from sagefix.wheels.record import decode_record
from sagefix.wheels.zips import some

_SCRIPT_FOLDERS = {"bin", "Scripts"}
_REINSTALL = (
    "Install it again with `pip install --force-reinstall --no-deps`, or build a wheel with `sagefix build`."
)


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution whose files all match its RECORD.

    ``root`` is the site-packages folder, ``dist_info`` the folder's name in it. ``files`` maps paths inside a
    wheel to the installed files; what installers add or generate is left out. ``direct_url`` is PEP 610's
    content or empty. ``unlisted`` are files in the package's folder that RECORD does not know.
    """

    project: str
    version: str
    root: Path
    dist_info: str
    files: dict[str, Path]
    direct_url: dict[str, Any]
    record: Record | None
    unlisted: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """Return the content of a file of ``.dist-info``."""
        return self.files[f"{self.dist_info}/{name}"].read_bytes()


def read_installed(project: str, package: str, sys_path: Sequence[str]) -> Installed:
    """Find the distribution that an interpreter with these folders imports, and check every file of it.

    Raises :class:`WheelError`: not installed, several at once, editable, without RECORD, files changed or
    missing, files outside site-packages that a wheel could not put there again.
    """
    found = _find(project, sys_path)
    root = Path(str(found.locate_file("")))
    version = str(found.metadata["Version"])
    direct_url = _direct_url(found)
    rows = _rows(found, f"{project} {version}", direct_url, sys_path)
    scripts = {
        entry.name for entry in found.entry_points if entry.group in ("console_scripts", "gui_scripts")
    }
    folder = _dist_info(rows, project)
    files: dict[str, Path] = {}
    outside: list[str] = []
    problems: list[str] = []
    for path, hash_, size in rows:
        if _is_generated(path, folder):
            continue
        if _leaves(path):
            if not _is_entry_point(path, scripts):
                outside.append(path)
            continue
        files[path] = root / path
        problem = _difference(root / path, hash_, size)
        if problem:
            problems.append(f"{path} {problem}")
    if problems:
        raise WheelError(
            f"The installed {project} {version} is not what was installed: {some(problems, 5)}.",
            hint=_REINSTALL,
            details={"problems": problems, "folder": str(root)},
        )
    if outside:
        raise WheelError(
            f"{project} {version} put files outside of site-packages, and an installation does not tell how "
            f"a wheel would put them there again: {some(outside)}.",
            hint="Build a wheel from its source instead: `sagefix build`.",
            details={"files": outside},
        )
    for needed in ("METADATA", "WHEEL"):
        if f"{folder}/{needed}" not in files:
            raise WheelError(f"The installed {project} {version} has no {folder}/{needed}.", hint=_REINSTALL)
    record_file = files.get(f"{folder}/{RECORD_NAME}")
    return Installed(
        project=project,
        version=version,
        root=root,
        dist_info=folder,
        files=files,
        direct_url=direct_url,
        record=decode_record(record_file.read_bytes(), f"{project} {version}") if record_file else None,
        unlisted=_unlisted(root, package, rows),
    )


def _find(project: str, sys_path: Sequence[str]) -> importlib.metadata.Distribution:
    wanted = canonicalize_name(project)
    folders = [entry for entry in sys_path if entry and Path(entry).exists()]
    found = [
        distribution
        for distribution in importlib.metadata.distributions(path=folders)
        if canonicalize_name(str(distribution.metadata["Name"] or "")) == wanted
    ]
    if not found:
        _refuse_egg_link(project, folders)
        raise WheelError(
            f"{project} is not installed in this Python.",
            hint="Choose another interpreter with --python, or install it first.",
            details={"searched": folders},
        )
    first = found[0].locate_file("")
    same = [distribution.version for distribution in found if str(distribution.locate_file("")) == str(first)]
    if len(same) > 1:
        raise WheelError(
            f"{project} is installed {len(same)} times in {first}: {', '.join(same)}.",
            hint="Uninstall it until it is gone, then install it once.",
        )
    return found[0]


def _direct_url(found: importlib.metadata.Distribution) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(found.read_text("direct_url.json") or "{}")
    except msgspec.DecodeError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _rows(
    found: importlib.metadata.Distribution, what: str, direct_url: dict[str, Any], sys_path: Sequence[str]
) -> list[tuple[str, str, str]]:
    from installer.records import InvalidRecordEntry, parse_record_file

    if (direct_url.get("dir_info") or {}).get("editable"):
        _refuse_editable(what, str(direct_url.get("url", "")))
    text = found.read_text("RECORD")
    if text is None:
        _refuse_egg_link(str(found.metadata["Name"]), sys_path)
        raise WheelError(
            f"{what} was installed without a RECORD (by `setup.py install` or a distribution's package), so "
            "nobody can tell which files belong to it and whether they were changed.",
            hint="Install it from the same source with `pip install --no-build-isolation .` first.",
        )
    try:
        rows = [(path, hash_, size) for path, hash_, size in parse_record_file(text.splitlines())]
    except (InvalidRecordEntry, ValueError) as error:
        raise WheelError(f"{what} has a RECORD that cannot be read: {error}.", hint=_REINSTALL) from error
    # A path file or finder of this name is how setuptools points into a source folder (PEP 660).
    if editable := [path for path, _, _ in rows if path.startswith("__editable__")]:
        _refuse_editable(what, editable[0])
    return rows


def _refuse_editable(what: str, where: str) -> None:
    raise WheelError(
        f"{what} is an editable installation ({where}): its files are in a source folder and may change.",
        hint="Install it from there without -e (`pip install --no-build-isolation .`), then save it.",
    )


def _refuse_egg_link(project: str, folders: Iterable[str]) -> None:
    """Refuse what ``setup.py develop`` left: a link into a source folder."""
    wanted = canonicalize_name(project)
    for folder in folders:
        for link in Path(folder).glob("*.egg-link") if Path(folder).is_dir() else ():
            if canonicalize_name(link.stem) == wanted:
                _refuse_editable(project, str(link))


def _dist_info(rows: Iterable[tuple[str, str, str]], project: str) -> str:
    for path, _, _ in rows:
        folder, slash, rest = path.partition("/")
        if slash and rest == "METADATA" and folder.endswith(".dist-info"):
            return folder
    raise WheelError(f"The RECORD of the installed {project} names no METADATA.", hint=_REINSTALL)


def _is_generated(path: str, dist_info: str) -> bool:
    """Tell whether an installer made this file: byte code and its notes."""
    parts = PurePosixPath(path).parts
    return "__pycache__" in parts or (
        parts[0] == dist_info and parts[-1] in INSTALLER_FILES and len(parts) == 2
    )


def _leaves(path: str) -> bool:
    return Path(path).is_absolute() or os.path.normpath(path).startswith("..")


def _is_entry_point(path: str, scripts: set[str]) -> bool:
    """Tell whether a script outside is made by each installer anew, from ``entry_points.txt``."""
    script = PurePosixPath(path)
    name = script.name.removesuffix(".exe").removesuffix("-script.py").removesuffix("-script.pyw")
    return script.parent.name in _SCRIPT_FOLDERS and name in scripts


def _difference(path: Path, hash_: str, size: str) -> str:
    """Return how a file differs from its line in RECORD; empty if it does not."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    algorithm, _, expected = hash_.partition("=")
    if not expected or algorithm not in hashlib.algorithms_guaranteed or algorithm.startswith("shake"):
        return "has no usable hash in RECORD"
    digest = base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest()).rstrip(b"=").decode()
    if digest != expected.rstrip("=") or (size and size != str(len(data))):
        return "was changed"
    return ""


def _unlisted(root: Path, package: str, rows: Iterable[tuple[str, str, str]]) -> tuple[str, ...]:
    listed = {path for path, _, _ in rows}
    folder = root / package.replace(".", "/")
    present = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return tuple(
        sorted(name for path in present if (name := path.relative_to(root).as_posix()) not in listed)
    )
