"""What is installed in the target, verified; the proof goes to the wheel it came from, if that is at hand."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from sagefix.checks import NUMBERS, Level
from sagefix.errors import GpuError, SagefixError
from sagefix.installing.origin import holds_files_of, installed_record, wheel_sha256
from sagefix.pins.load import load_pin
from sagefix.pins.refs import resolve_ref
from sagefix.progress import note
from sagefix.proof.model import Verdict
from sagefix.proof.verify import verify as verify_installed
from sagefix.targets.gpus import find_gpus
from sagefix.targets.interpreter import find_python, probe
from sagefix.targets.model import Target
from sagefix.wheels.model import Facts
from sagefix.workflows.proofs import keep_proof
from sagefix.workflows.situation import Request, find_target, open_wheelhouse


def verify(
    request: Request, level: Level, *, gpu: int | None = None, skip: Collection[Level] = ()
) -> Verdict:
    """Verify the installed package of a pin in the target at a level; ``gpu`` and ``skip`` as in the room.

    Without ``request.ref`` any commit that is known good passes; with it, exactly that one. A machine without
    a GPU can verify, too: what depends on the arch is then judged for the archs that the wheel was built for.
    """
    pin = load_pin(request.pin)
    interpreter = probe(find_python(request.python))
    revision = resolve_ref(pin, request.ref) if request.ref else None
    recipe = pin.recipe_named(revision.recipe if revision and revision.recipe else pin.recipe[0].name)
    target = Target(interpreter=interpreter, archs=(), archs_from="", gpus=())
    computing = level in NUMBERS and pin.device == "cuda"
    if request.arch:
        target = find_target(pin, recipe, interpreter, request.arch)
        if computing and not target.gpus:
            target = msgspec.structs.replace(target, gpus=find_gpus(interpreter).gpus)
    elif pin.device == "cuda":
        try:
            target = find_target(pin, recipe, interpreter, None)
        except GpuError as error:
            target = msgspec.structs.replace(target, gpus=find_gpus(interpreter).gpus)
            if computing and not target.gpus:
                raise
            note(f"{error} Verifying for the archs that the wheel was built for.")
    sha256, wheel = wheel_of(target, pin.project, request)
    verdict = verify_installed(
        pin, target, level=level, revision=revision, wheel_sha256=sha256, gpu=gpu, skip=skip
    )
    if wheel is not None and (verdict.passed or not (request.arch or request.ref)):
        keep_proof(open_wheelhouse(request.wheelhouse, create=False), wheel, verdict, pin)
    return verdict


def wheel_of(target: Target, project: str, request: Request) -> tuple[str, Facts | None]:
    """Return the hash of the wheel that was installed, and that wheel if the wheelhouse has it.

    The installation may tell the hash; else it is the wheel of the wheelhouse with the key of its record and with
    the same files. A wheel can be known and not be here: it was built on another machine.
    """
    try:
        entries = open_wheelhouse(request.wheelhouse, create=False).entries(project)
    except SagefixError:
        entries = []
    sha256 = wheel_sha256(target.interpreter, project)
    if sha256:
        return sha256, next((facts for facts in entries if facts.sha256 == sha256), None)
    record = installed_record(target.interpreter, project)
    if record is None:
        return "", None
    same_key = (facts for facts in entries if facts.record and facts.record.key == record.key)
    found = next(
        (each for each in same_key if holds_files_of(target.interpreter, project, Path(each.where))), None
    )
    return found.sha256 if found else "", found
