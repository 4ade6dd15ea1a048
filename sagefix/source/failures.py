"""How git fails, in the words of this room. What leaves the room is a :class:`SagefixError`."""

from __future__ import annotations

import re
import shutil

from sagefix.errors import DiskError
from sagefix.source.environment import source_folder

_NOTHING_LEFT = 1 << 17


class GitFailed(Exception):  # noqa: N818 - an outcome, not an error, inside this room
    """Git ended with an error; ``said`` is its standard error."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said.strip()


class Stalled(GitFailed):
    """Git was silent for too long and was stopped."""


class Missing(Exception):  # noqa: N818
    """An object is not in the repository."""


class Damaged(Exception):  # noqa: N818
    """An object cannot be read, or is not what its name says."""


def failure_of(said: str) -> Exception:
    """Return the error for a command that failed. A full disk is asked for, since git does not always say it."""
    folder = source_folder()
    full = "No space left on device" in said or "Disk quota exceeded" in said
    if full or shutil.disk_usage(folder).free < _NOTHING_LEFT:
        return DiskError(
            f"git cannot go on: no space is left on the disk that holds {folder}.",
            hint="Free some space, or point SAGEFIX_CACHE_DIR at another disk.",
        )
    return GitFailed(said)


def reason(said: str) -> str:
    """Return the line in which git says why, without its ``fatal:``."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    # After a failure of ssh git only says that it could not read; ssh said why before.
    errors = [
        line
        for line in lines
        if line.startswith(("fatal:", "error:")) and "Could not read from remote repository" not in line
    ]
    said = ([*errors, *lines] or ["git gave no reason"])[0].split(": ", 1)[-1]
    return re.sub(r"^unable to access '[^']*': ", "", said)
