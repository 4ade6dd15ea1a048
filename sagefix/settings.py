"""Where sagefix keeps things, and what the user set once for all commands.

Order of precedence: flags, then ``SAGEFIX_*`` variables, then ``sagefix.toml`` (or, without one,
``[tool.sagefix]`` in ``pyproject.toml``) of the working folder, then defaults. Flags and variables are read
by the command line.
"""

from __future__ import annotations

import os
from pathlib import Path

from sagefix.errors import UsageError
from sagefix.files import make_cache_dir

PACKAGE = Path(__file__).parent


def checkout() -> Path | None:
    """Return the root of the checkout this package runs from, or None when it was installed from a wheel."""
    root = PACKAGE.parent
    return root if (root / "manifests").is_dir() and (root / "pyproject.toml").is_file() else None


def manifests_dir() -> Path:
    """Return the folder of the manifests.

    ``SAGEFIX_MANIFESTS`` names one of your own, whose pins then are all there are (copy those you want to
    keep); else it is the folder inside the installed package, else that of the checkout.
    """
    if named := os.environ.get("SAGEFIX_MANIFESTS"):
        folder = Path(named).expanduser().absolute()
        if not folder.is_dir():
            raise UsageError(
                f"SAGEFIX_MANIFESTS names {named}, which is not a folder.", hint="Correct it, or unset it."
            )
        return folder
    return shipped_manifests()


def shipped_manifests() -> Path:
    """Return the folder of the manifests that sagefix comes with, whatever ``SAGEFIX_MANIFESTS`` says."""
    inside = PACKAGE / "manifests"
    return inside if inside.is_dir() else PACKAGE.parent / "manifests"


def cache_dir() -> Path:
    """Return the cache folder: ``SAGEFIX_CACHE_DIR``, else the platform's. Created and tagged on use."""
    return make_cache_dir(cache_path())


def cache_path() -> Path:
    """Like :func:`cache_dir`, but creates nothing."""
    if named := os.environ.get("SAGEFIX_CACHE_DIR"):
        return Path(named).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("sagefix", appauthor=False)


def default_wheelhouse() -> Path:
    """Return ``wheels/`` of a checkout, else ``wheels/`` in the cache folder."""
    root = checkout()
    return (root if root else cache_path()) / "wheels"


def settings_file(folder: Path) -> Path | None:
    """Return ``sagefix.toml`` of a folder, else its ``pyproject.toml``, else None."""
    for name in ("sagefix.toml", "pyproject.toml"):
        if (path := folder / name).is_file():
            return path
    return None


def file_settings(folder: Path) -> dict[str, object]:
    """Read ``sagefix.toml`` or ``[tool.sagefix]`` of ``pyproject.toml`` in ``folder``; empty without either.

    Keys are option names: ``wheelhouse = "wheels"``, ``python = ".venv/bin/python"``, ``no-build = true``. A
    table named for a command (``[install]``) holds options of that command alone. Raises :class:`UsageError`
    when the file cannot be read.
    """
    import sys

    path = settings_file(folder)
    if path is None:
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        table: object = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is not valid TOML: {error}.", hint="Correct it, or run elsewhere."
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    for key in ("tool", "sagefix") if path.name == "pyproject.toml" else ():
        table = table.get(key, {}) if isinstance(table, dict) else {}
    return dict(table) if isinstance(table, dict) else {}
