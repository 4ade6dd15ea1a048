"""Does what was installed fit the target: its record, and the torch it was linked against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from sagefix.archs import Arch, join_archs
from sagefix.checks import Check
from sagefix.pins.model import Pin
from sagefix.proof.identity import FIX
from sagefix.proof.installed import Installed
from sagefix.targets.model import Interpreter, Target, Torch
from sagefix.wheels.model import RECORD_NAME, Record


def check_record(target: Target, installed: Installed) -> Check:
    """Judge sagefix's own record: readable, of this installation, and made for this target."""
    if installed.record_error:
        return Check(
            name="record",
            status="failure",
            found=f"{RECORD_NAME} cannot be read: {installed.record_error}.",
            fix=FIX,
        )
    if installed.record is None:
        who = f" (by {installed.installer})" if installed.installer else ""
        return Check(
            name="record",
            status="warning",
            found=f"No {RECORD_NAME}: sagefix neither built nor saved what is installed{who}.",
            fix=FIX,
        )
    record = installed.record
    wrong = [
        *_against_metadata(record, installed),
        *_against_interpreter(record, target.interpreter),
        *_against_archs(installed.archs(), target.archs),
    ]
    if wrong:
        return Check(name="record", status="failure", found=f"{_upper('; '.join(wrong))}.", fix=FIX)
    unknown = f" (unknown: {', '.join(record.unknown)})" if record.unknown else ""
    made = {"built": "built", "grafted": "grafted for a search", "saved": "saved from an installation"}[
        record.origin
    ]
    return Check(
        name="record",
        status="ok",
        found=f"{_upper(made)} by sagefix {record.sagefix}"
        + (f" for {join_archs(installed.archs())}" if record.archs else "")
        + f"{unknown}.",
    )


def check_torch(
    pin: Pin, target: Target, installed: Installed, undefined: Sequence[str] = ()
) -> Check | None:
    """Judge whether torch is still the one it was built for; None for a pin that needs no torch.

    Compiled against libtorch's C++ ABI it is good for one minor release of torch and one CUDA major. ``undefined`` are
    the symbols of torch's that its modules ask for and nothing here provides.
    Source: https://docs.pytorch.org/docs/stable/notes/libtorch_stable_abi.html
    """
    if not pin.build.torch:
        return None
    torch = target.interpreter.torch
    if torch is None:
        why = target.interpreter.torch_error
        return Check(
            name="torch",
            status="failure",
            found=f"torch is {'broken' if why else 'not installed'} in {target.interpreter.executable}"
            + (f": {why}." if why else "."),
            fix="Install torch, then run `sagefix install`.",
        )
    if (wrong := next(_torch_problems(installed, torch, undefined), "")) != "":
        return Check(name="torch", status="failure", found=wrong, fix=FIX)
    built_for, _ = _built_for(installed)
    if not built_for:
        return Check(
            name="torch",
            status="skipped",
            found=f"torch {torch.version} is installed; nothing says which one it was built for.",
        )
    return Check(
        name="torch", status="ok", found=f"Built for torch {built_for}, and {torch.version} is installed."
    )


def _torch_problems(installed: Installed, torch: Torch, undefined: Sequence[str]) -> Iterator[str]:
    """Yield what does not fit, as sentences, the likeliest cause first."""
    record = installed.record
    built_for, told_by = _built_for(installed)
    if built_for and built_for != torch.release:
        yield (
            f"Built for torch {built_for}, as {told_by} says, and {torch.version} is installed"
            f"{_undefined(undefined)}."
        )
    cuda = (record.cuda if record is not None else "") or installed.label.cuda
    if cuda and torch.cuda.partition(".")[0] != cuda.partition(".")[0]:
        here = f"CUDA {torch.cuda}" if torch.cuda else "the CPU only"
        yield f"It was built with CUDA {cuda}, and torch {torch.version} here is for {here}."
    if record is not None and {record.cxx11_abi, torch.cxx11_abi} == {True, False}:
        yield "It was built for the other of the two C++ string ABIs than torch here has (cxx11_abi differs)."
    if refused := _refused(installed, torch.version):
        yield f"It requires {refused}, and {torch.version} is installed{_undefined(undefined)}."
    if undefined and not built_for:
        yield f"Built for another torch than {torch.version}, which is installed{_undefined(undefined)}."


def _undefined(symbols: Sequence[str]) -> str:
    if not symbols:
        return ""
    more = f" and {len(symbols) - 1} more" if len(symbols) > 1 else ""
    return f": undefined symbol {symbols[0]}{more}"


def _built_for(installed: Installed) -> tuple[str, str]:
    """Return the torch release (``"2.11"``) it was built for and what tells so; empty when unknown."""
    if installed.record is not None and installed.record.torch:
        return _release(installed.record.torch), "its record"
    if installed.label.torch:
        return _release(installed.label.torch), "its version"
    for requirement in _torch_requirements(installed):
        for clause in requirement.specifier:
            if clause.operator == "==":
                return _release(clause.version.removesuffix(".*")), "its metadata"
    return "", ""


def _release(text: str) -> str:
    return ".".join(text.partition("+")[0].split(".")[:2])


def _torch_requirements(installed: Installed) -> list[Requirement]:
    found = []
    for line in installed.requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if canonicalize_name(requirement.name) == "torch" and requirement.marker is None:
            found.append(requirement)
    return found


def _refused(installed: Installed, version: str) -> str:
    try:
        here = Version(version)
    except InvalidVersion:
        return ""
    return next(
        (
            str(requirement)
            for requirement in _torch_requirements(installed)
            if not requirement.specifier.contains(here, prereleases=True)
        ),
        "",
    )


def _against_metadata(record: Record, installed: Installed) -> list[str]:
    wrong = []
    if canonicalize_name(record.project) != canonicalize_name(installed.project):
        wrong.append(f"the record is of {record.project}, the metadata of {installed.project}")
    if record.version != installed.version:
        wrong.append(f"the record is of version {record.version}, the metadata of {installed.version}")
    return wrong


def _against_interpreter(record: Record, interpreter: Interpreter) -> list[str]:
    wrong = []
    tag = f"{record.python_tag}-{record.abi_tag}-{record.platform_tag}"
    if not any(
        f"{record.python_tag}-{record.abi_tag}-{platform}" in interpreter.tags
        for platform in record.platform_tag.split(".")
    ):
        ours = f"{interpreter.python_tag}-{interpreter.abi_tag}-{interpreter.platform_tag}"
        wrong.append(f"it was built for {tag}, this interpreter is {ours}")
    if record.glibc and interpreter.glibc and _numbers(record.glibc) > _numbers(interpreter.glibc):
        wrong.append(f"it needs glibc {record.glibc}, here is {interpreter.glibc}")
    return wrong


def _against_archs(built: tuple[Arch, ...], wanted: tuple[Arch, ...]) -> list[str]:
    """An arch is served by its own code, or by PTX of an older one that the driver compiles."""
    missing = [
        arch
        for arch in wanted
        if not any(
            have.capability == arch.capability
            or (have.ptx and (have.major, have.minor) <= (arch.major, arch.minor))
            for have in built
        )
    ]
    if not built or not missing:
        return []
    return [f"it was built for {join_archs(built)}, and the target is {join_archs(missing)}"]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
