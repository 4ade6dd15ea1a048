"""Level ``static``: what the files say. Nothing is imported and no GPU is needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sagefix.archs import Arch, join_archs
from sagefix.checks import Check
from sagefix.pins.model import Fault, Pin
from sagefix.proof import faults
from sagefix.proof.faults import Finding
from sagefix.proof.identity import FIX
from sagefix.proof.installed import Copies, Installed
from sagefix.targets.model import Interpreter

_SHOWN = 3


def check_copies(pin: Pin, interpreter: Interpreter, copies: Copies) -> Check:
    """Exactly one distribution and one importable package, in the same folder."""
    wrong = next(_copy_problems(pin, interpreter, copies), None)
    if wrong is not None:
        return Check(name="one copy", status="failure", found=wrong[0], fix=wrong[1])
    return Check(name="one copy", status="ok", found=f"{copies.packages[0]} is the only one.")


def _copy_problems(pin: Pin, interpreter: Interpreter, copies: Copies) -> Iterator[tuple[str, str]]:
    """Yield what was found and what to do, the first thing to repair first."""
    infos, packages = copies.infos, copies.packages
    if not infos and not packages:
        yield f"{pin.project} is not installed in {interpreter.executable}.", FIX
    if copies.editable:
        yield (
            f"{pin.project} is linked to a source folder, whose files can change at any time: "
            f"{', '.join(copies.editable)}.",
            f"Uninstall it (`pip uninstall {pin.project}`), then run `sagefix install`.",
        )
    if not infos:
        yield (
            f"{_paths(packages)} can be imported, but no distribution named {pin.project} is installed.",
            "Delete or rename it, then run `sagefix install`.",
        )
    if not packages:
        yield (
            f"{_paths(infos)} says that {pin.project} is installed, but there is no package {pin.package}.",
            FIX,
        )
    found = [f"{len(infos)} distributions ({_paths(infos)})"] if len(infos) > 1 else []
    if len(packages) > 1:
        found.append(f"{len(packages)} packages, of which the first is imported ({_paths(packages)})")
    if found:
        yield (
            f"{pin.project} is there more than once: {'; '.join(found)}.",
            "Remove all but one, then run `sagefix install`.",
        )
    if infos and packages and infos[0].parent.resolve() != packages[0].parent.resolve():
        yield (
            f"{packages[0]} is imported, and {infos[0]} does not belong to it.",
            f"Remove {packages[0]}, then run `sagefix install`.",
        )


def read_sources(installed: Installed) -> dict[str, bytes]:
    """Read the Python files of the package, by their paths inside site-packages."""
    return {installed.relative(path): path.read_bytes() for path in installed.sources()}


def grammar_of(interpreter: Interpreter) -> tuple[int, int]:
    """Return the Python whose grammar decides: ``(3, 12)``."""
    major, minor = interpreter.version.split(".")[:2]
    return int(major), int(minor)


def check_parses(sources: Mapping[str, bytes], interpreter: Interpreter) -> Check:
    """Every Python file must parse; a bare ``except:`` can hide one that does not."""
    name = "source parses"
    python = grammar_of(interpreter)
    broken = [
        (path, found) for path, data in sources.items() for found in faults.unparsable(data, python=python)
    ]
    if not broken:
        return Check(name=name, status="ok", found=f"All {len(sources)} Python files parse.")
    told = "; ".join(f"{path}: {finding.text}" for path, finding in broken[:_SHOWN]) + (
        f"; and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
    )
    if python > sys.version_info[:2] and not any("conflict markers" in finding.text for _, finding in broken):
        return Check(
            name=name,
            status="warning",
            found=f"sagefix runs on Python {sys.version_info[0]}.{sys.version_info[1]} and cannot judge "
            f"files for Python {python[0]}.{python[1]}: {told}.",
            fix="Run sagefix with the target's Python version.",
        )
    return Check(name=name, status="failure", found=f"Does not parse: {told}.", fix=FIX)


def check_fault(
    fault: Fault, sources: Mapping[str, bytes], target_archs: Sequence[Arch], built_archs: Sequence[Arch]
) -> Check:
    """Look for one known fault of the pin.

    It counts when the target's archs meet those of the fault; with no target archs, those that it was built
    for; when nobody knows either, it counts. On other archs it is a warning, since it is dormant there.
    """
    name = f"fault: {fault.name}"
    found: list[tuple[str, Finding]] = []
    unread = []
    for path in fault.files:
        if path not in sources:
            continue
        if fault.kind != "unparsable" and faults.unparsable(sources[path]):
            unread.append(path)
        found += [(path, finding) for finding in faults.RULES[fault.kind](sources[path])]
    if not found:
        if unread:
            return Check(
                name=name,
                status="skipped",
                found=f"{', '.join(unread)} does not parse.",
                sources=fault.sources,
            )
        return Check(name=name, status="ok", found="Not there.")
    archs = tuple(target_archs) or tuple(built_archs)
    matters = "*" in fault.archs or not archs or any(arch.capability in fault.archs for arch in archs)
    told = "; ".join(f"{path}: {finding.text}" for path, finding in found[:_SHOWN])
    where = "" if "*" in fault.archs else f" on {', '.join(fault.archs)}"
    if not matters:
        return Check(
            name=name,
            status="warning",
            found=f"{told}. It matters{where}, and this is {join_archs(archs)}.",
            fix="Do not use this installation on a GPU of that kind.",
            sources=fault.sources,
        )
    return Check(name=name, status="failure", found=f"{told}. {fault.reason}", fix=FIX, sources=fault.sources)


def _paths(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths)
