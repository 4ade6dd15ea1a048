"""From a situation to a wheel that is kept: plan, build, check, wheelhouse."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sagefix.building.backend import Workplace, require_disk, run_backend
from sagefix.building.cross import cross_variables
from sagefix.building.objects import Objects, find_object_cache
from sagefix.building.plan import Plan, make_plan
from sagefix.checks import Check, failures
from sagefix.errors import WheelError, WheelhouseError
from sagefix.files import aside, disk_errors, make_cache_dir
from sagefix.pins.model import Pin
from sagefix.process import quote
from sagefix.progress import note, task
from sagefix.settings import cache_dir
from sagefix.source.export import commit_time, export
from sagefix.source.fetch import fetch
from sagefix.targets.compilers import find_c_compiler
from sagefix.targets.cross.compilers import tool_environment
from sagefix.targets.cuda import Toolkit, find_host_compiler, require_toolkit
from sagefix.targets.host import Jobs, compile_jobs, cores, memory
from sagefix.targets.needs import require_packages, require_python_h
from sagefix.targets.toolchain import choose_toolkit
from sagefix.wheelhouse.model import PROOFS_SUFFIX
from sagefix.wheelhouse.proving import CPU, FAILED, standing_on
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.model import Facts
from sagefix.wheels.statement import SUFFIX as STATEMENT_SUFFIX
from sagefix.workflows.checked import check_build
from sagefix.workflows.recording import Build, finish_build, hash_sources, now
from sagefix.workflows.situation import Situation

# The exported source is under 1 MB and the objects of one arch about 60 MB (measured at 68de379 for 9.0).
DISK_NEEDED = 1_000_000_000


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """How a wheel came to hand. ``compiled`` is false when it was there already; then ``seconds`` is 0.

    ``plan`` is None when a wheel at hand was taken without planning a build, ``objects`` without an object cache."""

    wheel: Facts
    plan: Plan | None
    compiled: bool
    seconds: float = 0.0
    jobs: Jobs | None = None
    objects: Objects | None = None
    log: str = ""
    checks: tuple[Check, ...] = ()


def plan_build(situation: Situation, *, fetch_tools: bool = True) -> tuple[Plan, Toolkit | None]:
    """Find the compilers and decide the plan; a CUDA toolkit that is not here is fetched.

    Without ``fetch_tools`` it is only looked up, and the toolkit that comes back is not ``here``.
    """
    interpreter = situation.target.interpreter
    require_packages(interpreter.builder, situation.pin.build.requires)
    cuda = situation.pin.device == "cuda"
    tools = tool_environment(interpreter, os.environ)
    compiler = find_host_compiler(tools) if cuda else find_c_compiler(tools)
    toolkit = _toolkit(situation, tools, fetch=fetch_tools) if cuda else None
    plan = make_plan(
        situation.pin,
        situation.revision,
        situation.target,
        toolkit=toolkit,
        compiler=compiler,
        fixes=situation.fixes,
        manylinux=situation.manylinux,
        tools=tools,
    )
    if plan.cross is not None:
        note(f"Cross build for {plan.cross.platform} with {plan.cross.cc} and {plan.python}")
    return plan, toolkit


def _toolkit(situation: Situation, tools: Mapping[str, str], *, fetch: bool) -> Toolkit:
    toolkit, _ = choose_toolkit(
        situation.cuda,
        situation.target.interpreter,
        situation.pin,
        situation.recipe,
        situation.target.archs,
        tools,
        offline=situation.offline,
        fetch=fetch,
    )
    return toolkit


def require_tools(situation: Situation, toolkit: Toolkit | None) -> None:
    """Raise before minutes are spent when the target or the toolkit cannot do the build."""
    require_python_h(situation.target.interpreter)
    if toolkit is not None and toolkit.here:
        require_toolkit(
            toolkit,
            situation.target.interpreter,
            situation.pin,
            situation.recipe,
            situation.target.archs,
            tool_environment(situation.target.interpreter, os.environ),
        )


def build(
    situation: Situation, wheelhouse: Wheelhouse, *, source: str | None, offline: bool, rebuild: bool
) -> Made:
    """Return the wheel of the situation, from the wheelhouse if one with the very same key is there.

    Two processes that want one key meet at its lock: the second takes what the first has made. Raises
    :class:`BuildError` when compiling fails and :class:`WheelError` when what came out is not what the pin
    promises; in both cases nothing is kept but the log.
    """
    plan, toolkit = plan_build(situation)
    for text in plan.notes:
        note(text)
    if not rebuild and (kept := _kept(wheelhouse, plan)) is not None:
        return Made(wheel=kept, plan=plan, compiled=False)
    require_tools(situation, toolkit)
    if not os.access(wheelhouse.path, os.W_OK):
        raise WheelhouseError(
            f"{wheelhouse.path} is not writable, so that a build could not be kept there.",
            hint="Choose another folder with --wheelhouse or SAGEFIX_WHEELHOUSE.",
        )
    with Workplace(plan) as workplace:
        if (workplace.waited or not rebuild) and (kept := _kept(wheelhouse, plan)) is not None:
            return Made(wheel=kept, plan=plan, compiled=False)
        finished = sorted(workplace.final.glob("*.whl"))
        if workplace.waited and finished:
            # The other process kept its result in another wheelhouse.
            return Made(wheel=wheelhouse.add(finished[0], replace=True), plan=plan, compiled=False)
        return _compile(situation, plan, toolkit, workplace, wheelhouse, source=source, offline=offline)


def _compile(
    situation: Situation,
    plan: Plan,
    toolkit: Toolkit | None,
    workplace: Workplace,
    wheelhouse: Wheelhouse,
    *,
    source: str | None,
    offline: bool,
) -> Made:
    pin, revision = situation.pin, situation.revision
    fetched = situation.fetched or fetch(
        pin, revision.commit, tree=revision.tree, origin=source, offline=offline
    )
    started = now()
    workplace.clear()
    require_disk(workplace.root, DISK_NEEDED)
    export(fetched, pin, workplace.root / "src")
    sources = hash_sources(workplace.root / "src")
    epoch = commit_time(fetched)
    jobs = _jobs(pin, workplace.root / "src", len(plan.identity.archs))
    log = make_cache_dir(cache_dir() / "logs") / f"{Path(plan.wheel).stem}-{plan.key}.log"
    note(
        f"Compiling {pin.project} {revision.commit[:7]} with {jobs.count} jobs ({jobs.limited_by}); log: {log}"
    )
    objects = find_object_cache(situation.object_cache, plan.identity, os.environ)
    built = run_backend(plan, workplace, jobs, log, source_date_epoch=epoch, object_cache=objects)
    with task("Checking the wheel"):
        finished = Build(
            situation=situation,
            plan=plan,
            toolkit=toolkit,
            built=built,
            fetched=fetched,
            sources=sources,
            root=workplace.root,
            epoch=epoch,
            started=started,
            asked_source=source,
        )
        workplace.final.mkdir(parents=True)
        final = finish_build(finished, workplace.final)
        checks = check_build(final, plan, situation.target, toolkit, wheelhouse)
    bad = failures(checks)
    if bad:
        raise WheelError(
            f"{final.name} was built, but is not what the pin promises, and was not kept: "
            + " ".join(f"{check.name}: {check.found}." for check in bad),
            hint=" ".join(check.fix for check in bad if check.fix) or f"The whole log: {log}",
            details={"log": str(log), "checks": msgspec.to_builtins(checks)},
        )
    facts = wheelhouse.add(final, replace=True)
    workplace.sweep(keep=("final",))
    return Made(
        wheel=facts,
        plan=plan,
        compiled=True,
        seconds=built.seconds,
        jobs=jobs,
        objects=built.objects,
        log=str(log),
        checks=checks,
    )


def _kept(wheelhouse: Wheelhouse, plan: Plan) -> Facts | None:
    """Return the wheelhouse's wheel with the plan's key, if it has not failed a verification for its archs."""
    kinds = [arch.partition("+")[0] for arch in plan.identity.archs] or [CPU]
    for facts in wheelhouse.entries(plan.project):
        if not facts.record or facts.record.key != plan.key:
            continue
        if not standing_on(facts, kinds).startswith(FAILED):
            return facts
    return None


def _jobs(pin: Pin, source: Path, archs: int) -> Jobs:
    sources = sum(1 for path in source.rglob("*") if path.suffix in {".cu", ".cpp", ".cc", ".cxx", ".c"})
    limit = os.environ.get("MAX_JOBS")
    return compile_jobs(
        cores=cores(),
        memory_available=memory().available,
        sources=max(1, sources),
        memory_gib=pin.build.memory_gib,
        archs=archs,
        max_jobs_env=limit,
    )


def plan_command(plan: Plan) -> str:
    """Return what a build of the plan comes to, as one would type it in the source; the shim does the rest."""
    variables = {"TORCH_CUDA_ARCH_LIST": ";".join(plan.identity.archs), "CUDA_HOME": plan.toolkit}
    if plan.cross is not None:
        variables |= cross_variables(plan.cross, {}, Path())
    words = [f"{name}={shlex.quote(value)}" for name, value in variables.items() if value]
    return " ".join(
        [*words, quote([plan.python, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "."])]
    )


def copy_out(wheel: Facts, folder: Path) -> Path:
    """Copy a kept wheel, with its statement and its proofs if it has any, into a folder of the user's.

    Returns where it lies now.
    """
    with disk_errors(folder, "copy the wheel"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (wheel.filename, wheel.filename + STATEMENT_SUFFIX, wheel.filename + PROOFS_SUFFIX):
            kept = Path(wheel.where).with_name(name)
            if kept.is_file():
                with aside(folder / name) as temporary:
                    shutil.copyfile(kept, temporary)
            else:
                # Of a wheel that was there before.
                (folder / name).unlink(missing_ok=True)
    return folder / wheel.filename
