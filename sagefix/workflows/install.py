"""From the pinned commit to an installation that has been checked; what was there before comes back if it fails."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

import msgspec

from sagefix.errors import NoWheelError, RemoteIndexError, SagefixError, VerificationError
from sagefix.installing.installer import Installer, InstallerChoice, call, choose_installer, require_writable
from sagefix.installing.stash import Stash, installed, remove_incomplete
from sagefix.process import quote
from sagefix.progress import note, task, warn
from sagefix.proof.model import Level, Verdict
from sagefix.proof.verify import verify
from sagefix.targets.model import Interpreter, Target
from sagefix.wheelhouse.model import Decision
from sagefix.wheelhouse.remote import candidates, download
from sagefix.wheelhouse.select import select
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.model import RECORD_NAME, Facts
from sagefix.workflows.build import Made, build, plan_build, require_tools
from sagefix.workflows.situation import Request, Situation, open_wheelhouse, survey

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
    (empty: none). ``commands`` are those that were or would be run. ``seconds`` per step, by name.
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


def install(request: Request, options: InstallOptions) -> Installed:
    """Install the pinned commit into the target and verify it.

    Raises what :func:`~sagefix.workflows.situation.survey` and :func:`~sagefix.workflows.build.build` raise;
    :class:`NoWheelError` with ``no_build``; :class:`InstallError`; :class:`VerificationError` after what was
    installed before was put back.
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
        return _dry_run(situation, options, installer, decisions, clock)
    made = _obtain(situation, request, options, wheelhouse, decisions)
    clock.lap("build" if made.compiled else "fetch")
    return _put_in(situation, options, installer, wheelhouse, made, decisions, clock)


def _decide(situation: Situation, request: Request, wheelhouse: Wheelhouse) -> tuple[Decision, ...]:
    """Judge every wheel at hand, those of the wheelhouse and those of the indexes."""
    pin = situation.pin
    facts = list(wheelhouse.entries(pin.project))
    for url in request.index:
        if request.offline and not url.startswith("file:"):
            raise RemoteIndexError(
                f"--offline and the index {url} exclude each other.", hint="Leave one of them out."
            )
        with task(f"Reading {url}"):
            facts.extend(candidates(url, pin.project, tags=situation.target.interpreter.tags))
    return tuple(
        select(
            facts,
            situation.target,
            pin,
            situation.revision,
            fixes=situation.fix_level,
            allow_known_bad=request.allow_known_bad,
        )
    )


def _obtain(
    situation: Situation,
    request: Request,
    options: InstallOptions,
    wheelhouse: Wheelhouse,
    decisions: tuple[Decision, ...],
) -> Made:
    """Return the best wheel at hand, else build it."""
    if not options.rebuild and (chosen := _best(decisions)) is not None:
        facts = chosen.facts
        if "://" in facts.where:
            facts = _take_in(wheelhouse, facts)
        return Made(wheel=facts, plan=None, compiled=False)
    if options.no_build:
        raise NoWheelError(
            f"No wheel at hand fits, and --no-build forbids to build one. {_refusals(decisions)}",
            hint="Leave --no-build out, or name an index that has it with --index URL.",
            details={"decisions": msgspec.to_builtins(decisions, enc_hook=str)},
        )
    return build(
        situation, wheelhouse, source=request.source, offline=request.offline, rebuild=options.rebuild
    )


def _take_in(wheelhouse: Wheelhouse, facts: Facts) -> Facts:
    """Download a wheel of an index into the wheelhouse."""
    from sagefix.settings import cache_dir

    path = download(facts, cache_dir() / "downloads")
    try:
        return wheelhouse.add(path, replace=True)
    finally:
        path.unlink(missing_ok=True)


def _put_in(
    situation: Situation,
    options: InstallOptions,
    installer: Installer,
    wheelhouse: Wheelhouse,
    made: Made,
    decisions: tuple[Decision, ...],
    clock: _Clock,
) -> Installed:
    pin, target = situation.pin, situation.target
    interpreter, wheel = target.interpreter, made.wheel
    stash = Stash(interpreter, pin.project)
    stash.recover(installer)
    remove_incomplete(interpreter, pin.project)
    previous = installed(interpreter, pin.project)
    before = previous.version if previous else ""
    command = installer.install_command(interpreter, Path(wheel.where), break_system=options.break_system)
    already = not options.reinstall and not options.rebuild and _is_installed(interpreter, wheel)
    commands: tuple[str, ...] = ()
    if not already:
        stash.take()
        try:
            with task(f"Installing {wheel.filename} with {installer.kind}"):
                call(command, f"install {wheel.filename}")
        except BaseException:
            stash.put_back(installer, break_system=options.break_system)
            raise
        commands = (quote(command),)
        clock.lap("install")
    level = _level(options.verify, target, pin.device)
    verdict = None
    if level is not None:
        try:
            verdict = verify(pin, target, level=level, revision=situation.revision, wheel_sha256=wheel.sha256)
        except BaseException:
            if not already:
                stash.put_back(installer, break_system=options.break_system)
            raise
        clock.lap("verify")
        _keep_proof(wheelhouse, wheel, verdict)
        if not verdict.passed:
            raise _refused(verdict, wheel, stash, installer, already=already, before=before, options=options)
    if not already:
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


def _refused(
    verdict: Verdict,
    wheel: Facts,
    stash: Stash,
    installer: Installer,
    *,
    already: bool,
    before: str,
    options: InstallOptions,
) -> VerificationError:
    """Put back what was there, and say so in the error."""
    if already:
        outcome = "It was installed before this command, and still is."
    else:
        stash.put_back(installer, break_system=options.break_system)
        outcome = f"{before} was put back." if before else "It was removed again."
    failed = [check for check in verdict.checks if check.status == "failure"]
    return VerificationError(
        f"{wheel.filename} does not pass the level {verdict.level!r}: "
        + " ".join(f"{check.name}: {check.found}" for check in failed)
        + f" {outcome}",
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


def _keep_proof(wheelhouse: Wheelhouse, wheel: Facts, verdict: Verdict) -> None:
    """Write the verdict beside the wheel; a read-only wheelhouse is told, not fatal."""
    try:
        wheelhouse.record_proof(
            wheel.filename, msgspec.to_builtins(verdict), level=verdict.level, passed=verdict.passed
        )
    except SagefixError as error:
        warn(f"The proof was not kept: {error}")


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
    decisions: tuple[Decision, ...],
    clock: _Clock,
) -> Installed:
    pin, interpreter = situation.pin, situation.target.interpreter
    chosen = None if options.rebuild else _best(decisions)
    key = version = wheel = ""
    if chosen is not None:
        version, wheel = chosen.facts.version, chosen.facts.where
        key = chosen.facts.record.key if chosen.facts.record else ""
    elif options.no_build:
        raise NoWheelError(
            f"No wheel at hand fits, and --no-build forbids to build one. {_refusals(decisions)}"
        )
    else:
        plan, toolkit = plan_build(situation, fetch_tools=False)
        require_tools(situation, toolkit)
        version, wheel, key = plan.identity.version, plan.wheel, plan.key
    previous = installed(interpreter, pin.project)
    return Installed(
        action="planned",
        project=pin.project,
        version=version,
        before=previous.version if previous else "",
        interpreter=interpreter.executable,
        archs=tuple(str(arch) for arch in situation.target.archs),
        archs_from=situation.target.archs_from,
        wheel=wheel,
        compiled=chosen is None,
        level=_level(options.verify, situation.target, pin.device) or "none",
        verdict=None,
        decisions=decisions,
        commands=(
            quote(installer.install_command(interpreter, Path(wheel), break_system=options.break_system)),
        ),
        seconds=clock.laps,
        key=key,
    )


class _Clock:
    """Seconds between laps, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
