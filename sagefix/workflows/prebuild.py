"""Every missing cell of a matrix, built: several at once, one failure not in the way of the others, resumable."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path

import msgspec

from sagefix.errors import LockError, UsageError
from sagefix.files import make_cache_dir, sha256_bytes
from sagefix.pins.matrix import Cell
from sagefix.pins.model import Pin, Revision
from sagefix.progress import note
from sagefix.settings import cache_dir
from sagefix.targets.host import GIB, cores, memory
from sagefix.workflows.book import Book, Listener
from sagefix.workflows.cells import CellJob, Row, allow_cells, run_cell, stop_cells
from sagefix.workflows.coverage import Found
from sagefix.workflows.metering import Group, Meter, Peak
from sagefix.workflows.situation import Request

_POLL_S = 0.2
_STOP_S = 30.0
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """How to build. ``wheelhouse`` is a folder; ``jobs`` the cells at once; ``max_memory`` bytes for all of them
    together (0: what is free). ``gate``: a wheel counts once it passed the level ``static``. The others are as in
    ``sagefix build``."""

    wheelhouse: Path
    ref: str | None = None
    source: str | None = None
    cuda: str = "auto"
    offline: bool = False
    allow_known_bad: bool = False
    fixes: bool = True
    manylinux: bool = False
    object_cache: str = "auto"
    jobs: int = 1
    max_memory: int = 0
    gate: bool = True


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """How many cells run at once, and how many compilers each of them gets (0: it decides by itself)."""

    cells: int
    jobs_each: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a prebuild came to. ``memory`` is the peak of all cells together, ``state`` the file that a later run
    goes on from, ``interrupted`` true after Ctrl-C."""

    key: str
    rows: tuple[Row, ...]
    seconds: float
    share: Share
    max_memory: int
    memory: Peak
    state: str
    interrupted: bool = False

    def with_status(self, *wanted: str) -> tuple[Row, ...]:
        """Return the rows in one of these states."""
        return tuple(row for row in self.rows if row.status in wanted)


def prebuild(
    found: Sequence[Found],
    pin: Pin,
    revision: Revision,
    order: Order,
    *,
    executor: Executor | None = None,
    listener: Listener | None = None,
) -> Report:
    """Build the cells that are missing, and check those that were never checked.

    ``executor``: anything that can run :func:`~sagefix.workflows.cells.run_cell`, a cluster's for example; without
    one, threads of this process that start a process for each cell. Failures of cells are rows of the report.
    Ctrl-C ends the cells that run here and returns the report so far.

    Raises :class:`UsageError` when one compiler does not fit into ``order.max_memory``, :class:`LockError` when
    another process builds the same matrix into the same wheelhouse, :class:`DiskError`.
    """
    key = matrix_key(found, revision, order)
    todo = [each for each in found if _is_to_do(each, gate=order.gate)]
    share = share_out(pin, order, len(todo))
    folder = make_cache_dir(cache_dir() / "prebuild")
    started = time.monotonic()
    with _only_one(folder / f"{key}.lock"), _group(order.max_memory) as group:
        book = Book(folder / f"{key}.json", key, found, {each.cell.id for each in todo}, listener)
        jobs = [_job(each, pin, order, share, folder / key, group) for each in todo]
        with Meter("run") as meter:
            if group is None:
                meter.start(os.getpid())
            interrupted = _run_all(jobs, book, share, executor)
        size = group.peak() if group else 0
        peak = Peak(size=size, source="cgroup") if group else meter.peak()
    return Report(
        key=key,
        rows=book.in_order(),
        seconds=round(time.monotonic() - started, 2),
        share=share,
        max_memory=order.max_memory,
        memory=peak if todo else Peak(source=peak.source),
        state=str(folder / f"{key}.json"),
        interrupted=interrupted,
    )


def matrix_key(found: Iterable[Found], revision: Revision, order: Order) -> str:
    """Return the name of a matrix: the same cells of one commit into one wheelhouse are one matrix."""
    names = sorted(f"{each.cell.id} {each.cell.interpreter}" for each in found)
    parts = [revision.commit, str(order.wheelhouse), str(order.fixes), *names]
    return sha256_bytes("\n".join(parts).encode("utf-8", "surrogateescape"))[:16]


def share_out(pin: Pin, order: Order, count: int) -> Share:
    """Divide memory and cores among the cells that run at once.

    One compiler takes the pin's ``memory_gib``. ``MAX_JOBS`` of the environment is for all cells together.
    Raises :class:`UsageError`: ``--jobs`` below 1, ``--max-memory`` below one compiler, or a wrong ``MAX_JOBS``.
    """
    if order.jobs < 1:
        raise UsageError(f"--jobs is {order.jobs}, and must be a whole number from 1 on.")
    one = pin.build.memory_gib * GIB
    if order.max_memory and order.max_memory < one:
        raise UsageError(
            f"One compiler of {pin.name} needs {pin.build.memory_gib:g} GiB; --max-memory is "
            f"{order.max_memory / GIB:.2g} GiB.",
            hint="Give it more.",
        )
    fitting = max(1, int((order.max_memory or memory().available) / one))
    at_once = max(1, min(order.jobs, count, fitting))
    wished = os.environ.get("MAX_JOBS", "").strip()
    if not wished and at_once == 1 and not order.max_memory:
        return Share(cells=1, jobs_each=0)
    if wished and (not wished.isdigit() or int(wished) < 1):
        raise UsageError(f"MAX_JOBS is {wished!r}, and must be a whole number from 1 on.")
    total = min(int(wished) if wished else cores(), fitting)
    return Share(cells=at_once, jobs_each=max(1, total // at_once))


def parse_size(text: str) -> int:
    """Read an amount of memory: ``16G``, ``512M``, ``16GiB`` (powers of 1024). Raises :class:`UsageError`."""
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")) if match else 0
    if size <= 0:
        raise UsageError(f"{text!r} is not an amount of memory.", hint="Write for example --max-memory 16G.")
    return size


def _is_to_do(found: Found, *, gate: bool) -> bool:
    if found.status == "missing":
        return True
    # A run that was killed between building and checking leaves a wheel that nobody vouches for.
    at_hand = found.wheel is not None and "://" not in found.wheel.where
    return gate and found.status == "have" and at_hand and found.wheel is not None and not found.wheel.proof


def _job(found: Found, pin: Pin, order: Order, share: Share, logs: Path, group: Group | None) -> CellJob:
    cell = found.cell
    common = ["--pin", pin.name, "--wheelhouse", str(order.wheelhouse)]
    if order.ref:
        common += ["--ref", order.ref]
    if cell.archs:
        common += ["--arch", cell.archs]
    build = ["build", *common, "--python", cell.interpreter or cell.python]
    if cell.torch and not cell.interpreter:
        build += ["--torch", cell.torch]
    if pin.device == "cuda" and order.cuda != "auto":
        build += ["--cuda", order.cuda]
    if order.source:
        build += ["--source", order.source]
    build += ["--platform", f"linux_{cell.platform}"] if cell.cross else []
    build += ["--offline"] if order.offline else []
    build += ["--allow-known-bad"] if order.allow_known_bad else []
    build += [] if order.fixes else ["--no-fixes"]
    build += ["--manylinux"] if order.manylinux else []
    build += ["--object-cache", order.object_cache] if order.object_cache != "auto" else []
    return CellJob(
        cell=cell,
        build=tuple(build),
        gate=("verify", "--level", "static", *common) if order.gate else (),
        described=_described(cell, pin, order) if cell.cross else None,
        environment={"MAX_JOBS": str(share.jobs_each)} if share.jobs_each else {},
        log=str(logs / f"{cell.id}.log"),
        group=str(group.folder) if group else "",
    )


def _described(cell: Cell, pin: Pin, order: Order) -> Request:
    """Return what describes the target of a cross build, as the options of its build do."""
    return Request(
        pin=pin.name,
        ref=order.ref,
        source=order.source,
        python=cell.python,
        torch=cell.torch or None,
        arch=cell.archs or None,
        platform=f"linux_{cell.platform}",
        cuda=order.cuda,
        wheelhouse=str(order.wheelhouse),
        offline=order.offline,
        allow_known_bad=order.allow_known_bad,
        fixes=order.fixes,
        manylinux=order.manylinux,
    )


def _run_all(jobs: Sequence[CellJob], book: Book, share: Share, executor: Executor | None) -> bool:
    """Run jobs to their ends; return whether Ctrl-C came in between."""
    allow_cells()
    own = ThreadPoolExecutor(share.cells, thread_name_prefix="cell") if executor is None else None
    pool = executor or own
    assert pool is not None
    running: dict[Future[Row], CellJob] = {}
    try:
        book.tell()
        running = {pool.submit(run_cell, job): job for job in jobs}
        _follow(running, book)
    except KeyboardInterrupt:
        for future in running:
            future.cancel()
        note("Stopping ...")
        stop_cells()
        wait([future for future in running if not future.cancelled()], timeout=_STOP_S)
        for future, job in running.items():
            if future.done() and not future.cancelled():
                book.write(_outcome(future, job))
            elif not future.cancelled():
                book.write(Row(cell=job.cell, status="interrupted", log=job.log))
        return True
    finally:
        if own is not None:
            own.shutdown(wait=True, cancel_futures=True)
    return False


def _follow(running: Mapping[Future[Row], CellJob], book: Book) -> None:
    pending = set(running)
    while pending:
        done, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        for future in done:
            book.write(_outcome(future, running[future]))
        for future in pending:
            job = running[future]
            if future.running() and book.rows[job.cell.id].status == "waiting":
                book.write(Row(cell=job.cell, status="running", log=job.log))
        book.tell()


def _outcome(future: Future[Row], job: CellJob) -> Row:
    error = future.exception()
    if error is None:
        return future.result()
    return Row(
        cell=job.cell, status="failed", reason=f"The executor failed: {type(error).__name__}: {error}",
        log=job.log,
    )  # fmt: skip


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    import filelock

    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise LockError(
            "Another sagefix process is building this matrix into this wheelhouse.",
            hint="Wait for it; what it builds will be there then.",
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _group(limit: int) -> Iterator[Group | None]:
    """Give a control group for all cells, where one can be made."""
    made = Group.make("prebuild", limit=limit)
    if limit and made is None:
        note("No control group can be made here: --max-memory only sets how many compilers run at once.")
    try:
        yield made
    finally:
        if made is not None:
            made.remove()
