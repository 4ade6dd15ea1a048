"""Who puts a wheel into the target: uv where it is there, else pip. Never a dependency, never an index."""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec

from sagefix.errors import InstallError, ProcessError
from sagefix.process import find_program, quote, run
from sagefix.settings import cache_dir
from sagefix.targets.model import Interpreter
from sagefix.targets.needs import require_present

_TIMEOUT_S = 600.0
# Where uv keeps its files; nothing else that is set for uv or pip may change what is installed where.
_KEPT = ("UV_CACHE_DIR", "UV_NO_CACHE")

InstallerChoice = Literal["auto", "uv", "pip"]


class Installer(msgspec.Struct, frozen=True, kw_only=True):
    """A program that installs into an interpreter, and how to call it."""

    kind: Literal["uv", "pip"]
    program: tuple[str, ...]

    def install_command(
        self, interpreter: Interpreter, wheel: Path, *, again: bool = True, break_system: bool = False
    ) -> list[str]:
        """Return the command that installs exactly this wheel and touches nothing else.

        ``again``: its version is, or may be, installed already. uv replaces every other version by itself, and
        ``--reinstall`` makes it ask the interpreter anew, which takes longer than the installation.

        By default uv links what it installs to its cache, and whoever edits the one in place has changed the
        other (https://docs.astral.sh/uv/reference/settings/#link-mode). So files are copied, and a second
        installation, which may be there to repair the first, takes them from the wheel and not from the cache.
        """
        extra = ["--break-system-packages"] if break_system else []
        if self.kind == "uv":
            return [
                *self.program, "pip", "install", "--python", interpreter.executable,
                "--no-deps", "--no-index", "--link-mode", "copy",
                *(["--reinstall", "--no-cache"] if again else []), *extra, str(wheel),
            ]  # fmt: skip
        return [
            *self.program, "install", "--no-deps", "--no-index", "--force-reinstall",
            "--disable-pip-version-check", "--no-input", *extra, str(wheel),
        ]  # fmt: skip

    def uninstall_command(
        self, interpreter: Interpreter, project: str, *, break_system: bool = False
    ) -> list[str]:
        """Return the command that removes a distribution."""
        extra = ["--break-system-packages"] if break_system else []
        if self.kind == "uv":
            return [*self.program, "pip", "uninstall", "--python", interpreter.executable, *extra, project]
        return [*self.program, "uninstall", "--yes", "--disable-pip-version-check", *extra, project]


def choose_installer(interpreter: Interpreter, wanted: InstallerChoice = "auto") -> Installer:
    """Return uv (on PATH or beside sagefix), else the target's pip, else sagefix's pip driving the target.

    ``wanted`` leaves one of the two kinds. Raises :class:`InstallError` when there is none of them.
    """
    beside = Path(sys.executable).with_name("uv.exe" if os.name == "nt" else "uv")
    uv = find_program("uv") or (beside if beside.is_file() else None)
    if uv is not None and wanted != "pip":
        return Installer(kind="uv", program=(str(uv),))
    if wanted == "uv":
        raise InstallError("uv was not found.", hint="Install it: https://docs.astral.sh/uv/")
    if "pip" in interpreter.packages:
        return Installer(kind="pip", program=(interpreter.executable, "-m", "pip"))
    if find_spec("pip") is not None:
        # https://pip.pypa.io/en/stable/topics/python-option/
        return Installer(
            kind="pip", program=(sys.executable, "-m", "pip", "--python", interpreter.executable)
        )
    raise InstallError(
        f"There is {'no' if wanted == 'pip' else 'neither uv nor'} pip to install into {interpreter.executable}.",
        hint=f"Install uv (https://docs.astral.sh/uv/), or run `{interpreter.executable} -m ensurepip`.",
    )


def require_writable(interpreter: Interpreter, *, break_system: bool) -> None:
    """Refuse a target whose packages belong to the operating system or to somebody else, before any work.

    https://packaging.python.org/en/latest/specifications/externally-managed-environments/
    """
    require_present(interpreter, "An installation")
    if interpreter.externally_managed and not break_system:
        raise InstallError(
            f"{interpreter.executable} is managed by the operating system, which asks not to install into it.",
            hint="Make a virtual environment and pass its python with --python, or add --break-system-packages.",
        )
    folder = Path(interpreter.platlib)
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        raise InstallError(
            f"{interpreter.platlib} is not writable for this user.",
            hint="Use a virtual environment (--python), or run sagefix as the user who owns this Python.",
        )


def call(command: list[str], doing: str) -> None:
    """Run an installer's command; raise :class:`InstallError` with its own words when it fails."""
    try:
        # Not in the user's folder: pip is a module, and a json.py there would be imported instead of Python's.
        run(command, cwd=cache_dir(), env=_environment(), timeout=_TIMEOUT_S)
    except ProcessError as error:
        tail = str(error.details.get("tail", ""))
        hint = "The disk is full." if "No space left" in tail or "os error 28" in tail else ""
        raise InstallError(
            f"Could not {doing}: {error.message}" + (f"\n{tail}" if tail else ""),
            hint=hint or f"The command was: {quote(command)}",
            details=error.details,
        ) from error


def _environment() -> dict[str, str]:
    """The user's environment without what would lead the installer to other folders or indexes.

    Configuration files do that as well, and uv reads those of the working folder:
    https://docs.astral.sh/uv/concepts/configuration-files/,
    https://pip.pypa.io/en/stable/topics/configuration/. ``PYTHONPATH`` stays: sagefix's own pip may need it.
    """
    variables = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not name.startswith(("PIP_", "UV_"))
    }
    # Progress is told by sagefix; a wheel at hand needs no network.
    variables.update(
        {
            # Where Python can write, which TMPDIR need not say; uv takes its word for it.
            "TMPDIR": tempfile.gettempdir(),
            "UV_NO_CONFIG": "1",
            "UV_NO_PROGRESS": "1",
            "UV_OFFLINE": "1",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_PROGRESS_BAR": "off",
        }
    )
    return variables
