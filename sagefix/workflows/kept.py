"""Which wheel of the wheelhouse an installation came from."""

from __future__ import annotations

from pathlib import Path

from sagefix.errors import SagefixError
from sagefix.installing.origin import holds_files_of, installed_record, wheel_sha256
from sagefix.targets.model import Interpreter
from sagefix.wheels.model import Facts
from sagefix.workflows.situation import open_wheelhouse


def wheel_of(interpreter: Interpreter, project: str, wheelhouse: str | None) -> tuple[str, Facts | None]:
    """Return the hash of the wheel that was installed, and that wheel if the wheelhouse has it.

    The installation may tell the hash; else it is the wheel of the wheelhouse with the key of its record and with
    the same files. A wheel can be known and not be here: it was built on another machine. A wheelhouse that cannot
    be read counts as empty.
    """
    try:
        entries = open_wheelhouse(wheelhouse, create=False).entries(project)
    except SagefixError:
        entries = []
    sha256 = wheel_sha256(interpreter, project)
    if sha256:
        return sha256, next((facts for facts in entries if facts.sha256 == sha256), None)
    record = installed_record(interpreter, project)
    if record is None:
        return "", None
    same_key = (facts for facts in entries if facts.record and facts.record.key == record.key)
    found = next((each for each in same_key if holds_files_of(interpreter, project, Path(each.where))), None)
    return found.sha256 if found else "", found
