"""Attention backends side by side in the target: measured, judged, kept, drawn."""

from __future__ import annotations

import datetime
import errno
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from sagefix import __version__
from sagefix.errors import GpuError, TorchError, UsageError
from sagefix.files import disk_errors, write_bytes
from sagefix.pins.load import load_pin
from sagefix.pins.model import Pin
from sagefix.progress import note, warn
from sagefix.proof.benchmark import choosing, judging, kept, plot
from sagefix.proof.benchmark.model import Bench, Case, Ceiling, Measured, Method, bench_json
from sagefix.proof.benchmark.running import Job, Outcome, Plan, Raw, measure
from sagefix.proof.benchmark.table import BenchTable, DeviceKind, Shape, load_bench_table
from sagefix.proof.model import Device
from sagefix.targets.gpus import find_gpus
from sagefix.targets.host import processor
from sagefix.targets.interpreter import find_python, probe
from sagefix.targets.model import Gpu, Interpreter

PRECISION = "bf16 and fp16 on the tensor cores with fp32 accumulation, dense"
_SEED = 20260101
_QUICK_S = 0.2


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for; empty means: decide.

    ``gpu`` is torch's number of one; ``cpu`` measures on the processor instead. ``output`` and ``plots`` are files
    to write.
    """

    pin: str = "sageattention"
    python: str | None = None
    shapes: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    causal: bool = False
    quick: bool = False
    gpu: int = 0
    cpu: bool = False
    flush: bool = True
    queued: bool = False
    output: str | None = None
    plots: tuple[str, ...] = ()


def bench(request: Request, plan: Plan | None = None) -> Bench:
    """Measure what is asked for in the target; keep the result in the cache, and write it where it is wanted.

    Raises :class:`UsageError` for what cannot be measured or drawn, before anything is; :class:`TargetError`,
    :class:`TorchError` or :class:`GpuError` for a target that cannot compute.
    """
    started = time.monotonic()
    kind: DeviceKind = "cpu" if request.cpu else "cuda"
    index = 0 if request.cpu else request.gpu
    pin, table = load_pin(request.pin), load_bench_table()
    shapes = choosing.find_shapes(table, kind, request.shapes, quick=request.quick)
    dtypes = choosing.find_dtypes(request.dtypes, quick=request.quick)
    plots = [Path(each).expanduser() for each in request.plots]
    output = Path(request.output).expanduser() if request.output else None
    plot.require_plot(plots, _lengths(shape.size for shape in shapes))
    _require_writable([*plots, *([output] if output else [])])
    interpreter = probe(find_python(request.python))
    gpu = _find_gpu(interpreter, kind, index)
    candidates = choosing.find_candidates(table, pin, gpu.capability, request.backends)
    jobs = _jobs(shapes, dtypes, request.causal, candidates)
    if plan is None:
        budget = _QUICK_S if request.quick else Plan().budget_s
        plan = Plan(flush=request.flush, queued=request.queued, budget_s=budget)
    outcome = measure(interpreter, kind, index, candidates.backends, jobs, plan)
    ceiling = _ceiling(table, outcome, gpu)
    names = {shape.size: shape.name for shape in shapes}
    cases = tuple(_case(job, names[job.size], outcome, candidates, ceiling) for job in jobs)
    chosen = request.shapes or request.dtypes or request.backends
    made = Bench(
        pin=pin.name,
        subject=_subject(interpreter, pin),
        interpreter=interpreter.executable,
        torch=outcome.ready.torch,
        device=Device(
            name=outcome.ready.name or gpu.name,
            capability=outcome.ready.capability,
            memory=outcome.ready.memory,
            driver=outcome.driver,
            index=outcome.ready.index,
        ),
        ceiling=ceiling,
        extent="chosen" if chosen else "quick" if request.quick else "full",
        method=_method(outcome, plan),
        backends=candidates.labels,
        cases=cases,
        crossovers=judging.crossovers(cases, candidates.labels, candidates.main) if candidates.main else (),
        when=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 1),
        sagefix=__version__,
    )
    _write(made, plots, output)
    return made


def _require_writable(paths: Sequence[Path]) -> None:
    """Minutes of measuring must not end in a file that cannot be written."""
    for path in paths:
        if path.is_dir():
            raise UsageError(f"{path} is a folder.", hint="Name a file in it.")
        with disk_errors(path.parent, f"write {path.name}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(path.parent, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))


def _find_gpu(interpreter: Interpreter, kind: DeviceKind, index: int) -> Gpu:
    if interpreter.torch is None:
        raise TorchError(
            f"There is no torch in {interpreter.executable}"
            + (f" that can be read: {interpreter.torch_error}." if interpreter.torch_error else "."),
            hint="Name the Python that runs your models with --python.",
        )
    if kind == "cpu":
        return Gpu(index=0, name=processor(), capability="cpu")
    seen = find_gpus(interpreter)
    gpus = seen.gpus if seen.found_by in ("driver", "torch") else ()
    found = next((gpu for gpu in gpus if gpu.index == index), None)
    if found is None:
        why = f"it sees {len(gpus)}" if gpus else "; ".join(seen.tried) or "it sees none"
        raise GpuError(
            f"torch in {interpreter.executable} sees no GPU {index} ({why}).",
            hint="Run where the GPU is, or try the command itself with --cpu: small shapes, SDPA alone.",
        )
    return found


def _lengths(sizes: Iterable[tuple[int, int, int, int]]) -> list[list[int]]:
    """Return the lengths of each group of shapes that differ in nothing else."""
    groups: dict[tuple[int, int, int], list[int]] = {}
    for batch, heads, tokens, head_dim in sizes:
        groups.setdefault((batch, heads, head_dim), []).append(tokens)
    return list(groups.values())


def _jobs(
    shapes: Sequence[Shape], dtypes: Sequence[str], causal: bool, candidates: choosing.Candidates
) -> list[Job]:
    names = tuple(each.name for each in candidates.backends if each.name not in candidates.missing)
    return [
        Job(
            id=choosing.case_id(shape.size, dtype, causal),
            size=shape.size,
            dtype=dtype,
            causal=causal,
            seed=_SEED + number,
            backends=names,
        )
        for dtype in dtypes
        for number, shape in enumerate(shapes)
    ]


def _ceiling(table: BenchTable, outcome: Outcome, gpu: Gpu) -> Ceiling | None:
    peak = table.peak_of(outcome.ready.name or gpu.name, gpu.capability)
    if peak is None:
        return None
    return Ceiling(tflops=peak.tflops, precision=PRECISION, fp8=peak.fp8, sources=peak.sources)


def _case(
    job: Job, name: str, outcome: Outcome, candidates: choosing.Candidates, ceiling: Ceiling | None
) -> Case:
    results = judging.with_ratios(
        _measured(job, each.name, outcome.raw.get((job.id, each.name)), candidates, ceiling)
        for each in candidates.backends
    )
    return Case(
        id=job.id,
        name=name,
        size=job.size,
        dtype=job.dtype,
        causal=job.causal,
        results=results,
        state=outcome.states.get(job.id),
        recommendation=judging.recommend(results, candidates.labels, candidates.main),
    )


def _measured(
    job: Job, backend: str, raw: Raw | None, candidates: choosing.Candidates, ceiling: Ceiling | None
) -> Measured:
    if backend in candidates.missing:
        return Measured(backend=backend, status="no kernel", text=candidates.missing[backend])
    if raw is None or not raw.times:
        status, text = (raw.status, raw.text) if raw is not None else ("failed", "Nothing was heard of it.")
        return Measured(backend=backend, status="failed" if status == "measured" else status, text=text)
    return judging.judge(
        backend,
        raw.times,
        raw.numbers,
        memory=raw.memory,
        allowed=candidates.allowed.get((backend, job.dtype)),
        operations=judging.flops(job.size, job.causal),
        ceiling=ceiling,
    )


def _subject(interpreter: Interpreter, pin: Pin) -> str:
    version = interpreter.packages.get(pin.project, "")
    return f"{pin.project} {version}" if version else ""


def _method(outcome: Outcome, plan: Plan) -> Method:
    return Method(
        clock="cuda events" if outcome.ready.clock == "cuda events" else "wall",
        l2_flush=outcome.ready.l2_flush,
        queued=plan.queued,
        budget_s=plan.budget_s,
        least=plan.least,
        most=plan.most,
        warmups=plan.warmups,
        rows=plan.rows,
        seed=_SEED,
    )


def draw_again(file: Path, plots: Sequence[str]) -> Bench:
    """Read what ``output`` of a :class:`Request` wrote, here or elsewhere, and draw it.

    Raises :class:`UsageError`: no such file, or not the result of a benchmark.
    """
    try:
        made = msgspec.json.decode(file.expanduser().read_bytes(), type=Bench)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{file} is not what `sagefix bench --output` writes: {error}.", hint="Name the file of --output."
        ) from error
    paths = [Path(each).expanduser() for each in plots]
    plot.require_plot(paths, _lengths(case.size for case in made.cases))
    _require_writable(paths)
    _draw(made, paths)
    return made


def _draw(made: Bench, plots: Sequence[Path]) -> None:
    plot.draw(made, plots)
    for path in plots:
        note(f"Drew {path}")


def _write(made: Bench, plots: Sequence[Path], output: Path | None) -> None:
    if output is not None:
        write_bytes(output, bench_json(made))
        note(f"Wrote {output}")
    _draw(made, plots)
    if not made.subject:
        warn(f"{made.pin} is not installed in {made.interpreter}: only the others were measured.")
    if (place := kept.keep(made)) is not None:
        note(f"Kept {place}")
