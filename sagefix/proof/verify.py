"""A verification from end to end: what is installed in a target, judged level by level."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from sagefix import __version__, progress
from sagefix.archs import Arch
from sagefix.checks import Check
from sagefix.errors import TargetError
from sagefix.pins.model import Pin, Revision
from sagefix.proof import extensions, importing, static
from sagefix.proof.fit import check_record, check_torch
from sagefix.proof.identity import FIX, check_version, identify
from sagefix.proof.installed import Copies, Installed, find_copies, read_installed
from sagefix.proof.model import Level, Verdict
from sagefix.proof.recorded import check_files
from sagefix.targets.model import Target


def verify(
    pin: Pin, target: Target, *, level: Level, revision: Revision | None = None, wheel_sha256: str = ""
) -> Verdict:
    """Judge what is installed under the pin's name in the target, up to a level.

    ``revision`` is what has to be installed (default: any commit that is not known to be bad). A target
    without archs is one whose GPU nobody knows: then those count that the installation says, or shows, to be
    built for. ``wheel_sha256`` is the wheel it came from, where the caller knows it.

    Nothing of the target is changed, and level ``static`` runs nothing in it. A negative outcome is a
    verdict, not an error; :class:`TargetError` is raised for files that this user may not read.
    """
    copies = find_copies(pin, target.interpreter)
    checks = [static.check_copies(pin, target.interpreter, copies)]
    installed = _imported(pin, copies)
    if installed is not None:
        with progress.task("Verify"), _readable():
            modules = extensions.read_modules(installed, target.interpreter)
            checks += _static(pin, target, revision, installed, modules)
        if level == "import":
            checks += importing.check_imports(pin, target.interpreter, installed, modules.paths)
    return Verdict(
        pin=pin.name,
        level=level,
        subject=f"{installed.project} {installed.version}".strip() if installed is not None else "",
        wheel_sha256=wheel_sha256,
        interpreter=target.interpreter.executable,
        gpus=tuple(gpu.name for gpu in target.gpus),
        torch=target.interpreter.torch.version if target.interpreter.torch is not None else "",
        when=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        checks=tuple(checks),
        sagefix=__version__,
    )


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TargetError(
            f"{error.filename} cannot be read: {error.strerror}.",
            hint="Run the command as the user who owns the files.",
        ) from error


def verdict_json(verdict: Verdict) -> bytes:
    """Write a verdict as JSON, for people and machines, with a line break at its end."""
    return msgspec.json.format(msgspec.json.encode(verdict), indent=2) + b"\n"


def verdict_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of :func:`verdict_json`."""
    return msgspec.json.schema(Verdict)


def _imported(pin: Pin, copies: Copies) -> Installed | None:
    """Read the installation that ``import`` finds, with the metadata beside it."""
    if not copies.packages or not copies.infos:
        return None
    package = copies.packages[0]
    beside = [info for info in copies.infos if info.parent == package.parent]
    return read_installed((beside or list(copies.infos))[0], package, pin)


def _static(
    pin: Pin, target: Target, revision: Revision | None, installed: Installed, modules: extensions.Modules
) -> list[Check]:
    interpreter = target.interpreter
    identity = identify(pin, installed, revision)
    built = installed.archs() or modules.archs()
    archs: Sequence[Arch] = target.archs or built
    promised = extensions.promise(pin, installed, identity, archs, revision)
    sources = static.read_sources(installed)
    checks = [
        check_files(installed, interpreter.ext_suffix, fix=FIX),
        check_version(pin, installed, identity, tuple(archs), revision),
        check_record(target, installed),
    ]
    if (torch := check_torch(pin, target, installed)) is not None:
        checks.append(torch)
    checks.append(static.check_parses(sources, interpreter))
    checks += [static.check_fault(fault, sources, target.archs, built) for fault in pin.fault]
    checks.append(extensions.check_modules(modules, promised, interpreter))
    if pin.device == "cuda":
        checks.append(extensions.check_gpu_code(modules, promised, archs))
        checks += extensions.check_fixes(pin, modules)
    checks.append(extensions.check_symbols(modules, interpreter))
    return checks
