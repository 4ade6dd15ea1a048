"""From what the build backend made to the wheel that is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from packaging.utils import canonicalize_name

from sagefix.errors import WheelError
from sagefix.wheels.archive import WheelArchive, read_wheel, validate
from sagefix.wheels.label import normal_version, wheel_filename
from sagefix.wheels.manylinux import narrows, retag
from sagefix.wheels.metadata import add_requirements
from sagefix.wheels.model import RECORD_NAME, Record
from sagefix.wheels.record import encode_record
from sagefix.wheels.writing import Content, write_wheel
from sagefix.wheels.zips import open_zip, read_text


def finish_wheel(
    built: Path,
    destination_folder: Path,
    *,
    record: Record,
    requires: Sequence[str],
    epoch: int,
    notes: Mapping[str, bytes] | None = None,
) -> Path:
    """Write the final wheel: the backend's files, the record, and requirements such as ``torch==2.11.*``.

    The version of ``built`` carries the label already (the backend was told it), and must be that of
    ``record``, as must project and tags; only a ``linux_`` tag may become the ``manylinux_`` one of the record.
    ``notes`` are further files of ``.dist-info``, by their path in it. The result depends on content and ``epoch``
    only, replaces a file of its name atomically, and was read again before it is returned. Raises
    :class:`WheelError` and :class:`~sagefix.errors.DiskError`.
    """
    archive = validate(built)
    _require_agreement(archive, record)
    filename = wheel_filename(
        record.project, record.version, record.python_tag, record.abi_tag, record.platform_tag
    )
    kept = (member for member in archive.members if member != f"{archive.dist_info}/RECORD")
    with open_zip(built) as opened:
        files: dict[str, Content] = {member: partial(opened.read, member) for member in kept}
        files[f"{archive.dist_info}/METADATA"] = add_requirements(archive.metadata_bytes, requires)
        files[f"{archive.dist_info}/{RECORD_NAME}"] = encode_record(record)
        files.update({f"{archive.dist_info}/{name}": data for name, data in (notes or {}).items()})
        if archive.platform_tag != record.platform_tag:
            wheel_file = read_text(opened, f"{archive.dist_info}/WHEEL", built.name)
            files[f"{archive.dist_info}/WHEEL"] = retag(wheel_file, record.platform_tag)
        finished = write_wheel(
            destination_folder, filename, dist_info=archive.dist_info, files=files, epoch=epoch
        )
    read_wheel(finished)
    return finished


def _require_agreement(archive: WheelArchive, record: Record) -> None:
    pairs = {
        "project": (archive.project, canonicalize_name(record.project)),
        "version": (archive.version, normal_version(record.version)),
        "Python tag": (archive.python_tag, record.python_tag),
        "ABI tag": (archive.abi_tag, record.abi_tag),
        "platform tag": (archive.platform_tag, record.platform_tag),
    }
    if narrows(archive.platform_tag, record.platform_tag):
        del pairs["platform tag"]
    for what, (found, wanted) in pairs.items():
        if found != wanted:
            raise WheelError(
                f"The build made {archive.path.name} with {what} {found}, but {wanted} was planned.",
                hint="The environment of the build did not reach its backend; see the build log.",
            )
