"""A second opinion on a wheel: two builds of one name, made on machines of two kinds, held against each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from sagefix.checks import Check
from sagefix.errors import UsageError
from sagefix.wheels.archive import facts
from sagefix.wheels.elf import read_extensions
from sagefix.wheels.elsewhere import check_gpu_code
from sagefix.wheels.model import Extension, Facts
from sagefix.wheels.zips import some


class Opinion(msgspec.Struct, frozen=True, kw_only=True):
    """Two wheels, and what of them has to be the same although other machines and compilers made them."""

    names: tuple[str, str]
    sha256: tuple[str, str]
    checks: tuple[Check, ...]


def second_opinions(first: Path, second: Path) -> tuple[Opinion, ...]:
    """Compare two wheels, or those of two folders that have the same name.

    Raises :class:`UsageError` when there is nothing to compare, and what :func:`compare_builds` raises.
    """
    if first.is_file() and second.is_file():
        return (compare_builds(first, second),)
    for path in (first, second):
        if not path.is_dir():
            raise UsageError(
                f"{path} is not there."
                if not path.exists()
                else f"{path} is a wheel, and the other a folder."
            )
    pairs = [{path.name: path for path in sorted(folder.rglob("*.whl"))} for folder in (first, second)]
    names = [name for name in pairs[0] if name in pairs[1]]
    if not names:
        raise UsageError(
            f"No wheel of {first} has the name of one of {second}.",
            hint="Build the same cells twice, into two wheelhouses; one of them with --native.",
        )
    return tuple(compare_builds(pairs[0][name], pairs[1][name]) for name in names)


def compare_builds(first: Path, second: Path) -> Opinion:
    """Compare two builds of one wheel where the machine that built it has no part: what they say they are, which
    extensions they hold and what those need, and the code for the GPU, byte for byte.

    What the two C++ compilers made of the same source is not compared. Raises
    :class:`~sagefix.errors.WheelError` for a file that is no wheel.
    """
    one, two = facts(first), facts(second)
    return Opinion(
        names=(one.filename, two.filename),
        sha256=(one.sha256, two.sha256),
        checks=(
            _check_identity(one, two),
            _check_extensions(read_extensions(first), read_extensions(second)),
            check_gpu_code(first, second),
        ),
    )


def _check_identity(one: Facts, two: Facts) -> Check:
    wanted = ("project", "version", "tags", "requires_torch", "requires_python")
    told = {name: (getattr(one, name), getattr(two, name)) for name in wanted}
    if one.record is not None and two.record is not None:
        fields = ("commit", "archs", "torch", "cuda", "extensions")
        told |= {name: (getattr(one.record, name), getattr(two.record, name)) for name in fields}
    differs = [f"{name}: {_shown(a)} and {_shown(b)}" for name, (a, b) in told.items() if a != b]
    if differs:
        return Check(
            name="identity", status="failure", found="; ".join(differs), fix="Compare builds of one plan."
        )
    return Check(name="identity", status="ok", found=f"both are {one.version}, {_shown(one.tags)}")


def _check_extensions(one: Sequence[Extension], two: Sequence[Extension]) -> Check:
    """The modules, and the libraries that each asks for."""
    name = "extensions"
    needs = [{each.path: (each.machine, sorted(each.needed)) for each in found} for found in (one, two)]
    differs = [path for path in sorted({*needs[0], *needs[1]}) if needs[0].get(path) != needs[1].get(path)]
    if differs:
        told = [f"{path}: {_needs(needs[0].get(path))} and {_needs(needs[1].get(path))}" for path in differs]
        return Check(
            name=name, status="failure", found=some(told, 3), fix="Look at what the two links were given."
        )
    return Check(
        name=name, status="ok", found=f"{len(needs[0])}, for the same machine and with the same NEEDED"
    )


def _needs(found: tuple[str, list[str]] | None) -> str:
    return f"for {found[0]} with {', '.join(found[1]) or 'nothing'}" if found else "not there"


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
