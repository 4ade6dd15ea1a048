"""From a situation to a wheel that is kept: plan, build, check, wheelhouse."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import msgspec

from sagefix import __version__
from sagefix.building.backend import Built, Workplace, require_disk, run_backend
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
from sagefix.source.model import Fetched
from sagefix.targets.compilers import find_c_compiler
from sagefix.targets.cuda import Toolkit, find_host_compiler, find_toolkit, library_folders, require_toolkit
from sagefix.targets.host import Jobs, compile_jobs, cores, memory
from sagefix.targets.model import Target
from sagefix.targets.needs import require_packages, require_python_h
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.checking import check_wheel
from sagefix.wheels.elf import glibc_floor, read_extensions
from sagefix.wheels.finish import finish_wheel
from sagefix.wheels.model import Facts, Record
from sagefix.workflows.situation import Situation

# The exported source is under 1 MB and the objects of one arch about 60 MB (measured at 68de379 for 9.0).
DISK_NEEDED = 1_000_000_000


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """How a wheel came to hand. ``compiled`` is false when it was there already; then ``seconds`` is 0.

    ``plan`` is None when a wheel at hand was taken without planning a build."""

    wheel: Facts
    plan: Plan | None
    compiled: bool
    seconds: float = 0.0
    jobs: Jobs | None = None
    log: str = ""
    checks: tuple[Check, ...] = ()


def plan_build(situation: Situation) -> tuple[Plan, Toolkit | None]:
    """Find the compilers and decide the plan. Nothing is compiled, not even on trial."""
    require_packages(situation.target.interpreter, situation.pin.build.requires)
    cuda = situation.pin.device == "cuda"
    compiler = find_host_compiler(os.environ) if cuda else find_c_compiler(os.environ)
    toolkit = find_toolkit(None, os.environ) if cuda else None
    plan = make_plan(situation.pin, situation.revision, situation.target, toolkit=toolkit, compiler=compiler)
    return plan, toolkit


def require_tools(situation: Situation, toolkit: Toolkit | None) -> None:
    """Raise before minutes are spent when the target or the toolkit cannot do the build."""
    require_python_h(situation.target.interpreter)
    if toolkit is not None:
        require_toolkit(
            toolkit,
            situation.target.interpreter,
            situation.pin,
            situation.recipe,
            situation.target.archs,
            os.environ,
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
    with Workplace(plan.key) as workplace:
        if (workplace.waited or not rebuild) and (kept := _kept(wheelhouse, plan)) is not None:
            return Made(wheel=kept, plan=plan, compiled=False)
        finished = workplace.root / "final" / plan.wheel
        if workplace.waited and finished.is_file():
            # The other process kept its result in another wheelhouse.
            return Made(wheel=wheelhouse.add(finished, replace=True), plan=plan, compiled=False)
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
    workplace.clear()
    require_disk(workplace.root, DISK_NEEDED)
    export(fetched, pin, workplace.root / "src")
    epoch = commit_time(fetched)
    jobs = _jobs(pin, workplace.root / "src", len(plan.identity.archs))
    log = make_cache_dir(cache_dir() / "logs") / f"{Path(plan.wheel).stem}-{plan.key}.log"
    note(
        f"Compiling {pin.project} {revision.commit[:7]} with {jobs.count} jobs ({jobs.limited_by}); log: {log}"
    )
    built = run_backend(plan, workplace, jobs, log, source_date_epoch=epoch)
    with task("Checking the wheel"):
        record = _record(pin, plan, situation.target, built, fetched, epoch)
        (workplace.root / "final").mkdir(exist_ok=True)
        final = finish_wheel(
            built.wheel, workplace.root / "final", record=record, requires=plan.requires, epoch=epoch
        )
        checks = _check(final, plan, situation.target, toolkit)
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
        wheel=facts, plan=plan, compiled=True, seconds=built.seconds, jobs=jobs, log=str(log), checks=checks
    )


def _kept(wheelhouse: Wheelhouse, plan: Plan) -> Facts | None:
    """Return the wheelhouse's wheel with the plan's key, if it has not failed a verification."""
    for facts in wheelhouse.entries(plan.project):
        if facts.record and facts.record.key == plan.key and not facts.proof.startswith("failed"):
            return facts
    return None


def _jobs(pin: Pin, source: Path, archs: int) -> Jobs:
    sources = sum(1 for path in source.rglob("*") if path.suffix in {".cu", ".cpp", ".cc", ".cxx", ".c"})
    limit = os.environ.get("MAX_JOBS")
    return compile_jobs(
        cores=cores(),
        memory_available=memory().available,
        sources=max(1, sources),
        # nvcc compiles the archs of one file at the same time (--threads), each as large as one alone.
        memory_gib=pin.build.memory_gib * max(1, archs),
        max_jobs_env=limit,
    )


def _check(wheel: Path, plan: Plan, target: Target, toolkit: Toolkit | None) -> tuple[Check, ...]:
    return check_wheel(
        wheel,
        extensions=plan.identity.extensions,
        archs=target.archs,
        gencodes=plan.identity.gencodes,
        libraries=library_folders(target.interpreter, toolkit, os.environ),
        machine=target.interpreter.machine,
        ext_suffix=target.interpreter.ext_suffix,
    )


def _record(pin: Pin, plan: Plan, target: Target, built: Built, fetched: Fetched, epoch: int) -> Record:
    identity, packages = plan.identity, target.interpreter.packages
    tools = {
        "python": target.interpreter.version,
        "nvcc": identity.nvcc,
        "host compiler": identity.host_compiler,
        **{name: packages.get(name, "") for name in ("setuptools", "wheel", "ninja", "torch")},
    }
    return Record(
        origin="built",
        pin=pin.name,
        project=pin.project,
        version=identity.version,
        commit=identity.commit,
        tree=fetched.tree,
        recipe=plan.recipe,
        archs=identity.archs,
        extensions=identity.extensions,
        python_tag=identity.python_tag,
        abi_tag=identity.abi_tag,
        platform_tag=identity.platform_tag,
        glibc=glibc_floor(read_extensions(built.wheel)),
        torch=identity.torch,
        cuda=identity.cuda,
        cxx11_abi=identity.cxx11_abi,
        fixes=identity.fixes,
        patches=identity.patches,
        key=plan.key,
        tools={name: version for name, version in tools.items() if version},
        environment=identity.environment,
        source_url=fetched.origin,
        source_date_epoch=epoch,
        sagefix=__version__,
    )


def plan_command(plan: Plan) -> str:
    """Return what a build of the plan comes to, as one would type it in the source; the shim does the rest."""
    variables = {"TORCH_CUDA_ARCH_LIST": ";".join(plan.identity.archs), "CUDA_HOME": plan.toolkit}
    words = [f"{name}={shlex.quote(value)}" for name, value in variables.items() if value]
    return " ".join(
        [*words, quote([plan.python, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "."])]
    )


def copy_out(wheel: Facts, folder: Path) -> Path:
    """Copy a kept wheel into a folder of the user's; return where it lies now."""
    with disk_errors(folder, "copy the wheel"):
        folder.mkdir(parents=True, exist_ok=True)
        with aside(folder / wheel.filename) as temporary:
            shutil.copyfile(wheel.where, temporary)
    return folder / wheel.filename
