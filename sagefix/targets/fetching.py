"""Packages from an index into folders of sagefix's own: uv where it is there, else pip.

Which index that is, is the user's setting (``UV_DEFAULT_INDEX``, ``PIP_INDEX_URL`` and their files).
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec

from sagefix.errors import DiskError, ProcessError, RemoteIndexError, SagefixError, ToolchainError
from sagefix.process import find_program, run
from sagefix.progress import Task, task
from sagefix.targets.tags import platform_tags

_RESOLVE_TIMEOUT_S = 600.0
# Settings of the user's that would lead packages elsewhere, or change what is asked for.
_REDIRECTING = frozenset(
    {
        *("PIP_CONSTRAINT", "PIP_NO_DEPS", "PIP_PREFIX", "PIP_REQUIREMENT", "PIP_REQUIRE_VIRTUALENV"),
        *("PIP_TARGET", "PIP_USER", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_PREFIX", "UV_PYTHON"),
        *("UV_SYSTEM_PYTHON", "UV_TARGET", "VIRTUAL_ENV", "CONDA_PREFIX"),
    }
)
_LOCKED = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# uv: "Downloading torch (500.0MiB)", "Downloaded torch"; pip: "Downloading torch-2.11.0.whl (530.6 MB)".
_STARTED = re.compile(r"^\s*Downloading (\S+) \(([\d.]+) ?([kKMG]?)(i?)B\)")
_ENDED = re.compile(r"^\s*Downloaded (\S+)")
_UNREACHABLE = re.compile(
    r"error sending request|dns error|failed to lookup address|Connection refused|Connection reset|"
    r"Network is unreachable|No route to host|NewConnectionError|ConnectTimeout|ReadTimeout|timed out|"
    r"Max retries exceeded|Temporary failure in name resolution|Could not connect|certificate verify failed",
    re.IGNORECASE,
)


class Fetcher(msgspec.Struct, frozen=True, kw_only=True):
    """The program that fetches packages, and how to call it."""

    kind: Literal["uv", "pip"]
    program: tuple[str, ...]


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """Another Python on another machine that packages are for: ``python`` like ``"3.12"``, ``machine`` like
    ``"aarch64"``, ``glibc`` like ``"2.35"``.
    """

    python: str
    machine: str
    glibc: str

    def options(self, kind: str) -> list[str]:
        """Return the options by which uv or pip chooses wheels for it; only wheels can be chosen so."""
        major, minor = self.python.split(".")[:2]
        if kind == "uv":
            newest = self.glibc.replace(".", "_")
            return [
                "--python-platform",
                f"{self.machine}-manylinux_{newest}",
                "--python-version",
                f"{major}.{minor}",
            ]
        # pip does not expand a platform downward: https://github.com/pypa/pip/issues/10760
        tags = platform_tags(f"linux_{self.machine}", glibc=self.glibc)
        return [
            "--python-version", f"{major}.{minor}", "--implementation", "cp", "--abi", f"cp{major}{minor}", "--abi",
            "abi3", "--abi", "none", *(word for tag in tags for word in ("--platform", tag)),
        ]  # fmt: skip


class Locked(msgspec.Struct, frozen=True, kw_only=True):
    """A package at an exact version. ``sha256`` are the files of that version that are accepted."""

    name: str
    version: str
    sha256: tuple[str, ...] = ()

    def line(self) -> str:
        """Return it as a requirement with hashes, as pip and uv read it."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{each}" for each in self.sha256)])


def find_uv() -> Path | None:
    """Return uv: on ``PATH``, else beside sagefix."""
    beside = Path(sys.executable).with_name("uv.exe" if os.name == "nt" else "uv")
    return find_program("uv") or (beside if beside.is_file() else None)


def find_fetcher() -> Fetcher:
    """Return uv, else the pip of sagefix's own Python. Raises :class:`ToolchainError` when there is neither."""
    if (uv := find_uv()) is not None:
        return Fetcher(kind="uv", program=(str(uv),))
    if find_spec("pip") is not None:
        return Fetcher(kind="pip", program=(sys.executable, "-m", "pip"))
    raise ToolchainError(
        "There is neither uv nor pip to fetch packages with.",
        hint=f"Install uv (https://docs.astral.sh/uv/), or run `{sys.executable} -m ensurepip`.",
    )


def resolve(
    fetcher: Fetcher,
    requirements: Sequence[str],
    what: str,
    *,
    offline: bool,
    elsewhere: Elsewhere | None = None,
) -> tuple[Locked, ...]:
    """Return the exact versions, with hashes, that requirements come to on this machine, or ``elsewhere``; nothing is
    installed.

    ``what`` is what it is for, in messages. Only wheels count. Raises :class:`RemoteIndexError` when the
    index cannot be reached, :class:`ToolchainError` when it has no such versions.
    """
    with tempfile.TemporaryDirectory(prefix="sagefix-resolve-") as scratch:
        folder = Path(scratch)
        asked, answer = folder / "asked.in", folder / "answer"
        asked.write_text("".join(f"{each}\n" for each in requirements), encoding="utf-8")
        if fetcher.kind == "uv":
            command = [
                *fetcher.program, "pip", "compile", "--quiet", "--generate-hashes", "--no-header",
                "--no-annotate", "--only-binary", ":all:", "--python", sys.executable,
                *(elsewhere.options("uv") if elsewhere else []), "--output-file", str(answer), str(asked),
            ]  # fmt: skip
        else:
            # https://pip.pypa.io/en/stable/reference/installation-report/
            command = [
                *fetcher.program, "install", "--dry-run", "--ignore-installed", "--quiet", "--only-binary",
                ":all:", *([*elsewhere.options("pip"), "--target", str(folder / "target")] if elsewhere else []),
                "--report", str(answer), "--requirement", str(asked),
            ]  # fmt: skip
        with task(f"Choosing {what}"):
            call(command, what, offline=offline, cwd=folder, timeout=_RESOLVE_TIMEOUT_S)
        text = answer.read_text(encoding="utf-8")
    return read_lock(text) if fetcher.kind == "uv" else _read_report(text)


def read_lock(text: str) -> tuple[Locked, ...]:
    """Read requirements with hashes (``name==1.2 --hash=sha256:...``, lines continued with ``\\``)."""
    locked = []
    for line in text.replace("\\\n", " ").splitlines():
        if found := _LOCKED.match(line.strip()):
            locked.append(
                Locked(name=found[1].lower(), version=found[2], sha256=tuple(sorted(_HASH.findall(line))))
            )
    return tuple(sorted(locked, key=lambda each: each.name))


def _read_report(text: str) -> tuple[Locked, ...]:
    locked = []
    for item in msgspec.json.decode(text)["install"]:
        digest = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        metadata = item["metadata"]
        locked.append(
            Locked(
                name=re.sub(r"[-_.]+", "-", metadata["name"]).lower(),
                version=metadata["version"],
                sha256=(digest,) if digest else (),
            )
        )
    return tuple(sorted(locked, key=lambda each: each.name))


def unpack(
    fetcher: Fetcher,
    locked: Sequence[Locked],
    folder: Path,
    what: str,
    *,
    offline: bool,
    elsewhere: Elsewhere | None = None,
) -> None:
    """Fetch packages at exact versions into a folder, which becomes like a site-packages, and check their
    hashes; those for ``elsewhere``, if that is given.

    Raises as :func:`resolve` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f"{folder.name}.lock.txt")
    lock.write_text("".join(f"{each.line()}\n" for each in locked), encoding="utf-8")
    hashes = ["--require-hashes"] if all(each.sha256 for each in locked) else []
    common = [
        "--no-deps",
        "--only-binary",
        ":all:",
        *hashes,
        *(elsewhere.options(fetcher.kind) if elsewhere else []),
        "--target",
        str(folder),
        "--requirement",
        str(lock),
    ]
    if fetcher.kind == "uv":
        command = [*fetcher.program, "pip", "install", "--python", sys.executable, *common]
    else:
        command = [*fetcher.program, "install", *common]
    with task(f"Fetching {what}", unit="bytes") as running:
        call(command, what, offline=offline, cwd=folder.parent, hearing=Hearing(running))


class Hearing:
    """Turns what uv or pip tell of their downloads into progress, in bytes."""

    def __init__(self, running: Task) -> None:
        self.running = running
        self.sizes: dict[str, float] = {}
        self.ended: set[str] = set()
        self.current = ""

    def __call__(self, line: str) -> None:
        if found := _STARTED.match(line):
            base = 1024 if found[4] else 1000
            self.sizes[found[1]] = float(found[2]) * base ** ("", "K", "M", "G").index(found[3].upper())
            # pip fetches one file after the other and does not say that one has ended.
            if self.current.endswith(".whl"):
                self.ended.add(self.current)
            self.current = found[1]
        elif found := _ENDED.match(line):
            self.ended.add(found[1])
        else:
            return
        done = sum(size for name, size in self.sizes.items() if name in self.ended)
        self.running.update(done=done, total=sum(self.sizes.values()), text=self.current)


def call(
    command: Sequence[str],
    what: str,
    *,
    offline: bool,
    cwd: Path,
    timeout: float | None = None,
    hearing: Hearing | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run uv or pip and turn a failure into an error of ours.

    ``cwd`` is a folder without a project whose settings could count. Raises :class:`RemoteIndexError`,
    :class:`DiskError`, and :class:`ToolchainError` for all else, ``details["reason"]`` in the resolver's words.
    """
    variables = {name: value for name, value in (env or os.environ).items() if name not in _REDIRECTING}
    variables.update({"UV_NO_PROGRESS": "1", "PIP_PROGRESS_BAR": "off", "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    variables.update({"PIP_NO_INPUT": "1", "UV_NO_COLOR": "1", "NO_COLOR": "1"})
    if offline:
        # uv still takes what it has in its own cache.
        variables.update({"UV_OFFLINE": "1", "PIP_NO_INDEX": "1"})
    try:
        run(
            command, cwd=cwd, env=variables, timeout=timeout, watched=True,
            on_line=hearing or _silence,
        )  # fmt: skip
    except ProcessError as error:
        raise _translate(error, what, offline=offline) from error


def _silence(line: str) -> None:
    """Hear nothing: only that somebody listens makes stdout and stderr one stream."""
    del line


def _translate(error: ProcessError, what: str, *, offline: bool) -> SagefixError:
    said = str(error.details.get("tail") or error.message)
    reason = why(said) or error.message
    details = {**error.details, "reason": reason}
    if "No space left on device" in said or "os error 28" in said:
        return DiskError(
            f"Cannot fetch {what}: no space is left on the disk.",
            hint="Free some space, or point SAGEFIX_CACHE_DIR (and UV_CACHE_DIR) at another disk.",
            details=details,
        )
    if offline:
        return ToolchainError(
            f"{what[0].upper()}{what[1:]} is not at hand, and --offline forbids to fetch it: {reason}",
            hint="Run the command once without --offline.",
            details=details,
        )
    if _UNREACHABLE.search(said):
        return RemoteIndexError(
            f"Cannot fetch {what}: the package index cannot be reached: {reason}",
            hint="Check the network, a proxy (HTTPS_PROXY), or the index that uv and pip are told to use.",
            details=details,
        )
    return ToolchainError(f"Cannot fetch {what}: {reason}", details=details)


def why(said: str) -> str:
    """Return the reason in what uv or pip said, as one paragraph without their boxes and preambles."""
    lines = [re.sub(r"^[^\w`'\"(]+|\s+$", "", line) for line in said.splitlines()]
    starts = [
        number
        for number, line in enumerate(lines)
        if re.match(r"(error:|ERROR:|cause:|Because|No solution found|hint:)", line)
    ]
    if not starts:
        return next((line for line in reversed(lines) if line), "")
    kept = [
        re.sub(r"^(error|ERROR|cause):\s*", "", line)
        for line in lines[starts[0] :]
        if line and not line.startswith(("WARNING", "[notice]"))
    ]
    text = " ".join(dict.fromkeys(kept))
    # uv sums up a chain of reasons in a hint, where it can.
    _, found, hint = text.partition("hint: ")
    return hint if found else re.sub(r"^No solution found when resolving dependencies:?\s*", "", text)
