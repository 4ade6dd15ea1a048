"""Gets sagefix out of a kit, with nothing but Python's standard library and no network.

    python3 bootstrap.py KIT [--into FOLDER] [COMMAND OPTIONS...]

Compares every file of the kit with its manifest, installs sagefix into an environment of its own (default:
``sagefix-from-kit`` in the working folder; made once for each kit), and runs ``sagefix COMMAND --kit KIT OPTIONS``.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path
from typing import NoReturn

MARK = ".sagefix-kit"
"""In an environment made here: of which kit it is, or that it was never finished."""
UNFINISHED = "unfinished"
_STATUS = 27


def fail(what: str, hint: str = "") -> NoReturn:
    """Say it as sagefix does, and end with its status for kits."""
    print(f"error: {what}" + (f"\nhint: {hint}" if hint else ""), file=sys.stderr)
    sys.exit(_STATUS)


def take(kit: Path, folder: Path) -> tuple[dict[str, object], str]:
    """Compare every file of the kit and unpack sagefix's wheels; return the manifest and its SHA-256."""
    again = "Copy it again, and compare its SHA-256 with what `sagefix kit` printed."
    try:
        with tarfile.open(kit, "r:") as archive:
            first = archive.next()
            stream = (
                archive.extractfile(first) if first and first.name == "kit.json" and first.isreg() else None
            )
            if stream is None:
                fail(f"{kit} is not a kit: it does not begin with kit.json.")
            data = stream.read()
            manifest = json.loads(data)
            wanted = {each["path"]: each for each in manifest["files"]}
            while (member := archive.next()) is not None:
                entry = wanted.pop(member.name, None)
                found = archive.extractfile(member) if entry and member.isreg() else None
                if entry is None or found is None:
                    fail(f"The kit {kit} is damaged: its manifest does not list {member.name!r}.", again)
                content = found.read()
                if hashlib.sha256(content).hexdigest() != entry["sha256"]:
                    fail(
                        f"The kit {kit} is damaged: {member.name} has another SHA-256 than its manifest says.",
                        again,
                    )
                if entry["kind"] == "sagefix":
                    # The name alone: whatever the path says, it stays in the folder.
                    (folder / Path(member.name).name).write_bytes(content)
            if wanted:
                fail(f"The kit {kit} is damaged: it lacks {min(wanted)}.", again)
    except (OSError, tarfile.TarError, EOFError, ValueError, KeyError, TypeError) as error:
        fail(f"The kit {kit} cannot be read: {error}.", again)
    return manifest, hashlib.sha256(data).hexdigest()


def environment(kit: Path, into: Path) -> Path:
    """Return the program of sagefix in ``into``, which is made unless it is there for this very kit."""
    mark = into / MARK
    with tempfile.TemporaryDirectory(prefix="sagefix-kit-") as scratch:
        folder = Path(scratch)
        manifest, digest = take(kit, folder)
        program = into / "bin" / "sagefix"
        if mark.is_file() and mark.read_text() == digest and program.is_file():
            return program
        if into.exists() and not mark.is_file() and (not into.is_dir() or any(into.iterdir())):
            fail(f"{into} is there, and was not made from a kit.", "Name another folder with --into.")
        version = ".".join(str(part) for part in sys.version_info[:2])
        hosts = {(str(host["python"]), str(host["machine"])) for host in manifest["hosts"]}  # type: ignore[attr-defined]
        if (version, platform.machine()) not in hosts:
            there = ", ".join(f"Python {python} on {machine}" for python, machine in sorted(hosts))
            fail(
                f"The kit brings sagefix for {there}, and this is Python {version} on {platform.machine()}.",
                "Name another Python with SAGEFIX_HOST_PYTHON, or make the kit with --host-python.",
            )
        print(f"Installing sagefix {manifest['sagefix']} from the kit into {into}", file=sys.stderr)
        into.mkdir(parents=True, exist_ok=True)
        mark.write_text(UNFINISHED)
        venv.EnvBuilder(clear=False, with_pip=False, symlinks=os.name == "posix").create(into)
        (pip,) = folder.glob("pip-*.whl")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        done = subprocess.run(
            [into / "bin" / "python", pip / "pip", "install", "--quiet", "--no-index", "--find-links", folder,
             "--disable-pip-version-check", "--no-warn-script-location", f"sagefix=={manifest['sagefix']}", "pip"],
            env={**clean, "PIP_CONFIG_FILE": os.devnull},
            check=False,
        )  # fmt: skip
        if done.returncode:
            fail("pip could not install sagefix from the kit; its reason stands above.")
        mark.write_text(digest)
        return program


def main(arguments: list[str]) -> NoReturn:
    """Run."""
    if sys.version_info < (3, 10):
        fail(f"sagefix itself needs Python 3.10 or newer, and this is {platform.python_version()}.")
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        sys.exit(0 if arguments else 2)
    kit, rest = Path(arguments[0]).absolute(), arguments[1:]
    into = Path("sagefix-from-kit").absolute()
    if rest[:1] == ["--into"] and len(rest) > 1:
        into, rest = Path(rest[1]).absolute(), rest[2:]
    program = environment(kit, into)
    if not rest:
        print(f"sagefix is in {program}\nGo on with: {program} install --kit {kit} --python /path/to/venv")
        sys.exit(0)
    given = ["--kit", str(kit)] if rest[0] in ("install", "build") else []
    os.execv(program, [str(program), rest[0], *given, *rest[1:]])


if __name__ == "__main__":
    main(sys.argv[1:])
