"""``sagefix.attention`` in a target: what is proven and faster there, written down and installed beside the code."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from sagefix.attention import facts
from sagefix.errors import TargetError
from sagefix.installing.installer import (
    Installer,
    InstallerChoice,
    call,
    choose_installer,
    require_writable,
)
from sagefix.installing.stash import installed, remove_incomplete
from sagefix.pins.load import load_pin
from sagefix.process import quote
from sagefix.progress import task
from sagefix.targets.interpreter import find_python, probe
from sagefix.targets.model import Interpreter
from sagefix.wheels.attention import write_attention_wheel
from sagefix.workflows.knowing import Sources, gather
from sagefix.workflows.situation import Request


class AttentionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to install: with ``verify`` numbers are computed where a GPU here is not proven; ``proofs`` and ``benches``
    are files of ``sagefix verify --proof`` and ``sagefix bench --output``.
    """

    verify: bool = True
    proofs: tuple[Path, ...] = ()
    benches: tuple[Path, ...] = ()
    break_system: bool = False
    installer: InstallerChoice = "auto"


class Attention(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a target.

    ``version`` is that of ``sagefix-attention`` (empty: not installed), ``of`` that of SageAttention now, where facts
    are.
    ``code`` says where the package comes from: ``"wheel"``, ``"sagefix"`` (the target has sagefix itself) or empty.
    ``facts`` is what is known, ``stale`` why it is not what the target has (empty: it is).
    """

    interpreter: str
    version: str
    of: str
    code: str
    facts: facts.Facts | None = None
    stale: str = ""
    commands: tuple[str, ...] = ()


def install(request: Request, options: AttentionOptions) -> Attention:
    """Find out what is proven and faster in the target, and install ``sagefix-attention`` with it.

    Raises :class:`TargetError`: the pin's package is not installed there; :class:`UsageError` and
    :class:`WheelError` for files that say nothing of it; :class:`InstallError`.
    """
    pin = load_pin(request.pin)
    interpreter = probe(find_python(request.python))
    require_writable(interpreter, break_system=options.break_system)
    installer = choose_installer(interpreter, options.installer)
    distribution = installed(interpreter, pin.project)
    if distribution is None:
        raise TargetError(
            f"{pin.project} is not installed in {interpreter.executable}, so there is nothing to route to.",
            hint="Run `sagefix install` first.",
        )
    sources = Sources(proofs=options.proofs, benches=options.benches)
    known = gather(pin, interpreter, request, sources, compute=options.verify)
    command = _put_in(interpreter, installer, known, break_system=options.break_system)
    return msgspec.structs.replace(_look(interpreter), commands=(quote(command),))


def show(python: str | None) -> Attention:
    """Say what a target has, and whether its facts are about what is installed there."""
    return _look(probe(find_python(python)))


def remove(
    python: str | None, *, break_system: bool = False, installer: InstallerChoice = "auto"
) -> Attention:
    """Remove ``sagefix-attention`` from a target; nothing is done where it is not there.

    Raises :class:`InstallError`.
    """
    interpreter = probe(find_python(python))
    remove_incomplete(interpreter, facts.PROJECT)
    if installed(interpreter, facts.PROJECT) is None:
        return _look(interpreter)
    require_writable(interpreter, break_system=break_system)
    chosen = choose_installer(interpreter, installer)
    command = chosen.uninstall_command(interpreter, facts.PROJECT, break_system=break_system)
    call(command, f"remove {facts.PROJECT}")
    return msgspec.structs.replace(_look(interpreter), commands=(quote(command),))


def _put_in(
    interpreter: Interpreter, installer: Installer, known: facts.Facts, *, break_system: bool
) -> list[str]:
    remove_incomplete(interpreter, facts.PROJECT)
    with tempfile.TemporaryDirectory(prefix="sagefix-attention-") as folder:
        wheel = write_attention_wheel(Path(folder), known, code=not _has_sagefix(interpreter))
        command = installer.install_command(interpreter, wheel, break_system=break_system)
        with task(f"Installing {wheel.name} with {installer.kind}"):
            call(command, f"install {wheel.name}")
    return command


def _has_sagefix(interpreter: Interpreter) -> bool:
    """Tell whether the target has sagefix itself, and with it the code.

    Both would own the files of ``sagefix/attention``, and whoever is removed first would take them along.
    """
    return "sagefix" in interpreter.packages or any(
        Path(folder, "sagefix", "__init__.py").is_file() for folder in interpreter.sys_path
    )


def _look(interpreter: Interpreter) -> Attention:
    """Read what is there now; nothing of the target is run."""
    distribution = installed(interpreter, facts.PROJECT)
    text = distribution.read_text(facts.NAME) if distribution is not None else None
    known, stale = None, ""
    try:
        known = facts.decode(text.encode(), f"{facts.NAME} of {facts.PROJECT}") if text else None
    except facts.FactsError as error:
        stale = str(error)
    of = ""
    if known is not None:
        project, there = known.project, installed(interpreter, known.project)
        of = there.version if there is not None else ""
        record = there.read_text("RECORD") or "" if there is not None else ""
        if there is None:
            stale = f"{project} is not installed any more."
        elif (of, facts.fingerprint(record)) != (known.version, known.fingerprint):
            stale = f"It is about {project} {known.version}, and what is installed is not that."
    code = ""
    if distribution is not None:
        in_wheel = any(file.parts[:2] == ("sagefix", "attention") for file in distribution.files or ())
        code = "wheel" if in_wheel else "sagefix" if _has_sagefix(interpreter) else ""
        if not code:
            stale = stale or "sagefix was there when it was installed, and is gone."
    return Attention(
        interpreter=interpreter.executable,
        version=distribution.version if distribution is not None else "",
        of=of,
        code=code,
        facts=known,
        stale=stale,
    )
