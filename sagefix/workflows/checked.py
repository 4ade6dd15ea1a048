"""Whether what was built may be kept: the wheel against its plan, and that of a cross build against its platform."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import msgspec

from sagefix.archs import parse_archs
from sagefix.building.plan import Plan
from sagefix.checks import Check
from sagefix.targets.cross.compilers import library_folders as system_folders
from sagefix.targets.cross.platforms import load_platforms
from sagefix.targets.cuda import Toolkit, library_folders
from sagefix.targets.model import Interpreter, Target
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.checking import check_wheel
from sagefix.wheels.elsewhere import System, check_for, check_gpu_code
from sagefix.wheels.model import Facts

# What decides the code for the GPU. The Python, the CPU's machine and its compiler do not.
_OF_THE_GPU = ("pin", "commit", "archs", "gencodes", "archs_of", "torch", "cuda", "nvcc", "fixes", "patches")


def check_build(
    wheel: Path, plan: Plan, target: Target, toolkit: Toolkit | None, wheelhouse: Wheelhouse
) -> tuple[Check, ...]:
    """Compare a wheel that was just built with its plan; that of a cross build with the platform it is for as well."""
    checks = check_wheel(
        wheel,
        extensions=plan.identity.extensions,
        archs=target.archs,
        gencodes=plan.identity.gencodes,
        archs_of={
            name: parse_archs(";".join(archs)) for name, archs in plan.identity.archs_of.items() if archs
        },
        wraps=tuple(wrap for fix in plan.fix_sources for wrap in fix.wraps),
        libraries=_libraries(plan, target.interpreter, toolkit),
        machine=target.interpreter.machine,
        ext_suffix=target.interpreter.ext_suffix,
    )
    if plan.cross is None:
        return checks
    return (*checks, *_check_crossed(wheel, plan, target.interpreter, toolkit, wheelhouse))


def _check_crossed(
    wheel: Path, plan: Plan, interpreter: Interpreter, toolkit: Toolkit | None, wheelhouse: Wheelhouse
) -> tuple[Check, ...]:
    """Check a wheel of a cross build against the platform it is for, and its GPU code against the native build's."""
    assert plan.cross is not None
    glibcxx = load_platforms().glibcxx_of(interpreter.glibc)
    system = System(
        name=plan.cross.platform,
        machine=plan.cross.machine,
        libraries=_libraries(plan, interpreter, toolkit),
        glibc=interpreter.glibc,
        glibcxx=glibcxx,
        python=Path(plan.python),
        python_machine=plan.cross.built_on,
    )
    checks = check_for(wheel, system)
    if not plan.identity.archs:
        return checks
    native = native_build(plan, wheelhouse)
    return (*checks, check_gpu_code(wheel, Path(native.where) if native else None, "no native build at hand"))


def native_build(plan: Plan, wheelhouse: Wheelhouse) -> Facts | None:
    """Return the wheel of a native build whose GPU code has to be that of the plan: the same commit, archs, torch,
    nvcc and fixes. One of the same Python is taken first.
    """
    # As a record that was read back holds it: in lists.
    identity = msgspec.json.decode(msgspec.json.encode(plan.identity))
    found = [
        facts
        for facts in wheelhouse.entries(plan.project)
        if facts.record is not None
        and facts.record.origin == "built"
        and "built on" not in facts.record.tools
        and not facts.record.platform_tag.endswith(f"_{plan.identity.platform_tag.partition('_')[2]}")
        and all(facts.record.identity.get(name) == identity[name] for name in _OF_THE_GPU)
    ]
    found.sort(key=lambda facts: bool(facts.record and facts.record.python_tag != plan.identity.python_tag))
    return found[0] if found else None


def _libraries(plan: Plan, interpreter: Interpreter, toolkit: Toolkit | None) -> tuple[Path, ...]:
    """Return the folders of the libraries that a wheel is checked against: those it was linked with."""
    if plan.cross is None:
        return library_folders(interpreter, toolkit, os.environ)
    # LIBRARY_PATH speaks of this machine.
    folders = library_folders(interpreter, toolkit, {})
    return (*folders, *map(Path, system_folders(shlex.split(plan.cross.cxx or plan.cross.cc), os.environ)))
