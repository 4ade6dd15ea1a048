"""sagefix's own wheel, the wheels that it needs, and pip, for Pythons and machines that are not here."""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from sagefix.errors import KitError, ToolchainError
from sagefix.kits.model import Host
from sagefix.progress import task
from sagefix.targets.fetching import Fetcher, Hearing, call, find_fetcher
from sagefix.targets.tags import platform_tags
from sagefix.wheels.archive import read_wheel
from sagefix.wheels.own import write_own_wheel

GLIBC = "2.17"
"""The oldest glibc that the wheels are for (manylinux2014): what any machine with a Python 3.10 has."""
_TIMEOUT_S = 600.0


def here() -> Host:
    """Return the Python that runs sagefix."""
    return Host(python=".".join(str(part) for part in sys.version_info[:2]), machine=platform.machine())


def fetch_programs(hosts: Sequence[Host], folder: Path) -> list[Path]:
    """Put sagefix's wheel and those that it needs into a folder; return them by name.

    Versions are chosen for each host by itself, with their hashes, and only wheels count. Raises
    :class:`~sagefix.errors.RemoteIndexError`, :class:`ToolchainError`: neither uv nor pip, or no such wheels;
    :class:`KitError`: another host than this one and no uv.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = write_own_wheel(folder)
    fetcher = find_fetcher()
    if fetcher.kind != "uv" and (others := [host for host in hosts if host != here()]):
        raise KitError(
            f"pip chooses packages for the Python it runs on, and not for Python {others[0].python} on "
            f"{others[0].machine}.",
            hint="Install uv (https://docs.astral.sh/uv/).",
        )
    needed = [*_requirements(own), "pip"]
    for number, host in enumerate(hosts, 1):
        what = f"what sagefix needs on Python {host.python}, {host.machine}"
        with task(f"Fetching {what} ({number} of {len(hosts)})", unit="bytes") as running:
            _fetch(fetcher, host, needed, folder, what, Hearing(running))
    return sorted(folder.glob("*.whl"))


def _requirements(wheel: Path) -> list[str]:
    """Return what a wheel needs without any extra, markers kept."""
    wanted: Iterable[Requirement] = read_wheel(wheel).metadata.requires_dist or ()
    return [str(each) for each in wanted if "extra ==" not in str(each.marker)]


def _fetch(
    fetcher: Fetcher, host: Host, needed: Sequence[str], folder: Path, what: str, hearing: Hearing
) -> None:
    with tempfile.TemporaryDirectory(prefix="sagefix-kit-") as name:
        scratch = Path(name)
        asked = scratch / "asked.in"
        asked.write_text("".join(f"{each}\n" for each in needed), encoding="utf-8")
        download = ["download", "--only-binary", ":all:", "--dest", str(folder)]
        if fetcher.kind != "uv":
            _call([*fetcher.program, *download, "--requirement", str(asked)], what, scratch, hearing)
            return
        lock = scratch / "lock.txt"
        compile_ = [
            *fetcher.program, "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate",
            "--only-binary", ":all:", "--python-version", host.python,
            "--python-platform", f"{host.machine}-manylinux2014", "--output-file", str(lock), str(asked),
        ]  # fmt: skip
        _call(compile_, what, scratch, None)
        tags = [
            word
            for tag in platform_tags(f"linux_{host.machine}", glibc=GLIBC)
            for word in ("--platform", tag)
        ]
        digits = host.python.replace(".", "")
        abis = [word for abi in (f"cp{digits}", "abi3", "none") for word in ("--abi", abi)]
        # uv downloads nothing for others to install; pip does, and takes what uv has chosen.
        pip = (
            [sys.executable, "-m", "pip"]
            if find_spec("pip") is not None
            else [*fetcher.program, "run", "--quiet", "--no-project", "--python", sys.executable, "--with", "pip",
                  "python", "-m", "pip"]
        )  # fmt: skip
        _call(
            [*pip, *download, "--no-deps", "--require-hashes", "--requirement", str(lock), "--implementation", "cp",
             "--python-version", host.python, *abis, *tags],
            what, scratch, hearing,
        )  # fmt: skip


def _call(command: Sequence[str], what: str, cwd: Path, hearing: Hearing | None) -> None:
    try:
        call(command, what, offline=False, cwd=cwd, timeout=_TIMEOUT_S, hearing=hearing)
    except ToolchainError as error:
        raise KitError(error.message, hint=error.hint, details=error.details) from error
