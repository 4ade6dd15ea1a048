"""One cell of a prebuild, built and checked in processes of its own.

:func:`run_cell` takes and returns plain data, so that it can run in a thread, in another process or on another
machine that has sagefix and the same wheelhouse and cache paths.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from sagefix.checks import failures
from sagefix.errors import ProcessError, SagefixError
from sagefix.files import disk_errors
from sagefix.pins.matrix import Cell
from sagefix.process import Completed, end_session, run
from sagefix.wheelhouse.model import SIDECAR_SUFFIX
from sagefix.wheelhouse.proving import in_words, proof_of
from sagefix.wheelhouse.shelf import read_sidecar
from sagefix.wheels.model import Facts, Proof
from sagefix.workflows.gating import gate_environment, verify_described
from sagefix.workflows.metering import Meter, Peak
from sagefix.workflows.situation import Request

Status = Literal["waiting", "running", "have", "built", "failed", "interrupted", "impossible"]


class CellJob(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be done for a cell.

    ``build`` and ``gate`` are arguments of ``sagefix``; that of the gate gets the Python to check appended, and is
    empty for no gate. ``described`` is the target of a cross build, whose gate reads the wheel and runs nothing of it;
    None for any other. ``environment`` is added to that of the worker, ``log`` gets all output. ``group`` is the
    control group to measure in (empty: sample).
    """

    cell: Cell
    build: tuple[str, ...]
    gate: tuple[str, ...]
    described: Request | None = None
    environment: dict[str, str]
    log: str
    group: str = ""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A cell and how far it came.

    ``have``: a wheel was there before. ``reason`` says why it failed or is impossible. ``seconds`` of the whole
    cell, and of compiling alone; for ``have`` those of the run that built it, if it is remembered. ``proof`` is the
    level of verification the wheel passed, ``proven`` the same in words, with the GPUs on which the numbers are
    proven. ``log`` is everything the cell said, ``build_log`` the compilers' part.
    ``jobs``: compilers at once. ``memory`` is the peak of the cell and all it started.
    """

    cell: Cell
    status: Status
    reason: str = ""
    hint: str = ""
    seconds: float = 0.0
    compile_seconds: float = 0.0
    wheel: str = ""
    where: str = ""
    size: int = 0
    sha256: str = ""
    proof: str = ""
    proven: str = ""
    log: str = ""
    build_log: str = ""
    jobs: int = 0
    memory: Peak | None = None


class _Running:
    """The sessions of cells that run in this process, so that they can be ended from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: set[int] = set()
        self._stopped = False

    def stopped(self) -> bool:
        with self._lock:
            return self._stopped

    def started(self, session: int) -> None:
        with self._lock:
            stopped = self._stopped
            self._sessions.add(session)
        if stopped:
            end_session(session)

    def ended(self, session: int) -> None:
        with self._lock:
            self._sessions.discard(session)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            sessions = tuple(self._sessions)
        threads = [threading.Thread(target=end_session, args=(session,)) for session in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def allow(self) -> None:
        with self._lock:
            self._stopped = False


_running = _Running()


def stop_cells() -> None:
    """End every cell that runs in this process; those that have not begun will not."""
    _running.stop()


def allow_cells() -> None:
    """Take :func:`stop_cells` back."""
    _running.allow()


def run_cell(job: CellJob) -> Row:
    """Build and check a cell; what goes wrong is told in the row, never raised."""
    started = time.monotonic()
    if _running.stopped():
        return Row(cell=job.cell, status="waiting")
    with Meter(job.cell.id, Path(job.group) if job.group else None) as meter:
        try:
            row = _build_and_check(job, meter)
        except SagefixError as error:
            row = Row(cell=job.cell, status="failed", reason=error.message, hint=error.hint)
        if row.status == "failed" and _running.stopped():
            row = Row(cell=job.cell, status="interrupted")
        return msgspec.structs.replace(
            row, seconds=round(time.monotonic() - started, 2), log=job.log, memory=meter.peak()
        )


def _build_and_check(job: CellJob, meter: Meter) -> Row:
    log = Path(job.log)
    with disk_errors(log, "write the log of the cell"):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"{job.cell.id}\n", encoding="utf-8")
    answer = _sagefix(job, job.build, meter)
    if not answer["ok"]:
        return _failed(job, answer)
    made = answer["result"]
    wheel = made["wheel"]
    row = Row(
        cell=job.cell,
        status="built" if made["compiled"] else "have",
        compile_seconds=round(made["seconds"], 2),
        wheel=wheel["filename"],
        where=wheel["where"],
        size=wheel["size"],
        sha256=wheel["sha256"],
        proof=wheel["proof"],
        proven=in_words(msgspec.convert(wheel["proofs"], tuple[Proof, ...])),
        build_log=made["log"],
        jobs=made["jobs"]["count"] if made["jobs"] else 0,
    )
    if not job.gate:
        return row
    if job.described is not None:
        return _check_described(row, job.described, msgspec.convert(wheel, Facts))
    with gate_environment(Path(made["plan"]["python"]), Path(wheel["where"])) as python:
        checked = _sagefix(job, (*job.gate, "--python", str(python)), meter)
    if not checked["ok"]:
        return msgspec.structs.replace(
            row, status="failed", reason=checked["error"]["message"], hint=checked["error"]["hint"]
        )
    kept = read_sidecar(Path(wheel["where"] + SIDECAR_SUFFIX))
    proofs = (kept.proofs if kept else ()) or (
        Proof(level=checked["result"]["level"], passed=True, when=checked["result"]["when"]),
    )
    return msgspec.structs.replace(row, proof=proof_of(proofs), proven=in_words(proofs))


def _check_described(row: Row, target: Request, wheel: Facts) -> Row:
    verdict = verify_described(target, wheel)
    if bad := failures(verdict.checks):
        why = f"{verdict.subject} fails level static: {', '.join(check.name for check in bad)}."
        hint = next((check.fix for check in bad if check.fix), "")
        return msgspec.structs.replace(row, status="failed", reason=why, hint=hint)
    proofs = (Proof(level=verdict.level, passed=True, when=verdict.when),)
    return msgspec.structs.replace(row, proof=proof_of(proofs), proven=in_words(proofs))


def _failed(job: CellJob, answer: Mapping[str, Any]) -> Row:
    error = answer["error"]
    return Row(
        cell=job.cell,
        status="failed",
        reason=error["message"],
        hint=error["hint"],
        build_log=str(error["details"].get("log", "")),
    )


def _sagefix(job: CellJob, arguments: tuple[str, ...], meter: Meter) -> dict[str, Any]:
    """Run sagefix itself and return its envelope. Raises :class:`ProcessError` when it gives none."""
    # The working folder's files must not stand in for modules.
    safe = ["-P"] if sys.version_info >= (3, 11) else []
    answers: list[dict[str, Any]] = []
    sessions: list[int] = []

    def begin(session: int) -> None:
        sessions.append(session)
        meter.start(session)
        _running.started(session)

    def hear(line: str) -> None:
        if line.startswith('{"schema":'):
            with contextlib.suppress(msgspec.DecodeError):
                answers.append(msgspec.json.decode(line))

    try:
        done = run(
            [sys.executable, *safe, "-m", "sagefix", *arguments, "--json"],
            env={**os.environ, **job.environment},
            check=False,
            log=Path(job.log),
            on_line=hear,
            on_start=begin,
            watched=True,
        )
    finally:
        for session in sessions:
            _running.ended(session)
    if not answers:
        raise _silent(done, job)
    return answers[-1]


def _silent(done: Completed, job: CellJob) -> ProcessError:
    if done.returncode == -9:
        return ProcessError(
            "The cell was killed; the machine or the limit of --max-memory ran out of memory, most likely.",
            hint="Give it more memory, or run fewer cells at once (--jobs).",
        )
    return ProcessError(
        f"sagefix {job.build[0]} ended with exit status {done.returncode} and no answer.",
        hint=f"Its output: {job.log}",
    )
