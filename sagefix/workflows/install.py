"""From the pinned commit to an installation that has been checked; what was there before comes back if it fails."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from sagefix.checks import failures
from sagefix.errors import NoWheelError, RemoteIndexError, SagefixError, VerificationError
from sagefix.installing.installer import Installer, InstallerChoice, call, choose_installer, require_writable
from sagefix.installing.stash import Stash, installed, remove_incomplete
from sagefix.process import quote
from sagefix.progress import note, task, warn
from sagefix.proof.model import Level, Verdict
from sagefix.targets.model import Interpreter, Target
from sagefix.wheelhouse.model import Decision
from sagefix.wheelhouse.select import select
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.model import RECORD_NAME, Facts
from sagefix.workflows.proofs import keep_proof
from sagefix.workflows.situation import Request, Situation, open_wheelhouse, survey

if TYPE_CHECKING:
    from sagefix.building.plan import Plan

VerifyChoice = Literal["auto", "import", "static", "none"]


class InstallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to install: what may be built, what must be verified, and whether to touch anything at all."""

    no_build: bool = False
    rebuild: bool = False
    reinstall: bool = False
    dry_run: bool = False
    break_system: bool = False
    verify: VerifyChoice = "auto"
    installer: InstallerChoice = "auto"


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """What an install did, or with ``--dry-run`` would do.

    ``action``: ``"installed"``, ``"already installed"`` or ``"planned"``. ``before`` is the version that was there
    (empty: none). ``commands`` are those that were or would be run, a build as one would type it. ``seconds`` per
    step, by name. ``plan`` is what would be built, with ``--dry-run`` alone.
    """

    action: Literal["installed", "already installed", "planned"]
    project: str
    version: str
    before: str
    interpreter: str
    archs: tuple[str, ...]
    archs_from: str
    wheel: str
    compiled: bool
    level: str
    verdict: Verdict | None
    decisions: tuple[Decision, ...]
    commands: tuple[str, ...]
    seconds: dict[str, float]
    log: str = ""
    key: str = ""
    plan: Plan | None = None


def install(request: Request, options: InstallOptions) -> Installed:
    """Install the pinned commit into the target and verify it.

    Raises what :func:`~sagefix.workflows.situation.survey` and :func:`~sagefix.workflows.build.build` raise;
    :class:`NoWheelError` with ``no_build``; :class:`WheelhouseError` when the wheel is not what was kept;
    :class:`InstallError`; :class:`VerificationError` after what was installed before was put back.
    """
    clock = _Clock()
    situation = survey(request)
    target = situation.target
    require_writable(target.interpreter, break_system=options.break_system)
    installer = choose_installer(target.interpreter, options.installer)
    wheelhouse = open_wheelhouse(request.wheelhouse, create=not options.dry_run)
    decisions = _decide(situation, request, wheelhouse)
    clock.lap("choose")
    if options.dry_run:
        return _dry_run(situation, options, installer, wheelhouse, decisions, clock)
    made = _obtain(situation, request, options, wheelhouse, decisions)
    clock.lap("build" if made.compiled else "fetch")
    stash = Stash(situation.target.interpreter, situation.pin.project)
    with stash.locked():
        return _put_in(situation, options, installer, stash, wheelhouse, made, decisions, clock)


def _decide(situation: Situation, request: Request, wheelhouse: Wheelhouse) -> tuple[Decision, ...]:
    """Judge every wheel at hand, those of the wheelhouse and those of the indexes."""
    pin = situation.pin
    facts = list(wheelhouse.entries(pin.project))
    unreachable: RemoteIndexError | None = None
    for url in request.index:
        if request.offline and not url.startswith("file:"):
            raise RemoteIndexError(
                f"--offline and the index {url} exclude each other.", hint="Leave one of them out."
            )
        from sagefix.wheelhouse.remote import candidates

        try:
            with task(f"Reading {url}"):
                facts.extend(candidates(url, pin.project, tags=situation.target.interpreter.tags))
        except RemoteIndexError as error:
            unreachable = unreachable or error
    decisions = tuple(
        select(
            facts,
            situation.target,
            pin,
            situation.revision,
            fixes=situation.fix_level,
            allow_known_bad=request.allow_known_bad,
        )
    )
    if unreachable is not None:
        # Who names an index does not want to compile for minutes because it did not answer.
        if _best(decisions) is None:
            raise unreachable
        warn(f"{unreachable} A wheel at hand fits all the same.")
    return decisions


def _obtain(
    situation: Situation,
    request: Request,
    options: InstallOptions,
    wheelhouse: Wheelhouse,
    decisions: tuple[Decision, ...],
) -> _Obtained:
    """Return the best wheel at hand, else build it."""
    if not options.rebuild and (chosen := _best(decisions)) is not None:
        facts = chosen.facts
        if "://" in facts.where:
            facts = _take_in(wheelhouse, facts)
        return _Obtained(wheel=facts)
    if options.no_build:
        raise NoWheelError(
            f"No wheel at hand fits, and --no-build forbids to build one. {_refusals(decisions)}",
            hint="Leave --no-build out, or name an index that has it with --index URL.",
            details={"decisions": msgspec.to_builtins(decisions, enc_hook=str)},
        )
    # A build needs half of sagefix, an install from the wheelhouse none of that: a third of its start.
    from sagefix.workflows.build import build

    made = build(
        situation, wheelhouse, source=request.source, offline=request.offline, rebuild=options.rebuild
    )
    return _Obtained(wheel=made.wheel, compiled=made.compiled, log=made.log)


def _take_in(wheelhouse: Wheelhouse, facts: Facts) -> Facts:
    """Download a wheel of an index into the wheelhouse."""
    from sagefix.settings import cache_dir
    from sagefix.wheelhouse.remote import download

    path = download(facts, cache_dir() / "downloads")
    try:
        return wheelhouse.add(path, replace=True)
    finally:
        path.unlink(missing_ok=True)


def _put_in(
    situation: Situation,
    options: InstallOptions,
    installer: Installer,
    stash: Stash,
    wheelhouse: Wheelhouse,
    made: _Obtained,
    decisions: tuple[Decision, ...],
    clock: _Clock,
) -> Installed:
    pin, target = situation.pin, situation.target
    interpreter, wheel = target.interpreter, made.wheel
    stash.recover(installer)
    remove_incomplete(interpreter, pin.project)
    previous = installed(interpreter, pin.project)
    before = previous.version if previous else ""
    command = installer.install_command(
        interpreter, Path(wheel.where), again=before == wheel.version, break_system=options.break_system
    )
    already = not options.reinstall and not options.rebuild and _is_installed(interpreter, wheel)
    commands: tuple[str, ...] = ()
    level = _level(options.verify, target, pin.device)
    verdict = None
    if already and level is not None:
        verdict = _verify(situation, wheel, level, clock)
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
                verdict = _verify(situation, wheel, level, clock)
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
    )


def _verify(situation: Situation, wheel: Facts, level: Level, clock: _Clock) -> Verdict:
    from sagefix.proof.verify import verify

    verdict = verify(
        situation.pin,
        situation.target,
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


def _level(choice: VerifyChoice, target: Target, device: str) -> Level | None:
    """Decide how far to verify: an import needs the driver, which a machine that only prepares does not have."""
    if choice == "none":
        return None
    if choice != "auto":
        return choice
    if device == "cpu" or target.gpus or _driver_is_here():
        return "import"
    note(
        "There is no NVIDIA driver here, so the kernels cannot be loaded: verifying the files only (static)."
    )
    return "static"


def _driver_is_here() -> bool:
    import ctypes

    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _is_installed(interpreter: Interpreter, wheel: Facts) -> bool:
    """True when the target already has this very build: same version, same key in its record."""
    distribution = installed(interpreter, wheel.project)
    if distribution is None or distribution.version != wheel.version or wheel.record is None:
        return False
    text = distribution.read_text(RECORD_NAME)
    if text is None:
        return False
    try:
        record = msgspec.json.decode(text, type=type(wheel.record))
    except msgspec.MsgspecError:
        return False
    return record.key == wheel.record.key


def _best(decisions: tuple[Decision, ...]) -> Decision | None:
    return next((decision for decision in decisions if decision.accepted), None)


def _refusals(decisions: tuple[Decision, ...]) -> str:
    if not decisions:
        return "There is none of this project in the wheelhouse or on the indexes."
    shown = [f"{decision.facts.filename}: {'; '.join(decision.reasons)}" for decision in decisions[:5]]
    more = f" (and {len(decisions) - 5} more)" if len(decisions) > 5 else ""
    return "Refused: " + " | ".join(shown) + more


def _dry_run(
    situation: Situation,
    options: InstallOptions,
    installer: Installer,
    wheelhouse: Wheelhouse,
    decisions: tuple[Decision, ...],
    clock: _Clock,
) -> Installed:
    pin, interpreter = situation.pin, situation.target.interpreter
    chosen = None if options.rebuild else _best(decisions)
    plan: Plan | None = None
    commands = []
    if chosen is not None:
        version, filename, wheel = chosen.facts.version, chosen.facts.filename, chosen.facts.where
        key = chosen.facts.record.key if chosen.facts.record else ""
    elif options.no_build:
        raise NoWheelError(
            f"No wheel at hand fits, and --no-build forbids to build one. {_refusals(decisions)}"
        )
    else:
        from sagefix.workflows.build import plan_build, plan_command, require_tools

        plan, toolkit = plan_build(situation, fetch_tools=False)
        require_tools(situation, toolkit)
        version, filename, key = plan.identity.version, plan.wheel, plan.key
        wheel = str(wheelhouse.path_of(filename))
        commands.append(plan_command(plan))
    previous = installed(interpreter, pin.project)
    before = previous.version if previous else ""
    commands.append(
        quote(
            installer.install_command(
                interpreter,
                # One of an index is taken into the wheelhouse first.
                wheelhouse.path_of(filename),
                again=before == version,
                break_system=options.break_system,
            )
        )
    )
    return Installed(
        action="planned",
        project=pin.project,
        version=version,
        before=before,
        interpreter=interpreter.executable,
        archs=tuple(str(arch) for arch in situation.target.archs),
        archs_from=situation.target.archs_from,
        wheel=wheel,
        compiled=chosen is None,
        level=_level(options.verify, situation.target, pin.device) or "none",
        verdict=None,
        decisions=decisions,
        commands=tuple(commands),
        seconds=clock.laps,
        key=key,
        plan=plan,
    )


class _Obtained(NamedTuple):
    """The wheel to install, whether this command compiled it, and the log of that."""

    wheel: Facts
    compiled: bool = False
    log: str = ""


class _Clock:
    """Seconds between laps, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(self.laps.get(name, 0.0) + now - self._last, 3)
        self._last = now
