"""Runs the steps of a Dockerfile one by one in a clean root, without Docker: debootstrap, chroot and namespaces.

    python scripts/clean_root.py DOCKERFILE --work DIR [-- COMMAND...]

Needs root and debootstrap, on Debian or Ubuntu. Knows what the files of `sagefix dockerfile` use: FROM, ARG, ENV,
WORKDIR, COPY, RUN with cache and bind mounts, USER, ENTRYPOINT, CMD. Anything else ends the run: nothing is skipped.
At the end the command (or CMD) runs through the ENTRYPOINT, as USER. How this machine reaches package indexes (PIP_*,
UV_*, proxies, certificates, apt's settings) is handed to every step from outside and stands in no file of the root.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

from dockerfile_parse import DockerfileParser

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# debian:SUITE, debian:SUITE-slim: what debootstrap makes. python:X.Y-slim-SUITE: the same with a Python in /usr/local.
_BASE = re.compile(r"debian:(?P<suite>[a-z]+)(-slim)?|python:(?P<python>\d+\.\d+)[\d.]*-slim-(?P<of>[a-z]+)")
# What the official image of Python has beside it, from its Dockerfile (https://hub.docker.com/_/python).
_LIBRARIES = [
    "ca-certificates",
    "libbz2-1.0",
    "libexpat1",
    "libffi8",
    "liblzma5",
    "libncursesw6",
    "libreadline8",
]
_LIBRARIES += ["libsqlite3-0", "libssl3", "libuuid1", "netbase", "tzdata", "zlib1g"]
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_INSIDE = "/run/outside"
_PASSED = re.compile(
    r"(PIP|UV)_(DEFAULT_|EXTRA_)?INDEX(_URL)?|(PIP|UV)_\w*TIMEOUT|PIP_TRUSTED_HOST|UV_INSECURE_HOST|(?i:\w+_proxy)"
)
_APT = re.compile(r"Acquire::(Check-|http|https|Retries|ForceIPv4)")
_CHROOT = """
set -e
mount --make-rprivate /
root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$(dirname "$root$2")"; [ -e "$root$2" ] || : > "$root$2"; fi
  mount --bind "$1" "$root$2"
  shift 2
done
shift
exec "$@"
"""


class UnknownError(Exception):
    """The Dockerfile holds something that is not run here."""


@dataclass(frozen=True)
class Stage:
    """A stage as far as it got: its root, and what later instructions and the container inherit."""

    name: str
    root: Path
    env: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0"
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()


@dataclass
class Machine:
    """This machine: where roots are made, what steps may reach, and more that is handed in (``binds``, ``env``)."""

    work: Path
    python_prefix: Path | None = None
    binds: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    def base(self, image: str) -> Path:
        """Return the root of an image, made once."""
        found = _BASE.fullmatch(image)
        if found is None:
            raise UnknownError(
                f"there is no way to make {image} here: it takes debian:SUITE or python:X.Y-slim-SUITE"
            )
        root = self.work / re.sub(r"\W+", "-", image)
        if not (root / "made").exists():
            shutil.rmtree(root, ignore_errors=True)
            suite = found["suite"] or found["of"]
            subprocess.run(["debootstrap", "--variant=minbase", suite, root], check=True, stdout=sys.stderr)
            # As in Debian's own images: a disk that is shared with other work makes apt wait for minutes else.
            (root / "etc/dpkg/dpkg.cfg.d/docker-apt-speedup").write_text("force-unsafe-io\n")
            if found["python"]:
                self._python(root, found["python"])
            (root / "made").touch()
        return root

    def _python(self, root: Path, version: str) -> None:
        """Put a Python that is here where the official image has its own."""
        if self.python_prefix is None or not (self.python_prefix / "bin" / f"python{version}").exists():
            raise UnknownError(f"python:{version} needs --python-prefix: a folder with bin/python{version}")
        self.run(
            Stage("", root), ["sh", "-c", f"apt-get update && apt-get install --yes {' '.join(_LIBRARIES)}"]
        )
        subprocess.run(["cp", "-a", f"{self.python_prefix}/.", root / "usr/local"], check=True)
        self.run(Stage("", root), ["ldconfig"])

    def outside(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the binds and variables with which a step reaches indexes as this machine does."""
        folder = self.work / "outside"
        folder.mkdir(parents=True, exist_ok=True)
        dumped = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
        (folder / "apt.conf").write_text(
            "".join(f"{line}\n" for line in dumped.splitlines() if _APT.match(line))
        )
        binds = {str(folder): _INSIDE, "/etc/resolv.conf": "/etc/resolv.conf", **self.binds}
        env = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
        env["APT_CONFIG"] = f"{_INSIDE}/apt.conf"
        if _CERTIFICATES.is_file():
            shutil.copyfile(_CERTIFICATES, folder / "ca.crt")
            names = ("SSL_CERT_FILE", "PIP_CERT", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE")
            env |= dict.fromkeys(names, f"{_INSIDE}/ca.crt")
        return binds, {**env, **self.env}

    def run(
        self,
        stage: Stage,
        command: Sequence[str],
        binds: Mapping[str, str] | None = None,
        *,
        network: bool = True,
    ) -> int:
        """Run a command in the root of a stage, in namespaces of its own; return its exit status."""
        given, variables = self.outside()
        mounts = [word for pair in {**given, **(binds or {})}.items() for word in pair]
        env = {
            "PATH": PATH,
            "HOME": _home(stage),
            **stage.args,
            **stage.env,
            **(variables if network else {}),
        }
        words = [
            "unshare", "--mount", "--pid", "--fork", "--kill-child", *([] if network else ["--net"]),
            "sh", "-c", _CHROOT, "sh", str(stage.root), *mounts, "--",
            "chroot", f"--userspec={stage.user}", str(stage.root), "env", "-i",
            *(f"{name}={value}" for name, value in env.items()),
            "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", stage.workdir, *command,
        ]  # fmt: skip
        return subprocess.run(words, check=False).returncode

    def start(self, stage: Stage, *command: str, network: bool = True, **env: str) -> int:
        """Start a container of a stage: its ENTRYPOINT with a command (default: CMD), as its USER."""
        words = [*stage.entrypoint, *(command or stage.cmd)]
        return self.run(replace(stage, env={**stage.env, **env}, args={}), words, network=network)


def _home(stage: Stage) -> str:
    """Return the home that the root's own list of users says."""
    number = stage.user.partition(":")[0]
    for line in (stage.root / "etc/passwd").read_text().splitlines():
        name, _, uid, _, _, home, _ = line.split(":")
        if number in (name, uid):
            return home
    return "/"


class Builder:
    """Follows a Dockerfile from top to bottom."""

    def __init__(self, dockerfile: Path, machine: Machine, *, tell: bool = True) -> None:
        self.context = dockerfile.parent
        self.machine = machine
        self.stages: dict[str, Stage] = {}
        self.globals: dict[str, str] = {}
        self.steps: list[tuple[str, float]] = []
        self.tell = tell
        parser = DockerfileParser(fileobj=BytesIO(dockerfile.read_bytes()), env_replace=False)
        self.instructions = [(each["instruction"], each["value"]) for each in parser.structure]

    def build(self) -> Stage:
        """Run every instruction; return the last stage. Raises :class:`UnknownError` and CalledProcessError."""
        stage: Stage | None = None
        for instruction, value in self.instructions:
            if instruction == "COMMENT":
                continue
            started = time.monotonic()
            if self.tell:
                print(f"==> {instruction} {value}", file=sys.stderr, flush=True)
            if stage is None and instruction == "ARG":
                name, _, default = value.partition("=")
                self.globals[name] = default
            elif instruction == "FROM":
                stage = self._from(value)
            elif stage is None:
                raise UnknownError(f"{instruction} before FROM")
            else:
                stage = self._step(stage, instruction, value)
            if stage is not None:
                self.stages[stage.name] = stage
            self.steps.append((f"{instruction} {value}", time.monotonic() - started))
        assert stage is not None
        return stage

    def _from(self, value: str) -> Stage:
        image, _, name = re.sub(r" AS ", " as ", value).partition(" as ")
        name = name or str(len(self.stages))
        before = self.stages.get(image)
        root = self.machine.work / f"stage-{name}"
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["cp", "-a", before.root if before else self.machine.base(image), root], check=True)
        return replace(before, name=name, root=root, args={}) if before else Stage(name, root)

    def _step(self, stage: Stage, instruction: str, value: str) -> Stage:  # noqa: PLR0911 - one for each instruction
        match instruction:
            case "ARG":
                name, _, default = value.partition("=")
                return replace(stage, args={**stage.args, name: self.globals.get(name, default)})
            case "ENV":
                pairs = (word.partition("=") for word in shlex.split(value))
                known = {"PATH": PATH, **stage.env}
                added = {
                    name: re.sub(r"\$(\w+)", lambda m: known.get(m[1], ""), text) for name, _, text in pairs
                }
                return replace(stage, env={**stage.env, **added})
            case "WORKDIR":
                (stage.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
                return replace(stage, workdir=value)
            case "USER":
                return replace(stage, user=value if ":" in value else f"{value}:{value}")
            case "ENTRYPOINT":
                return replace(stage, entrypoint=tuple(json.loads(value)))
            case "CMD":
                return replace(stage, cmd=tuple(json.loads(value)))
            case "COPY":
                self._copy(stage, value)
                return stage
            case "RUN":
                self._run(stage, value)
                return stage
        raise UnknownError(f"{instruction} {value}")

    def _copy(self, stage: Stage, value: str) -> None:
        options, words = _options(value)
        if set(options) - {"from"}:
            raise UnknownError(f"COPY {value}")
        source = self.stages[options["from"][0]].root if "from" in options else self.context
        *names, target = words
        there = stage.root / f"{Path(stage.workdir) / target}".lstrip("/")
        for name in names:
            path = source / name.lstrip("/")
            # COPY takes what is in a folder, not the folder.
            into = there / path.name if target.endswith("/") and path.is_file() else there
            into.parent.mkdir(parents=True, exist_ok=True)
            inside = f"{path}/." if path.is_dir() else str(path)
            subprocess.run(["cp", "-a", "--no-preserve=ownership", inside, str(into)], check=True)

    def _run(self, stage: Stage, value: str) -> None:
        options, words = _options(value, split=False)
        binds: dict[str, str] = {}
        for mount in options.get("mount", []):
            keys = dict(part.partition("=")[::2] for part in mount.split(","))
            if keys["type"] == "cache":
                folder = self.machine.work / "cache" / re.sub(r"\W+", "-", keys["target"])
                folder.mkdir(parents=True, exist_ok=True)
                binds[str(folder)] = keys["target"]
            elif keys["type"] == "bind":
                binds[str(self.stages[keys["from"]].root / keys["source"].lstrip("/"))] = keys["target"]
            else:
                raise UnknownError(f"RUN --mount={mount}")
        existing = {target for target in binds.values() if (stage.root / target.lstrip("/")).exists()}
        status = self.machine.run(stage, ["/bin/sh", "-c", words[0]], binds)
        for target in set(binds.values()) - existing:
            # What was only there to be mounted on; Docker leaves an empty folder of a cache, too.
            path = stage.root / target.lstrip("/")
            if path.is_file():
                path.unlink()
        if status:
            raise subprocess.CalledProcessError(status, words[0])


def _options(value: str, *, split: bool = True) -> tuple[dict[str, list[str]], list[str]]:
    """Take ``--name=value`` off the front of an instruction; return them and the rest, in words or as it is."""
    options: dict[str, list[str]] = {}
    while found := re.match(r"--(\w+)=(\S+)\s+", value):
        options.setdefault(found[1], []).append(found[2])
        value = value[found.end() :]
    return options, shlex.split(value) if split else [value]


def why_not() -> str:
    """Say why this machine cannot do it; empty when it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "chroot and mount need root on Linux"
    missing = [
        name for name in ("debootstrap", "chroot", "unshare", "apt-config") if shutil.which(name) is None
    ]
    if missing:
        return f"{', '.join(missing)} not installed"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "true"], check=False, capture_output=True
    )
    return "" if tried.returncode == 0 else "namespaces are not allowed here"


def main(arguments: Sequence[str]) -> int:
    """Run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument(
        "--work", type=Path, required=True, help="a folder for the roots, on a disk with room"
    )
    parser.add_argument(
        "--python-prefix", type=Path, help="a Python to stand in /usr/local of python:X.Y-slim-SUITE"
    )
    parser.add_argument(
        "--bind", action="append", default=[], metavar="HERE:THERE", help="hand a file or folder in"
    )
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="hand a variable in")
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    given, command = parser.parse_args(arguments[:end]), arguments[end + 1 :]
    if why := why_not():
        print(f"error: {why}", file=sys.stderr)
        return 2
    machine = Machine(
        work=given.work.absolute(),
        python_prefix=given.python_prefix,
        binds=dict(pair.split(":", 1) for pair in given.bind),
        env=dict(pair.split("=", 1) for pair in given.env),
    )
    builder = Builder(given.dockerfile.absolute(), machine)
    stage = builder.build()
    for step, seconds in builder.steps:
        print(f"{seconds:7.1f} s  {step[:100]}", file=sys.stderr)
    return machine.start(stage, *command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
