"""Wheels as archives: read with suspicion, since pip and uv are not.

pip and uv install a wheel whose files do not match its RECORD, and pip takes a renamed one from a path
without a word. What these functions return has a name, a ``.dist-info`` and METADATA that agree. Format:
https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import email.parser
import re
import zipfile
from pathlib import Path

import msgspec
from packaging.metadata import Metadata
from packaging.tags import parse_tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from sagefix.errors import WheelError
from sagefix.files import sha256_file
from sagefix.wheels.label import parse_label
from sagefix.wheels.model import RECORD_NAME, Facts, Record
from sagefix.wheels.record import decode_record
from sagefix.wheels.zips import REBUILD, open_zip, read_text, safe_members, some

_RENAMED = (
    "A wheel's name is part of its content: give it its own name back, or build it again with that label."
)


class WheelArchive(msgspec.Struct, frozen=True, kw_only=True):
    """A wheel that was opened and found well-formed; its files were not hashed.

    ``project`` is normalised, ``version`` as METADATA has it. ``tags`` are single ones, sorted;
    ``python_tag``, ``abi_tag`` and ``platform_tag`` as in the file name. ``dist_info`` is the folder's name.
    ``metadata`` is lazy: reading a field that upstream wrote wrongly raises
    ``packaging.metadata.InvalidMetadata``. ``members`` are paths of files, in the order of the archive.
    """

    path: Path
    project: str
    version: str
    build: str
    python_tag: str
    abi_tag: str
    platform_tag: str
    tags: tuple[str, ...]
    dist_info: str
    metadata: Metadata
    metadata_bytes: bytes
    record: Record | None
    members: tuple[str, ...]


def read_wheel(path: Path) -> WheelArchive:
    """Open a wheel and check its structure: members, names, versions, tags, that RECORD lists exactly its
    files.

    Contents are not hashed (:func:`validate` does). Raises :class:`WheelError`.
    """
    project, version, build, tags = _parse_name(path)
    with open_zip(path) as archive:
        members = safe_members(archive, path.name)
        dist_info = _dist_info(members, path.name)
        _require_same(path.name, dist_info, project, version)
        texts = {
            name: read_text(archive, f"{dist_info}/{name}", path.name)
            for name in ("METADATA", "WHEEL", "RECORD")
        }
        record_bytes = None
        if f"{dist_info}/{RECORD_NAME}" in members:
            record_bytes = read_text(archive, f"{dist_info}/{RECORD_NAME}", path.name)
        _check_record_names(archive, members, texts["RECORD"], path.name)
    metadata = Metadata.from_email(texts["METADATA"], validate=False)
    _require_metadata(path.name, metadata, project, version)
    _require_tags(path.name, texts["WHEEL"], tags)
    python_tag, abi_tag, platform_tag = path.stem.split("-")[-3:]
    return WheelArchive(
        path=path,
        project=project,
        version=str(version),
        build=build,
        python_tag=python_tag,
        abi_tag=abi_tag,
        platform_tag=platform_tag,
        tags=tags,
        dist_info=dist_info,
        metadata=metadata,
        metadata_bytes=texts["METADATA"],
        record=None if record_bytes is None else decode_record(record_bytes, path.name),
        members=members,
    )


def validate(path: Path) -> WheelArchive:
    """Do what :func:`read_wheel` does and compare every file with its hash in RECORD.

    Raises :class:`WheelError`.
    """
    from installer.sources import WheelFile

    archive = read_wheel(path)
    with open_zip(path) as opened:
        try:
            WheelFile(opened).validate_record()
        except WheelFile.validation_error as error:
            issues = [issue.removeprefix(f"In {path}, ") for issue in getattr(error, "issues", [str(error)])]
            raise WheelError(
                f"{path.name} is damaged or was changed: {some(issues)}.",
                hint=REBUILD,
                details={"path": str(path), "issues": issues},
            ) from error
    return archive


def facts(path: Path, *, where: str | None = None, sha256: str | None = None, proof: str = "") -> Facts:
    """Return what selection needs to know of a wheel; see :class:`Facts`.

    Reads names, METADATA, WHEEL and the record, no file's content. Raises :class:`WheelError`.
    """
    archive = read_wheel(path)
    return Facts(
        filename=path.name,
        project=archive.project,
        version=archive.version,
        label=parse_label(archive.version),
        tags=archive.tags,
        sha256=sha256 if sha256 is not None else sha256_file(path),
        size=path.stat().st_size,
        where=where if where is not None else str(path),
        requires_torch=required_torch(archive.metadata),
        requires_python=str(archive.metadata.requires_python or ""),
        record=archive.record,
        proof=proof,
    )


def required_torch(metadata: Metadata) -> str:
    """Return the specifiers METADATA puts on torch unconditionally (``==2.11.*``), or empty."""
    found = [
        str(requirement.specifier)
        for requirement in metadata.requires_dist or []
        if canonicalize_name(requirement.name) == "torch" and requirement.marker is None
    ]
    return ",".join(filter(None, found))


def _parse_name(path: Path) -> tuple[str, Version, str, tuple[str, ...]]:
    try:
        name, version, build, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise WheelError(
            f"{path.name} is not the name of a wheel: {error}.",
            hint="It has to look like sageattention-2.2.0+68de379-cp312-cp312-linux_x86_64.whl.",
        ) from error
    return name, version, "".join(str(part) for part in build), tuple(sorted(str(tag) for tag in tags))


def _dist_info(members: tuple[str, ...], name: str) -> str:
    folders = sorted(
        {member.split("/")[0] for member in members if member.split("/")[0].endswith(".dist-info")}
    )
    if len(folders) != 1:
        found = ", ".join(folders) or "none"
        raise WheelError(f"{name} should hold one .dist-info folder; found: {found}.", hint=REBUILD)
    for needed in ("METADATA", "WHEEL", "RECORD"):
        if f"{folders[0]}/{needed}" not in members:
            raise WheelError(f"{name} has no {folders[0]}/{needed}.", hint=REBUILD)
    return folders[0]


def _require_same(filename: str, folder: str, project: str, version: Version) -> None:
    found, _, found_version = folder.removesuffix(".dist-info").rpartition("-")
    if canonicalize_name(found) != project or not _equal(found_version, version):
        raise WheelError(
            f"{filename} was renamed: inside it is {found} {found_version} ({folder}).", hint=_RENAMED
        )


def _require_metadata(filename: str, metadata: Metadata, project: str, version: Version) -> None:
    from packaging.metadata import InvalidMetadata

    try:
        found, found_version = canonicalize_name(metadata.name), metadata.version
        _ = metadata.requires_dist, metadata.requires_python
    except InvalidMetadata as error:
        raise WheelError(f"{filename} has METADATA that cannot be used: {error}.", hint=REBUILD) from error
    if (found, found_version) != (project, version):
        raise WheelError(f"{filename} was renamed: its METADATA says {found} {found_version}.", hint=_RENAMED)


def _equal(text: str, version: Version) -> bool:
    try:
        # A dash cannot stand in the folder's name, so "-" of a version is written "_" there.
        return Version(text.replace("_", "-")) == version
    except InvalidVersion:
        return False


def _require_tags(filename: str, wheel: bytes, tags: tuple[str, ...]) -> None:
    headers = email.parser.BytesParser().parsebytes(wheel)
    format_version = str(headers.get("Wheel-Version", ""))
    if not re.fullmatch(r"1\.\d+", format_version.strip()):
        raise WheelError(
            f"{filename} has wheel format {format_version or 'unknown'}; only 1.x is understood."
        )
    found = {str(tag) for line in headers.get_all("Tag", []) for tag in parse_tag(str(line).strip())}
    if found != set(tags):
        raise WheelError(
            f"{filename} was renamed: its WHEEL file says {', '.join(sorted(found)) or 'no tag'}.",
            hint=_RENAMED,
        )


def _check_record_names(archive: zipfile.ZipFile, members: tuple[str, ...], record: bytes, name: str) -> None:
    """Compare files with the lines of RECORD, both ways: ``installer`` alone does not miss absent files."""
    from installer.records import InvalidRecordEntry, parse_record_file
    from installer.sources import WheelFile

    try:
        listed = {row[0] for row in parse_record_file(record.decode().splitlines())}
    except (InvalidRecordEntry, ValueError, UnicodeDecodeError) as error:
        raise WheelError(f"{name} has a RECORD that cannot be read: {error}.", hint=REBUILD) from error
    if missing := sorted(listed - set(members)):
        raise WheelError(f"{name} lacks files that its RECORD lists: {some(missing)}.", hint=REBUILD)
    try:
        WheelFile(archive).validate_record(validate_contents=False)
    except WheelFile.validation_error as error:
        issues = [
            str(issue).removeprefix(f"In {archive.filename}, ") for issue in getattr(error, "issues", [error])
        ]
        raise WheelError(f"{name} does not match its RECORD: {some(issues)}.", hint=REBUILD) from error
