"""The CUDA toolchain against torch, the pin and the archs: everything that would break a build minutes
later."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from sagefix.archs import Arch
from sagefix.checks import Check, failures
from sagefix.errors import ProcessError, ToolchainError
from sagefix.pins.model import Pin, Recipe
from sagefix.process import run
from sagefix.targets.compilers import (
    Compiler,
    check_host_compiler,
    find_host_compiler,
    find_nvcc_host_compiler,
    read_bounds,
)
from sagefix.targets.headers import check_headers
from sagefix.targets.linking import check_libraries, library_folders
from sagefix.targets.model import Interpreter, Torch
from sagefix.targets.toolkit import Toolkit, find_toolkit, other_homes

__all__ = [
    "Compiler",
    "Toolkit",
    "check_toolkit",
    "find_host_compiler",
    "find_nvcc_host_compiler",
    "find_toolkit",
    "library_folders",
    "require_toolkit",
]

_PARTS = ("bin/ptxas", "bin/cudafe++", "bin/fatbinary", "nvvm/bin/cicc")
_TRIAL = "#include <cuda_runtime.h>\n#include <nv/target>\n__global__ void nothing() {}\n"
_TRIAL_TIMEOUT_S = 120.0
_ARCHIVE = "https://developer.nvidia.com/cuda-toolkit-archive"
_TORCH_HELP = "https://pytorch.org/get-started/locally/"


def check_toolkit(
    toolkit: Toolkit,
    interpreter: Interpreter,
    pin: Pin,
    recipe: Recipe,
    archs: Sequence[Arch],
    env: Mapping[str, str] | None = None,
) -> tuple[Check, ...]:
    """Check the toolkit against the target's torch, the recipe and the archs, and try it if nothing speaks
    against it.

    The trial compiles an empty kernel for the first arch (under a second); it finds what no reading does,
    such as parts of two toolkits in one folder. ``env`` is the environment of the build (default: this
    process's).
    """
    environment = os.environ if env is None else env
    torch = interpreter.torch
    checks = [_check_parts(toolkit)]
    if torch is not None and torch.cuda:
        checks.append(_check_torch_major(toolkit, torch))
    checks.append(_check_archs(toolkit, pin, recipe, archs))
    if torch is not None:
        checks.append(check_headers(toolkit, interpreter, torch, environment))
    bounds = read_bounds(toolkit.include_folders, torch.folder if torch else None)
    compilers = check_host_compiler(environment, bounds=bounds, nvcc=f"nvcc {toolkit.version}")
    checks += compilers
    if (compiler := _compiler(environment)) is not None:
        checks.append(check_libraries(toolkit, recipe, archs, compiler, environment))
    if not failures(checks):
        checks.append(_try(toolkit, recipe, archs, environment))
    return tuple(checks)


def require_toolkit(
    toolkit: Toolkit,
    interpreter: Interpreter,
    pin: Pin,
    recipe: Recipe,
    archs: Sequence[Arch],
    env: Mapping[str, str] | None = None,
) -> tuple[Check, ...]:
    """Return the checks when the toolkit can do the build; raise :class:`ToolchainError` when it cannot.

    The error's message is the first failure, its ``details["checks"]`` hold all of them.
    """
    checks = check_toolkit(toolkit, interpreter, pin, recipe, archs, env)
    bad = failures(checks)
    if bad:
        more = f" (and {len(bad) - 1} more: {', '.join(check.name for check in bad[1:])})" if bad[1:] else ""
        raise ToolchainError(
            f"{bad[0].name}: {bad[0].found}{more}.",
            hint=" ".join(check.fix for check in bad if check.fix),
            details={"toolkit": toolkit.home, "checks": msgspec.to_builtins(bad)},
        )
    return checks


def _compiler(env: Mapping[str, str]) -> Compiler | None:
    try:
        return find_host_compiler(env)
    except ToolchainError:
        return None


def _check_parts(toolkit: Toolkit) -> Check:
    missing = [part for part in _PARTS if not os.access(Path(toolkit.home) / part, os.X_OK)]
    found = f"{toolkit.full_version} at {toolkit.home} (found by {toolkit.found_in})"
    if missing:
        return Check(
            name="CUDA toolkit",
            status="failure",
            found=f"{found} lacks {', '.join(missing)}",
            fix=f"Install the compiler of CUDA {toolkit.version} completely ({_ARCHIVE}).",
            sources=(_ARCHIVE,),
        )
    return Check(name="CUDA toolkit", status="ok", found=found)


def _check_torch_major(toolkit: Toolkit, torch: Torch) -> Check:
    """torch refuses another major version itself, and only warns of another minor one."""
    name = "CUDA against torch"
    found = f"nvcc is CUDA {toolkit.version}, torch {torch.version} was built with CUDA {torch.cuda}"
    major = torch.cuda.split(".")[0]
    if toolkit.major == int(major):
        return Check(name=name, status="ok", found=found)
    there = other_homes(torch.cuda) or other_homes(f"{major}.")
    fix = (
        f"Set CUDA_HOME={there[-1]}, which is here."
        if there
        else f"Install CUDA toolkit {torch.cuda} ({_ARCHIVE}) and set CUDA_HOME to it, or a torch built for "
        f"CUDA {toolkit.major} ({_TORCH_HELP})."
    )
    return Check(
        name=name,
        status="failure",
        found=f"{found} ({toolkit.home})",
        fix=fix,
        sources=(_ARCHIVE, _TORCH_HELP),
    )


def _check_archs(toolkit: Toolkit, pin: Pin, recipe: Recipe, archs: Sequence[Arch]) -> Check:
    """The least CUDA of any row is that of the pin as a whole."""
    rows = [row for arch in archs if (row := recipe.for_arch(arch))]
    name = f"CUDA for {', '.join(row.arch for row in rows) or pin.name}"
    least = min((row.min_cuda for row in recipe.capability), key=_numbers, default="")
    short = [row for row in rows if _numbers(toolkit.full_version) < _numbers(row.min_cuda)]
    if not short and (not least or _numbers(toolkit.full_version) >= _numbers(least)):
        needed = max((row.min_cuda for row in rows), key=_numbers, default=least)
        return Check(
            name=name, status="ok", found=f"{toolkit.version}; {needed or 'no particular version'} is enough"
        )
    wanted = max((row.min_cuda for row in short), key=_numbers, default=least)
    reasons = "; ".join(f"{row.arch} needs {row.min_cuda}" for row in short) or f"{pin.name} needs {least}"
    why = " ".join(row.reason for row in short if row.reason and row.dispatch)
    return Check(
        name=name,
        status="failure",
        found=f"nvcc is CUDA {toolkit.version} ({toolkit.home}), and {reasons}" + (f". {why}" if why else ""),
        fix=f"Install CUDA toolkit {wanted} or newer, of torch's major version, and set CUDA_HOME to it.",
        sources=tuple(dict.fromkeys(source for row in short for source in row.sources)),
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _try(toolkit: Toolkit, recipe: Recipe, archs: Sequence[Arch], env: Mapping[str, str]) -> Check:
    """Compile an empty kernel, with the host compiler that torch would hand to nvcc."""
    row = next((row for arch in archs if (row := recipe.for_arch(arch))), None)
    flags = ["-gencode", f"arch=compute_{row.gencode},code=sm_{row.gencode}"] if row else []
    flags += ["-ccbin", env["CC"]] if env.get("CC", "").strip() else []
    with tempfile.TemporaryDirectory(prefix="sagefix-trial-") as scratch:
        source = Path(scratch) / "trial.cu"
        source.write_text(_TRIAL, encoding="ascii")
        command = [toolkit.nvcc, "-std=c++17", *flags, "-c", str(source), "-o", str(source.with_suffix(".o"))]
        try:
            done = run(command, cwd=Path(scratch), env=env, timeout=_TRIAL_TIMEOUT_S)
        except ProcessError as error:
            tail = str(error.details.get("tail") or error.message)
            return Check(
                name="CUDA trial",
                status="failure",
                found=f"nvcc cannot compile an empty kernel{f' for sm_{row.gencode}' if row else ''}: "
                + " ".join(tail.replace(scratch, "").split()),
                fix=f"Parts of several toolkits may be mixed in {toolkit.home}; install it anew.",
            )
    return Check(name="CUDA trial", status="ok", found=f"an empty kernel compiled in {done.seconds:.1f} s")
