"""A verification from end to end: what is installed in a target, judged level by level."""

from __future__ import annotations

import contextvars
import datetime
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from sagefix import __version__, progress
from sagefix.archs import Arch
from sagefix.checks import LEVELS, NUMBERS, Check, Level, NumbersLevel, failures
from sagefix.errors import TargetError
from sagefix.pins.model import Pin, Revision
from sagefix.proof import extensions, importing, static
from sagefix.proof.fit import check_record, check_torch
from sagefix.proof.identity import FIX, check_version, identify
from sagefix.proof.installed import Installed, find_copies, read_imported
from sagefix.proof.model import Verdict
from sagefix.proof.numerics.prove import Proof, devices_of, prove
from sagefix.proof.recorded import check_files
from sagefix.targets.model import Target
from sagefix.targets.needs import require_present

_WAIT_S = 0.2


def verify(
    pin: Pin,
    target: Target,
    *,
    level: Level,
    revision: Revision | None = None,
    wheel_sha256: str = "",
    gpu: int | None = None,
    skip: Collection[Level] = (),
    libraries: Sequence[Path] = (),
) -> Verdict:
    """Judge what is installed under the pin's name in the target, up to a level.

    ``revision`` is what has to be installed (default: any commit that is not known to be bad). A target
    without archs is one whose GPU nobody knows: then those count that the installation says, or shows, to be
    built for. ``wheel_sha256`` is the wheel it came from, where the caller knows it. The levels ``numerics`` and
    ``full`` compute on every GPU of the target, or on the one of the index ``gpu``. ``skip`` leaves out levels
    before the last; that something is installed once is looked at all the same, and the verdict says what is missing.
    ``libraries`` are folders of what it is linked with, for a target that is described and not here.

    Nothing of the target is changed, and level ``static`` runs nothing in it. A negative outcome is a
    verdict, not an error; :class:`TargetError` is raised for files that this user may not read, and
    :class:`GpuError` where a level needs a GPU and none is visible.
    """
    if level != "static":
        require_present(target.interpreter, f"The level {level}")
    wanted = [each for each in LEVELS[: LEVELS.index(level) + 1] if each not in skip or each == level]
    computing: NumbersLevel | None = next((each for each in NUMBERS if each == level), None)
    copies = find_copies(pin, target.interpreter)
    checks = [static.check_copies(pin, target.interpreter, copies)]
    installed = read_imported(pin, copies)
    proof = Proof(checks=())
    if installed is not None:
        devices = devices_of(pin, target, gpu) if computing else ()
        with progress.task("Verify"), _readable():
            modules = extensions.read_modules(installed, target.interpreter)
            names = [importing.module_name(installed, path) for path in modules.paths]

            def reads() -> list[Check]:
                return (
                    _static(pin, target, revision, installed, modules, libraries)
                    if "static" in wanted
                    else []
                )

            def imports(stop: threading.Event) -> list[Check]:
                if "import" not in wanted:
                    return []
                return importing.check_imports(pin, target.interpreter, installed, modules.paths, stop=stop)

            if computing is None:
                checks += [*reads(), *imports(threading.Event())]
            else:
                read, imported, proof = _together(
                    reads, imports, lambda: prove(pin, target, computing, devices, names)
                )
                checks += [*read, *imported]
                proof = _worth_telling(pin, imported, proof)
    checks += proof.checks
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
        numerics=proof.numerics,
        driver=next((each.driver for each in target.gpus if each.driver), ""),
        hazards=proof.hazards,
        skipped=tuple(each for each in LEVELS[: LEVELS.index(level)] if each in skip),
    )


def _together(
    reads: Callable[[], list[Check]],
    imports: Callable[[threading.Event], list[Check]],
    compute: Callable[[], Proof],
) -> tuple[list[Check], list[Check], Proof]:
    """Read, import and compute at the same time: the last two wait for torch to be loaded for longest."""
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=2) as pool:
        # The reporter of progress travels in the context.
        imported = pool.submit(contextvars.copy_context().run, imports, stop)
        read = pool.submit(contextvars.copy_context().run, reads)
        try:
            proof = compute()
            while wait((imported, read), timeout=_WAIT_S).not_done:
                pass
        except BaseException:
            stop.set()
            raise
        return read.result(), imported.result(), proof


def _worth_telling(pin: Pin, imported: Sequence[Check], proof: Proof) -> Proof:
    """Return what was computed, or that it says nothing: every case of a package that does not import fails alike."""
    package = f"import {pin.package}"
    if any(
        check.name == package and not check.found.startswith(importing.HIDES) for check in failures(imported)
    ):
        found = f"Nothing was computed: {pin.package} does not import."
        return Proof(checks=(Check(name="numerics", status="skipped", found=found),))
    return proof


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


def _static(
    pin: Pin,
    target: Target,
    revision: Revision | None,
    installed: Installed,
    modules: extensions.Modules,
    libraries: Sequence[Path],
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
    resolved = extensions.resolve(modules, interpreter, libraries)
    if (torch := check_torch(pin, target, installed, extensions.torch_symbols(resolved))) is not None:
        checks.append(torch)
    checks.append(static.check_parses(sources, interpreter))
    checks += [static.check_fault(fault, sources, target.archs, built) for fault in pin.fault]
    checks.append(extensions.check_modules(modules, promised, interpreter))
    if pin.device == "cuda":
        checks.append(extensions.check_gpu_code(modules, promised, archs))
        checks += extensions.check_fixes(pin, modules)
    checks.append(extensions.check_symbols(modules, resolved))
    return checks
