"""Kept wheels, written down so that pip and uv install these very files: a ``pylock.toml`` and requirements."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from sagefix.errors import NoWheelError, RemoteIndexError, UsageError, VerificationError
from sagefix.files import disk_errors, write_bytes
from sagefix.installing.stash import installed
from sagefix.pins.load import load_pin
from sagefix.pins.model import Pin
from sagefix.progress import note, task
from sagefix.targets.interpreter import find_python, probe
from sagefix.wheelhouse.lockfiles import (
    CREATED_BY,
    FIRST_LINE,
    Group,
    group,
    read_toml,
    write_pylock,
    write_requirements,
)
from sagefix.wheelhouse.proving import failed_somewhere, numbers_of
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.model import Facts
from sagefix.workflows.kept import wheel_of
from sagefix.workflows.situation import Request, open_wheelhouse

Kind = Literal["pylock", "requirements"]


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A lock file that was written, with all of its text."""

    path: str
    kind: Kind
    text: str


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """What was locked: the wheels by version, with the markers of the environments they are for, and the files."""

    project: str
    groups: tuple[Group, ...]
    files: tuple[Written, ...]


def lock(request: Request, wheels: Sequence[str], outputs: Sequence[Path], *, replace: bool = False) -> Lock:
    """Write lock files for wheels that are kept, or for the one that is installed in the target.

    ``wheels`` are paths, or file names in the wheelhouse or on an index of ``request.index``, in which ``*`` stands for
    anything; none means the wheel that was installed in the target. ``outputs`` are ``pylock.toml``,
    ``pylock.NAME.toml`` or requirements files (``.txt``); a file that something else wrote is kept unless ``replace``
    is given. Nothing is written unless everything can be.

    Raises :class:`UsageError`: an output has no name of a lock, or the wheels cannot stand in one lock.
    :class:`NoWheelError`: no such wheel is kept. :class:`VerificationError`: one failed its verification on some GPU.
    :class:`WheelError`, :class:`WheelhouseError`, :class:`RemoteIndexError`, :class:`DiskError`.
    """
    pin = load_pin(request.pin)
    files = [output.expanduser().absolute() for output in outputs]
    kinds = [_kind(file) for file in files]
    for file, kind in zip(files, kinds, strict=True):
        _require_ours(file, kind, replace=replace)
    wheelhouse = open_wheelhouse(request.wheelhouse, create=False)
    kept = [*_offered(pin, request), *wheelhouse.entries(pin.project)]
    chosen = _named(pin, wheels, kept, wheelhouse) if wheels else [_installed(pin, request, kept, wheelhouse)]
    for facts in chosen:
        _require_lockable(facts, wheelhouse)
    unproven = [facts.filename for facts in chosen if not numbers_of(facts.proofs)]
    if unproven:
        more = f" and {len(unproven) - 1} more" if len(unproven) > 1 else ""
        note(f"Not proven on any GPU: {unproven[0]}{more}.")
    groups = group(chosen)
    texts = [
        write_pylock(groups, file, pin=pin.name) if kind == "pylock" else write_requirements(groups, file)
        for file, kind in zip(files, kinds, strict=True)
    ]
    for file, text in zip(files, texts, strict=True):
        write_bytes(file, text)
    return Lock(
        project=pin.project,
        groups=groups,
        files=tuple(
            Written(path=str(file), kind=kind, text=text.decode())
            for file, kind, text in zip(files, kinds, texts, strict=True)
        ),
    )


def _kind(file: Path) -> Kind:
    from packaging.pylock import is_valid_pylock_path

    if file.is_dir():
        raise UsageError(f"{file} is a folder.", hint=f"Name a file in it: {file / 'pylock.toml'}")
    if is_valid_pylock_path(file):
        return "pylock"
    if file.suffix == ".txt":
        return "requirements"
    raise UsageError(
        f"{file.name} is not the name of a lock file.",
        hint="Write pylock.toml, pylock.NAME.toml (PEP 751), or a requirements file that ends in .txt.",
    )


def _require_ours(file: Path, kind: Kind, *, replace: bool) -> None:
    """Refuse to write over a lock of uv or pip, or over requirements that somebody wrote."""
    if replace or not file.exists():
        return
    with disk_errors(file, f"read {file.name}"):
        text = file.read_bytes().decode("utf-8", "replace")
    if kind == "requirements":
        ours = text.startswith(FIRST_LINE)
    else:
        try:
            ours = read_toml(text).get("created-by") == CREATED_BY
        except ValueError:
            ours = False
    if not ours:
        raise UsageError(
            f"{file} is there, and `sagefix lock` did not write it.",
            hint="Give --output another name, such as pylock.sageattention.toml, or replace it with --replace.",
        )


def _offered(pin: Pin, request: Request) -> list[Facts]:
    """Return the wheels of the indexes, which come first: a URL is good on other machines, too."""
    found: list[Facts] = []
    for url in request.index:
        if request.offline and not url.startswith("file:"):
            raise RemoteIndexError(
                f"--offline and the index {url} exclude each other.", hint="Leave one of them out."
            )
        from sagefix.wheelhouse.remote import candidates

        with task(f"Reading {url}"):
            found += [_local(facts) for facts in candidates(url, pin.project)]
    return found


def _local(facts: Facts) -> Facts:
    """Name a wheel of an index on this machine by its path."""
    if not facts.where.startswith("file:"):
        return facts
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    return msgspec.structs.replace(facts, where=url2pathname(urlsplit(facts.where).path))


def _named(pin: Pin, wheels: Sequence[str], kept: Sequence[Facts], wheelhouse: Wheelhouse) -> list[Facts]:
    chosen: dict[str, Facts] = {}
    for name in wheels:
        path = Path(name).expanduser().absolute()
        found = [_from_path(pin, path)] if path.is_file() else []
        found = found or [facts for facts in kept if fnmatch.fnmatchcase(facts.filename, name)]
        if not found:
            raise NoWheelError(
                f"No wheel is called {name}: neither a file, nor in {wheelhouse.path}, nor on an index that was given.",
                hint="`sagefix wheelhouse list` prints what is kept; `sagefix build` makes a wheel, --index URL names "
                "an index.",
            )
        for facts in found:
            first = chosen.setdefault(facts.filename, facts)
            if first.sha256 != facts.sha256:
                raise UsageError(
                    f"There are two wheels called {facts.filename}, with other content: {first.where} and "
                    f"{facts.where}.",
                    hint="Give the path of the one that is meant, or leave out the index.",
                )
    return list(chosen.values())


def _from_path(pin: Pin, path: Path) -> Facts:
    from packaging.utils import canonicalize_name

    from sagefix.wheels.archive import facts, validate

    validate(path)
    found = facts(path)
    if canonicalize_name(found.project) != canonicalize_name(pin.project):
        raise UsageError(
            f"{path.name} is a wheel of {found.project}, not of {pin.project}.",
            hint="Name its pin with --pin.",
        )
    return found


def _installed(pin: Pin, request: Request, kept: Sequence[Facts], wheelhouse: Wheelhouse) -> Facts:
    interpreter = probe(find_python(request.python))
    distribution = installed(interpreter, pin.project)
    if distribution is None:
        raise NoWheelError(
            f"{pin.project} is not installed in {interpreter.executable}, so there is nothing to lock.",
            hint="Run `sagefix install` first, or name kept wheels with --wheel.",
        )
    sha256, _ = wheel_of(interpreter, pin.project, request.wheelhouse)
    found = next((facts for facts in kept if sha256 and facts.sha256 == sha256), None)
    if found is None:
        raise NoWheelError(
            f"{pin.project} {distribution.version} in {interpreter.executable} is of no wheel that is kept in "
            f"{wheelhouse.path}, and a lock is the hash of a file.",
            hint="Turn it into one with `sagefix save-wheel` and name that with --wheel; or run `sagefix install`, or "
            "name the index that has it with --index URL.",
        )
    return found


def _require_lockable(facts: Facts, wheelhouse: Wheelhouse) -> None:
    if bad := failed_somewhere(facts.proofs):
        raise VerificationError(
            f"{facts.filename} failed {bad}; it is not locked.",
            hint="`sagefix wheelhouse show` tells what failed. Build another, or lock one that failed nowhere.",
        )
    if "://" not in facts.where:
        wheelhouse.require_intact(facts)
