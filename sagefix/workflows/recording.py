"""What a build says about itself: the record and the SBOM inside the wheel, the statement beside it.

Everything inside depends on the key and the source alone, so that two builds with one key are one wheel; what is true
of one run only goes into the statement.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from sagefix import __version__
from sagefix.building.backend import Built
from sagefix.building.commands import read_commands
from sagefix.building.plan import Plan, build_packages
from sagefix.files import sha256_file, write_bytes
from sagefix.pins.model import Pin
from sagefix.source.model import Fetched
from sagefix.targets.distributions import installed_from, packages_below
from sagefix.targets.model import Package
from sagefix.targets.packaged import list_packaged
from sagefix.targets.toolkit import Toolkit
from sagefix.targets.versions import ptxas_version
from sagefix.wheels.elf import glibc_floor, read_extensions
from sagefix.wheels.finish import finish_wheel
from sagefix.wheels.manylinux import lowest_policy
from sagefix.wheels.model import Extension, Record
from sagefix.wheels.sbom import make_sbom, sbom_name
from sagefix.wheels.statement import SUFFIX, Run, make_statement
from sagefix.workflows.situation import Situation


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """A build that ended well, with all that its wheel will say about it.

    ``sources`` maps the files that were built to their SHA-256, taken before the build began. ``root`` is the folder
    it worked in, ``epoch`` the commit's time (Unix seconds), ``started`` UTC in RFC 3339.
    """

    situation: Situation
    plan: Plan
    toolkit: Toolkit | None
    built: Built
    fetched: Fetched
    sources: dict[str, str]
    root: Path
    epoch: int
    started: str
    asked_source: str | None = None


def now() -> str:
    """Return the time in UTC as statements write it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def hash_sources(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its path with ``/``, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def finish_build(build: Build, folder: Path) -> Path:
    """Write the wheel that is kept, with its statement beside it, into ``folder``; return the wheel.

    Raises :class:`~sagefix.errors.WheelError`: not what was planned, or no manylinux policy fits.
    """
    plan, wheel = build.plan, build.built.wheel
    extensions = read_extensions(wheel)
    tag = plan.identity.platform_tag
    if plan.identity.manylinux and extensions and tag.startswith("linux_"):
        tag = lowest_policy(wheel).tag
    record = make_record(build, extensions, tag)
    sbom = make_sbom(record, extensions, license=build.situation.pin.license)
    final = finish_wheel(
        wheel,
        folder,
        record=record,
        requires=plan.requires,
        epoch=build.epoch,
        notes={sbom_name(record): sbom},
    )
    statement = make_statement(final, record, _run(build, record), os.environ)
    write_bytes(final.with_name(final.name + SUFFIX), statement)
    return final


def make_record(build: Build, extensions: tuple[Extension, ...], platform_tag: str) -> Record:
    """Return the record of a build."""
    plan, pin, identity = build.plan, build.situation.pin, build.plan.identity
    tools = dict(identity.tools)
    if build.toolkit is not None and (ptxas := ptxas_version(build.toolkit)):
        tools["ptxas"] = ptxas
    compiled = read_commands(_text(build.built.log), plan.places, build.root)
    told = {each.path for each in compiled}
    return Record(
        origin="built",
        pin=pin.name,
        project=pin.project,
        version=identity.version,
        commit=identity.commit,
        tree=build.fetched.tree,
        recipe=plan.recipe,
        archs=identity.archs,
        extensions=identity.extensions,
        python_tag=identity.python_tag,
        abi_tag=identity.abi_tag,
        platform_tag=platform_tag,
        glibc=glibc_floor(extensions),
        torch=identity.torch,
        cuda=identity.cuda,
        cxx11_abi=identity.cxx11_abi,
        fixes=tuple(identity.fixes),
        patches=identity.patches,
        key=plan.key,
        tools=tools,
        environment=identity.environment,
        source_url=_source_url(pin, build.fetched),
        source_date_epoch=build.epoch,
        sagefix=__version__,
        # A library that a program made which the log does not show, or not in a way that is understood.
        unknown=() if all(extension.path in told for extension in extensions) else ("compiled",),
        identity=msgspec.to_builtins(identity),
        sources=build.sources,
        packages=_packages(build),
        compiled=compiled,
    )


def _text(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _source_url(pin: Pin, fetched: Fetched) -> str:
    """Return where a commit comes from, whatever mirror it was taken from this time."""
    if pin.ref_of(fetched.commit) is None:
        return fetched.origin
    return pin.source.url or f"embedded:{pin.source.embedded}"


def _packages(build: Build) -> tuple[Package, ...]:
    found = {
        package.name: package
        for package in build_packages(build.situation.target.interpreter, build.situation.pin)
    }
    for package in _toolkit_packages(build.toolkit) if build.toolkit else ():
        found.setdefault(package.name, package)
    return tuple(found[name] for name in sorted(found))


def _toolkit_packages(toolkit: Toolkit) -> tuple[Package, ...]:
    """Return the packages that a toolkit is made of: as they are installed, or as its lock in the cache says."""
    real = (Path(toolkit.home) / "bin" / "nvcc").resolve().parent.parent
    if below := packages_below(real):
        return below
    kept = next((kept for kept in list_packaged(sizes=False) if Path(kept.home) == Path(toolkit.home)), None)
    return tuple(
        Package(
            name=locked.name,
            version=locked.version,
            wheel_sha256=locked.sha256[0] if len(locked.sha256) == 1 else "",
        )
        for locked in (kept.toolchain.packages if kept else ())
    )


def _run(build: Build, record: Record) -> Run:
    situation, interpreter = build.situation, build.situation.target.interpreter
    asked: dict[str, Any] = {
        "pin": situation.pin.name,
        "ref": situation.revision.asked,
        "source": build.asked_source or "",
        "archs": list(record.archs),
        "python": interpreter.version,
        "torch": record.torch,
        "cuda": situation.cuda,
        "fixes": situation.fixes,
        "manylinux": situation.manylinux,
        **({"platform": interpreter.platform_tag} if build.plan.cross else {}),
    }
    return Run(
        asked=asked,
        fetched_from=build.fetched.origin,
        installed_from={
            package.name: installed_from((*interpreter.sys_path, *interpreter.builder.sys_path), package.name)
            for package in record.packages
        },
        started=build.started,
        finished=now(),
        log=build.built.log,
    )
