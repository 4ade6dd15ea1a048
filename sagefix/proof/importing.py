"""Level ``import``: the package and each of its extensions, imported in the target, with the true error told.

Upstream's package wraps its extension imports in a bare ``except:``, so that importing it proves nothing
(https://github.com/thu-ml/SageAttention/blob/68de3797d163b89d28f9a38026c3b7313f6940d2/sageattention/core.py).
Each extension is therefore loaded from its file, in a process of its own: one that crashes hides no other,
and no library that one has loaded helps the next.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import msgspec

from sagefix import progress
from sagefix.checks import Check
from sagefix.errors import InterruptedByUser, ProcessError
from sagefix.pins.model import Pin
from sagefix.process import end_session
from sagefix.proof.explain import explain
from sagefix.proof.installed import Installed
from sagefix.targets.guests import ask, describe_exit, guest_environment
from sagefix.targets.model import Interpreter

TIMEOUT_S = 300.0
"""For one import; torch from a cold network disk is what takes long."""
_WAIT_S = 0.2
HIDES = "The package imports without an error and hides what its extensions raise: "
"""How the check of a package begins that can be called although something in it does not load."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An exception of an import: its class and its text."""

    type: str
    text: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What ``guest/imports.py`` said. ``during`` names the module that was needed first and failed.

    ``hidden``: extensions that importing the package did not load; ``modules``: what importing them by name
    then gave. ``died`` is set here, when the process gave no answer.
    """

    error: Failure | None = None
    during: str = ""
    versions: dict[str, str] = {}
    file: str = ""
    requires: dict[str, Failure | None] = {}
    hidden: tuple[str, ...] = ()
    modules: dict[str, Failure | None] = {}
    warnings: tuple[str, ...] = ()
    died: str = ""


def module_name(installed: Installed, path: Path) -> str:
    """Return the import name of a compiled module of the package: ``sageattention._fused``."""
    parent = path.parent.relative_to(installed.package.parent)
    return ".".join((*parent.parts, path.name.partition(".")[0]))


def check_imports(
    pin: Pin,
    interpreter: Interpreter,
    installed: Installed,
    extensions: Sequence[Path],
    *,
    timeout: float = TIMEOUT_S,
    stop: threading.Event | None = None,
) -> list[Check]:
    """Import everything, several processes at once; one check each for torch, others, extensions, package.

    ``extensions`` are the compiled modules for this interpreter. ``timeout`` is in seconds, for each process; one
    that is emulated gets a multiple.
    Whoever runs this beside other work sets ``stop`` to end it: :class:`InterruptedByUser` is raised then.
    """
    first = ["torch"] if pin.build.torch else []
    modules = {module_name(installed, path): path for path in extensions}
    requests: list[dict[str, object]] = [
        {"first": first, "extension": {"module": name, "path": str(path)}} for name, path in modules.items()
    ]
    requests.append(
        {
            "first": first,
            "package": pin.package,
            "modules": list(modules),
            "requires": list(pin.build.import_requires),
        }
    )
    # The package takes longest, so it starts first.
    package, *alone = _ask_all(
        interpreter, requests[::-1], timeout * interpreter.patience, stop or threading.Event()
    )
    answers = [package, *alone]
    loaded = dict(zip(modules, reversed(alone), strict=True))
    return [
        *_check_first(first, answers),
        *(_check_required(name, package) for name in pin.build.import_requires),
        *(_check_extension(name, answer) for name, answer in loaded.items()),
        _check_package(pin, installed, package),
    ]


def _ask_all(
    interpreter: Interpreter,
    requests: Sequence[Mapping[str, object]],
    timeout: float,
    stop: threading.Event,
) -> list[Answer]:
    """Ask everything, as many at once as there are cores; Ctrl-C, or ``stop``, ends what is running."""
    sessions: list[int] = []
    stopping = threading.Event()

    def started(session: int) -> None:
        sessions.append(session)
        if stopping.is_set():
            # It began while the others were being ended.
            end_session(session)

    with (
        progress.task("Import", total=len(requests)) as task,
        ThreadPoolExecutor(max_workers=max(2, min(len(requests), os.cpu_count() or 1))) as pool,
    ):
        try:
            running = [pool.submit(_ask, interpreter, request, timeout, started) for request in requests]
            # In short waits: Ctrl-C that comes just before a wait does not end one without limit.
            while wait(running, timeout=_WAIT_S).not_done:
                task.update(done=sum(future.done() for future in running))
                if stop.is_set():
                    raise InterruptedByUser("The imports were ended with the work beside them.")
            answers = [future.result() for future in running]
        except BaseException:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for session in [*sessions]:
                end_session(session)
            raise
    return answers


def _ask(
    interpreter: Interpreter, request: Mapping[str, object], timeout: float, on_start: Callable[[int], None]
) -> Answer:
    # The verified installation stays as it is: no bytecode is written into it.
    environment = guest_environment() | {"PYTHONDONTWRITEBYTECODE": "1"}
    text = msgspec.json.encode(request).decode()
    try:
        answer = ask(
            interpreter.executable, "imports.py", text, timeout=timeout, env=environment, on_start=on_start
        )
        return msgspec.convert(answer, Answer)
    except ProcessError as error:
        returncode = error.details.get("returncode")
        if isinstance(returncode, int) and returncode < 0:
            return Answer(died=f"The process {describe_exit(returncode)} while importing.")
        return Answer(died=error.message)


def _check_first(first: Sequence[str], answers: Sequence[Answer]) -> list[Check]:
    checks = []
    for name in first:
        errors = [answer.error for answer in answers if answer.during == name and answer.error is not None]
        if errors:
            checks.append(_failed(f"import {name}", errors[0]))
            continue
        version = next((answer.versions[name] for answer in answers if name in answer.versions), "")
        checks.append(
            Check(name=f"import {name}", status="ok", found=f"{name} {version} imports.")
            if version
            else Check(
                name=f"import {name}", status="skipped", found="Every process ended before it could tell."
            )
        )
    return checks


def _check_required(name: str, answer: Answer) -> Check:
    title = f"import {name}"
    if answer.died or answer.during:
        return Check(name=title, status="skipped", found="Not reached: see the other imports.")
    if (failure := answer.requires.get(name)) is not None:
        return _failed(title, failure)
    return Check(
        name=title, status="ok", found=f"{name} {answer.versions.get(name, '')}".strip() + " imports."
    )


def _check_extension(name: str, answer: Answer) -> Check:
    title = f"import {name}"
    return _check_alone(title, answer) or Check(name=title, status="ok", found="Loads by itself.")


def _check_alone(title: str, answer: Answer) -> Check | None:
    """Judge what holds for every process: it answered, came as far as the import, and that raised nothing."""
    if answer.died:
        return Check(
            name=title,
            status="failure",
            found=answer.died,
            fix="Build it again for this torch: `sagefix install --rebuild`.",
        )
    if answer.during:
        return Check(name=title, status="skipped", found=f"Not reached: {answer.during} does not import.")
    return _failed(title, answer.error) if answer.error is not None else None


def _check_package(pin: Pin, installed: Installed, answer: Answer) -> Check:
    title = f"import {pin.package}"
    if (alone := _check_alone(title, answer)) is not None:
        return alone
    if answer.file and not _same_package(Path(answer.file), installed.package):
        return Check(
            name=title,
            status="failure",
            found=f"Python imports {answer.file}, and what was checked is {installed.package}.",
            fix="Look at PYTHONPATH and at .pth files, and remove the other copy.",
        )
    broken = {name: failure for name, failure in answer.modules.items() if failure is not None}
    if broken:
        return Check(
            name=title,
            status="failure",
            found=f"{HIDES}"
            f"{'; '.join(f'{name}: {failure.type}: {failure.text}' for name, failure in broken.items())}.",
            fix=explain("", next(iter(broken.values())).text).fix,
        )
    if answer.warnings:
        return Check(
            name=title,
            status="warning",
            found=f"It imports, with {len(answer.warnings)} warning(s): {answer.warnings[0]}",
            fix="Read the warning: the package may fall back to a slower path.",
        )
    unloaded = f" ({', '.join(answer.hidden)} only when asked for)" if answer.hidden else ""
    return Check(name=title, status="ok", found=f"The package imports, and all its extensions{unloaded}.")


def _same_package(file: Path, package: Path) -> bool:
    return (file.parent if file.name.startswith("__init__.") else file).resolve() == package.resolve()


def _failed(title: str, failure: Failure) -> Check:
    told = explain(failure.type, failure.text)
    return Check(name=title, status="failure", found=told.text, fix=told.fix)
