"""The target interpreter: found, asked about itself, and judged.

Everything is said by the interpreter itself (``guest/probe.py``), which never imports torch; what those facts
mean, its wheel tags among them, is worked out here.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sagefix.errors import ProcessError, TargetError
from sagefix.process import find_program, run
from sagefix.targets.guests import ask, describe_exit, guest_environment
from sagefix.targets.model import Interpreter, Torch
from sagefix.targets.needs import (
    check_packages,
    check_python,
    check_python_h,
    check_torch,
    require_packages,
    require_python_h,
    require_torch,
)
from sagefix.targets.tags import platform_tag, platform_tags, python_tags, wheel_tags

__all__ = [
    "OLDEST",
    "check_packages",
    "check_python",
    "check_python_h",
    "check_torch",
    "find_python",
    "guest_environment",
    "probe",
    "require_packages",
    "require_python_h",
    "require_torch",
]

OLDEST = (3, 9)
"""The oldest Python that guest code runs on."""
PROBE_TIMEOUT_S = 60.0

# Programs of other names are asked a harmless question first: a shell would run the probe's lines.
_NAMES = re.compile(r"(?:python|pypy)", re.IGNORECASE)
# Where the interpreter stands in a virtual environment, a Windows one, and ComfyUI's python_embeded.
_IN_FOLDER = ("bin/python", "bin/python3", "Scripts/python.exe", "python.exe", "python")


class _Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``guest/probe.py``."""

    executable: str
    version: str
    implementation: str
    bits: int
    platform: str
    machine: str
    mac_version: str
    prefix: str
    base_prefix: str
    sys_path: tuple[str, ...]
    purelib: str
    platlib: str
    scripts: str
    include: str
    python_h: str
    ext_suffix: str
    debug: bool
    free_threaded: bool
    externally_managed: bool
    glibc: str
    musl_loader: str
    packages: dict[str, str]
    torch: Torch | None
    torch_error: str
    build_flags: dict[str, str] = {}


def find_python(given: str | None = None, env: Mapping[str, str] | None = None) -> Path:
    """Return the target's interpreter as an absolute path, links kept.

    ``given``: a path, the folder of an environment, or a name on ``PATH``. Without it: the active virtual
    environment (``VIRTUAL_ENV``), else the active conda environment (``CONDA_PREFIX``), else the Python that
    runs sagefix. Raises :class:`TargetError`.
    """
    environment = os.environ if env is None else env
    if given is not None and not given.strip():
        # An unset variable of a script must not mean: whatever Python there is.
        raise TargetError(
            "--python is empty.", hint="Leave it out for the active environment, or give a path."
        )
    if given is None:
        for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
            if named := environment.get(variable):
                return _in_folder(Path(named), f"{variable} names {named}, but there")
        return Path(sys.executable).absolute()
    path = Path(given).expanduser()
    is_name = os.sep not in given and not (os.altsep and os.altsep in given)
    if is_name and not _python_in(path) and (found := find_program(given, environment)) is not None:
        return found
    if path.is_dir():
        return _in_folder(path, f"{given} is a folder, and there")
    if not path.exists():
        raise TargetError(
            f"There is no Python at {given}."
            if not is_name
            else f"{given} is neither on PATH nor a path that exists.",
            hint="Give --python the path of an interpreter, the folder of a virtual environment, or a name "
            "on PATH.",
        )
    if not os.access(path, os.X_OK):
        raise TargetError(
            f"{given} is not executable for this user.",
            hint="Give --python the interpreter, not a script or a library.",
        )
    return path.absolute()


def _python_in(folder: Path) -> Path | None:
    for name in _IN_FOLDER:
        path = folder / name
        if path.is_file() and os.access(path, os.X_OK):
            return path.absolute()
    return None


def _in_folder(folder: Path, found: str) -> Path:
    if (path := _python_in(folder)) is not None:
        return path
    raise TargetError(
        f"{found} is no Python in it.",
        hint=f"sagefix looks for {', '.join(_IN_FOLDER[:3])}. Give --python the interpreter itself.",
    )


def probe(python: Path, *, timeout: float = PROBE_TIMEOUT_S, first: Path | None = None) -> Interpreter:
    """Ask an interpreter about itself; it has ``timeout`` seconds. ``first`` is a folder of packages that come before
    its own.

    Raises :class:`TargetError`: it cannot be started, crashes, hangs, is no Python, older than 3.9, or not
    CPython (there is no torch for any other).
    """
    if not _NAMES.match(python.name) and not _plain_version(python, timeout):
        raise _not_python(python)
    try:
        env = guest_environment()
        if first is not None:
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(first), env.get("PYTHONPATH", "")]))
        answer = ask(python, "probe.py", timeout=timeout, env=env)
    except ProcessError as error:
        raise _refusal(python, error, timeout) from error
    try:
        facts = msgspec.convert(answer, _Facts)
    except msgspec.ValidationError as error:
        raise TargetError(f"{python} gave an answer that cannot be understood: {error}.") from error
    _require_supported(python, facts.version, facts.implementation)
    return _interpreter(python, facts)


def _interpreter(python: Path, facts: _Facts) -> Interpreter:
    own = platform_tag(facts.platform, facts.bits)
    platforms = platform_tags(
        own, glibc=facts.glibc, musl=_musl_version(facts.musl_loader), mac_version=facts.mac_version
    )
    python_tag, abis = python_tags(facts.version, debug=facts.debug, free_threaded=facts.free_threaded)
    return Interpreter(
        executable=facts.executable or str(python.absolute()),
        version=facts.version,
        implementation=facts.implementation,
        machine=facts.machine,
        prefix=facts.prefix,
        base_prefix=facts.base_prefix,
        platform_tag=own,
        python_tag=python_tag,
        abi_tag=abis[0],
        tags=wheel_tags(facts.version, abis, platforms),
        glibc=facts.glibc,
        ext_suffix=facts.ext_suffix,
        purelib=facts.purelib,
        platlib=facts.platlib,
        sys_path=facts.sys_path,
        python_h=facts.python_h,
        externally_managed=facts.externally_managed,
        packages=facts.packages,
        torch=facts.torch,
        torch_error=facts.torch_error,
        include=facts.include,
        scripts=facts.scripts,
        build_flags=facts.build_flags,
    )


def _musl_version(loader: str) -> str:
    """Ask musl's loader for its version, which it prints together with its usage (PEP 656)."""
    if not loader:
        return ""
    done = run([loader], check=False, timeout=10)
    found = re.search(r"^Version (\d+\.\d+)", done.stderr + done.stdout, re.MULTILINE)
    return found.group(1) if found else ""


def _refusal(python: Path, error: ProcessError, timeout: float) -> TargetError:
    """Say why an interpreter did not answer; a plain question tells an old Python from a program that is
    none."""
    details = dict(error.details)
    if details.get("returncode") is None:
        if "did not end" in error.message:
            return TargetError(
                f"{python} did not answer within {timeout:.0f} s and was stopped.",
                hint=f"Try `{python} -c pass` by hand; a sitecustomize or a .pth file may hang.",
                details=details,
            )
        return TargetError(
            f"{python} could not be started: {error.message}",
            hint="It may be made for another kind of machine, or name an interpreter that is gone.",
            details=details,
        )
    if version := _plain_version(python, timeout):
        try:
            _require_supported(python, version, "cpython")
        except TargetError as refusal:
            return refusal
    elif details["returncode"] == 0:
        return _not_python(python)
    tail = str(details.get("tail", "")).strip()
    home = os.environ.get("PYTHONHOME")
    return TargetError(
        f"{python} {describe_exit(int(details['returncode']))} when it was asked about itself"
        + (f": {tail.splitlines()[-1].strip()}" if tail else "."),
        hint=f"PYTHONHOME is set to {home}; unset it unless it belongs to this Python."
        if home
        else f"Try `{python} -c pass` by hand; if that works, a sitecustomize or a .pth file is in the way.",
        details=details,
    )


def _plain_version(python: Path, timeout: float) -> str:
    """Return the version of any Python, or nothing; to a shell, the question is a syntax error."""
    question = "print('sagefix: %d.%d.%d' % tuple(__import__('sys').version_info[:3]))"
    try:
        done = run([python, "-c", question], env=guest_environment(), check=False, timeout=timeout)
    except ProcessError:
        return ""
    found = re.search(r"^sagefix: (\d+\.\d+\.\d+)$", done.stdout, re.MULTILINE)
    return found.group(1) if found else ""


def _not_python(python: Path) -> TargetError:
    return TargetError(
        f"{python} is not a Python: it does not answer as one.",
        hint="Give --python the path of an interpreter.",
    )


def _require_supported(python: Path, version: str, implementation: str) -> None:
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers < OLDEST:
        raise TargetError(
            f"{python} is Python {version}; sagefix needs {OLDEST[0]}.{OLDEST[1]} or newer in the target.",
            hint="Give --python the interpreter that has your torch.",
        )
    if implementation != "cpython":
        raise TargetError(
            f"{python} is {implementation}; only CPython is supported, as torch has wheels for no other.",
            hint="Give --python a CPython.",
        )
