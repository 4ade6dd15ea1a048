"""Build environments: a Python and a torch that are not on this machine, in the cache.

A wheel for another Python or torch is built in an environment of its own, so that the user's stays as it is.
The environment is then a target like any other.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sagefix.errors import SagefixError, TargetError, ToolchainError, TorchError, UsageError
from sagefix.files import sha256_bytes
from sagefix.progress import note, task
from sagefix.targets.fetching import Fetcher, Hearing, call, find_fetcher
from sagefix.targets.interpreter import probe
from sagefix.targets.kept import (
    Removed,
    made_folders,
    make_once,
    read_facts,
    remove_from,
    remove_kept,
    require_free,
    shelf,
    size_of,
)
from sagefix.targets.model import Interpreter
from sagefix.targets.pythons import find_version, is_version

SHELF = "environments"
FORMAT = 1
"""Part of every environment's key."""
# torch 2.11.0 with CUDA 13.0 and the libraries it brings: 4.7 GB, measured; a few packages else.
DISK_TORCH = 5_000_000_000
DISK_PLAIN = 100_000_000
_TORCH = re.compile(r"\d+\.\d+(\.\d+)?", re.ASCII)


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What an environment has to hold.

    ``python`` and ``torch`` are versions (``3.12``, ``2.11``; no torch: empty), ``requires`` what else a build
    needs, ``index`` the address of another index to take torch from (empty: the one uv and pip use anyway).
    """

    python: str
    torch: str = ""
    requires: tuple[str, ...] = ()
    index: str = ""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What an environment holds, written when it was made.

    ``python`` is the full version and ``base`` the Python it was made with; ``packages`` are all of it, at
    their versions. ``made`` is the time in UTC (ISO 8601).
    """

    key: str
    spec: Spec
    python: str
    base: str
    torch: str
    cuda: str
    packages: dict[str, str]
    made: str
    format: int = FORMAT


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An environment in the cache: its folder, its interpreter, its size in bytes."""

    name: str
    environment: Environment
    folder: str
    executable: str
    size: int


def read_spec(python: str | None, torch: str | None, requires: tuple[str, ...], index: str = "") -> Spec:
    """Return the environment that ``--python`` and ``--torch`` ask for. Raises :class:`UsageError`."""
    if not is_version(python):
        raise UsageError(
            f"--torch {torch} makes an environment of its own, so --python has to be a version"
            + (f", not {python}." if python else "."),
            hint="Write for example --python 3.12 --torch 2.11, or leave --torch out to use the torch that a "
            "Python has.",
        )
    if torch and not _TORCH.fullmatch(torch):
        raise UsageError(f"--torch {torch} is not a version.", hint="Write for example 2.11 or 2.11.0.")
    return Spec(python=python or "", torch=torch or "", requires=requires, index=index)


def make_environment(
    spec: Spec, env: Mapping[str, str] | None = None, *, offline: bool = False
) -> Interpreter:
    """Return the interpreter of the environment, from the cache if it is there, else made now.

    Raises :class:`TargetError` (no such Python), :class:`TorchError` (no such torch for it),
    :class:`RemoteIndexError`, :class:`DiskError`.
    """
    base = find_version(spec.python, env, offline=offline)
    key = _key(spec, base)
    root = shelf(SHELF)
    folder = root / _name(spec, base, key)
    if (usable := _usable(folder)) is not None:
        return usable
    what = f"an environment with Python {base.version}" + (f" and torch {spec.torch}" if spec.torch else "")
    require_free(root, DISK_TORCH if spec.torch else DISK_PLAIN, what[0].upper() + what[1:])
    if read_facts(folder, Environment) is not None:
        note(f"{folder} does not work any more and is made anew.")
        remove_kept(folder, what)
    note(f"Making {what} in {folder}" + (" (about 4.7 GB)" if spec.torch else ""))
    fetcher = find_fetcher()
    make_once(
        folder, what, lambda work: _fill(work, spec, base, key, fetcher, env, offline=offline), in_place=True
    )
    return probe(_python(folder))


def find_environment(spec: Spec, env: Mapping[str, str] | None = None) -> tuple[Interpreter | None, str]:
    """Return the interpreter of an environment that is there, or None; and the name it has or would have."""
    base = find_version(spec.python, env, offline=True)
    folder = shelf(SHELF) / _name(spec, base, _key(spec, base))
    return _usable(folder), folder.name


def list_environments() -> tuple[Kept, ...]:
    """Return the environments in the cache, by name."""
    return tuple(
        Kept(
            name=folder.name, environment=facts, folder=str(folder), executable=str(_python(folder)),
            size=size_of(folder),
        )
        for folder in made_folders(SHELF)
        if (facts := read_facts(folder, Environment)) is not None
    )  # fmt: skip


def remove_environments(names: tuple[str, ...] = (), *, everything: bool = False) -> tuple[Removed, ...]:
    """Remove environments by name or key, or all with what was never finished; return what was freed.

    Raises :class:`UsageError` for one that is not there, :class:`LockError` for one in the making.
    """
    return remove_from(SHELF, names, everything=everything, what="an environment")


def _fill(
    folder: Path,
    spec: Spec,
    base: Interpreter,
    key: str,
    fetcher: Fetcher,
    env: Mapping[str, str] | None,
    *,
    offline: bool,
) -> Environment:
    """Make the virtual environment and install into it. It stands where it will stay: it holds its own path."""
    version = base.version
    python = _python(folder)
    with task(f"Making an environment with Python {version}"):
        _venv(folder, base, fetcher, env, offline=offline)
    torch = [torch_requirement(spec.torch)] if spec.torch else []
    wanted = [*torch, *spec.requires]
    what = f"torch {spec.torch}" if spec.torch else "what a build needs"
    if wanted:
        index = ["--extra-index-url", spec.index] if fetcher.kind == "pip" else ["--index", spec.index]
        command = [
            *([*fetcher.program, "pip", "install", "--python", str(python)] if fetcher.kind == "uv"
              else [str(python), "-m", "pip", "install"]),
            "--only-binary", "torch", *(index if spec.index else []), *wanted,
        ]  # fmt: skip
        try:
            with task(f"Fetching {what}", unit="bytes") as running:
                call(command, what, offline=offline, cwd=folder, hearing=Hearing(running), env=env)
        except ToolchainError as error:
            raise _refused(error, spec, version) from error
    made = probe(python)
    return Environment(
        key=key,
        spec=spec,
        python=version,
        base=base.executable,
        torch=made.torch.version if made.torch else "",
        cuda=made.torch.cuda if made.torch else "",
        packages=made.packages,
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


def _venv(
    folder: Path, base: Interpreter, fetcher: Fetcher, env: Mapping[str, str] | None, *, offline: bool
) -> None:
    command = (
        [*fetcher.program, "venv", "--python", base.executable, "--allow-existing", str(folder)]
        if fetcher.kind == "uv"
        else [base.executable, "-m", "venv", str(folder)]
    )
    try:
        call(command, "an environment", offline=offline, cwd=folder, env=env)
    except ToolchainError as error:
        raise TargetError(
            f"{base.executable} cannot make a virtual environment: {error.details.get('reason', error.message)}",
            hint=f"Debian, Ubuntu: apt install python{base.version.rpartition('.')[0]}-venv; or install uv.",
            details=error.details,
        ) from error


def _refused(error: ToolchainError, spec: Spec, python: str) -> SagefixError:
    """Say for whom there is no such torch; the resolver's own words follow."""
    reason = str(error.details.get("reason", error.message))
    if spec.torch and re.search(r"\btorch\b", reason) and "--offline" not in error.message:
        return TorchError(
            f"torch {spec.torch} does not exist for Python {python} on this machine: {reason}",
            hint="Choose a torch and a Python that go together (https://pypi.org/project/torch/#history).",
            details=error.details,
        )
    return TargetError(error.message, hint=error.hint, details=error.details)


def torch_requirement(version: str) -> str:
    """Return the requirement of a torch: any of the minor ``2.11``, or exactly ``2.11.0``."""
    return f"torch=={version}" if version.count(".") == 2 else f"torch=={version}.*"


def _usable(folder: Path) -> Interpreter | None:
    """Return the interpreter of a finished environment, unless its base has gone or a package was lost."""
    facts = read_facts(folder, Environment)
    if facts is None:
        return None
    try:
        found = probe(_python(folder))
    except SagefixError:
        return None
    return found if found.packages == facts.packages else None


def _key(spec: Spec, base: Interpreter) -> str:
    """The same Python at another place is another one: its compiler flags may differ."""
    parts = [FORMAT, spec, base.version, os.path.realpath(base.executable), base.machine]
    return sha256_bytes(msgspec.json.encode(parts, order="sorted"))[:12]


def _name(spec: Spec, base: Interpreter, key: str) -> str:
    return "-".join([f"py{base.version}", *([f"torch{spec.torch}"] if spec.torch else []), key])


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"
