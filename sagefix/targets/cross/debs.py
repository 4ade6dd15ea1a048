"""A Python of another architecture out of Debian's or Ubuntu's packages, unpacked into a folder.

apt resolves, fetches and checks the signatures, with a state of its own: no root is needed, and of this machine's apt
and dpkg nothing but sources and keys is read. No maintainer script runs, because none could.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

import msgspec

from sagefix.errors import ProcessError, RemoteIndexError, SagefixError, TargetError
from sagefix.files import sha256_file
from sagefix.process import find_program, run
from sagefix.progress import Task, task
from sagefix.targets.cross.platforms import Archive, Platform, load_platforms

PROGRAMS = ("apt-get", "dpkg-deb")
_UPDATE_TIMEOUT_S = 300.0
_FETCH_TIMEOUT_S = 1800.0
_UNPACK_TIMEOUT_S = 120.0
# What extensions written in C++ need beside what Python itself does.
_BESIDE = ("libstdc++6", "libgomp1")
_FETCHING = re.compile(r"^Get:(\d+) \S+ \S+ \S+ (\S+)")
_UNREACHABLE = re.compile(
    r"Could not resolve|Temporary failure resolving|Could not connect|Connection timed out|Connection refused|"
    r"Network is unreachable|Unable to connect|connection was closed"
)
_ABSENT = re.compile(r"Unable to locate package|has no installation candidate")
# https://manpages.debian.org/bookworm/apt/apt.conf.5.en.html. The hooks that images for containers set delete this
# machine's own archives.
_CONFIGURATION = """\
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Cache::archives "archives";
Dir::Log "{folder}/log";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
"""


class Deb(msgspec.Struct, frozen=True, kw_only=True):
    """A package of Debian's that was unpacked, and the SHA-256 of its file, whose signature apt had checked."""

    name: str
    version: str
    sha256: str


def archives_for(platform: Platform, python: str) -> tuple[tuple[Archive | None, ...], tuple[str, ...]]:
    """Return where to look for a Python (``"3.11"``), and why not elsewhere. None: this machine's own sources."""
    missing = [name for name in PROGRAMS if find_program(name) is None]
    if missing:
        return (), (f"to unpack Debian's packages, this machine lacks {' and '.join(missing)}",)
    usable: list[Archive | None] = [None]
    why = []
    for archive in load_platforms().archive:
        if python not in archive.pythons or platform.machine not in archive.machines:
            continue
        if Path(archive.keyring).is_file():
            usable.append(archive)
        else:
            why.append(
                f"{archive.name} has it, but its keys are not on this machine "
                f"({archive.keyring}, in the package {archive.keyring_package})"
            )
    return tuple(usable), tuple(why)


def unpack_python(
    archive: Archive | None, platform: Platform, python: str, root: Path, work: Path
) -> tuple[Deb, ...]:
    """Fetch a Python with all that it needs from an archive (None: this machine's own sources) and unpack it.

    ``root`` becomes like the root of a file system of that platform; ``work`` is a folder for what is in between.
    Raises :class:`TargetError` when the archive has no such Python, :class:`RemoteIndexError` when it cannot be
    reached.
    """
    configuration = _configure(archive, platform, work)
    apt = ["apt-get", "-c", str(configuration), "-q", "-y"]
    where = archive.name if archive is not None else "this machine's apt sources"
    with task(f"Fetching Python {python} for {platform.machine} ({where})") as running:
        # A source that fails does not matter here: what counts is whether the Python is found.
        updated = run(
            [*apt, "update"], env=_environment(), timeout=_UPDATE_TIMEOUT_S, check=False, watched=True
        )
        said = updated.stdout + updated.stderr
        try:
            run(
                [*apt, "install", "--download-only", f"python{python}", *_BESIDE], env=_environment(),
                timeout=_FETCH_TIMEOUT_S, watched=True, on_line=_Hearing(running),
            )  # fmt: skip
        except ProcessError as error:
            raise _translate(error, said, where, python) from error
        debs = sorted((work / "cache" / "archives").glob("*.deb"))
        for number, deb in enumerate(debs):
            running.update(done=number, total=len(debs), text=f"unpacking {deb.name}")
            run(["dpkg-deb", "-x", deb, root], timeout=_UNPACK_TIMEOUT_S)
    _settle_links(root)
    return tuple(_read_name(deb) for deb in debs)


def _configure(archive: Archive | None, platform: Platform, work: Path) -> Path:
    for folder in ("state/lists/partial", "cache/archives/partial", "log"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    text = _CONFIGURATION.format(architecture=platform.debian, folder=work)
    if archive is not None:
        sources = work / "sources.list"
        sources.write_text(archive.source_list(), encoding="ascii")
        text += f'Dir::Etc::SourceList "{sources}";\nDir::Etc::SourceParts "/dev/null";\n'
    configuration = work / "apt.conf"
    configuration.write_text(text, encoding="utf-8")
    return configuration


def _environment() -> dict[str, str]:
    """Return the environment for apt: what it says is read here, and nothing else may configure it."""
    kept = {name: value for name, value in os.environ.items() if name != "APT_CONFIG"}
    return {**kept, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


class _Hearing:
    """Turns what apt tells of its downloads into progress."""

    def __init__(self, running: Task) -> None:
        self.running = running

    def __call__(self, line: str) -> None:
        if found := _FETCHING.match(line):
            self.running.update(text=f"{found[1]}: {found[2]}")


def _translate(error: ProcessError, updating: str, where: str, python: str) -> SagefixError:
    said = str(error.details.get("tail") or error.message)
    both = f"{updating}\n{said}"
    wrong = [line.removeprefix("E: ").strip() for line in said.splitlines() if line.startswith("E: ")]
    if _UNREACHABLE.search(both):
        lost = next(line for line in both.splitlines() if _UNREACHABLE.search(line)).strip()
        return RemoteIndexError(f"{where} cannot be reached ({lost})", details=error.details)
    if _ABSENT.search(said):
        return TargetError(f"there is no python{python} in {where}", details=error.details)
    return TargetError(f"{where}: {(wrong or [error.message])[0].rstrip('.')}", details=error.details)


def _settle_links(root: Path) -> None:
    """Keep links inside the root: an absolute one would lead to a file of this machine.

    ``/lib`` is a link that no package here brings: https://wiki.debian.org/UsrMerge.
    """
    for above, folders, files in os.walk(root):
        for path in (Path(above) / name for name in (*folders, *files)):
            if path.is_symlink() and (target := path.readlink()).is_absolute():
                path.unlink()
                path.symlink_to(os.path.relpath(root / target.relative_to("/"), path.parent))
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")


def _read_name(deb: Path) -> Deb:
    name, version, _ = deb.stem.split("_")
    return Deb(name=name, version=unquote(version), sha256=sha256_file(deb))
