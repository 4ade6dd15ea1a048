"""Every damaged and every foreign file of a wheelhouse, found by looking at all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sagefix.checks import Check
from sagefix.errors import WheelError, WheelhouseError
from sagefix.files import human_size, sha256_bytes, sha256_file
from sagefix.wheelhouse import index, shelf
from sagefix.wheelhouse.evidence import require_about as require_proofs_about
from sagefix.wheelhouse.model import (
    LOCK_NAME,
    MARKER_NAME,
    METADATA_SUFFIX,
    PROOFS_SUFFIX,
    SIDECAR_SUFFIX,
    Sidecar,
)
from sagefix.wheels.statement import SUFFIX as STATEMENT_SUFFIX
from sagefix.wheels.statement import require_about

_PAGES = frozenset({index.HTML_NAME, index.JSON_NAME})
_DELETE = "Delete it, or move it out of the wheelhouse."
_READD = "Delete it, then add the wheel again with `sagefix wheelhouse add`."


def audit(root: Path) -> list[Check]:
    """Look at every file below a wheelhouse's root and hash every wheel.

    Unlike opening it, this goes on after the first fault, an unreadable marker included. Returns one check
    for the marker, each wheel, each foreign file and the index. Left-overs of interrupted writes are
    warnings, everything else that does not belong is a failure.

    Raises :class:`WheelhouseError` when the folder itself cannot be read.
    """
    with shelf.read_errors(root):
        if shelf.empty_enough(root):
            return [_check(MARKER_NAME, "an empty folder")]
        return _audit(root)


def _audit(root: Path) -> list[Check]:
    checks = [_marker(root)]
    checks += _strangers(root, shelf.TOLERATED | {MARKER_NAME, LOCK_NAME} | _PAGES, folders=True)
    projects: dict[str, list[Sidecar]] = {}
    readable = True
    for project in shelf.project_folders(root):
        for filename in sorted(
            {wheel for path in (root / project).iterdir() if (wheel := _wheel_of(path.name))}
        ):
            sidecar, check = _wheel(root / project, filename)
            checks.append(check)
            if sidecar is not None:
                projects.setdefault(project, []).append(sidecar)
            elif (root / project / f"{filename}{SIDECAR_SUFFIX}").exists():
                readable = False
        checks += _strangers(root / project, _PAGES, folders=False)
    # An index cannot be compared with what nobody can read; those sidecars are failures already.
    if readable:
        checks.append(_index(root, projects))
    return checks


def _check(name: str, found: str, fix: str = "") -> Check:
    """Make a check: failed if there is something to do about it."""
    return Check(name=name, status="failure" if fix else "ok", found=found, fix=fix)


def _marker(root: Path) -> Check:
    try:
        marker = shelf.read_marker(root)
    except WheelhouseError as error:
        return _check(MARKER_NAME, error.message, error.hint)
    if marker is None:
        return _check(MARKER_NAME, "missing", shelf.START_AGAIN)
    return _check(MARKER_NAME, f"schema {marker.schema}, made by sagefix {marker.sagefix}")


def _wheel_of(name: str) -> str:
    """Return the wheel that a file in a project's folder is, or stands beside; empty for other files."""
    wheel = name
    for suffix in (SIDECAR_SUFFIX, METADATA_SUFFIX, STATEMENT_SUFFIX, PROOFS_SUFFIX):
        wheel = wheel.removesuffix(suffix)
    return wheel if wheel.endswith(".whl") and not name.startswith(".") else ""


def _wheel(folder: Path, filename: str) -> tuple[Sidecar | None, Check]:
    """Check one wheel; the sidecar is returned when the index has to list it."""
    path = folder / filename
    try:
        sidecar = shelf.read_sidecar(folder / f"{filename}{SIDECAR_SUFFIX}")
    except WheelhouseError as error:
        return None, _check(filename, error.message, _READD)
    if path.is_symlink():
        return sidecar, _link(path)
    if not os.path.lexists(path):
        what = "sidecar" if sidecar else _first_beside(path)
        fix = f"Add the wheel again with `sagefix wheelhouse add`, or delete the {what} beside it."
        return None, _check(filename, f"the wheel is gone, its {what} is still there", fix)
    if sidecar is None:
        fix = f"Add it with `sagefix wheelhouse add {path}`, or delete it."
        return None, _check(filename, "a wheel that was never added (it has no sidecar)", fix)
    return sidecar, _content(path, sidecar)


def _content(path: Path, sidecar: Sidecar) -> Check:
    try:
        size, digest = path.stat().st_size, sha256_file(path)
        beside = path.with_name(path.name + METADATA_SUFFIX)
        metadata = sha256_file(beside) if beside.is_file() and not beside.is_symlink() else ""
    except OSError as error:
        return _check(path.name, f"cannot be read: {error.strerror}", "Change its permissions, or delete it.")
    fix = "Add the right wheel again with `sagefix wheelhouse add`."
    if size != sidecar.size:
        return _check(path.name, f"truncated or changed: {size} bytes instead of {sidecar.size}", fix)
    if digest != sidecar.sha256:
        return _check(path.name, f"changed: its sha256 is {digest}, not {sidecar.sha256}", fix)
    if metadata != sidecar.metadata_sha256:
        return _check(path.name, f"{beside.name} is {'changed' if metadata else 'missing'}", fix)
    return (
        _statement(path, digest)
        or _proofs(path, sidecar)
        or _check(path.name, f"{human_size(size)}, sha256 {digest}")
    )


def _statement(wheel: Path, digest: str) -> Check | None:
    """Return what is wrong with a wheel's statement of provenance; None when nothing is, or there is none."""
    statement = _beside(wheel)
    if not os.path.lexists(statement):
        return None
    try:
        require_about(statement.read_bytes(), statement.name, wheel.name, digest)
    except WheelError as error:
        return _check(wheel.name, error.message, error.hint)
    except OSError as error:
        return _check(wheel.name, f"{statement.name} cannot be read: {error.strerror}", _DELETE)
    return None


def _proofs(wheel: Path, sidecar: Sidecar) -> Check | None:
    """Return what is wrong with the file of a wheel's verdicts; None when nothing is, or there is none."""
    path = wheel.with_name(wheel.name + PROOFS_SUFFIX)
    if not os.path.lexists(path):
        if not sidecar.proofs_sha256:
            return None
        fix = (
            "Take the proofs in again with `sagefix wheelhouse prove`, or remove the wheel and add it again."
        )
        return _check(wheel.name, f"{path.name} is gone", fix)
    try:
        data = path.read_bytes()
        require_proofs_about(data, path.name, wheel.name, sidecar.sha256)
    except WheelError as error:
        return _check(wheel.name, error.message, error.hint)
    except OSError as error:
        return _check(wheel.name, f"{path.name} cannot be read: {error.strerror}", _DELETE)
    if sha256_bytes(data) != sidecar.proofs_sha256:
        fix = f"If you trust it, take it in with `sagefix wheelhouse add {wheel}`; else delete it."
        return _check(wheel.name, f"{path.name} is not what the sidecar sums up", fix)
    return None


def _first_beside(wheel: Path) -> str:
    names = {STATEMENT_SUFFIX: "statement", PROOFS_SUFFIX: "proofs", METADATA_SUFFIX: "METADATA"}
    return next(name for suffix, name in names.items() if os.path.lexists(f"{wheel}{suffix}"))


def _beside(wheel: Path) -> Path:
    """Return where a wheel's statement of provenance is, if it has one."""
    return wheel.with_name(wheel.name + STATEMENT_SUFFIX)


def _strangers(folder: Path, known: frozenset[str], *, folders: bool) -> Iterator[Check]:
    """Report what does not belong into the root (``folders``) or into a project's folder."""
    projects = set(shelf.project_folders(folder)) if folders else set()
    for path in sorted(folder.iterdir()):
        name = path.name
        where = name if folders else f"{folder.name}/{name}"
        if not folders and name.endswith(".whl") and _wheel_of(name):
            continue  # _wheel() reports it, links included
        if path.is_symlink():
            yield _link(path)
        elif name in projects or name in known or (not folders and _wheel_of(name)):
            continue
        elif shelf.partial(name):
            yield Check(
                name=where,
                status="warning",
                found="left over by an interrupted write, or being written now",
                fix="`sagefix wheelhouse prune` deletes it when it is an hour old.",
            )
        else:
            yield _check(where, "does not belong into a wheelhouse", _DELETE)


def _link(path: Path) -> Check:
    return _check(path.name, f"a symbolic link to {path.readlink()}", _DELETE)


def _index(root: Path, projects: dict[str, list[Sidecar]]) -> Check:
    wanted = index.pages(projects)
    stale = [name for name, data in wanted.items() if not shelf.holds(root / name, data)]
    for project in shelf.project_folders(root):
        pages = (f"{project}/{name}" for name in _PAGES)
        stale += [page for page in pages if page not in wanted and (root / page).exists()]
    if stale:
        fix = "Write it again with `sagefix wheelhouse index`."
        return _check("index", f"missing or out of date: {', '.join(sorted(stale))}", fix)
    return _check("index", f"lists {', '.join(sorted(projects)) or 'nothing'}")
