"""Changes to METADATA that leave every other byte as upstream's build wrote it.

Fields: https://packaging.python.org/en/latest/specifications/core-metadata/
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement

from sagefix.errors import WheelError

_END_OF_HEADERS = re.compile(rb"\r?\n(?=\r?\n|\Z)")
_VERSION = re.compile(rb"^Version:[^\r\n]*", re.MULTILINE | re.IGNORECASE)


def set_version(metadata: bytes, version: str) -> bytes:
    """Replace the version. Raises :class:`WheelError` unless there is exactly one."""
    end = _header_length(metadata)
    headers, count = _VERSION.subn(f"Version: {version}".encode(), metadata[:end])
    if count != 1:
        raise WheelError(f"METADATA has {count} Version lines instead of one.")
    return headers + metadata[end:]


def add_requirements(metadata: bytes, requires: Sequence[str]) -> bytes:
    """Add ``Requires-Dist`` lines behind the other fields; those that are there already are not repeated.

    Raises :class:`WheelError` for a requirement that is none.
    """
    raw, _ = parse_email(metadata)
    present = [_requirement(text) for text in raw.get("requires_dist", [])]
    missing = [text for text in requires if _requirement(text) not in present]
    if not missing:
        return metadata
    end = _header_length(metadata)
    newline = b"\r\n" if b"\r\n" in metadata[: end + 2] else b"\n"
    added = b"".join(newline + f"Requires-Dist: {text}".encode() for text in missing)
    return metadata[:end] + added + (metadata[end:] or newline)


def _header_length(metadata: bytes) -> int:
    """Return where the headers end, before the line end of the last one."""
    match = _END_OF_HEADERS.search(metadata)
    return match.start() if match else len(metadata)


def _requirement(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise WheelError(f"{text!r} is not a requirement: {error}.") from error
