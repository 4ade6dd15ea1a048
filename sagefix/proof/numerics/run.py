"""Runs cases in the target, several processes at a time, and goes on in a new one where a case ended its own."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import msgspec

from sagefix import progress
from sagefix.errors import ProcessError
from sagefix.process import end_session
from sagefix.proof.model import Device, Numbers
from sagefix.proof.numerics.cases import lanes
from sagefix.proof.numerics.model import Case, Proofs
from sagefix.targets.guests import describe_exit, hear
from sagefix.targets.model import Interpreter

_CRASHES = 3
"""So many crashes of one function, and its other cases are left out: each costs a new process."""
_START_S = 300.0
_WAIT_S = 0.2
_MOST = 6
_CORES_EACH = 2
_MEMORY_EACH = 8 << 30


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the guest said of a case: ``done``, ``skipped``, ``raised``, ``missing`` when there is no such function, or
    ``broken`` for an error that left nothing usable behind. ``crashed`` is said here, of a case in which its process
    ended. ``again``: the errors of an output that was not finite when it was computed once more, among finite junk.
    """

    id: str = ""
    status: str = ""
    numbers: Numbers | None = None
    again: Numbers | None = None
    sdpa: Numbers | None = None
    runs: tuple[Numbers, ...] = ()
    measured: dict[str, float] = {}
    notes: tuple[str, ...] = ()
    type: str = ""
    text: str = ""
    seconds: float = 0.0


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """How a process began: versions, or why it cannot compute at all."""

    error: dict[str, str] | None = None
    versions: dict[str, str] = {}
    devices: tuple[str, ...] = ()
    seconds: float = 0.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The answers by device and case id; ``error`` says why nothing could be computed."""

    answers: dict[tuple[int, str], Answer]
    error: str = ""


def run_cases(
    proofs: Proofs, interpreter: Interpreter, device: str, devices: Sequence[Device], cases: Sequence[Case]
) -> Outcome:
    """Compute every case in the target. ``device`` is ``cuda`` or ``cpu``.

    Ctrl-C ends what is running. A case that ends its process (a signal, an error of the GPU that leaves nothing
    usable, no end within :attr:`Proofs.timeout_s`) is ``crashed``, and the cases behind it go on in a new one.
    """
    shared = lanes(cases, _workers(device, devices))
    answers: dict[tuple[int, str], Answer] = {}
    sessions: list[int] = []
    stopping = threading.Event()
    with (
        tempfile.TemporaryDirectory(prefix="sagefix-") as folder,
        progress.task("Compute", total=len(cases)) as task,
        ThreadPoolExecutor(max_workers=max(1, len(shared))) as pool,
    ):

        def started(session: int) -> None:
            sessions.append(session)
            if stopping.is_set():
                end_session(session)

        runners = [
            _Lane(proofs, interpreter, device, Path(folder) / f"{number}.json", answers, started)
            for number, _ in enumerate(shared)
        ]
        try:
            running = [pool.submit(runner.work, lane) for runner, lane in zip(runners, shared, strict=True)]
            while wait(running, timeout=_WAIT_S).not_done:
                task.update(done=len(answers), text=next((r.now for r in runners if r.now), None))
            errors = [future.result() for future in running]
        except BaseException:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for session in [*sessions]:
                end_session(session)
            raise
    return Outcome(answers=answers, error=next((error for error in errors if error), ""))


def _workers(device: str, devices: Sequence[Device]) -> int:
    """So many processes as cores and the smallest GPU's memory carry; each imports torch."""
    cores = max(1, (os.cpu_count() or 1) // _CORES_EACH)
    if device == "cpu":
        return 1
    room = min((max(1, each.memory // _MEMORY_EACH) for each in devices if each.memory), default=_MOST)
    return max(1, min(cores, room * len(devices), _MOST * len(devices)))


class _Lane:
    """Works through its cases, one process after the other as long as there are any."""

    def __init__(
        self,
        proofs: Proofs,
        interpreter: Interpreter,
        device: str,
        request: Path,
        answers: dict[tuple[int, str], Answer],
        started: Callable[[int], None],
    ) -> None:
        self.proofs, self.interpreter, self.device, self.request = proofs, interpreter, device, request
        self.answers, self.started = answers, started
        self.each = proofs.timeout_s * interpreter.patience
        self.now = ""
        self.ready: Ready | None = None
        self.waiting: dict[str, Case] = {}
        self.crashes: dict[str, int] = {}

    def work(self, cases: Sequence[Case]) -> str:
        """Answer every case; return why nothing could be computed, or an empty text."""
        left = list(cases)
        while left:
            returncode, said = self._process(left)
            if self.ready is None or self.ready.error is not None:
                return _why(self.ready, returncode, said)
            if self.now:
                crashed = next(case for case in left if case.id == self.now)
                self._crashed(crashed, returncode, said)
            answered = len(left)
            left = [case for case in left if (case.device, case.id) not in self.answers]
            left = self._leave_out(left)
            if len(left) == answered:
                return f"The process {_ended(returncode, said)} before it began a case."
        return ""

    def _process(self, cases: Sequence[Case]) -> tuple[int | None, str]:
        self.request.write_bytes(
            msgspec.json.encode(
                {
                    "backend": self.proofs.backend,
                    "device": self.device,
                    "rows": self.proofs.rows,
                    "timeout": self.each,
                    "functions": {each.name: each for each in self.proofs.function},
                    "cases": list(cases),
                }
            )
        )
        self.now, self.ready = "", None
        self.waiting = {case.id: case for case in cases}
        timeout = _START_S * self.interpreter.patience + self.each * len(cases)
        try:
            ended = hear(
                self.interpreter.executable,
                "numerics.py",
                self.request,
                self._heard,
                timeout=timeout,
                on_start=self.started,
            )
        except ProcessError as error:
            return None, error.message
        if ended.returncode is None:
            return None, f"it did not end within {self.each:.0f} s"
        return ended

    def _heard(self, said: Mapping[str, Any]) -> None:
        if said["event"] == "ready":
            self.ready = msgspec.convert(said, Ready)
        elif said["event"] == "begin":
            self.now = said["id"]
        elif said["event"] == "done":
            self._answer(self.waiting[said["id"]], msgspec.convert(said, Answer))
            self.now = ""

    def _answer(self, case: Case, answer: Answer) -> None:
        if answer.status == "broken":
            self.crashes[case.function] = self.crashes.get(case.function, 0) + 1
        self.answers[case.device, case.id] = answer

    def _crashed(self, case: Case, returncode: int | None, said: str) -> None:
        self.crashes[case.function] = self.crashes.get(case.function, 0) + 1
        self._answer(
            case, Answer(id=case.id, status="crashed", text=f"The process {_ended(returncode, said)}.")
        )
        self.now = ""

    def _leave_out(self, cases: Sequence[Case]) -> list[Case]:
        kept = []
        for case in cases:
            if self.crashes.get(case.function, 0) < _CRASHES:
                kept.append(case)
                continue
            text = f"Left out after {_CRASHES} crashes of {case.function}."
            self._answer(case, Answer(id=case.id, status="skipped", text=text))
        return kept


def _ended(returncode: int | None, said: str) -> str:
    if returncode is None:
        return f"was stopped: {said.rstrip('.')}"
    return describe_exit(returncode) + (f" ({said.rstrip('.')})" if said and returncode > 0 else "")


def _why(ready: Ready | None, returncode: int | None, said: str) -> str:
    if ready is not None and ready.error is not None:
        return f"{ready.error['type']}: {ready.error['text']}"
    return f"The process {_ended(returncode, said)} while it started."
