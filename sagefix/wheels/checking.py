"""Whether a wheel is what its plan promised, found out from its files alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from sagefix.archs import Arch, parse_arch
from sagefix.checks import Check
from sagefix.errors import WheelError
from sagefix.wheels.archive import WheelArchive, validate
from sagefix.wheels.elf import glibc_floor, module_suffix, read_extensions
from sagefix.wheels.model import Extension
from sagefix.wheels.symbols import unprovided
from sagefix.wheels.zips import some

_REBUILD = "Build it again with --rebuild; if it fails again, the build log says which flags were used."


class _Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; the arguments of :func:`check_wheel`."""

    extensions: tuple[str, ...]
    archs: tuple[Arch, ...]
    gencodes: Mapping[str, str]
    archs_of: Mapping[str, tuple[Arch, ...]]
    libraries: tuple[Path, ...]
    machine: str
    ext_suffix: str
    build_folders: tuple[Path, ...]


def check_wheel(
    path: Path,
    *,
    extensions: tuple[str, ...],
    archs: tuple[Arch, ...],
    gencodes: Mapping[str, str],
    libraries: Sequence[Path],
    machine: str,
    ext_suffix: str,
    archs_of: Mapping[str, tuple[Arch, ...]] | None = None,
    build_folders: Sequence[Path] = (),
    wraps: Sequence[str] = (),
) -> tuple[Check, ...]:
    """Compare a wheel with what was promised; never raises for what is wrong with the wheel.

    ``extensions``: modules that have to be there, as import names. ``archs``: each extension holds machine
    code for exactly these, and PTX where they ask for it; ``archs_of`` says otherwise for single extensions.
    ``gencodes`` maps a capability to the exact code wanted (``{"9.0": "90a"}``); without an entry any suffix
    does. ``libraries`` are the target's folders (:func:`~sagefix.targets.linking.library_folders`),
    ``machine`` (``x86_64``) and ``ext_suffix`` are the target's. ``build_folders`` are places that will not
    exist where the wheel is used. ``wraps`` are functions whose calls the pin's fixes send elsewhere.
    """
    promise = _Promise(
        extensions=extensions,
        archs=archs,
        gencodes=gencodes,
        archs_of=archs_of or {},
        libraries=tuple(libraries),
        machine=machine,
        ext_suffix=ext_suffix,
        build_folders=tuple(build_folders),
    )
    try:
        archive = validate(path)
        found = read_extensions(path)
    except WheelError as error:
        return (Check(name="wheel", status="failure", found=error.message, fix=error.hint or _REBUILD),)
    checks: list[Callable[[], Check]] = [
        partial(_check_extensions, found, promise),
        partial(_check_platform, archive, found, promise),
        partial(_check_code, found, promise),
        partial(_check_symbols, found, promise),
        partial(_check_search_paths, found, promise),
        partial(_check_record, archive, found),
    ]
    if wraps:
        checks.append(lambda: check_wraps(found, wraps))
    whole = Check(
        name="wheel", status="ok", found=f"{len(archive.members)} files match RECORD and the file's name"
    )
    return (whole, *(check() for check in checks))


def check_wraps(found: Iterable[Extension], wraps: Sequence[str]) -> Check:
    """In each extension with GPU code, calls of the wrapped functions go through ``__wrap_``.

    The linker turns every reference to ``f`` into one to ``__wrap_f`` and leaves ``f`` itself to the wrapper
    (https://sourceware.org/binutils/docs/ld/Options.html, ``--wrap``). So the file defines ``__wrap_f`` and
    its own code uses it; an extension that was linked without the fix has ``f`` alone.
    """
    problems, fine = [], []
    for extension in found:
        if not (extension.cubins or extension.ptx):
            continue
        for name in wraps:
            wrapper = f"__wrap_{name}"
            if wrapper in extension.exports and wrapper in extension.relocated:
                fine.append(extension.module or extension.path)
            elif name in extension.undefined or wrapper in extension.undefined:
                problems.append(f"{extension.module or extension.path} calls {name} itself")
    return _verdict(
        "fixes", problems, f"{', '.join(wraps)} wrapped in {', '.join(dict.fromkeys(fine)) or 'nothing'}"
    )


def _verdict(name: str, problems: Sequence[str], fine: str, *, fix: str = _REBUILD) -> Check:
    if problems:
        return Check(name=name, status="failure", found=some(problems, 5), fix=fix)
    return Check(name=name, status="ok", found=fine)


def _check_extensions(found: Iterable[Extension], promise: _Promise) -> Check:
    """Every promised module is there and can be imported as such; more than that is told."""
    modules = {extension.module: extension for extension in found if extension.module}
    problems = [f"{name} is missing" for name in promise.extensions if name not in modules]
    problems += [
        f"{name} has no function PyInit_{name.rpartition('.')[2]}, so it cannot be imported"
        for name, extension in modules.items()
        if f"PyInit_{name.rpartition('.')[2]}" not in extension.exports
    ]
    if problems:
        return _verdict("extensions", problems, "")
    extra = [*sorted(set(modules) - set(promise.extensions)), *(e.path for e in found if not e.module)]
    if extra:
        return Check(
            name="extensions",
            status="warning",
            found=f"beside the promised ones there is {some(extra, 5)}",
            fix="If this commit really builds more, add it to the pin's manifest.",
        )
    return _verdict("extensions", (), ", ".join(sorted(modules)) or "none, as promised")


def _check_platform(archive: WheelArchive, found: Iterable[Extension], promise: _Promise) -> Check:
    problems = platform_problems(
        found, archive.platform_tag, machine=promise.machine, ext_suffix=promise.ext_suffix
    )
    return _verdict("platform", problems, f"{archive.platform_tag}, code for {promise.machine}")


def platform_problems(
    extensions: Iterable[Extension], platform_tag: str, *, machine: str, ext_suffix: str
) -> list[str]:
    """Return what is contradictory about tag, file names and machine code; empty when all fit one machine.

    A cross build that lacks one variable ends with code 0 and a tag of this machine around code for another.
    """
    problems = []
    extensions = list(extensions)
    if extensions:
        problems += [
            f"the tag {tag} does not fit code for {machine}"
            for tag in platform_tag.split(".")
            if not tag.endswith(f"_{machine}")
        ]
    for extension in extensions:
        if extension.machine != machine:
            problems.append(f"{extension.path} is code for {extension.machine}, not {machine}")
        suffix = module_suffix(extension.path)
        if extension.module and suffix not in (ext_suffix, ".abi3.so", ".so"):
            problems.append(
                f"{extension.path} is for a Python whose modules end in {suffix}, not {ext_suffix}"
            )
    return problems


def _check_code(found: Iterable[Extension], promise: _Promise) -> Check:
    """Each module holds machine code for exactly the archs it was asked to hold, and PTX as asked."""
    problems: list[str] = []
    for extension in found:
        if extension.module:
            archs = promise.archs_of.get(extension.module, promise.archs)
            problems += code_problems(extension, archs, promise.gencodes)
    wanted = ", ".join(f"sm_{promise.gencodes.get(arch.capability, arch.number)}" for arch in promise.archs)
    return _verdict("GPU code", problems, f"{wanted} in each extension" if wanted else "none, as promised")


def code_problems(extension: Extension, archs: Iterable[Arch], gencodes: Mapping[str, str]) -> list[str]:
    """Return how an extension's GPU code differs from what was asked for."""
    archs = tuple(archs)
    exact = {
        arch.capability: _spelled(gencodes[arch.capability]) for arch in archs if arch.capability in gencodes
    }
    cubins = {code if _capability(code) in exact else _capability(code) for code in extension.cubins}
    wanted = {exact.get(arch.capability, arch.capability) for arch in archs}
    ptx, wanted_ptx = (
        {_capability(code) for code in extension.ptx},
        {arch.capability for arch in archs if arch.ptx},
    )
    differences = (
        ("holds no code for", wanted - cubins),
        ("holds code nobody asked for:", cubins - wanted),
        ("holds no PTX for", wanted_ptx - ptx),
        ("holds PTX nobody asked for:", ptx - wanted_ptx),
    )
    return [f"{extension.module} {what} {', '.join(sorted(codes))}" for what, codes in differences if codes]


def _spelled(gencode: str) -> str:
    """Return ``"9.0a"`` for ``"90a"``."""
    return parse_arch(gencode).capability + gencode.lstrip("0123456789")


def _capability(code: str) -> str:
    return code.rstrip("af")


def _check_symbols(found: Sequence[Extension], promise: _Promise) -> Check:
    """Every undefined symbol is provided by a library in NEEDED: what breaks this breaks the import."""
    resolutions = unprovided(found, promise.libraries)
    absent = sorted(
        {library for resolution in resolutions if resolution.missing for library in resolution.absent}
    )
    problems = [
        f"{resolution.path}: nothing in NEEDED provides {some(resolution.missing)}"
        for resolution in resolutions
        if resolution.missing
    ]
    if problems and absent:
        problems.append(f"not found on this machine: {', '.join(absent)}")
    left_to = sorted({library for resolution in resolutions for _, library in resolution.assumed})
    count = sum(len(extension.undefined) for extension in found)
    fine = f"{count} undefined symbols provided" + (
        f", some by {', '.join(left_to)} of the driver" if left_to else ""
    )
    return _verdict(
        "symbols",
        problems,
        fine,
        fix="Link the library that defines them (for the driver's functions, a stub of libcuda.so.1 that "
        "defines them all), or build against the torch of this target.",
    )


def _check_search_paths(found: Iterable[Extension], promise: _Promise) -> Check:
    """No library is looked for in a folder of the building machine, where anybody might put one."""
    gone = [*promise.build_folders, Path(tempfile.gettempdir())]
    problems, doubts = [], []
    for extension in found:
        for entry in extension.rpath:
            if entry.startswith(("$ORIGIN", "${ORIGIN}")):
                continue
            told = f"{extension.path} looks for libraries in {entry or 'the working folder'}"
            folder = Path(entry)
            if not folder.is_absolute() or any(folder.is_relative_to(place) for place in gone):
                problems.append(told)
            else:
                doubts.append(told)
    if doubts and not problems:
        return Check(
            name="search paths",
            status="warning",
            found=some(doubts, 5),
            fix="The Python that built the wheel asks its linker for it; harmless where it is not there.",
        )
    return _verdict("search paths", problems, "none of the building machine")


def _check_record(archive: WheelArchive, found: Sequence[Extension]) -> Check:
    """The record inside tells the truth about what can be read off the files."""
    record = archive.record
    if record is None:
        return Check(name="record", status="skipped", found="the wheel holds no record of sagefix")
    modules = tuple(sorted(extension.module for extension in found if extension.module))
    pairs = {
        "version": (record.version, archive.version),
        "tags": (
            (record.python_tag, record.abi_tag, record.platform_tag),
            (archive.python_tag, archive.abi_tag, archive.platform_tag),
        ),
        "glibc": (record.glibc, glibc_floor(found)),
        "extensions": (tuple(sorted(record.extensions)), modules),
    }
    problems = [
        f"it says {what} {told}, the files say {seen}" for what, (told, seen) in pairs.items() if told != seen
    ]
    return _verdict("record", problems, f"{record.origin}, agrees with the files")
