"""The compiled modules of an installation, read from their ELF files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from sagefix.archs import Arch, join_archs, parse_arch, sort_archs
from sagefix.checks import Check
from sagefix.errors import WheelError
from sagefix.pins.model import Pin, Recipe, Revision
from sagefix.proof.explain import explain
from sagefix.proof.identity import FIX, Identity, same_release
from sagefix.proof.installed import Installed
from sagefix.targets.linking import library_folders
from sagefix.targets.model import Interpreter
from sagefix.wheels.checking import check_wraps
from sagefix.wheels.elf import module_suffix, read_extension
from sagefix.wheels.model import Extension
from sagefix.wheels.symbols import Resolution, unprovided

# Of manifests/failures.toml.
_ANOTHER_TORCH = "built-for-another-torch"


class Modules(msgspec.Struct, frozen=True, kw_only=True):
    """The compiled modules that this interpreter would import, those for others, and those nobody can read.

    ``paths`` are the files of ``usable``, in the same order. ``unreadable`` are sentences.
    """

    usable: tuple[Extension, ...] = ()
    paths: tuple[Path, ...] = ()
    foreign: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    def archs(self) -> tuple[Arch, ...]:
        """Return every capability there is machine code for, in any module."""
        return sort_archs(capability(text) for module in self.usable for text in module.cubins)


def capability(text: str) -> Arch:
    """Return the arch of a cubin: ``9.0a`` runs on 9.0."""
    return parse_arch(text.rstrip("af"))


def read_modules(installed: Installed, interpreter: Interpreter) -> Modules:
    """Read the ELF file of every compiled module in the package."""
    usable, paths, foreign, unreadable = [], [], [], []
    for path in installed.compiled():
        relative = installed.relative(path)
        if module_suffix(path.name) not in (interpreter.ext_suffix, ".abi3.so", ".so"):
            foreign.append(relative)
            continue
        try:
            with path.open("rb") as stream:
                usable.append(read_extension(stream, relative))
            paths.append(path)
        except (WheelError, OSError) as error:
            unreadable.append(str(error).rstrip("."))
    return Modules(
        usable=tuple(usable), paths=tuple(paths), foreign=tuple(foreign), unreadable=tuple(unreadable)
    )


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be there: modules by the capability that uses them (``""``: whatever the arch).

    ``refused`` says for each arch that cannot be built why. ``known`` is False when no recipe is known.
    """

    known: bool
    modules: dict[str, frozenset[str]] = {}
    refused: tuple[str, ...] = ()

    def all(self) -> list[str]:
        """Return every module once, sorted."""
        return sorted(frozenset().union(*self.modules.values()))


def promise(
    pin: Pin, installed: Installed, identity: Identity, archs: Sequence[Arch], wanted: Revision | None = None
) -> Promise:
    """Work out what the recipe of the commit promises for the archs.

    Sources alone may fit commits with different recipes, and of an unknown commit only the version is known;
    then what all recipes that come into question promise has to be there.
    """
    recipes = _recipes(pin, installed, identity, wanted)
    if not recipes:
        return Promise(known=False)
    modules = {"": frozenset.intersection(*(frozenset(recipe.extensions) for recipe in recipes))}
    refused = []
    for arch in archs:
        rows = [row for recipe in recipes if (row := recipe.for_arch(arch)) is not None]
        if rows:
            modules[arch.capability] = frozenset.intersection(*(frozenset(row.extensions) for row in rows))
        elif any(recipe.capability for recipe in recipes):
            refusal = next(
                (found for recipe in recipes if (found := recipe.refusal_of(arch)) is not None), None
            )
            why = f": {refusal.reason.rstrip('.')}" if refusal is not None else ""
            refused.append(f"{arch.capability} cannot be built at this commit{why}")
    return Promise(known=True, modules=modules, refused=tuple(refused))


def _recipes(pin: Pin, installed: Installed, identity: Identity, wanted: Revision | None) -> list[Recipe]:
    names = [ref.recipe for commit in identity.commits if (ref := pin.ref_of(commit)) is not None]
    if not names and installed.record is not None and installed.record.recipe:
        names = [installed.record.recipe]
    if not names and wanted is not None and wanted.commit in identity.commits:
        names = [wanted.recipe]
    if not names and not identity.commits and same_release(installed.version, pin.version):
        return list(pin.recipe)
    return [recipe for recipe in pin.recipe if recipe.name in names]


def check_modules(modules: Modules, promised: Promise, interpreter: Interpreter) -> Check:
    """Every module that is promised is there, for this Python and this machine."""
    name = "extensions"
    there = {module.module for module in modules.usable}
    foreign = {Path(path).name.partition(".")[0]: path for path in modules.foreign}
    wrong = list(modules.unreadable)
    for module in promised.all():
        if module not in there:
            other = foreign.get(module.rpartition(".")[2])
            wrong.append(f"{module} is missing" + (f" ({other} is for another Python)" if other else ""))
    wrong += promised.refused
    wrong += [
        f"{module.module} is for {module.machine}, this machine is {interpreter.machine}"
        for module in modules.usable
        if module.machine != interpreter.machine
    ]
    if wrong:
        return Check(name=name, status="failure", found=f"{'; '.join(wrong)}.", fix=FIX)
    names = ", ".join(module.module.rpartition(".")[2] for module in modules.usable) or "none"
    if not promised.known:
        return Check(name=name, status="skipped", found=f"There: {names}. What has to be there is unknown.")
    return Check(name=name, status="ok", found=f"All that this commit builds are there: {names}.")


def check_gpu_code(modules: Modules, promised: Promise, archs: Sequence[Arch]) -> Check:
    """Every module that an arch uses holds machine code for it; PTX alone is compiled by the driver."""
    name = "GPU code"
    if not archs:
        return Check(name=name, status="skipped", found="The GPU arch is unknown; name it with --arch.")
    missing: list[str] = []
    ptx_only: list[str] = []
    for arch in archs:
        used = promised.modules.get(arch.capability)
        for module in modules.usable:
            counts = module.module in used if used is not None else bool(module.cubins or module.ptx)
            if counts and not any(capability(text) == _plain(arch) for text in module.cubins):
                fitting = any(_ptx_serves(text, arch) for text in module.ptx)
                (ptx_only if fitting else missing).append(
                    f"{module.module} ({_codes(module)}) for {_plain(arch)}"
                )
    if missing:
        return Check(name=name, status="failure", found=f"No code in {'; '.join(missing)}.", fix=FIX)
    if not any(module.cubins or module.ptx for module in modules.usable):
        return Check(name=name, status="failure", found="No module holds any GPU code.", fix=FIX)
    if ptx_only:
        return Check(
            name=name,
            status="warning",
            found=f"Only PTX in {'; '.join(ptx_only)}: the driver compiles it at the first call.",
            fix=FIX,
        )
    return Check(name=name, status="ok", found=f"Each module holds the machine code for {join_archs(archs)}.")


def _plain(arch: Arch) -> Arch:
    return Arch(arch.major, arch.minor)


def _ptx_serves(text: str, arch: Arch) -> bool:
    """PTX with a suffix (``9.0a``) is for that arch alone, without one for it and all newer ones."""
    have = capability(text)
    return have == _plain(arch) or (text[-1].isdigit() and have < _plain(arch))


def _codes(module: Extension) -> str:
    return ", ".join((*module.cubins, *(f"PTX {text}" for text in module.ptx))) or "none at all"


def check_fixes(pin: Pin, modules: Modules) -> list[Check]:
    """Say for each fix of the pin whether the modules were built with it.

    Without one they are as upstream's, which plain use never notices: a warning, and no failure.
    """
    checks = []
    for fix in pin.fix:
        found = check_wraps(modules.usable, fix.wraps)
        fine = found.status == "ok"
        checks.append(
            Check(
                name=f"fix: {fix.name}",
                status="ok" if fine else "warning",
                found="Built with it." if fine else f"Built without it: {found.found}. {fix.cures}",
                fix="" if fine else FIX,
                sources=fix.sources,
            )
        )
    return checks


def resolve(
    modules: Modules, interpreter: Interpreter, libraries: Sequence[Path] = ()
) -> tuple[Resolution, ...]:
    """Look up the symbols of the usable modules, in their order, in the libraries of the target.

    ``libraries`` are folders to look in instead of those of an interpreter that is here.
    """
    return unprovided(modules.usable, libraries or library_folders(interpreter, env={}))


def torch_symbols(found: Sequence[Resolution]) -> tuple[str, ...]:
    """Return the symbols of torch's that nothing provides, each once, sorted: signs of another torch."""
    missing = {symbol for each in found for symbol in each.missing}
    return tuple(
        symbol
        for symbol in sorted(missing)
        if explain("undefined symbol", f"undefined symbol: {symbol}").name == _ANOTHER_TORCH
    )


def check_symbols(modules: Modules, resolved: Sequence[Resolution]) -> Check:
    """Every symbol a module expects is provided by a library that it names: else its import fails."""
    name = "symbols"
    if not modules.usable:
        return Check(name=name, status="skipped", found="There is no compiled module for this Python.")
    wrong, fix, assumed, total = [], "", set(), 0
    for module, found in zip(modules.usable, resolved, strict=True):
        total += len(module.undefined)
        assumed |= {library for _, library in found.assumed}
        if found.missing:
            told = explain("undefined symbol", f"undefined symbol: {found.missing[0]}")
            more = f" and {len(found.missing) - 1} more" if len(found.missing) > 1 else ""
            gone = [library for library in found.absent if library not in assumed]
            wrong.append(
                f"{module.module}: nothing that it is linked to provides {found.missing[0]}{more}"
                + (f"; not on this machine: {', '.join(gone)}" if gone else "")
                + f". {told.meaning}"
            )
            fix = fix or told.fix
    if wrong:
        return Check(name=name, status="failure", found=f"{'; '.join(wrong)}.", fix=fix)
    return Check(
        name=name,
        status="ok",
        found=f"All {total} symbols that the modules expect are provided"
        + (
            f" ({', '.join(sorted(assumed))} is not on this machine and was taken on trust)."
            if assumed
            else "."
        ),
    )
