"""Which CUDA toolkit compiles: the system's if it fits the target in everything, else one made of packages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from sagefix.archs import Arch
from sagefix.checks import Check, failures
from sagefix.errors import SagefixError, ToolchainError, UsageError
from sagefix.files import human_size
from sagefix.pins.model import Pin, Recipe
from sagefix.progress import note
from sagefix.targets.compilers import check_host_compiler, find_host_compiler
from sagefix.targets.cross.compilers import check_cross_compilers, tool_environment
from sagefix.targets.cross.platforms import platform_named
from sagefix.targets.cuda import check_toolkit
from sagefix.targets.cudatable import load_cuda_table
from sagefix.targets.linking import DRIVER
from sagefix.targets.model import Interpreter
from sagefix.targets.packaged import (
    FOUND_IN,
    expect_packaged,
    find_packaged,
    make_packaged,
)
from sagefix.targets.stub import with_driver
from sagefix.targets.toolkit import Toolkit, find_toolkit
from sagefix.targets.wanted import Wanted, wanted_for

AUTO, SYSTEM, PACKAGES = "auto", "system", "pypi"
_NAME = "CUDA toolchain"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Which toolkit, and why.

    ``toolkit`` is None while it is still to be fetched, and ``wanted`` then says what. ``reason`` is one
    check that says what was decided; ``checks`` are those of the chosen toolkit, empty when it was not
    looked at for the decision.
    """

    toolkit: Toolkit | None
    reason: Check
    checks: tuple[Check, ...] = ()
    wanted: Wanted | None = None


def decide_toolkit(
    option: str,
    interpreter: Interpreter,
    pin: Pin,
    recipe: Recipe,
    archs: Sequence[Arch],
    env: Mapping[str, str] | None = None,
) -> Decision:
    """Decide without fetching anything.

    ``option``: ``auto`` takes the system's toolkit if nothing speaks against it (all of
    :func:`~sagefix.targets.cuda.check_toolkit`), else packages; ``system`` and ``pypi`` leave one of the two;
    anything else is the folder of a toolkit. A toolkit that lacks nothing but a driver to link with gets a
    stub. Raises :class:`ToolchainError`, :class:`UsageError`.
    """
    environment = os.environ if env is None else env
    if not option.strip():
        raise UsageError(
            "--cuda is empty.", hint=f"Give {AUTO}, {SYSTEM}, {PACKAGES} or the folder of a toolkit."
        )
    if option == PACKAGES:
        return _packages(wanted_for(interpreter), "--cuda pypi asks for it", environment)
    if option != AUTO:
        hint = None if option == SYSTEM else option
        toolkit = _system(hint, interpreter, recipe, archs, environment)
        asked = f"--cuda {option} asks for it"
        return Decision(toolkit=toolkit, reason=_reason(toolkit, asked))
    try:
        toolkit = _system(None, interpreter, recipe, archs, environment)
    except ToolchainError as error:
        return _instead(error.message, error, interpreter, environment)
    checks = check_toolkit(toolkit, interpreter, pin, recipe, archs, environment)
    bad = failures(checks)
    if not bad:
        return Decision(
            toolkit=toolkit, reason=_reason(toolkit, "it is complete and fits the target"), checks=checks
        )
    refused = ToolchainError(
        f"{bad[0].name}: {bad[0].found}" + (f" (and {len(bad) - 1} more)" if bad[1:] else "") + ".",
        hint=" ".join(check.fix for check in bad if check.fix),
        details={"toolkit": toolkit.home, "checks": msgspec.to_builtins(bad)},
    )
    because = f"that in {toolkit.home} does not do: " + "; ".join(
        f"{check.name}: {check.found}" for check in bad
    )
    return _instead(because, refused, interpreter, environment)


def choose_toolkit(
    option: str,
    interpreter: Interpreter,
    pin: Pin,
    recipe: Recipe,
    archs: Sequence[Arch],
    env: Mapping[str, str] | None = None,
    *,
    offline: bool = False,
    fetch: bool = True,
) -> tuple[Toolkit, Check]:
    """Return the toolkit of :func:`decide_toolkit`, fetched if it is not here, and the reason, which is told.

    Without ``fetch`` one that is not here comes back as what it would be (``Toolkit.here`` is false). Raises
    also :class:`RemoteIndexError` and :class:`DiskError`.
    """
    decision = decide_toolkit(option, interpreter, pin, recipe, archs, env)
    note(decision.reason.found)
    if decision.toolkit is not None:
        return decision.toolkit, decision.reason
    assert decision.wanted is not None
    if fetch:
        return make_packaged(decision.wanted, interpreter, env, offline=offline), decision.reason
    return expect_packaged(decision.wanted, offline=offline), decision.reason


def check_toolchain(
    option: str,
    interpreter: Interpreter,
    pin: Pin,
    recipe: Recipe,
    archs: Sequence[Arch],
    env: Mapping[str, str] | None = None,
    *,
    offline: bool = False,
) -> tuple[Check, ...]:
    """Say what would compile, and whether it can; nothing is fetched."""
    crossed = check_cross_compilers(interpreter, env)
    if failures(crossed):
        # What else compiles is tried with it, and would fail for this reason.
        return crossed
    tools = tool_environment(interpreter, env)
    return (*crossed, *_check_toolchain(option, interpreter, pin, recipe, archs, tools, offline=offline))


def _check_toolchain(
    option: str,
    interpreter: Interpreter,
    pin: Pin,
    recipe: Recipe,
    archs: Sequence[Arch],
    env: Mapping[str, str],
    *,
    offline: bool,
) -> tuple[Check, ...]:
    if pin.device == "cpu":
        return check_host_compiler(env)
    try:
        decision = decide_toolkit(option, interpreter, pin, recipe, archs, env)
    except SagefixError as error:
        lost = Check(name=_NAME, status="failure", found=error.message, fix=error.hint)
        return (lost, *check_host_compiler(env))
    if decision.toolkit is not None:
        checks = decision.checks or check_toolkit(decision.toolkit, interpreter, pin, recipe, archs, env)
        return (decision.reason, *checks)
    assert decision.wanted is not None
    packaged = load_cuda_table().of(decision.wanted.cuda.split(".")[0])
    size = human_size(packaged.download_mb * 1_000_000) if packaged else "?"
    return (
        decision.reason,
        Check(
            name="CUDA toolkit",
            status="failure" if offline else "ok",
            found=f"CUDA {decision.wanted.release} is not in the cache; a build fetches it (about {size})",
            fix="Run `sagefix toolchain install` without --offline first." if offline else "",
        ),
        *check_host_compiler(env),
    )


def _instead(
    because: str, refused: ToolchainError, interpreter: Interpreter, env: Mapping[str, str]
) -> Decision:
    """Take packages in place of the system's toolkit; where there are none, both reasons are told."""
    try:
        wanted = wanted_for(interpreter)
    except ToolchainError as error:
        raise ToolchainError(
            f"{refused.message} Nor can one be made of packages: {error.message}",
            hint=" ".join(filter(None, [refused.hint, error.hint])),
            details={**refused.details, **error.details},
        ) from refused
    return _packages(wanted, because, env)


def _packages(wanted: Wanted, because: str, env: Mapping[str, str]) -> Decision:
    reason = Check(name=_NAME, status="ok", found=f"CUDA {wanted.release} from {FOUND_IN}: {because}")
    return Decision(toolkit=find_packaged(wanted, env), reason=reason, wanted=wanted)


def _system(
    hint: str | None, interpreter: Interpreter, recipe: Recipe, archs: Sequence[Arch], env: Mapping[str, str]
) -> Toolkit:
    """Find a toolkit that was installed; its libraries for another machine stand in a folder of their own
    (https://docs.nvidia.com/cuda/cuda-installation-guide-linux/#cross-platform-installation)."""
    toolkit = find_toolkit(hint, env)
    if interpreter.built_by is not None:
        target = platform_named(interpreter.platform_tag).cuda_target
        libraries = Path(toolkit.home) / "targets" / target / "lib"
        folders = {"lib_folders": libraries, "stub_folders": libraries / "stubs"}
        toolkit = msgspec.structs.replace(
            toolkit, **{name: (str(path),) if path.is_dir() else () for name, path in folders.items()}
        )
    return _with_driver(toolkit, recipe, archs, env)


def _with_driver(toolkit: Toolkit, recipe: Recipe, archs: Sequence[Arch], env: Mapping[str, str]) -> Toolkit:
    """Give a toolkit a stub of the driver where something is linked with it and there is none."""
    rows = [row for arch in archs if (row := recipe.for_arch(arch))]
    if not any(DRIVER in row.links for row in rows):
        return toolkit
    try:
        compiler = find_host_compiler(env)
    except ToolchainError:
        return toolkit
    return with_driver(toolkit, compiler, env)


def _reason(toolkit: Toolkit, why: str) -> Check:
    return Check(name=_NAME, status="ok", found=f"CUDA {toolkit.full_version} at {toolkit.home}: {why}")
