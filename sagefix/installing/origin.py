"""Which wheel an installation came from, as far as it tells.

An installer keeps the wheel's own list of files and their hashes (RECORD), and of what it installed from a path or
URL also where that was (``direct_url.json``); pip adds the hash of the wheel, uv does not.
https://packaging.python.org/en/latest/specifications/direct-url-data-structure/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from sagefix.errors import WheelError
from sagefix.files import sha256_file
from sagefix.installing.stash import installed
from sagefix.targets.distributions import record_sha256
from sagefix.targets.model import Interpreter
from sagefix.wheels.model import RECORD_NAME, Record


def holds_files_of(interpreter: Interpreter, project: str, wheel: Path) -> bool:
    """Tell whether the installed distribution was made from a wheel with the same files as this one.

    RECORD is compared with RECORD; whether the files are still what it says, a verification finds out.
    """
    distribution = installed(interpreter, project)
    record = distribution.read_text("RECORD") if distribution else None
    if distribution is None or not record:
        return False
    folder = Path(str(distribution.locate_file(""))).joinpath(
        next((file.parts[0] for file in distribution.files or () if file.name == "RECORD"), "")
    )
    try:
        name, inside = _record_in(wheel)
    except (OSError, WheelError, KeyError, UnicodeDecodeError):
        return False
    return record_sha256(record, folder.name) == record_sha256(inside, name)


def installed_record(interpreter: Interpreter, project: str) -> Record | None:
    """Return sagefix's record in what is installed; None where nothing is, or it has none that can be read."""
    distribution = installed(interpreter, project)
    text = distribution.read_text(RECORD_NAME) if distribution else None
    try:
        return msgspec.json.decode(text or "", type=Record)
    except msgspec.MsgspecError:
        return None


def wheel_sha256(interpreter: Interpreter, project: str) -> str:
    """Return the SHA-256 of the wheel that the installation says it came from; empty when it does not tell.

    Where only the path of the wheel is told, the file that is there now counts if it has the same files.
    """
    distribution = installed(interpreter, project)
    text = distribution.read_text("direct_url.json") if distribution else None
    try:
        told: Any = msgspec.json.decode(text or "{}")
        archive = dict(told.get("archive_info") or {})
        url = urlsplit(str(told.get("url", "")))
    except (msgspec.DecodeError, AttributeError, TypeError, ValueError):
        return ""
    older = str(archive.get("hash", "")).partition("sha256=")[2]
    if known := str((archive.get("hashes") or {}).get("sha256", "")) or older:
        return known
    if url.scheme != "file" or not url.path.endswith(".whl"):
        return ""
    from urllib.request import url2pathname

    wheel = Path(url2pathname(url.path))
    return sha256_file(wheel) if holds_files_of(interpreter, project, wheel) else ""


def _record_in(wheel: Path) -> tuple[str, str]:
    """Return the name of a wheel's ``.dist-info`` and its RECORD."""
    from sagefix.wheels.zips import open_zip

    with open_zip(wheel) as archive:
        name = next(
            name for name in archive.namelist() if name.count("/") == 1 and name.endswith(".dist-info/RECORD")
        )
        return name.partition("/")[0], archive.read(name).decode()
