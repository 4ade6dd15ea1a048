"""What is installed in a target, read from its files alone: nothing of the package is imported."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

import msgspec
from packaging.utils import canonicalize_name

from sagefix.archs import Arch, parse_arch, sort_archs
from sagefix.errors import UsageError
from sagefix.pins.model import Pin
from sagefix.targets.model import Interpreter
from sagefix.wheels.label import parse_label
from sagefix.wheels.model import RECORD_NAME, Label, Record

_INFO_SUFFIXES = (".dist-info", ".egg-info")
COMPILED_SUFFIXES = (".so", ".pyd")
"""What ends the name of a compiled module, whatever Python it is for."""


class Copies(msgspec.Struct, frozen=True, kw_only=True):
    """Everything under a project's name on the import path, first come first imported.

    ``infos``: metadata folders (or egg-info files) of the project; ``packages``: what ``import`` could find,
    package folders and single modules; ``editable``: links to a source folder, if installed that way.
    """

    infos: tuple[Path, ...]
    packages: tuple[Path, ...]
    editable: tuple[str, ...]


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """One installation, taken apart.

    ``info`` is its metadata folder, ``root`` the import folder that holds it, ``package`` what ``import``
    finds. ``record`` is None when there is none or it cannot be read (``record_error`` says why).
    ``installer`` is who says to have installed it (``pip``, ``uv``), ``from_index`` whether it came from an
    index rather than a file or repository somebody named.
    """

    info: Path
    root: Path
    package: Path
    project: str
    version: str
    requires: tuple[str, ...]
    label: Label
    record: Record | None
    record_error: str
    installer: str
    from_index: bool

    def archs(self) -> tuple[Arch, ...]:
        """Return the archs it says it was built for: its record's, else its label's; empty when unknown."""
        said = self.record.archs if self.record is not None else ()
        found = []
        for text in said or self.label.archs:
            try:
                found.append(parse_arch(text))
            except UsageError:
                continue
        return sort_archs(found)

    def sources(self) -> Iterator[Path]:
        """Yield the Python files of the package, sorted."""
        yield from (path for path in self._files() if path.suffix == ".py")

    def compiled(self) -> Iterator[Path]:
        """Yield the compiled modules of the package, for whatever Python, sorted."""
        yield from (path for path in self._files() if path.suffix in COMPILED_SUFFIXES)

    def _files(self) -> Iterator[Path]:
        found = [self.package] if self.package.is_file() else sorted(self.package.rglob("*"))
        yield from (path for path in found if "__pycache__" not in path.parts and path.is_file())

    def relative(self, path: Path) -> str:
        """Write a path the way RECORD does."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


def import_folders(interpreter: Interpreter) -> list[Path]:
    """Return the folders an interpreter imports from, in order, each once (``lib64`` may link to ``lib``)."""
    folders: dict[Path, Path] = {}
    for entry in interpreter.sys_path:
        folder = Path(entry)
        if entry and folder.is_dir():
            folders.setdefault(folder.resolve(), folder)
    return list(folders.values())


def find_copies(pin: Pin, interpreter: Interpreter) -> Copies:
    """Look through the import path for everything that goes by the pin's project or package name."""
    project = canonicalize_name(pin.project)
    infos: list[Path] = []
    packages: list[Path] = []
    editable: list[str] = []
    for folder in import_folders(interpreter):
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        infos += [entry for entry in entries if _is_info_of(entry, project)]
        # An egg that stands on the import path keeps its metadata inside.
        if (folder / "EGG-INFO" / "PKG-INFO").is_file() and _project_in(folder.name) == project:
            infos.append(folder / "EGG-INFO")
        packages += _importable(folder, pin.package, interpreter.ext_suffix)
        editable += [str(entry) for entry in entries if _is_link_of(entry, project)]
    told = [source for info in infos if (source := _editable_source(info))]
    return Copies(infos=tuple(infos), packages=tuple(packages), editable=tuple(told or editable))


def read_installed(info: Path, package: Path, pin: Pin) -> Installed:
    """Take an installation apart. Missing metadata leaves fields empty: the checks say what that means."""
    metadata = _metadata(info)
    version = metadata.get("Version") or ""
    record, record_error = _read_record(info / RECORD_NAME)
    return Installed(
        info=info,
        root=info.parent,
        package=package,
        project=metadata.get("Name") or pin.project,
        version=version,
        requires=tuple(metadata.get_all("Requires-Dist") or ()),
        label=parse_label(version),
        record=record,
        record_error=record_error,
        installer=_text(info / "INSTALLER").strip(),
        # https://packaging.python.org/en/latest/specifications/direct-url/: absent when an index served it.
        from_index=info.is_dir() and not (info / "direct_url.json").is_file(),
    )


def read_imported(pin: Pin, copies: Copies) -> Installed | None:
    """Read the installation that ``import`` finds, with the metadata beside it; None when there is none."""
    if not copies.packages or not copies.infos:
        return None
    package = copies.packages[0]
    beside = [info for info in copies.infos if info.parent == package.parent]
    return read_installed((beside or list(copies.infos))[0], package, pin)


def _project_in(stem: str) -> str:
    return canonicalize_name(stem.split("-", maxsplit=1)[0])


def _is_info_of(entry: Path, project: str) -> bool:
    return entry.suffix in _INFO_SUFFIXES and _project_in(entry.stem) == project


def _is_link_of(entry: Path, project: str) -> bool:
    """Say whether a file is what setuptools leaves in site-packages to point at a source folder."""
    if entry.suffix == ".egg-link":
        return _project_in(entry.stem) == project
    return entry.suffix == ".pth" and _project_in(entry.stem.removeprefix("__editable__.")) == project


def _importable(folder: Path, package: str, ext_suffix: str) -> list[Path]:
    """Return what ``import package`` could take from a folder, in the order Python prefers."""
    candidates = [
        folder / package / "__init__.py",
        *(folder / f"{package}{suffix}" for suffix in (ext_suffix, ".abi3.so", ".so", ".py")),
    ]
    return [path.parent if path.name == "__init__.py" else path for path in candidates if path.is_file()]


def _editable_source(info: Path) -> str:
    """Return the source folder of an editable installation as its ``direct_url.json`` tells, or nothing."""
    try:
        told = msgspec.json.decode((info / "direct_url.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return ""
    if not isinstance(told, dict) or not isinstance(told.get("dir_info"), dict):
        return ""
    return str(told.get("url", "")) if told["dir_info"].get("editable") is True else ""


def _metadata(info: Path) -> Message:
    for path in (info / "METADATA", info / "PKG-INFO", info):
        if path.is_file():
            return BytesParser().parsebytes(path.read_bytes(), headersonly=True)
    return Message()


def _read_record(path: Path) -> tuple[Record | None, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record), ""
    except FileNotFoundError:
        return None, ""
    except NotADirectoryError:
        return None, ""
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        return None, str(error)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
