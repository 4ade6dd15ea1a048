"""A wheel at hand for an image, in place of one that is built there: what it is for, and what travels with it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sagefix.archs import join_archs, parse_archs, sort_archs
from sagefix.errors import UsageError, WheelError
from sagefix.files import aside, disk_errors
from sagefix.pins.model import Pin
from sagefix.wheelhouse.fitting import archs_of
from sagefix.wheelhouse.model import PROOFS_SUFFIX
from sagefix.wheels.archive import facts
from sagefix.wheels.label import commit_matches
from sagefix.wheels.statement import SUFFIX as STATEMENT_SUFFIX

if TYPE_CHECKING:
    from sagefix.workflows.dockerfile import ImageRequest


def described(request: ImageRequest, wheel: Path, pin: Pin, commit: str) -> ImageRequest:
    """Return the request with what the wheel says in place of what was left out.

    Raises :class:`WheelError`: not a wheel of the pin's commit that tells its Python, torch and archs;
    :class:`UsageError`: an option says something else.
    """
    found = facts(wheel)
    told = (found.record.commit if found.record is not None else "") or found.label.commit
    if found.project != pin.project or not commit_matches(told, commit):
        raise WheelError(
            f"{wheel.name} is not a wheel of {pin.project} at {commit[:7]}.", hint="Name its --pin and --ref."
        )
    torch = ((found.record.torch if found.record is not None else "") or found.label.torch).partition("+")[0]
    pythons = {tag.split("-")[0] for tag in found.tags if tag.startswith("cp3")}
    archs = archs_of(found)
    lacks = [
        *([] if len(pythons) == 1 else ["Python"]),
        *(["torch"] if pin.build.torch and not torch else []),
        *(["archs"] if pin.device == "cuda" and not archs else []),
    ]
    if lacks:
        raise WheelError(f"{wheel.name} does not tell for which {' and '.join(lacks)} it is.")
    python = f"3.{pythons.pop().removeprefix('cp3')}"
    minor = ".".join(torch.split(".")[:2])
    for option, given, has in (
        ("--python", ".".join(request.python.split(".")[:2]), python),
        ("--torch", ".".join((request.torch or "").split(".")[:2]), minor),
    ):
        if given and given != has:
            raise UsageError(f"{wheel.name} is for {has or 'none'}, not for {option} {given}.")
    asked = sort_archs(parse_archs(";".join(request.archs))) if request.archs else archs
    if missing := [str(arch) for arch in asked if arch not in archs]:
        raise UsageError(f"{wheel.name} has no code for --arch {', '.join(missing)}.")
    return replace(
        request,
        python=python,
        torch=request.torch or minor or None,
        archs=(join_archs(asked),) if asked else (),
    )


def travelling(wheel: Path) -> tuple[Path, ...]:
    """Return a wheel and what stands beside it: its statement and its proofs, where there are any."""
    beside = (wheel.with_name(wheel.name + suffix) for suffix in (STATEMENT_SUFFIX, PROOFS_SUFFIX))
    return (wheel, *(path for path in beside if path.is_file()))


def copy_beside(wheel: Path, folder: Path) -> None:
    """Copy a wheel and what travels with it into the folder of a build context."""
    with disk_errors(folder, "copy the wheel"):
        for path in travelling(wheel):
            if path.absolute() != (folder / path.name).absolute():
                with aside(folder / path.name) as temporary:
                    shutil.copyfile(path, temporary)
