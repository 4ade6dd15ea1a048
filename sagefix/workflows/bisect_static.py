"""Level ``static``: commits judged by their Python files, straight from git's objects."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sagefix.archs import Arch
from sagefix.files import sha256_bytes
from sagefix.pins.model import Pin
from sagefix.proof.reading import judge_sources
from sagefix.source.history import History, read_files
from sagefix.source.lines import Change
from sagefix.workflows.bisection import Outcome


class Reader:
    """Reads each state of the Python files once."""

    judged_by = ""
    equal = "its Python files are equal"

    def __init__(self, pin: Pin, archs: tuple[Arch, ...], history: History) -> None:
        self._pin, self._archs = pin, archs
        blobs = {file.blob for change in history.changes for file in change.python_files(pin.package)}
        self._files = read_files(history, blobs)

    def content(self, change: Change) -> str:
        files = [(file.path, file.blob) for file in change.python_files(self._pin.package)]
        return sha256_bytes(msgspec.json.encode(files))

    def close(self) -> None:
        pass

    def judge(self, change: Change, following: Sequence[Change]) -> Outcome:
        del following
        sources = {file.path: self._files[file.blob] for file in change.python_files(self._pin.package)}
        return Outcome(judge_sources(self._pin, sources, self._archs))
