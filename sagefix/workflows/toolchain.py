"""CUDA toolkits: what is here, what a target would get, and those of packages made ahead or removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sagefix.archs import parse_archs
from sagefix.checks import Check
from sagefix.errors import TargetError, ToolchainError
from sagefix.pins.load import load_pin
from sagefix.pins.model import Pin, Recipe
from sagefix.pins.refs import resolve_ref
from sagefix.targets.cross.compilers import tool_environment
from sagefix.targets.cross.described import described_platform, find_described
from sagefix.targets.cross.packages import SHELF as PACKAGES_SHELF
from sagefix.targets.cross.packages import list_packages
from sagefix.targets.cross.rootfs import SHELF as EMULATED_SHELF
from sagefix.targets.cross.rootfs import list_roots
from sagefix.targets.cuda import check_toolkit
from sagefix.targets.environments import find_environment, read_spec
from sagefix.targets.interpreter import find_python, probe
from sagefix.targets.kept import Removed, remove_from, size_of
from sagefix.targets.model import Interpreter
from sagefix.targets.packaged import FOUND_IN, find_packaged, list_packaged, make_packaged
from sagefix.targets.packaged import SHELF as TOOLCHAINS_SHELF
from sagefix.targets.toolchain import check_toolchain
from sagefix.targets.toolkit import Toolkit, find_toolkit, other_homes
from sagefix.targets.wanted import wanted_for
from sagefix.workflows.situation import Request, find_interpreter


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A toolkit on this machine, the packages of another platform that extensions are linked with, or a Python of it to
    be emulated.

    ``origin`` is ``"system"``, ``"PyPI"``, or whose packages a Python is made of; ``size`` is in bytes. ``name``
    removes it (empty: not ours to remove); ``packages`` are those it is made of, at their versions. ``error`` says why
    it cannot be used; then ``version`` may be empty. ``machine`` is the one that is compiled for where it is not this
    one; ``kind`` is ``"toolkit"``, ``"packages"`` or ``"Python"``.
    """

    origin: str
    version: str
    home: str
    size: int
    found_in: str = ""
    name: str = ""
    packages: dict[str, str] = {}
    made: str = ""
    error: str = ""
    machine: str = ""
    kind: str = "toolkit"


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The toolkits, and the checks of the one that a target would get (none: no target was named)."""

    toolkits: tuple[Row, ...]
    target: str = ""
    checks: tuple[Check, ...] = ()


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """The toolkit of packages for a target. ``fetched`` is false when it was there already."""

    toolkit: Toolkit
    fetched: bool
    checks: tuple[Check, ...]


def show(request: Request) -> Shown:
    """List the system's toolkits and ours; with a target, say which of them it would get. Fetches nothing."""
    rows = (*_system(), *_ours(), *_platforms(), *_pythons())
    if request.python is None and request.torch is None and request.platform is None:
        return Shown(toolkits=rows)
    pin = load_pin(request.pin)
    interpreter = _look_up(pin, request)
    archs = parse_archs(request.arch) if request.arch else ()
    checks = check_toolchain(
        request.cuda, interpreter, pin, _recipe(pin, request), archs, os.environ, offline=request.offline
    )
    return Shown(toolkits=rows, target=interpreter.executable, checks=checks)


def install(request: Request) -> Installed:
    """Make the toolkit of packages for a target's torch now, so that a build later needs no network.

    With ``--torch`` the target is a build environment, which is made as well. Raises
    :class:`ToolchainError`, :class:`RemoteIndexError`, :class:`DiskError` and what the target's room raises.
    """
    pin = load_pin(request.pin)
    interpreter = find_interpreter(pin, request)
    archs = parse_archs(request.arch) if request.arch else ()
    wanted = wanted_for(interpreter)
    tools = tool_environment(interpreter, os.environ)
    there = find_packaged(wanted, tools)
    toolkit = there or make_packaged(wanted, interpreter, tools, offline=request.offline)
    return Installed(
        toolkit=toolkit,
        fetched=there is None,
        checks=check_toolkit(toolkit, interpreter, pin, _recipe(pin, request), archs, tools),
    )


def remove(names: tuple[str, ...] = (), *, everything: bool = False) -> tuple[Removed, ...]:
    """Remove toolchains, packages and Pythons of other platforms by name, or all of them; return what was freed.

    Raises :class:`UsageError` for one that is not there, :class:`LockError` for one in the making.
    """
    shelves = (TOOLCHAINS_SHELF, PACKAGES_SHELF, EMULATED_SHELF)
    return remove_from(shelves, names, everything=everything, what="a toolchain")


def _recipe(pin: Pin, request: Request) -> Recipe:
    known = resolve_ref(pin, request.ref)
    return pin.recipe_named(known.recipe if known and known.recipe else pin.recipe[0].name)


def _look_up(pin: Pin, request: Request) -> Interpreter:
    """Return the target without making it."""
    platform = described_platform(request.platform)
    if platform is None and request.torch is None:
        return probe(find_python(request.python))
    spec = read_spec(request.python, request.torch, pin.build.requires)
    if platform is not None:
        found, lacking = find_described(platform, spec)
    else:
        found, name = find_environment(spec)
        lacking = f"The build environment {name}"
    if found is None:
        raise TargetError(
            f"{lacking} is not there yet.",
            hint="`sagefix toolchain install` and `sagefix build` make it.",
        )
    return found


def _system() -> Iterator[Row]:
    """Yield the toolkits that sagefix did not make, each once."""
    seen = set()
    for hint in (None, *other_homes(""), "/usr/local/cuda", "/opt/cuda"):
        if hint is not None and not (Path(hint) / "bin" / "nvcc").is_file():
            continue
        try:
            found = find_toolkit(hint, os.environ)
        except ToolchainError as error:
            if hint is not None:
                yield Row(origin="system", version="", home=hint, size=0, error=error.message)
            continue
        real = os.path.realpath(found.home)
        if real not in seen:
            seen.add(real)
            yield Row(
                origin="system", version=found.full_version, home=found.home, size=size_of(Path(real)),
                found_in=found.found_in if hint is None else str(Path(hint).parent),
            )  # fmt: skip


def _ours() -> Iterator[Row]:
    for kept in list_packaged():
        toolchain = kept.toolchain
        yield Row(
            origin=FOUND_IN,
            version=toolchain.nvcc,
            home=kept.home,
            size=kept.size,
            found_in="cache",
            name=kept.name,
            packages={each.name: each.version for each in toolchain.packages} | toolchain.wanted.headers,
            made=toolchain.made,
            machine=toolchain.wanted.libraries_for,
        )


def _platforms() -> Iterator[Row]:
    for kept in list_packages():
        there = {each.name: each.version for each in kept.packages.closure}
        yield Row(
            origin=FOUND_IN,
            version="",
            home=kept.folder,
            size=kept.size,
            found_in="cache",
            name=kept.name,
            packages={name: there[name] for name in kept.packages.unpacked},
            made=kept.packages.made,
            machine=kept.packages.platform.partition("_")[2],
            kind="packages",
        )


def _pythons() -> Iterator[Row]:
    for kept in list_roots():
        yield Row(
            origin=kept.root.origin,
            version=kept.root.python,
            home=kept.folder,
            size=kept.size,
            found_in="cache",
            name=kept.name,
            packages={each.name: each.version for each in kept.root.packages},
            made=kept.root.made,
            machine=kept.root.platform.partition("_")[2],
            kind="Python",
        )
