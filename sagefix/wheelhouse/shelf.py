"""How a wheelhouse lies on disk, read without a lock.

    .sagefix-wheelhouse.json                what makes the folder a wheelhouse
    index.html  index.json                  the list of projects
    PROJECT/index.html  index.json          the list of its wheels
    PROJECT/NAME.whl                        a wheel
    PROJECT/NAME.whl.metadata               its METADATA (PEP 658)
    PROJECT/NAME.whl.provenance.json        its statement of provenance, if whoever built it gave one
    PROJECT/NAME.whl.proofs.json            the whole verdicts of its verifications, if there are any
    PROJECT/NAME.whl.sagefix.json           its sidecar

Every file is replaced as a whole, and a wheel's sidecar is the last to come and the first to go. Reading
needs no lock for that reason and works where nothing can be written: a shared disk, an artefact of a CI run.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from sagefix.errors import WheelhouseError
from sagefix.files import disk_errors, sha256_file
from sagefix.progress import warn
from sagefix.wheelhouse.model import LOCK_NAME, MARKER_NAME, SCHEMA, SIDECAR_SUFFIX, Marker, Sidecar
from sagefix.wheelhouse.proving import proof_of
from sagefix.wheels.model import Facts, Proof

TOLERATED = frozenset({"README.md", ".gitkeep", ".gitignore"})
"""Files in the root that are nobody's concern: a checkout keeps its empty ``wheels/`` with them."""

START_AGAIN = "Move the wheels away and add them to a new wheelhouse with `sagefix wheelhouse add`."
"""What to do when nobody can tell any more what the folder was."""

_OTHER_CONTENT = "has other content than when it was added"
_CHECK_HINT = "`sagefix wheelhouse check` lists everything that is wrong with it."


@contextmanager
def store_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn the system's errors into :class:`DiskError` (full, not writable) and :class:`WheelhouseError`."""
    try:
        with disk_errors(path, doing):
            yield
    except OSError as error:
        raise WheelhouseError(
            f"Cannot {doing}: {error.strerror or error} ({error.filename or path}).",
            hint="Choose another folder with --wheelhouse or SAGEFIX_WHEELHOUSE.",
        ) from error


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors while reading into :class:`WheelhouseError`."""
    try:
        yield
    except OSError as error:
        raise WheelhouseError(
            f"{error.filename or path} cannot be read: {error.strerror or error}.",
            hint="Change its permissions, or choose another folder with --wheelhouse or SAGEFIX_WHEELHOUSE.",
        ) from error


def read_marker(root: Path) -> Marker | None:
    """Read the file that makes a folder a wheelhouse; None when it is not there.

    Raises :class:`WheelhouseError`: unreadable, or written by a newer sagefix.
    """
    path = root / MARKER_NAME
    with read_errors(path):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
    try:
        marker = msgspec.json.decode(data, type=Marker)
    except msgspec.DecodeError as error:
        raise WheelhouseError(
            f"{path} cannot be understood ({error}).",
            hint=START_AGAIN,
        ) from error
    if marker.schema != SCHEMA:
        raise _newer(path, marker.schema)
    return marker


def project_of(filename: str) -> str:
    """Return the normalised project of a wheel's file name.

    Raises :class:`WheelhouseError` for anything that is not the plain name of a wheel, paths among them.
    """
    try:
        if "/" in filename or "\\" in filename:
            raise InvalidWheelFilename("it is a path")
        return parse_wheel_filename(filename)[0]
    except InvalidWheelFilename as error:
        raise WheelhouseError(
            f"{filename} is not the file name of a wheel ({error}).",
            hint="`sagefix wheelhouse list` prints the names.",
        ) from error


def project_folders(root: Path) -> list[str]:
    """Return the names of the folders that hold a project, sorted; none when there is no wheelhouse."""
    if not root.exists():
        return []
    with read_errors(root), os.scandir(root) as found:
        return sorted(
            entry.name
            for entry in found
            if entry.is_dir(follow_symlinks=False) and entry.name == canonicalize_name(entry.name)
        )


def read_sidecar(path: Path) -> Sidecar | None:
    """Read a sidecar; None when it is not there.

    Raises :class:`WheelhouseError`: unreadable, written by a newer sagefix, or another wheel's.
    """
    with read_errors(path):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
    try:
        sidecar = _SIDECAR.decode(data)
    except msgspec.DecodeError as error:
        with contextlib.suppress(msgspec.DecodeError):
            schema = msgspec.json.decode(data, type=_Versioned).schema
            if schema > SCHEMA:
                raise _newer(path, schema) from error
        raise WheelhouseError(f"{path} cannot be understood ({error}).", hint=_CHECK_HINT) from error
    if sidecar.schema != SCHEMA:
        raise _newer(path, sidecar.schema)
    expected = path.name.removesuffix(SIDECAR_SUFFIX)
    if sidecar.facts.filename != expected or canonicalize_name(sidecar.facts.project) != path.parent.name:
        raise WheelhouseError(f"{path} describes another wheel, {sidecar.facts.filename}.", hint=_CHECK_HINT)
    try:
        proof_of(sidecar.proofs)
    except ValueError as error:
        raise WheelhouseError(
            f"{path} holds a proof of an unknown level ({error}).", hint=_CHECK_HINT
        ) from error
    return sidecar


def read_project(root: Path, project: str) -> list[Sidecar]:
    """Return what is kept of a project, newest first.

    A wheel that was deleted by hand is left out with a warning: there is nothing to choose, so nothing is
    guessed. Whether the wheels are intact is not looked at; :func:`whole` does.
    """
    folder = root / project
    with read_errors(folder):
        try:
            with os.scandir(folder) as found:
                names = [entry.name for entry in found if entry.name.endswith(f".whl{SIDECAR_SUFFIX}")]
        except (FileNotFoundError, NotADirectoryError):
            return []
    kept = []
    for name in sorted(names):
        sidecar = read_sidecar(folder / name)
        if sidecar is None:
            continue  # removed by another process since the folder was listed
        if not os.path.lexists(folder / sidecar.facts.filename):
            if (folder / name).exists():
                warn(f"{sidecar.facts.filename} is gone from {folder} but still listed; {_CHECK_HINT}")
            continue
        kept.append(sidecar)
    kept.sort(key=lambda sidecar: sidecar.added, reverse=True)
    return kept


def read_all(root: Path) -> dict[str, list[Sidecar]]:
    """Return what is kept of every project that has a wheel, newest first, by its normalised name."""
    kept = {project: read_project(root, project) for project in project_folders(root)}
    return {project: sidecars for project, sidecars in kept.items() if sidecars}


def whole(root: Path, sidecar: Sidecar) -> Facts:
    """Return a kept wheel's facts after making sure that it is still the one that was added.

    Size and time of change have to be those of the sidecar; if only the time differs (the folder was copied),
    the content is hashed and the time put right, so that the next look is quick again.

    Raises :class:`WheelhouseError`: the wheel is not what was added.
    """
    path = root / canonicalize_name(sidecar.facts.project) / sidecar.facts.filename
    damage = ""
    try:
        seen = path.lstat()
        if not stat.S_ISREG(seen.st_mode):
            damage = "is not a regular file"
        elif seen.st_size != sidecar.size:
            damage = f"is {seen.st_size} bytes long instead of {sidecar.size}"
        elif seen.st_mtime_ns != sidecar.mtime_ns:
            if sha256_file(path) != sidecar.sha256:
                damage = _OTHER_CONTENT
            else:
                with contextlib.suppress(OSError):
                    os.utime(path, ns=(seen.st_atime_ns, sidecar.mtime_ns))
    except OSError as error:
        damage = f"cannot be read ({error.strerror})"
    if damage:
        raise _damaged(path, damage)
    return told(sidecar, where=str(path))


def told(sidecar: Sidecar, *, where: str) -> Facts:
    """Return the facts of a wheel with what its sidecar says of its proofs."""
    return msgspec.structs.replace(
        sidecar.facts, where=where, proof=proof_of(sidecar.proofs), proofs=without_verdicts(sidecar.proofs)
    )


def without_verdicts(proofs: tuple[Proof, ...]) -> tuple[Proof, ...]:
    """Return proofs as listings show them: sagefix 0.1 wrote whole verdicts into sidecars."""
    return tuple(msgspec.structs.replace(each, verdict={}) if each.verdict else each for each in proofs)


def require_content(path: Path, sha256: str) -> None:
    """Hash a kept wheel; raises :class:`WheelhouseError` when its content is not what was added."""
    with read_errors(path):
        found = sha256_file(path)
    if found != sha256:
        raise _damaged(path, _OTHER_CONTENT)


def holds(path: Path, data: bytes) -> bool:
    """Tell whether a path is a regular file with just these bytes."""
    return path.is_file() and not path.is_symlink() and path.read_bytes() == data


def partial(name: str) -> bool:
    """Tell whether a name is that of a file being written (:func:`sagefix.files.aside`)."""
    return name.startswith(".") and ".partial" in name


def empty_enough(root: Path) -> bool:
    """Tell whether a folder without a marker holds nothing that would be in a wheelhouse's way."""
    with read_errors(root), os.scandir(root) as found:
        return all(
            entry.name in TOLERATED or entry.name == LOCK_NAME or partial(entry.name) for entry in found
        )


class _Versioned(msgspec.Struct):
    schema: int = 0


def _damaged(path: Path, damage: str) -> WheelhouseError:
    return WheelhouseError(
        f"The wheelhouse is damaged: {path} {damage}.",
        hint=f"Delete the file or add the right one with --replace. {_CHECK_HINT}",
        details={"filename": path.name},
    )


_SIDECAR = msgspec.json.Decoder(Sidecar)


def _newer(path: Path, schema: int) -> WheelhouseError:
    return WheelhouseError(
        f"{path} has schema {schema}; this sagefix reads schema {SCHEMA}.",
        hint="Use the sagefix that wrote it, or a newer one.",
        details={"schema": schema},
    )
