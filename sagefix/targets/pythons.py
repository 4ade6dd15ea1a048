"""A Python of a version, wherever it is on this machine; uv may fetch one."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sagefix.errors import ProcessError, SagefixError, TargetError
from sagefix.process import run
from sagefix.progress import note, task
from sagefix.targets.fetching import find_uv
from sagefix.targets.interpreter import OLDEST, probe
from sagefix.targets.model import Interpreter

_VERSION = re.compile(r"3\.\d{1,2}(\.\d{1,2})?", re.ASCII)
_ASK_TIMEOUT_S = 60.0
_INSTALL_TIMEOUT_S = 600.0


def is_version(text: str | None) -> bool:
    """Say whether ``--python`` names a version (``3.12``, ``3.12.1``) and no path of that name is here."""
    return text is not None and _VERSION.fullmatch(text) is not None and not Path(text).exists()


def find_version(version: str, env: Mapping[str, str] | None = None, *, offline: bool = False) -> Interpreter:
    """Return a Python of a version, with its headers; that of uv, ``PATH``, pyenv or the usual places, and
    else one that uv installs.

    Raises :class:`TargetError` that says what was found instead and what to install.
    """
    environment = os.environ if env is None else env
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise TargetError(
            f"Python {version} is too old: sagefix needs {OLDEST[0]}.{OLDEST[1]} or newer in the target.",
            hint="Give --python a newer version.",
        )
    bare: list[Interpreter] = []
    for path in _candidates(version, environment):
        found = _probe(path, version)
        if found is not None and found.python_h:
            return found
        if found is not None:
            bare.append(found)
    why = ""
    if (uv := find_uv()) is not None and not offline:
        installed, why = _install(uv, version, environment)
        if installed is not None and (found := _probe(installed, version)) is not None:
            return found
    if bare:
        raise TargetError(
            f"{bare[0].executable} is Python {bare[0].version} without its headers (Python.h), which a build "
            "needs.",
            hint=f"Install them (Debian, Ubuntu: apt install python{_short(version)}-dev), or another Python "
            f"{version}{_offered(uv is not None)}.",
        )
    raise TargetError(
        f"There is no Python {version} on this machine"
        + (f", and uv cannot fetch one: {why}" if why else "."),
        hint=f"Install it{_offered(uv is not None)}; Debian, Ubuntu: apt install python{_short(version)}-dev "
        f"python{_short(version)}-venv.",
    )


def _short(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _offered(uv: bool) -> str:
    return (
        " (`uv python install`, pyenv)"
        if uv
        else " (pyenv, or `uv python install` from https://docs.astral.sh/uv/)"
    )


def _candidates(version: str, env: Mapping[str, str]) -> Iterator[Path]:
    """Yield programs that may be it, each real file once; the first that are named best."""
    seen = set()
    for path in _places(version, env):
        try:
            real = path.resolve(strict=True)
        except OSError:
            continue
        if real not in seen and os.access(real, os.X_OK):
            seen.add(real)
            yield path


def _places(version: str, env: Mapping[str, str]) -> Iterator[Path]:
    short = _short(version)
    name = f"python{short}"
    # Every folder of PATH: a shim of pyenv that comes first may say only that this version is not active.
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        if folder:
            yield Path(folder) / name
    pyenv = Path(env.get("PYENV_ROOT") or Path.home() / ".pyenv")
    with contextlib.suppress(OSError):  # another user's
        for root in sorted((pyenv / "versions").glob(f"{version}*"), reverse=True):
            yield root / "bin" / name
    for folder in ("/usr/local/bin", "/usr/bin"):
        yield Path(folder) / name
    # Images that wheels are built in: https://github.com/pypa/manylinux
    digits = short.replace(".", "")
    yield Path(f"/opt/python/cp{digits}-cp{digits}/bin/python")
    if (uv := find_uv()) is not None and (found := _ask_uv(uv, version, env)) is not None:
        yield found


def _ask_uv(uv: Path, version: str, env: Mapping[str, str]) -> Path | None:
    """Ask uv, which knows its own Pythons; https://docs.astral.sh/uv/concepts/python-versions/."""
    try:
        done = run(
            [uv, "python", "find", "--system", "--no-python-downloads", version],
            env=env, timeout=_ASK_TIMEOUT_S, check=False,
        )  # fmt: skip
    except ProcessError:
        return None
    said = done.stdout.strip()
    return Path(said) if done.returncode == 0 and said else None


def _install(uv: Path, version: str, env: Mapping[str, str]) -> tuple[Path | None, str]:
    """Let uv install a Python among its own; return it, or why not."""
    note(f"There is no Python {version} with headers here: uv installs one.")
    try:
        with task(f"Fetching Python {version}"):
            run(
                [uv, "python", "install", version],
                env={**env, "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}, timeout=_INSTALL_TIMEOUT_S, watched=True,
            )  # fmt: skip
    except ProcessError as error:
        lines = str(error.details.get("tail") or error.message).splitlines()
        return None, re.sub(r"^\s*(error|cause):\s*", "", lines[-1]).strip() + "."
    return _ask_uv(uv, version, {**env, "UV_PYTHON_PREFERENCE": "only-managed"}), ""


def _probe(path: Path, version: str) -> Interpreter | None:
    try:
        found = probe(path)
    except SagefixError:
        return None
    wanted = version.split(".")
    return found if found.version.split(".")[: len(wanted)] == wanted else None
