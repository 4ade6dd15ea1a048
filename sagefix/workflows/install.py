"""From the pinned commit to an installation that has been checked; what was there before comes back if it fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sagefix.checks import NUMBERS, Level, failures
from sagefix.errors import SagefixError, UsageError, VerificationError
from sagefix.installing.installer import Installer, call, choose_installer, require_writable
from sagefix.installing.origin import holds_files_of, installed_record
from sagefix.installing.stash import Stash, installed, remove_incomplete
from sagefix.process import quote
from sagefix.progress import note, task, warn
from sagefix.proof.model import Verdict
from sagefix.targets.model import Interpreter, Target
from sagefix.wheelhouse.model import Decision
from sagefix.wheelhouse.proving import CPU, named
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.model import Facts, Proof
from sagefix.workflows.candidates import best, decide, no_wheel, refusals, take_in
from sagefix.workflows.dry_run import plan_install
from sagefix.workflows.installed import Clock, Installed, InstallOptions
from sagefix.workflows.proofs import keep_proof, proven_by, relied_on
from sagefix.workflows.reach import Reach, reach
from sagefix.workflows.situation import Request, Situation, open_wheelhouse, survey

if TYPE_CHECKING:
    from sagefix.kits.opening import Opened

__all__ = ["InstallOptions", "Installed", "install"]


def install(request: Request, options: InstallOptions) -> Installed:
    """Install the pinned commit into the target and verify it.

    With ``request.kit`` the wheels are those of a kit, and the source is its bundle.

    Raises what :func:`~sagefix.workflows.situation.survey` and :func:`~sagefix.workflows.build.build` raise;
    :class:`NoWheelError` with ``no_build`` or ``require_proof``; :class:`GpuError` for a level that cannot be
    reached here; :class:`WheelhouseError` when the wheel is not what was kept; :class:`InstallError`;
    :class:`VerificationError` after what was installed before was put back; :class:`KitError`.
    """
    if request.kit is None:
        return _install(request, options, None)
    from sagefix.workflows.from_kit import shown, using_kit

    with using_kit(request) as (inside, kit):
        return shown(_install(inside, options, kit), kit)


def _install(request: Request, options: InstallOptions, kit: Opened | None) -> Installed:
    if options.require_proof and options.rebuild:
        raise UsageError("--require-proof and --rebuild exclude each other: what was just built is unproven.")
    clock = Clock()
    situation = survey(request)
    target = situation.target
    require_writable(target.interpreter, break_system=options.break_system)
    installer = choose_installer(target.interpreter, options.installer)
    wheelhouse = open_wheelhouse(request.wheelhouse, create=not options.dry_run)
    at_hand = wheelhouse if kit is None else Wheelhouse.open(kit.wheels, create=False)
    decisions = decide(situation, request, at_hand, require_proof=options.require_proof)
    clock.lap("choose")
    if options.dry_run:
        return plan_install(situation, options, installer, wheelhouse, decisions, clock)
    reached = reach(options.verify, situation.pin, situation.target)
    if reached.why and reached.level is not None:
        note(f"Nothing will prove the numbers: {reached.why}. Verifying at level {reached.level}.")
    made = _obtain(situation, request, options, wheelhouse, decisions, kit)
    clock.lap("build" if made.compiled else "fetch")
    stash = Stash(situation.target.interpreter, situation.pin.project)
    with stash.locked():
        return _put_in(situation, options, installer, stash, wheelhouse, made, decisions, reached, clock)


def _obtain(
    situation: Situation,
    request: Request,
    options: InstallOptions,
    wheelhouse: Wheelhouse,
    decisions: tuple[Decision, ...],
    kit: Opened | None,
) -> _Obtained:
    """Return the best wheel at hand, else build it."""
    if not options.rebuild and (chosen := best(decisions)) is not None:
        facts = chosen.facts
        if "://" in facts.where:
            facts = take_in(wheelhouse, facts, situation, require_proof=options.require_proof)
        elif kit is not None:
            facts = wheelhouse.add(Path(facts.where), replace=True)
        return _Obtained(wheel=facts)
    if options.no_build or options.require_proof:
        raise no_wheel(decisions, require_proof=options.require_proof)
    if kit is not None and not options.rebuild:
        note(f"No wheel of the kit fits, so its source is compiled. {refusals(decisions)}")
    # A build needs half of sagefix, an install from the wheelhouse none of that: a third of its start.
    from sagefix.workflows.build import build

    made = build(
        situation, wheelhouse, source=request.source, offline=request.offline, rebuild=options.rebuild
    )
    return _Obtained(wheel=made.wheel, compiled=made.compiled, log=made.log)


def _put_in(
    situation: Situation,
    options: InstallOptions,
    installer: Installer,
    stash: Stash,
    wheelhouse: Wheelhouse,
    made: _Obtained,
    decisions: tuple[Decision, ...],
    reached: Reach,
    clock: Clock,
) -> Installed:
    pin, target = situation.pin, reached.target
    interpreter, wheel = target.interpreter, made.wheel
    stash.recover(installer)
    remove_incomplete(interpreter, pin.project)
    previous = installed(interpreter, pin.project)
    before = previous.version if previous else ""
    command = installer.install_command(
        interpreter, Path(wheel.where), again=before == wheel.version, break_system=options.break_system
    )
    there = _is_installed(interpreter, wheel)
    already = there and not options.reinstall and not options.rebuild
    commands: tuple[str, ...] = ()
    level = reached.level
    relied: tuple[Proof, ...] = ()
    if level == "numerics" and options.verify == "auto" and there:
        # This very wheel was in use here, and its numbers are known: what may have changed since is the place.
        from sagefix.proof.numerics.prove import devices_of

        relied = relied_on(wheel, devices_of(pin, target), _torch(target))
        level = "import" if relied else level
    verdict = None
    if already and level is not None:
        verdict = _verify(situation, target, wheel, level, clock)
        if verdict.passed:
            keep_proof(wheelhouse, wheel, verdict, pin)
        else:
            bad = ", ".join(check.name for check in failures(verdict.checks))
            warn(f"{pin.project} {before} is installed, but does not pass ({bad}); installing it again.")
            already = False
    if not already:
        wheelhouse.require_intact(wheel)
        stash.take(Path(wheel.where))
        try:
            with task(f"Installing {wheel.filename} with {installer.kind}"):
                call(command, f"install {wheel.filename}")
            clock.lap("install")
            if level is not None:
                verdict = _verify(situation, target, wheel, level, clock)
        except BaseException:
            _undo(stash, installer, options)
            raise
        commands = (quote(command),)
        if verdict is not None:
            keep_proof(wheelhouse, wheel, verdict, pin)
            if not verdict.passed:
                raise _refused(verdict, wheel, before, _undo(stash, installer, options))
        stash.discard()
    return Installed(
        action="already installed" if already else "installed",
        project=pin.project,
        version=wheel.version,
        before=before,
        interpreter=interpreter.executable,
        archs=tuple(str(arch) for arch in target.archs),
        archs_from=target.archs_from,
        wheel=wheel.where,
        compiled=made.compiled,
        level=level or "none",
        verdict=verdict,
        decisions=decisions,
        commands=commands,
        seconds=clock.laps,
        log=made.log,
        key=wheel.record.key if wheel.record else "",
        numbers=_numbers(verdict, relied, reached.why),
        relies_on=relied,
    )


def _numbers(verdict: Verdict | None, relied: tuple[Proof, ...], why: str) -> str:
    """Say what proves the numbers, or that nothing does, in a sentence."""
    if relied:
        told = "; ".join(f"{named(proof)} of {proof.when}" for proof in relied)
        same = "" if all(proof.capability == CPU for proof in relied) else ", with this driver and this torch"
        return f"The numbers are proven already: {told}, for this very wheel{same}. They were not computed again."
    if verdict is not None and (proven := proven_by(verdict)):
        count = len(verdict.hazards)
        return f"The numbers are proven: {proven}{f', {count} hazard' + 's' * (count > 1) if count else ''}."
    if verdict is not None and verdict.level in NUMBERS:
        why = "no case could be computed"
    return f"Nothing proved the numbers: {why or 'they were not computed'}."


def _verify(situation: Situation, target: Target, wheel: Facts, level: Level, clock: Clock) -> Verdict:
    from sagefix.proof.verify import verify

    verdict = verify(
        situation.pin,
        target,
        level=level,
        revision=situation.revision,
        wheel_sha256=wheel.sha256,
    )
    clock.lap("verify")
    return verdict


def _undo(stash: Stash, installer: Installer, options: InstallOptions) -> bool:
    """Put back what was there. Tells, but does not raise, when that fails: there is an error already."""
    try:
        stash.put_back(installer, break_system=options.break_system)
    except (SagefixError, OSError) as error:
        warn(f"What was installed before could not be put back ({error}); the next install tries again.")
        return False
    return True


def _refused(verdict: Verdict, wheel: Facts, before: str, undone: bool) -> VerificationError:
    """Return the error of a negative verdict, with what is installed now."""
    outcome = f"{before} was put back." if before else "It was removed again."
    failed = failures(verdict.checks)
    return VerificationError(
        f"{wheel.filename} does not pass the level {verdict.level!r}: "
        + " ".join(f"{check.name}: {check.found}" for check in failed)
        + (f" {outcome}" if undone else ""),
        hint=" ".join(dict.fromkeys(check.fix for check in failed if check.fix)),
        details={"verdict": msgspec.to_builtins(verdict)},
    )


def _is_installed(interpreter: Interpreter, wheel: Facts) -> bool:
    """True when the target already has this very wheel: same version, same key in its record, same files."""
    distribution = installed(interpreter, wheel.project)
    if distribution is None or distribution.version != wheel.version or wheel.record is None:
        return False
    record = installed_record(interpreter, wheel.project)
    same_build = record is not None and record.key == wheel.record.key
    return same_build and holds_files_of(interpreter, wheel.project, Path(wheel.where))


def _torch(target: Target) -> str:
    torch = target.interpreter.torch
    return torch.version if torch is not None else ""


class _Obtained(NamedTuple):
    """The wheel to install, whether this command compiled it, and the log of that."""

    wheel: Facts
    compiled: bool = False
    log: str = ""
