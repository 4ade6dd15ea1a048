"""What is installed in the target, verified; the proof goes to the wheel it came from, if that is at hand."""

from __future__ import annotations

import msgspec

from sagefix.errors import GpuError, SagefixError
from sagefix.pins.load import load_pin
from sagefix.pins.refs import resolve_ref
from sagefix.progress import note
from sagefix.proof.model import Level, Verdict
from sagefix.proof.verify import verify as verify_installed
from sagefix.targets.gpus import find_gpus
from sagefix.targets.interpreter import find_python, probe
from sagefix.targets.model import Target
from sagefix.wheels.model import RECORD_NAME, Facts, Record
from sagefix.workflows.proofs import keep_proof
from sagefix.workflows.situation import Request, find_target, open_wheelhouse


def verify(request: Request, level: Level) -> Verdict:
    """Verify the installed package of a pin in the target at a level.

    Without ``request.ref`` any commit that is known good passes; with it, exactly that one. A machine without
    a GPU can verify, too: what depends on the arch is then judged for the archs that the wheel was built for.
    """
    pin = load_pin(request.pin)
    interpreter = probe(find_python(request.python))
    revision = resolve_ref(pin, request.ref) if request.ref else None
    recipe = pin.recipe_named(revision.recipe if revision and revision.recipe else pin.recipe[0].name)
    target = Target(interpreter=interpreter, archs=(), archs_from="", gpus=())
    if request.arch:
        target = find_target(pin, recipe, interpreter, request.arch)
    elif pin.device == "cuda":
        try:
            target = find_target(pin, recipe, interpreter, None)
        except GpuError as error:
            note(f"{error} Verifying for the archs that the wheel was built for.")
            target = msgspec.structs.replace(target, gpus=find_gpus(interpreter).gpus)
    wheel = _wheel_of(target, pin.project, request)
    verdict = verify_installed(
        pin, target, level=level, revision=revision, wheel_sha256=wheel.sha256 if wheel else ""
    )
    if wheel is not None and (verdict.passed or not (request.arch or request.ref)):
        keep_proof(open_wheelhouse(request.wheelhouse, create=False), wheel, verdict, pin)
    return verdict


def _wheel_of(target: Target, project: str, request: Request) -> Facts | None:
    """Return the wheel of the wheelhouse that was installed, found by the key in its record."""
    from sagefix.installing.stash import installed

    distribution = installed(target.interpreter, project)
    text = distribution.read_text(RECORD_NAME) if distribution else None
    if not text:
        return None
    try:
        key = msgspec.json.decode(text, type=Record).key
        entries = open_wheelhouse(request.wheelhouse, create=False).entries(project)
    except (msgspec.MsgspecError, SagefixError):
        return None
    return next((facts for facts in entries if facts.record and facts.record.key == key), None)
