"""Everything that decides whether ``install`` will succeed, looked at before ten minutes are spent."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from sagefix.archs import join_archs
from sagefix.building.objects import check_object_cache
from sagefix.checks import Check, failures
from sagefix.errors import SagefixError
from sagefix.files import human_size
from sagefix.installing.installer import choose_installer, require_writable
from sagefix.pins.load import load_pin
from sagefix.pins.model import Pin, Recipe, Revision
from sagefix.pins.refs import refuse_known_bad
from sagefix.progress import SilentReporter, reporting
from sagefix.proof.verify import verify
from sagefix.settings import cache_dir
from sagefix.source.fetch import fetch, resolve
from sagefix.targets.choice import check_driver, check_gpus, choose_archs
from sagefix.targets.gpus import find_gpus
from sagefix.targets.host import check_disk, check_memory, compile_jobs, cores, memory
from sagefix.targets.interpreter import find_python, probe
from sagefix.targets.model import Gpus, Interpreter, Target
from sagefix.targets.needs import check_packages, check_python, check_python_h, check_torch
from sagefix.targets.toolchain import check_toolchain
from sagefix.workflows.build import DISK_NEEDED
from sagefix.workflows.programs import check_customizations, check_programs
from sagefix.workflows.situation import Request, find_revision, open_wheelhouse, wheelhouse_path

T = TypeVar("T")


def examine(request: Request, programs: Sequence[Path] = ()) -> tuple[Check, ...]:
    """Return one check for everything there is to look at; what cannot be looked at any more says why.

    ``programs`` are files or folders of Python source that will run in the target.

    Raises :class:`PinError` for an unknown pin and nothing else: what is wrong here is a check.
    """
    pin = load_pin(request.pin)
    checks: list[Check] = []
    revision = _attempt(checks, "commit", lambda: _revision(pin, request))
    interpreter = _attempt(checks, "Python", lambda: probe(find_python(request.python)))
    recipe = pin.recipe_named(revision.recipe if revision else pin.recipe[0].name)
    if revision is not None:
        checks.append(Check(name="commit", status="ok", found=f"{revision.commit} of {pin.name}"))
    if interpreter is None:
        checks.append(
            Check(name="everything in the target", status="skipped", found="There is no usable Python.")
        )
    else:
        checks += _in_target(pin, recipe, revision, interpreter, request)
        checks += check_customizations(interpreter, pin)
    checks += check_programs(programs, pin)
    if (folder := _attempt(checks, "disk", cache_dir)) is not None:
        checks.append(check_disk(folder, DISK_NEEDED))
    if revision is not None:
        checks.append(_source(pin, revision, request))
    checks.append(_wheelhouse(request, pin))
    return tuple(checks)


def _in_target(
    pin: Pin, recipe: Recipe, revision: Revision | None, interpreter: Interpreter, request: Request
) -> list[Check]:
    """Look at the interpreter, its torch, the GPUs and the compilers."""
    checks = [check_python(interpreter, pin), _installer(interpreter), check_torch(interpreter, pin)]
    target = Target(interpreter=interpreter, archs=(), archs_from="")
    if pin.device == "cuda":
        gpus = find_gpus(interpreter)
        checks += [check_driver(gpus, interpreter.torch), check_gpus(gpus, recipe)]
        target = _archs(checks, pin, recipe, interpreter, request, gpus)
        if revision is not None and target.archs:
            checks.append(_known(pin, revision, target, allow=request.allow_known_bad))
    if not failures([check for check in checks if check.name == "torch"]):
        checks += check_toolchain(
            request.cuda, interpreter, pin, recipe, target.archs, os.environ, offline=request.offline
        )
    else:
        checks.append(
            Check(name="CUDA toolkit", status="skipped", found="What it has to fit, torch, is not usable.")
        )
    checks += check_packages(interpreter, pin.build.requires)
    checks.append(check_python_h(interpreter))
    if pin.build.torch:
        checks.append(check_object_cache(request.object_cache, os.environ))
    here = memory()
    jobs = compile_jobs(
        cores=cores(), memory_available=here.available, sources=cores(), memory_gib=pin.build.memory_gib,
        archs=max(1, len(target.archs)),
        max_jobs_env=os.environ.get("MAX_JOBS"),
    )  # fmt: skip
    checks.append(check_memory(here, jobs, pin.build.memory_gib))
    checks.append(_installed(pin, target))
    return checks


def _attempt(checks: list[Check], name: str, look: Callable[[], T]) -> T | None:
    try:
        return look()
    except SagefixError as error:
        checks.append(_failure(name, error))
        return None


def _failure(name: str, error: SagefixError) -> Check:
    return Check(name=name, status="failure", found=error.message, fix=error.hint)


def _revision(pin: Pin, request: Request) -> Revision:
    return find_revision(pin, request)[0]


def _archs(
    checks: list[Check], pin: Pin, recipe: Recipe, interpreter: Interpreter, request: Request, gpus: Gpus
) -> Target:
    """Decide the archs as ``install`` would, and say what it would decide."""
    try:
        archs, archs_from = choose_archs(pin, recipe, request.arch, lambda: gpus)
    except SagefixError as error:
        checks.append(_failure("arch", error))
        return Target(interpreter=interpreter, archs=(), archs_from="", gpus=gpus.gpus)
    checks.append(Check(name="arch", status="ok", found=f"{join_archs(archs)} (from {archs_from})"))
    return Target(interpreter=interpreter, archs=archs, archs_from=archs_from, gpus=gpus.gpus)


def _known(pin: Pin, revision: Revision, target: Target, *, allow: bool) -> Check:
    name = "known of the commit"
    try:
        findings = refuse_known_bad(pin, revision, target.archs, allow)
    except SagefixError as error:
        return _failure(name, error)
    bad = [finding for finding in findings if finding.status != "good"]
    if bad:
        return Check(
            name=name, status="warning", found=f"{bad[0].status}: {bad[0].reason}", sources=bad[0].sources
        )
    said = findings[0].reason if findings else f"nothing bad on {join_archs(target.archs)}"
    return Check(name=name, status="ok", found=said)


def _installer(interpreter: Interpreter) -> Check:
    try:
        require_writable(interpreter, break_system=False)
        installer = choose_installer(interpreter)
    except SagefixError as error:
        return _failure("installer", error)
    return Check(name="installer", status="ok", found=f"{installer.kind}: {' '.join(installer.program)}")


def _source(pin: Pin, revision: Revision, request: Request) -> Check:
    """The cache if it holds the commit, else whether the source can be reached."""
    name = "source"
    try:
        # Asked to look at what is at hand only; the user was not, and need not hear of it.
        with reporting(SilentReporter()):
            fetched = fetch(pin, revision.commit, tree=revision.tree, origin=request.source, offline=True)
    except SagefixError as error:
        if request.offline:
            return _failure(name, error)
    else:
        how = "in the cache" if fetched.from_cache else fetched.origin
        return Check(name=name, status="ok", found=f"{revision.commit[:7]}: {how}")
    try:
        resolve(pin, "HEAD", request.source)
    except SagefixError as error:
        return _failure(name, error)
    return Check(name=name, status="ok", found=f"{request.source or pin.source.url} answers")


def _wheelhouse(request: Request, pin: Pin) -> Check:
    name, path = "wheelhouse", wheelhouse_path(request.wheelhouse)
    try:
        if not path.exists():
            return Check(name=name, status="ok", found=f"{path} will be made")
        entries = open_wheelhouse(request.wheelhouse, create=False).entries(pin.project)
    except SagefixError as error:
        return _failure(name, error)
    size = human_size(sum(facts.size for facts in entries))
    if not os.access(path, os.W_OK):
        return Check(
            name=name,
            status="warning",
            found=f"{path} is not writable",
            fix="A build cannot be kept there: --wheelhouse",
        )
    return Check(name=name, status="ok", found=f"{len(entries)} wheels of {pin.project} ({size}) in {path}")


def _installed(pin: Pin, target: Target) -> Check:
    """What is there now: an install would replace it, so even a broken one is only a warning here."""
    from sagefix.installing.stash import installed

    name = f"{pin.project} now"
    distribution = installed(target.interpreter, pin.project)
    if distribution is None:
        return Check(name=name, status="ok", found="not installed")
    verdict = verify(pin, target, level="static")
    bad = failures(verdict.checks)
    if not bad:
        return Check(name=name, status="ok", found=f"{distribution.version} passes the level static")
    return Check(
        name=name,
        status="warning",
        found=f"{distribution.version}: "
        + " ".join(f"{check.name}: {check.found}" for check in _causes(bad)),
        fix="Run `sagefix install`: it replaces it.",
        sources=tuple(dict.fromkeys(link for check in bad for link in check.sources)),
    )


def _causes(bad: list[Check]) -> list[Check]:
    """Leave out what follows from another failure: with another torch, symbols are undefined."""
    names = {check.name for check in bad}
    return [check for check in bad if not (check.name == "symbols" and "torch" in names)]
