"""Runs a benchmark in the target; goes on in a new process where a backend ended its own."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sagefix import progress
from sagefix.errors import GpuError, ProcessError, TorchError
from sagefix.proof.benchmark.model import Status
from sagefix.proof.benchmark.table import Backend
from sagefix.targets.clocks import GpuState, Watcher
from sagefix.targets.guests import describe_exit, hear
from sagefix.targets.model import Interpreter

CRASHES = 2
"""So many crashes of one backend, and it is left out of what comes after: each costs a new process."""
_HOUR_S = 3600.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How to measure; see :class:`sagefix.proof.benchmark.model.Method`. ``longest_s`` is the most that the runs of
    one backend at one case may take; ``limit_s`` is the time for one call, after which it counts as stuck.
    """

    flush: bool = True
    queued: bool = False
    budget_s: float = 0.5
    least: int = 5
    most: int = 50
    warmups: int = 2
    longest_s: float = 15.0
    rows: int = 128
    limit_s: float = 120.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One case: which backends (names) at which shape, with inputs that follow from ``seed``."""

    id: str
    size: tuple[int, int, int, int]
    dtype: str
    causal: bool
    seed: int
    backends: tuple[str, ...]


class Raw(msgspec.Struct, frozen=True, kw_only=True):
    """What the guest said of one backend at one case: every run in ms, or why there is none."""

    times: tuple[float, ...] = ()
    memory: int | None = None
    numbers: dict[str, float | None] = {}
    status: Status = "measured"
    text: str = ""


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """How a process began: the device and the clock, or why it cannot compute."""

    error: dict[str, str] | None = None
    torch: str = ""
    clock: str = ""
    l2_flush: int = 0
    name: str = ""
    capability: str = ""
    memory: int = 0
    index: int = 0
    uuid: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Everything by case and backend, what the GPU was doing at the end of each case, and its driver's version."""

    ready: Ready
    driver: str
    raw: dict[tuple[str, str], Raw]
    states: dict[str, GpuState]


def measure(
    interpreter: Interpreter,
    device: str,
    index: int,
    backends: Sequence[Backend],
    jobs: Sequence[Job],
    plan: Plan,
) -> Outcome:
    """Measure every job in the target. ``device`` is ``cuda`` or ``cpu``, ``index`` torch's number of the GPU.

    A backend that ends its process (a signal, an error of the GPU that leaves nothing usable, a call that does not
    come back) has crashed at that case; the case is measured again without it, and the others go on.

    Raises :class:`TorchError` or :class:`GpuError` when the target cannot begin, :class:`ProcessError` when no
    backend is to blame for its end.
    """
    with (
        tempfile.TemporaryDirectory(prefix="sagefix-") as folder,
        progress.task("Measure", total=len(jobs)) as task,
    ):
        runner = _Runner(
            interpreter, device, index, backends, plan, Path(folder) / "request.json", task.update
        )
        try:
            return runner.work(jobs)
        finally:
            runner.close()


class _Runner:
    """Works through the jobs, one process after the other as long as there are any."""

    def __init__(
        self,
        interpreter: Interpreter,
        device: str,
        index: int,
        backends: Sequence[Backend],
        plan: Plan,
        request: Path,
        update: Callable[..., None],
    ) -> None:
        self.interpreter, self.device, self.index = interpreter, device, index
        self.backends, self.plan, self.request, self.update = backends, plan, request, update
        self.ready: Ready | None = None
        self.watcher: Watcher | None = None
        self.raw: dict[tuple[str, str], Raw] = {}
        self.states: dict[str, GpuState] = {}
        self.done: set[str] = set()
        self.crashes: Counter[str] = Counter()
        self.at: dict[str, str] = {}
        self.blamed = ""
        self.ended = False

    def work(self, jobs: Sequence[Job]) -> Outcome:
        left = list(jobs)
        while left:
            returncode, said = self._process(left)
            if self.ready is None or self.ready.error is not None:
                raise self._cannot_begin(returncode, said)
            left = [job for job in left if job.id not in self.done]
            if not self.ended and left:
                self._crashed(left, returncode, said)
            left = self._without(left)
        assert self.ready is not None
        driver = self.watcher.driver() if self.watcher else ""
        return Outcome(ready=self.ready, driver=driver, raw=self.raw, states=self.states)

    def close(self) -> None:
        if self.watcher is not None:
            self.watcher.close()

    def _process(self, jobs: Sequence[Job]) -> tuple[int | None, str]:
        plan = msgspec.to_builtins(self.plan)
        self.request.write_bytes(
            msgspec.json.encode(
                {
                    "device": self.device,
                    "index": self.index,
                    "backends": {each.name: each for each in self.backends},
                    "cases": list(jobs),
                    "method": plan,
                    "limit_s": self.plan.limit_s,
                }
            )
        )
        self.ready, self.at, self.blamed, self.ended = None, {}, "", False
        python = self.interpreter.executable
        try:
            ended = hear(python, "bench.py", self.request, self._heard, timeout=_HOUR_S, watched=True)
        except ProcessError as error:
            if "tail" in error.details:
                # It did not even start; one that ran out of time has no output to tell.
                raise
            return None, error.message
        if ended.returncode is None:
            return None, f"did not come back within {self.plan.limit_s:.0f} s"
        return ended

    def _heard(self, said: Mapping[str, Any]) -> None:
        event = said["event"]
        if event == "ready":
            self.ready = msgspec.convert(said, Ready)
            if self.watcher is None and self.device == "cuda" and self.ready.error is None:
                self.watcher = Watcher(self.ready.uuid, self.ready.index)
        elif event == "at":
            self.at = dict(said)
            if said["doing"] != "time":
                self.update(done=len(self.done), text=" ".join(filter(None, [said["case"], said["backend"]])))
        elif event == "failed":
            self.raw[said["case"], said["backend"]] = Raw(status=said["status"], text=said["text"])
        elif event == "crashed":
            self.blamed = said["text"]
        elif event == "done":
            self._case_done(said["case"], said["results"])
        elif event == "end":
            self.ended = True

    def _case_done(self, case: str, results: Mapping[str, Any]) -> None:
        self.done.add(case)
        for backend, found in results.items():
            self.raw[case, backend] = msgspec.convert(found, Raw)
        state = self.watcher.read() if self.watcher is not None else None
        if state is not None:
            self.states[case] = state

    def _crashed(self, left: Sequence[Job], returncode: int | None, said: str) -> None:
        """Note who was running when a process ended; without one, the first case that is left is given up."""
        backend, case = self.at.get("backend", ""), self.at.get("case", "")
        stuck = returncode is None
        text = f"The call {said}." if stuck else self.blamed or _ended(returncode, said)
        raw = Raw(status="stuck" if stuck else "crashed", text=text)
        if not backend or (case, backend) in self.raw:
            job = next((job for job in left if job.id == case), left[0])
            for name in job.backends:
                self.raw.setdefault((job.id, name), raw)
            return
        self.raw[case, backend] = raw
        self.crashes[backend] += 1

    def _without(self, jobs: Sequence[Job]) -> list[Job]:
        """Take out what has an answer, and backends that crashed too often; a case without backends is done."""
        kept = []
        for job in jobs:
            names = []
            for name in job.backends:
                if (job.id, name) not in self.raw and self.crashes[name] >= CRASHES:
                    text = f"Left out: it ended the process at {CRASHES} cases before."
                    self.raw[job.id, name] = Raw(status="left out", text=text)
                if (job.id, name) not in self.raw:
                    names.append(name)
            if names:
                kept.append(msgspec.structs.replace(job, backends=tuple(names)))
        return kept

    def _cannot_begin(self, returncode: int | None, said: str) -> Exception:
        if self.ready is not None and self.ready.error is not None:
            kind = (
                GpuError
                if self.device == "cuda" and "cuda" in self.ready.error["text"].lower()
                else TorchError
            )
            return kind(
                f"Nothing can be computed in {self.interpreter.executable}: {self.ready.error['type']}: "
                f"{self.ready.error['text']}",
                hint="Look at that Python with `sagefix doctor --python ...`.",
            )
        why = f"did not begin: it {said}" if returncode is None else describe_exit(returncode)
        return ProcessError(
            f"{self.interpreter.executable} {why}"
            + (f": {said}" if said and returncode is not None else "."),
            details={"command": "", "returncode": returncode, "tail": said},
        )


def _ended(returncode: int | None, said: str) -> str:
    ended = f"The process {describe_exit(returncode or 0)}"
    return f"{ended}: {said}" if said and (returncode or 0) > 0 else f"{ended}."
