"""Which wheels of a wheelhouse are not wanted any more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import parse_wheel_filename

from sagefix.wheelhouse.shelf import partial, project_folders
from sagefix.wheels.model import Facts

# A younger one may belong to a process that is writing it.
_LEFTOVER_AGE_S = 3600.0


def superfluous(entries: Sequence[Facts], *, keep: int | None, unproven: bool) -> dict[str, str]:
    """Return the file names that go, each with the reason.

    ``entries`` are newest first. ``keep`` counts within one project, commit, Python, platform, archs and
    torch: those are wheels of which a target would take one.
    """
    going: dict[str, str] = {}
    seen: dict[tuple[object, ...], int] = {}
    for facts in entries:
        if unproven and (not facts.proof or facts.proof.startswith("failed:")):
            level = facts.proof.removeprefix("failed:")
            going[facts.filename] = f"failed the {level} check" if level else "passed no verification"
            continue
        group = _group(facts)
        seen[group] = seen.get(group, 0) + 1
        if keep is not None and seen[group] > keep:
            going[facts.filename] = (
                f"{seen[group] - 1} newer for the same commit, Python, platform, archs and torch"
            )
    return going


def leftovers(root: Path) -> list[Path]:
    """Return files of interrupted writes that nobody is writing any more."""
    found: list[Path] = []
    if not root.is_dir():
        return found
    for folder in (root, *(root / project for project in project_folders(root))):
        for path in sorted(folder.iterdir()):
            if partial(path.name) and time.time() - path.lstat().st_mtime > _LEFTOVER_AGE_S:
                found.append(path)
    return found


def _group(facts: Facts) -> tuple[object, ...]:
    tags = parse_wheel_filename(facts.filename)[3]
    return (facts.project, facts.label.commit, tags, facts.label.archs, facts.label.torch)
