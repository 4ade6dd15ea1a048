"""The plan: everything that decides the bytes of a wheel, frozen, and the key made from it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from sagefix.archs import Arch
from sagefix.building.cross import Cross, make_cross, without_ignored
from sagefix.building.reproducible import places_of
from sagefix.errors import GpuError
from sagefix.files import sha256_bytes, sha256_file
from sagefix.pins.model import Capability, Pin, Recipe, Revision
from sagefix.settings import manifests_dir
from sagefix.targets.cuda import Compiler, Toolkit
from sagefix.targets.distributions import find_packages
from sagefix.targets.model import Interpreter, Package, Target
from sagefix.targets.versions import tool_versions
from sagefix.wheels.label import make_label, wheel_filename
from sagefix.wheels.model import Label

SHIM = Path(__file__).parent.parent / "guest" / "shim.py"

# Variables of the user that reach the compilers or the linker. They decide bytes, so they are part of the key.
# https://gcc.gnu.org/onlinedocs/gcc/Environment-Variables.html, https://sourceware.org/binutils/docs/ld/Options.html
# (LD_RUN_PATH), https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/#nvcc-environment-variables
COMPILER_VARIABLES = (
    "CC",
    "CXX",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "LDSHARED",
    "LDCXXSHARED",
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "LIBRARY_PATH",
    "LD_RUN_PATH",
    "CUDAHOSTCXX",
    "NVCC_CCBIN",
    "NVCC_PREPEND_FLAGS",
    "NVCC_APPEND_FLAGS",
    "CXX_APPEND_FLAGS",
    "PYTORCH_NVCC",
)

# What says which files are compiled and not how, so that an object may come from a build of another.
_WHICH_FILES = frozenset(
    {"commit", "tree", "version", "extensions", "archs_of", "patches", "fixes", "manylinux"}
)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What the key is made of: two builds with one identity may stand for each other.

    ``gencodes`` maps a capability to the number behind ``sm_``; ``archs_of`` says which of the archs each
    extension gets. ``nvcc`` and ``host_compiler`` are versions, empty when a pin needs none. ``fixes`` maps the
    names of the pin's fixes to the SHA-256 of their source. ``shim`` is the version of the build shim.
    ``tools`` are the exact versions of all that compiles and links, ``packages`` those of the target's packages
    with the hashes of what they hold: the record repeats both, so a key stands for them, too. ``manylinux``: the
    wheel gets the tag of the lowest glibc that it runs on.
    """

    pin: str
    commit: str
    tree: str
    version: str
    archs: tuple[str, ...]
    gencodes: dict[str, str]
    extensions: tuple[str, ...]
    archs_of: dict[str, tuple[str, ...]]
    python_tag: str
    abi_tag: str
    platform_tag: str
    torch: str
    cuda: str
    cxx11_abi: bool | None
    nvcc: str
    host_compiler: str
    setuptools: str
    fixes: dict[str, str]
    patches: tuple[str, ...]
    environment: dict[str, str]
    shim: int
    tools: dict[str, str] = {}
    packages: dict[str, str] = {}
    manylinux: bool = False


class FixSource(msgspec.Struct, frozen=True, kw_only=True):
    """A fix as the build shim needs it: the C++ file (absolute) and the functions that the linker wraps."""

    file: str
    wraps: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """An identity with its key and what follows from it, and where on this machine it will be built.

    ``place`` names the folder of the build. It is the same for commits that are compiled in the same way: compilers
    write it into what they make, and the object cache (:mod:`~sagefix.building.objects`) finds what it knows.
    ``places`` maps folders of this machine that compilers read from to the names that stand for them in the wheel
    (:mod:`~sagefix.building.reproducible`). ``cross`` is there in a build for another platform.
    """

    identity: Identity
    key: str
    place: str
    project: str
    recipe: str
    label: str
    wheel: str
    requires: tuple[str, ...]
    python: str
    toolkit: str
    stubs: tuple[str, ...]
    fake_gpus: bool
    parallel_env: str
    fix_sources: tuple[FixSource, ...] = ()
    places: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    cross: Cross | None = None


def make_plan(
    pin: Pin,
    revision: Revision,
    target: Target,
    *,
    toolkit: Toolkit | None = None,
    compiler: Compiler | None = None,
    environment: Mapping[str, str] | None = None,
    fixes: bool = True,
    manylinux: bool = False,
    tools: Mapping[str, str] | None = None,
) -> Plan:
    """Decide a wheel. ``toolkit`` and ``compiler`` may be missing when nothing will be compiled (a dry look).

    ``fixes``: apply those of the pin. ``manylinux``: see :class:`Identity`. ``tools`` is the environment that names
    the compilers for a described target (:func:`~sagefix.targets.cross.compilers.tool_environment`), which has to be
    given with one.

    Raises :class:`GpuError` when the recipe has no row for one of the archs.
    """
    interpreter, torch = target.interpreter, target.interpreter.torch
    variables = os.environ if environment is None else environment
    if interpreter.built_by is not None:
        variables = without_ignored(variables)
    recipe = pin.recipe_named(revision.recipe)
    applied = pin.fix if fixes else ()
    sources = {fix.name: manifests_dir() / fix.source for fix in applied}
    label = Label(
        commit=revision.commit,
        fix=pin.fix_level if applied else 0,
        cuda=torch.cuda if pin.build.torch and torch else "",
        torch=torch.release if pin.build.torch and torch else "",
        archs=tuple(str(arch) for arch in target.archs),
    )
    version = f"{pin.version}+{make_label(label)}"
    identity = Identity(
        pin=pin.name,
        commit=revision.commit,
        tree=revision.tree,
        version=version,
        archs=label.archs,
        gencodes=gencodes_of(recipe, target),
        extensions=extensions_of(recipe, target),
        archs_of=archs_of(recipe, target),
        python_tag=interpreter.python_tag,
        abi_tag=interpreter.abi_tag,
        platform_tag=interpreter.platform_tag,
        torch=torch.version if pin.build.torch and torch else "",
        cuda=torch.cuda if pin.build.torch and torch else "",
        cxx11_abi=torch.cxx11_abi if pin.build.torch and torch else None,
        nvcc=toolkit.full_version if toolkit else "",
        host_compiler=f"{compiler.kind} {compiler.version}" if compiler else "",
        setuptools=interpreter.builder.packages.get("setuptools", ""),
        fixes={name: sha256_file(source) for name, source in sources.items()},
        patches=(),
        environment=compiler_environment(variables),
        shim=shim_version(),
        tools=tool_versions(interpreter, toolkit, compiler, environment),
        packages=_identified(interpreter, pin),
        manylinux=manylinux,
    )
    return Plan(
        identity=identity,
        key=key_of(identity),
        place=place_of(identity),
        project=pin.project,
        recipe=recipe.name,
        label=make_label(label),
        wheel=wheel_filename(
            pin.project, version, interpreter.python_tag, interpreter.abi_tag, interpreter.platform_tag
        ),
        # pip and uv refuse a wheel for another torch by themselves when its METADATA says so.
        requires=(f"torch=={torch.release}.*",) if pin.build.torch and torch else (),
        python=interpreter.builder.executable,
        toolkit=toolkit.home if toolkit else "",
        stubs=toolkit.stub_folders if toolkit else (),
        fake_gpus=recipe.asks_torch_for_gpus,
        parallel_env=recipe.parallel_env,
        fix_sources=tuple(FixSource(file=str(sources[fix.name]), wraps=fix.wraps) for fix in applied),
        places=places_of(interpreter, toolkit),
        notes=_notes(recipe, target),
        cross=make_cross(interpreter, toolkit, tools or {}),
    )


def key_of(identity: Identity | Mapping[str, Any]) -> str:
    """Return the key of an identity, or of one that was read back from a record."""
    return sha256_bytes(msgspec.json.encode(identity, order="sorted"))[:20]


def place_of(identity: Identity) -> str:
    """Return the name of the folder to build in: a hash of all that decides how a file is compiled."""
    everything = msgspec.to_builtins(identity)
    how = {name: value for name, value in everything.items() if name not in _WHICH_FILES}
    return sha256_bytes(msgspec.json.encode(how, order="sorted"))[:20]


def build_packages(interpreter: Interpreter, pin: Pin) -> tuple[Package, ...]:
    """Return the target's packages that take part in a build of the pin, as they are installed."""
    names = {*pin.build.requires, *(["torch"] if pin.build.torch else []), "setuptools", "wheel"}
    # Of a described target torch alone is there; what drives the build is this machine's.
    folders = dict.fromkeys((*interpreter.sys_path, *interpreter.builder.sys_path))
    return find_packages(folders, sorted(names))


def _identified(interpreter: Interpreter, pin: Pin) -> dict[str, str]:
    return {
        package.name: f"{package.version} {package.record_sha256}".rstrip()
        for package in build_packages(interpreter, pin)
    }


def extensions_of(recipe: Recipe, target: Target) -> tuple[str, ...]:
    """Return the modules that the recipe promises for the target's archs, sorted."""
    promised = set(recipe.extensions)
    for arch in target.archs:
        promised.update(_row(recipe, arch).extensions)
    return tuple(sorted(promised))


def archs_of(recipe: Recipe, target: Target) -> dict[str, tuple[str, ...]]:
    """Return which of the target's archs each extension gets: those whose row promises it.

    So ``_qattn_sm90`` is compiled for 9.0 alone whatever else is in the wheel: ptxas refuses its wgmma
    instructions for any other arch.
    """
    chosen: dict[str, tuple[str, ...]] = dict.fromkeys(recipe.extensions, tuple(map(str, target.archs)))
    for arch in target.archs:
        for extension in _row(recipe, arch).extensions:
            chosen[extension] = (*chosen.get(extension, ()), str(arch))
    return dict(sorted(chosen.items()))


def gencodes_of(recipe: Recipe, target: Target) -> dict[str, str]:
    """Return capability -> the number behind ``sm_`` for the target's archs: ``{"9.0": "90a"}``."""
    return {arch.capability: _row(recipe, arch).gencode for arch in target.archs}


def compiler_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the user's variables that decide bytes, those that are set and not empty."""
    return {name: environment[name] for name in COMPILER_VARIABLES if environment.get(name)}


def shim_version() -> int:
    """Return the build shim's version, read from its text: it is guest code and is never imported here."""
    match = re.search(r"^VERSION = (\d+)$", SHIM.read_text(encoding="utf-8"), re.MULTILINE)
    assert match is not None
    return int(match[1])


def _row(recipe: Recipe, arch: Arch) -> Capability:
    row = recipe.for_arch(arch)
    if row is None:
        known = ", ".join(each.arch for each in recipe.capability)
        refusal = recipe.refusal_of(arch)
        raise GpuError(
            f"This commit cannot be built for {arch.capability}: "
            + (refusal.reason if refusal else "it does not know that architecture."),
            hint=f"It can be built for {known}.",
        )
    return row


def _notes(recipe: Recipe, target: Target) -> tuple[str, ...]:
    notes = []
    for arch in target.archs:
        row = _row(recipe, arch)
        if arch.ptx and not row.gencode.isdigit():
            # https://docs.nvidia.com/cuda/parallel-thread-execution/#target-architectures: code for a target
            # with the suffix a runs on that architecture alone.
            notes.append(
                f"PTX for compute_{row.gencode} runs on compute capability {arch.capability} alone; "
                f"{arch} gives nothing that {arch.capability} does not."
            )
        if not row.dispatch:
            notes.append(f"{arch.capability}: {row.reason}")
    return tuple(notes)
