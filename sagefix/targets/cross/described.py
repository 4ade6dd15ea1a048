"""A target of another platform: described from its packages, and built for by an environment of this machine.

The Python of this machine that has the same version and the same torch drives setuptools. What is linked with and
checked against comes from the packages of the platform; they are read and never run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sagefix.errors import TorchError, UsageError
from sagefix.targets.cross.compilers import find_cross_compilers
from sagefix.targets.cross.packages import Kept, fetch_packages, find_packages, resolve_packages
from sagefix.targets.cross.platforms import Platform, platform_named
from sagefix.targets.environments import Spec, find_environment, make_environment, torch_requirement
from sagefix.targets.fetching import Locked
from sagefix.targets.interpreter import probe
from sagefix.targets.model import Interpreter, Torch
from sagefix.targets.tags import platform_tags, python_tags, wheel_tags

# torch 2.11.0 with CUDA 13.0 for aarch64, unpacked, measured.
DISK_TORCH = 900_000_000
_TORCH = "torch"
# What a torch with CUDA depends on is called so, whoever built it.
_CUDA_PACKAGES = ("nvidia-", "cuda-")


def described_platform(text: str | None) -> Platform | None:
    """Return the platform that ``--platform`` names if it is another one than this machine's, else None.

    Raises :class:`UsageError` for one that is not known.
    """
    if text is None:
        return None
    if not text.strip():
        raise UsageError("--platform is empty.", hint="Leave it out for this machine.")
    platform = platform_named(text)
    return None if platform.here else platform


def make_described(platform: Platform, spec: Spec, *, cuda: bool, offline: bool) -> Interpreter:
    """Return the described target of a platform: the environment that builds for it is made, and the platform's
    torch fetched, where they are not in the cache. ``cuda``: it has to have a torch with CUDA.

    Raises :class:`ToolchainError` (no cross compiler) and :class:`TorchError` (no such torch for the platform, or one
    without CUDA) before anything large is fetched, and what :func:`~sagefix.targets.environments.make_environment` and
    :func:`~sagefix.targets.cross.packages.fetch_packages` raise.
    """
    # Before gigabytes are fetched: without them nothing is built.
    find_cross_compilers(platform, cxx=bool(spec.torch))
    if not spec.torch:
        return describe(platform, make_environment(spec, offline=offline))
    python, requirement = _minor(spec.python), torch_requirement(spec.torch)
    closure = _closure(platform, python, requirement, cuda=cuda, offline=offline)
    builder = make_environment(spec, offline=offline)
    version = builder.packages.get(_TORCH, "").partition("+")[0]
    if _version(closure).partition("+")[0] != version:
        # The index has a newer one than when the environment was made.
        requirement = f"{_TORCH}=={version}"
        closure = _closure(platform, python, requirement, cuda=cuda, offline=offline)
    kept = fetch_packages(
        platform,
        python,
        closure,
        f"torch {version} for {platform.name}",
        only=(_TORCH,),
        requirements=(requirement,),
        disk=DISK_TORCH,
        offline=offline,
    )
    return describe(platform, builder, kept)


def find_described(platform: Platform, spec: Spec) -> tuple[Interpreter | None, str]:
    """Return the described target if all that belongs to it is in the cache, else None and what is not there."""
    builder, name = find_environment(spec)
    if builder is None:
        return None, f"The build environment {name}"
    if not spec.torch:
        return describe(platform, builder), ""
    version = builder.packages.get(_TORCH, "").partition("+")[0]
    for requirement in (torch_requirement(spec.torch), f"{_TORCH}=={version}"):
        kept = find_packages(platform, _minor(spec.python), (requirement,), unpacked=(_TORCH,))
        if kept is not None and _version(kept.packages.closure).partition("+")[0] == version:
            return describe(platform, builder, kept), ""
    return None, f"torch {version} for {platform.name}"


def describe(platform: Platform, builder: Interpreter, kept: Kept | None = None) -> Interpreter:
    """Return the target of a platform for the Python of ``builder``; ``kept`` are its packages, torch among them.

    Raises :class:`TorchError` when the torch of the packages is not that of ``builder``, or cannot be read.
    """
    python_tag, abis = python_tags(builder.version)
    tags = wheel_tags(builder.version, abis, platform_tags(platform.name, glibc=platform.glibc))
    site = str(kept.site) if kept is not None else ""
    return Interpreter(
        executable=f"Python {_minor(builder.version)} of {platform.name}",
        version=builder.version,
        implementation=builder.implementation,
        machine=platform.machine,
        prefix="",
        base_prefix="",
        platform_tag=platform.name,
        python_tag=python_tag,
        abi_tag=abis[0],
        tags=tags,
        glibc=platform.glibc,
        ext_suffix=platform.ext_suffix(builder.version),
        purelib=site,
        platlib=site,
        sys_path=(site,) if site else (),
        # The headers of a Python are those of its version, whatever machine it is for.
        python_h=builder.python_h,
        include=builder.include,
        externally_managed=False,
        packages={each.name: each.version for each in kept.packages.closure} if kept is not None else {},
        torch=_torch(platform, builder, kept) if kept is not None else None,
        build_flags=builder.build_flags,
        built_by=builder,
    )


def _torch(platform: Platform, builder: Interpreter, kept: Kept) -> Torch:
    """Read the platform's torch: a Python of this machine finds it first on its path, and nothing is imported."""
    seen = probe(Path(builder.executable), first=kept.site)
    torch = seen.torch
    if torch is None or not torch.folder.startswith(str(kept.site)):
        raise TorchError(
            f"The torch for {platform.name} in {kept.folder} cannot be read: {seen.torch_error or 'it is gone'}.",
            hint=f"Run `sagefix toolchain remove {kept.name}`; it is fetched anew when it is needed.",
        )
    mine = builder.torch
    if mine is not None and mine.cuda and not torch.cuda:
        raise _cpu_only(platform, torch.version)
    if mine is None or _same(mine) != _same(torch):
        raise TorchError(
            f"torch {torch.version} for {platform.name} (CUDA {torch.cuda or 'none'}) is not the torch that the build "
            f"runs with: {mine.version if mine else 'none'} (CUDA {mine.cuda if mine else 'none'}).",
            hint="Both come from the index that uv and pip are told to use; it has to have the same for both.",
        )
    return torch


def _same(torch: Torch) -> tuple[str, str, bool]:
    return torch.version.partition("+")[0], torch.cuda.split(".")[0], torch.cxx11_abi


def _closure(
    platform: Platform, python: str, requirement: str, *, cuda: bool, offline: bool
) -> tuple[Locked, ...]:
    """Return the versions that the requirement comes to on the platform, from the cache or the index."""
    kept = find_packages(platform, python, (requirement,), unpacked=(_TORCH,))
    what = f"{requirement} for {platform.name}"
    closure = (
        kept.packages.closure
        if kept is not None
        else resolve_packages(platform, python, (requirement,), what, offline=offline)
    )
    if cuda and not any(each.name.startswith(_CUDA_PACKAGES) for each in closure):
        raise _cpu_only(platform, _version(closure))
    return closure


def _cpu_only(platform: Platform, version: str) -> TorchError:
    return TorchError(
        f"torch {version} for {platform.name} is CPU-only in the package index.",
        hint=f"{platform.torch_cuda} Or name another index to uv and pip.",
        details={"platform": platform.name, "torch": version},
    )


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def _version(closure: Sequence[Locked]) -> str:
    return next((each.version for each in closure if each.name == _TORCH), "")
