"""What an install would do, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagefix.installing.installer import Installer
from sagefix.installing.stash import installed
from sagefix.process import quote
from sagefix.wheelhouse.model import Decision
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.workflows.candidates import best, no_wheel
from sagefix.workflows.installed import Clock, Installed, InstallOptions
from sagefix.workflows.reach import reach
from sagefix.workflows.situation import Situation

if TYPE_CHECKING:
    from sagefix.building.plan import Plan


def plan_install(
    situation: Situation,
    options: InstallOptions,
    installer: Installer,
    wheelhouse: Wheelhouse,
    decisions: tuple[Decision, ...],
    clock: Clock,
) -> Installed:
    """Return the wheel, the commands and the level of an install. Nothing is changed.

    Raises what an install would raise before it changes anything: :class:`NoWheelError`, what planning a build
    raises, :class:`GpuError` for a level that cannot be reached here.
    """
    pin, interpreter = situation.pin, situation.target.interpreter
    reached = reach(options.verify, pin, situation.target)
    chosen = None if options.rebuild else best(decisions)
    plan: Plan | None = None
    commands = []
    if chosen is not None:
        version, filename, wheel = chosen.facts.version, chosen.facts.filename, chosen.facts.where
        key = chosen.facts.record.key if chosen.facts.record else ""
    elif options.no_build or options.require_proof:
        raise no_wheel(decisions, require_proof=options.require_proof)
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
        level=reached.level or "none",
        verdict=None,
        decisions=decisions,
        commands=tuple(commands),
        seconds=clock.laps,
        key=key,
        plan=plan,
        numbers=f"Nothing would prove the numbers: {reached.why}." if reached.why else "",
    )
