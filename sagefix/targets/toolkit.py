"""The CUDA toolkit: which nvcc is meant, and where it really lives."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from sagefix.errors import ProcessError, ToolchainError
from sagefix.process import find_program, run

_TIMEOUT_S = 60.0
_DOWNLOADS = "https://developer.nvidia.com/cuda-toolkit-archive"
# Where installers put it: NVIDIA's on Linux, and Arch Linux's package.
_USUAL_HOMES = ("/usr/local/cuda", "/opt/cuda")


class Toolkit(msgspec.Struct, frozen=True, kw_only=True):
    """A CUDA toolkit. Paths are absolute; folders are those that exist, in the order they are searched.

    ``version`` is ``"13.0"``, ``full_version`` ``"13.0.88"``, ``found_in`` what led to it (``CUDA_HOME``,
    ``PATH`` ...). ``stub_folders`` hold a libcuda.so for linking where no driver is; they belong on
    ``LIBRARY_PATH``, never on ``LD_LIBRARY_PATH``. ``nvcc`` is empty for one that is still to be fetched.
    """

    home: str
    nvcc: str
    version: str
    full_version: str
    found_in: str
    include_folders: tuple[str, ...]
    lib_folders: tuple[str, ...]
    stub_folders: tuple[str, ...]

    @property
    def major(self) -> int:
        """``13``: what has to be the same as in torch."""
        return int(self.version.split(".")[0])

    @property
    def here(self) -> bool:
        """Whether there are files of it, and not only the knowledge of what would be fetched."""
        return bool(self.nvcc)


def find_toolkit(hint: str | None = None, env: Mapping[str, str] | None = None) -> Toolkit:
    """Return the CUDA toolkit: ``hint`` (its folder), ``CUDA_HOME``, ``CUDA_PATH``, nvcc on ``PATH``, the
    usual places.

    This is torch's order, but for nvcc on ``PATH`` the compiler is asked where it lives: it may be a script
    that starts another one, or a link. Who names a folder gets that one or an error, never another.

    Raises :class:`ToolchainError`.
    """
    environment = os.environ if env is None else env
    for variable, folder in (
        ("", hint),
        *((name, environment.get(name)) for name in ("CUDA_HOME", "CUDA_PATH")),
    ):
        if folder:
            home = Path(folder).expanduser().absolute()
            nvcc = home if home.name == "nvcc" and home.is_file() else home / "bin" / "nvcc"
            if not os.access(nvcc, os.X_OK):
                raise ToolchainError(
                    f"{f'{variable} is' if variable else 'The CUDA toolkit was said to be'} {folder}, "
                    "but there is no CUDA compiler in it (bin/nvcc).",
                    hint="A runtime image has libraries only: install the compiler or name another folder.",
                )
            return _toolkit(nvcc, variable or "option", environment)
    if (found := find_program("nvcc", environment)) is not None:
        return _toolkit(found, "PATH", environment)
    for usual in _USUAL_HOMES:
        nvcc = Path(usual) / "bin" / "nvcc"
        if os.access(nvcc, os.X_OK):
            return _toolkit(nvcc, usual, environment)
    raise ToolchainError(
        "No CUDA compiler (nvcc) was found.",
        hint=f"Install the toolkit of torch's CUDA version ({_DOWNLOADS}) and set CUDA_HOME to its folder.",
    )


def other_homes(version: str) -> list[str]:
    """Return the toolkits of a CUDA version (``13`` or ``13.0``) that stand in the usual place."""
    return sorted(
        str(path) for path in Path("/usr/local").glob(f"cuda-{version}*") if (path / "bin/nvcc").is_file()
    )


def _toolkit(nvcc: Path, found_in: str, env: Mapping[str, str]) -> Toolkit:
    full = _version(nvcc, env)
    settings = _settings(nvcc, env)
    if "TOP" not in settings and nvcc.is_symlink():
        # nvcc looks for its settings beside the path it was called by; a lone link has none there.
        nvcc = nvcc.resolve()
        settings = _settings(nvcc, env)
    if "TOP" not in settings:
        reason = settings.get("error", "no nvcc.profile beside it").rstrip(".")
        raise ToolchainError(
            f"{nvcc} cannot say where its parts are: {reason}.",
            hint="Set CUDA_HOME to the toolkit's real folder. To answer, nvcc needs a C++ compiler (g++).",
            details={"nvcc": str(nvcc)},
        )
    real = Path(settings["_HERE_"])
    home = real.parent
    include = _flagged(settings, ("INCLUDES", "SYSTEM_INCLUDES"))
    libraries = _flagged(settings, ("LIBRARIES",))
    # torch's extensions are linked with lib64, or lib where there is no lib64.
    own = [home / "lib64"] if (home / "lib64").is_dir() else [home / "lib"]
    stubs = [folder / "stubs" for folder in own] + [folder for folder in libraries if folder.name == "stubs"]
    return Toolkit(
        home=str(home),
        nvcc=str(real / "nvcc"),
        version=".".join(full.split(".")[:2]),
        full_version=full,
        found_in=found_in,
        include_folders=_existing([home / "include", *include]),
        lib_folders=_existing([*own, *(folder for folder in libraries if folder.name != "stubs")]),
        stub_folders=_existing(stubs),
    )


def _version(nvcc: Path, env: Mapping[str, str]) -> str:
    try:
        said = run([nvcc, "--version"], env=env, timeout=_TIMEOUT_S).stdout
    except ProcessError as error:
        raise ToolchainError(
            f"{nvcc} does not run: {error.message}",
            hint="Set CUDA_HOME to a toolkit for this machine.",
            details=error.details,
        ) from error
    found = re.search(r"release (\d+\.\d+), V([\d.]+)", said)
    if found is None:
        raise ToolchainError(
            f"{nvcc} is not NVIDIA's compiler: it says no CUDA release.",
            hint="Set CUDA_HOME to a CUDA toolkit.",
        )
    return found.group(2)


def _settings(nvcc: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Ask nvcc what it read from its nvcc.profile (``#$ NAME=value``), and where it is (``_HERE_``).

    ``--dryrun`` only lists what would be done; the file need not exist.
    Source: https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/#dryrun-dryrun
    """
    try:
        done = run([nvcc, "--dryrun", "sagefix.cu"], env=env, timeout=_TIMEOUT_S, check=False)
    except ProcessError as error:
        return {"error": error.message}
    settings = dict(re.findall(r"^#\$ (\w+)=[ \t]*(.*?)[ \t]*$", done.stderr + done.stdout, re.MULTILINE))
    if done.returncode != 0:
        settings["error"] = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
    return settings


def _flagged(settings: Mapping[str, str], names: Iterable[str]) -> list[Path]:
    """Return the folders behind ``-I``, ``-isystem`` and ``-L`` in nvcc's settings."""
    folders = []
    for name in names:
        for word in shlex.split(settings.get(name, "")):
            if word != "-isystem":
                folders.append(Path(os.path.normpath(word.removeprefix("-I").removeprefix("-L"))))
    return folders


def _existing(folders: Iterable[Path]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(folder) for folder in folders if folder.is_dir()))
