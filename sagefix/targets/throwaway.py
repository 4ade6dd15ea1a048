"""A throw-away environment that looks like the target's, less one project.

Whatever is tried out is installed there, and the target's own environment stays as it is. Its packages are links to
the target's, so that torch is neither copied nor installed again; the project under trial is left out, because a
second copy of it would be imported in place of the one on trial.
"""

from __future__ import annotations

from pathlib import Path

from packaging.utils import canonicalize_name

from sagefix.errors import ProcessError, TargetError
from sagefix.files import disk_errors, remove_tree
from sagefix.process import run
from sagefix.targets.guests import guest_environment
from sagefix.targets.interpreter import probe
from sagefix.targets.model import Interpreter
from sagefix.targets.needs import require_present

_SITES = ("site-packages", "dist-packages")
_INFOS = (".dist-info", ".egg-info", ".egg-link")
_TIMEOUT_S = 120.0


def make_throwaway(interpreter: Interpreter, folder: Path, *, project: str, package: str) -> Interpreter:
    """Make an environment in a folder of the cache, which is emptied first; return its interpreter.

    Links lead to everything in the import folders of ``interpreter`` but the distribution ``project`` and the
    package ``package``. Raises :class:`TargetError`: that Python cannot make a virtual environment.
    """
    require_present(interpreter, "A trial")
    remove_tree(folder)
    # Of the target itself: a virtual environment made by one has the same Python below it.
    command = [interpreter.executable, "-I", "-m", "venv", "--without-pip", str(folder)]
    try:
        run(command, env=guest_environment(), timeout=_TIMEOUT_S)
    except ProcessError as error:
        raise TargetError(
            f"{interpreter.executable} cannot make a virtual environment: {error.message}",
            hint=f"Debian, Ubuntu: apt install python{interpreter.version.rpartition('.')[0]}-venv.",
            details=error.details,
        ) from error
    python = folder / "bin" / "python"
    (site,) = (folder / "lib").glob("python*/site-packages")
    with disk_errors(site, "link the target's packages"):
        _link(interpreter, site, project, package)
    return probe(python)


def _link(interpreter: Interpreter, site: Path, project: str, package: str) -> None:
    """Link what is installed; of several of one name the first on the import path, as Python would take it."""
    others = []
    for folder in map(Path, interpreter.sys_path):
        if not folder.is_dir():
            continue
        if folder.name not in _SITES:
            others.append(f"{folder}\n")
            continue
        for entry in sorted(folder.iterdir()):
            target = site / entry.name
            left_out = entry.name == "__pycache__" or _is_of(entry, project, package) or _names_folders(entry)
            if not left_out and not target.exists():
                target.symlink_to(entry)
    # What the target has beside its site-packages; Python passes over those that are on its path already.
    (site / "_target_paths.pth").write_text("".join(others), encoding="utf-8")


def _names_folders(entry: Path) -> bool:
    """True for a .pth file that adds folders: they are on the target's import path, and linked from there."""
    if entry.suffix != ".pth":
        return False
    lines = entry.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.strip() and not line.startswith(("import ", "import\t", "#")) for line in lines)


def _is_of(entry: Path, project: str, package: str) -> bool:
    """True for the project's metadata, the package itself, and links that lead to its source."""
    name = canonicalize_name(project)
    if entry.suffix in _INFOS:
        return canonicalize_name(entry.stem.split("-", maxsplit=1)[0]) == name
    if entry.suffix == ".pth":
        stem = entry.stem.removeprefix("__editable__.").removeprefix("__editable___")
        return canonicalize_name(stem.split("-", maxsplit=1)[0]) == name
    return entry.name == package or entry.name.split(".", maxsplit=1)[0] == package
