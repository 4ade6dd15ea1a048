"""Is what is installed what `install` would put there: its commit, its fixes, its torch, its proofs; and is there more?

Nothing is installed, built or computed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from sagefix.archs import join_archs
from sagefix.checks import Check, failures
from sagefix.errors import GpuError
from sagefix.pins.load import load_pin
from sagefix.pins.model import Pin
from sagefix.proof.extensions import read_modules, resolve, torch_symbols
from sagefix.proof.fit import check_record, check_torch
from sagefix.proof.identity import FIX, check_version, identify
from sagefix.proof.installed import Installed, find_copies, read_imported
from sagefix.proof.static import check_copies
from sagefix.targets.interpreter import find_python, probe
from sagefix.targets.model import Interpreter, Target
from sagefix.wheelhouse.proving import FAILED, in_words, standing_on
from sagefix.wheelhouse.select import kinds_of
from sagefix.wheels.model import Facts, Proof
from sagefix.workflows.kept import wheel_of
from sagefix.workflows.situation import Request, find_target
from sagefix.workflows.upstream import Commit, Upstream, ask_upstream, standing_of

Status = Literal["up to date", "outdated", "not installed"]


class Outdated(msgspec.Struct, frozen=True, kw_only=True):
    """What is installed beside what could be.

    ``status`` is ``outdated`` when :func:`~sagefix.workflows.install.install` would put something better known there;
    ``reasons`` say why. ``installed`` is the version (empty: none), ``commits`` those that it may be of, full ones
    where they are known. ``built_by`` says who made or installed it. ``pin`` is the pinned commit with what is known
    of it for ``archs``, ``fix_level`` the level of the pin's fixes, ``installed_fix_level`` that of the installation.
    ``wheel`` is the kept wheel that it came from (empty: none is kept), with its ``proofs``, oldest first.
    ``advice`` are commands, each with what it is for.
    """

    status: Status
    reasons: tuple[str, ...]
    project: str
    interpreter: str
    archs: tuple[str, ...]
    archs_from: str
    torch: str
    installed: str
    commits: tuple[str, ...]
    built_by: str
    installed_fix_level: int
    pin: Commit
    fix_level: int
    wheel: str
    proofs: tuple[Proof, ...]
    upstream: Upstream
    checks: tuple[Check, ...]
    advice: tuple[str, ...]


def outdated(request: Request) -> Outdated:
    """Compare what is installed in the target with the pin and with what upstream, or ``request.source``, has.

    A source that does not answer is told, and no error. Raises what finding the target raises: :class:`PinError`,
    :class:`TargetError`, :class:`UsageError`.
    """
    pin = load_pin(request.pin)
    interpreter = probe(find_python(request.python))
    copies = find_copies(pin, interpreter)
    installed = read_imported(pin, copies)
    target = _target(pin, interpreter, installed, request)
    commits: tuple[str, ...] = ()
    pinned = standing_of(pin, pin.source.commit, target.archs)
    checks: list[Check] = [_pin(pin, pinned)]
    wheel: Facts | None = None
    if installed is None:
        checks.append(check_copies(pin, interpreter, copies))
    else:
        identity = identify(pin, installed)
        commits = identity.commits
        text = f"{installed.version or 'No version'}, {_built_by(installed)}."
        checks.append(Check(name="installed", status="ok", found=text))
        checks += _only_if_wrong(check_copies(pin, interpreter, copies))
        checks.append(_age(pin, commits, check_version(pin, installed, identity, target.archs, None)))
        checks += _only_if_wrong(check_record(target, installed))
        checks += _fixes(pin, installed)
        undefined = torch_symbols(resolve(read_modules(installed, interpreter), interpreter))
        if (torch := check_torch(pin, target, installed, undefined)) is not None:
            checks.append(torch)
        wheel = wheel_of(interpreter, pin.project, request.wheelhouse)[1]
        checks.append(_verified(pin, target, wheel))
    upstream = ask_upstream(pin, commits, target.archs, source=request.source, offline=request.offline)
    checks.append(_upstream(upstream))
    # The rest is told; a newer commit is a choice, since the pin is one that works.
    reasons = tuple(f"{check.name}: {check.found}" for check in failures(checks))
    status: Status = "not installed" if installed is None else "outdated" if reasons else "up to date"
    return Outdated(
        status=status,
        reasons=reasons,
        project=pin.project,
        interpreter=interpreter.executable,
        archs=tuple(str(arch) for arch in target.archs),
        archs_from=target.archs_from,
        torch=interpreter.torch.version if interpreter.torch is not None else "",
        installed=installed.version if installed is not None else "",
        commits=commits,
        built_by=_built_by(installed),
        installed_fix_level=installed.label.fix if installed is not None else 0,
        pin=pinned,
        fix_level=pin.fix_level,
        wheel=wheel.where if wheel is not None else "",
        proofs=wheel.proofs if wheel is not None else (),
        upstream=upstream,
        checks=tuple(checks),
        advice=_advice(pin, commits, checks, upstream),
    )


def _target(pin: Pin, interpreter: Interpreter, installed: Installed | None, request: Request) -> Target:
    """Return the target with the archs of its GPUs; without a GPU, those that were built for."""
    try:
        return find_target(pin, pin.recipe_named(_recipe_name(pin)), interpreter, request.arch)
    except GpuError:
        archs = installed.archs() if installed is not None else ()
        return Target(
            interpreter=interpreter,
            archs=archs,
            archs_from="what is installed was built for" if archs else "",
        )


def _pin(pin: Pin, pinned: Commit) -> Check:
    fixes = f" with fixes of level {pin.fix_level}" if pin.fix_level else ""
    fine = pinned.standing in ("good", "unknown")
    return Check(
        name="pin",
        status="ok" if fine else "warning",
        found=f"{pinned.commit[:7]}{fixes}. {pinned.words}",
        fix="" if fine else "Give another commit: `sagefix install --ref COMMIT`.",
        sources=pinned.sources,
    )


def _recipe_name(pin: Pin) -> str:
    ref = pin.ref_of(pin.source.commit)
    return ref.recipe if ref is not None else pin.recipe[0].name


def _only_if_wrong(check: Check) -> list[Check]:
    return [check] if check.status == "failure" else []


def _age(pin: Pin, commits: tuple[str, ...], version: Check) -> Check:
    """Judge the commit: not known to be good is as much a reason to install the pin as known to be older."""
    if version.status == "warning":
        return msgspec.structs.replace(version, status="failure")
    pinned = pin.ref_of(pin.source.commit)
    dates = [ref.date for commit in commits if (ref := pin.ref_of(commit)) is not None and ref.date]
    if (
        version.status != "ok"
        or pin.source.commit in commits
        or pinned is None
        or not pinned.date
        or not dates
    ):
        return version
    if _moment(max(dates, key=_moment)) >= _moment(pinned.date):
        return version
    return msgspec.structs.replace(
        version, status="failure", found=f"{version.found} It is older than the pin.", fix=FIX
    )


def _moment(date: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(date).timestamp()


def _fixes(pin: Pin, installed: Installed) -> list[Check]:
    """Compare the level of fixes: a wheel of another one is not what `install` takes."""
    has, wanted = installed.label.fix, pin.fix_level
    if not wanted and not has:
        return []
    names = ", ".join(fix.name for fix in pin.fix)
    if has >= wanted:
        return [Check(name="fixes", status="ok", found=f"Level {has}: {names}.")]
    return [
        Check(
            name="fixes",
            status="failure",
            found=f"Built with fixes of level {has}, and the pin has level {wanted} ({names}). "
            + " ".join(fix.cures for fix in pin.fix),
            fix=FIX,
            sources=tuple(link for fix in pin.fix for link in fix.sources),
        )
    ]


def _verified(pin: Pin, target: Target, wheel: Facts | None) -> Check:
    """Say what the verifications of the wheel came to, for this kind of GPU where one is known."""
    name = "verified"
    if wheel is None:
        return Check(
            name=name,
            status="skipped",
            found="The wheelhouse does not have the wheel that it came from, so no verification of it is kept.",
            fix="`sagefix verify` looks at it; `sagefix save-wheel` keeps it.",
        )
    if not wheel.proofs:
        return Check(
            name=name, status="warning", found="Never verified.", fix="Run `sagefix verify --level numerics`."
        )
    kinds = kinds_of(target, pin)
    here = standing_on(wheel, kinds)
    last = max(proof.when for proof in wheel.proofs)
    told = f"{in_words(wheel.proofs)}; last on {last[:10]}"
    if here.startswith(FAILED):
        return Check(
            name=name,
            status="failure",
            found=f"It failed level {here.removeprefix(FAILED)} on this kind of GPU: {told}.",
            fix="`sagefix install` never takes this wheel again here; it builds another.",
        )
    torches = {proof.torch for proof in wheel.proofs if proof.torch}
    torch = target.interpreter.torch.version if target.interpreter.torch is not None else ""
    if torch and torches and torch not in torches:
        told += f", with torch {', '.join(sorted(torches))}; {torch} is installed"
    return Check(name=name, status="ok", found=f"{told[0].upper()}{told[1:]}.")


def _upstream(found: Upstream) -> Check:
    name = "upstream"
    if found.head is None:
        return Check(name=name, status="skipped", found=f"Not known: {found.why_not}")
    head = found.head
    date = f" of {head.date[:10]}" if head.date else ""
    if found.after_installed == 0:
        told = "That is what is installed."
    elif found.after_pin == 0:
        told = "That is the pin."
    else:
        ahead = f" is {found.after_pin} commits after the pin" if found.after_pin is not None else ""
        told = f"It{ahead}. {head.words}" if ahead else f"{head.words} {found.why_not}"
    text = f"The newest commit of {found.source} is {head.commit[:7]}{date}. {told}"
    good = found.newest_good
    if good is not None and good.commit != head.commit:
        text += f" The newest that is known to be good is {good.commit[:7]} of {good.date[:10]}. {good.words}"
    return Check(name=name, status="ok", found=text, sources=head.sources)


def _built_by(installed: Installed | None) -> str:
    if installed is None:
        return ""
    record = installed.record
    if record is not None:
        archs = f" for {join_archs(installed.archs())}" if installed.archs() else ""
        return f"{record.origin} by sagefix {record.sagefix}{archs}"
    who = (
        f"installed by {installed.installer}"
        if installed.installer
        else "nobody says by whom it was installed"
    )
    return f"not built by sagefix: {who}{', from a package index' if installed.from_index else ''}"


def _advice(pin: Pin, commits: tuple[str, ...], checks: list[Check], upstream: Upstream) -> tuple[str, ...]:
    advice = []
    if failures(checks):
        advice.append("`sagefix install` puts the pinned commit there, built for this torch.")
        fine = all(check.status == "ok" for check in checks if check.name == "version")
        if commits and fine and pin.source.commit not in commits:
            advice.append(f"`sagefix install --ref {commits[0][:7]}` stays at the commit that is there.")
    if (good := upstream.newest_good) is not None and upstream.after_installed != 0:
        advice.append(
            f"`sagefix install --ref {good.commit[:7]}` takes the newer commit that is known to be good."
        )
    return tuple(advice)
