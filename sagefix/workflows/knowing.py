"""What is known of an installation and of the GPUs it runs on, as ``sagefix.attention`` reads it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from sagefix import __version__
from sagefix.attention import facts
from sagefix.checks import NUMBERS, Check, failures
from sagefix.errors import GpuError, UsageError, WheelError
from sagefix.installing.origin import installed_record
from sagefix.installing.stash import installed
from sagefix.pins.model import Pin
from sagefix.progress import warn
from sagefix.proof.benchmark import kept
from sagefix.proof.benchmark.known import ANY, load_attention_table
from sagefix.proof.benchmark.model import Bench
from sagefix.proof.model import CaseResult, Verdict
from sagefix.proof.numerics.groups import wrong_elsewhere
from sagefix.proof.numerics.load import has_proofs, load_proofs
from sagefix.proof.numerics.model import Function
from sagefix.targets.gpus import find_gpus
from sagefix.targets.model import Interpreter, Target
from sagefix.wheelhouse.proving import CPU, FAILED, named, rows_of, standing
from sagefix.wheels.model import Proof
from sagefix.workflows.kept import wheel_of
from sagefix.workflows.proofs import read_proofs
from sagefix.workflows.situation import Request, open_wheelhouse
from sagefix.workflows.verify import verify


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Files to learn from beside the wheelhouse and the cache: proofs, and results of benchmarks."""

    proofs: tuple[Path, ...] = ()
    benches: tuple[Path, ...] = ()


def gather(
    pin: Pin, interpreter: Interpreter, request: Request, sources: Sources, *, compute: bool
) -> facts.Facts:
    """Return what is known of the pin's package in a target: proofs by kind of GPU, and crossovers.

    Proofs come from the wheelhouse, from files, and with ``compute`` from a verification now where a GPU here has
    none. Crossovers come from files, from the benchmarks of the cache, else from what sagefix knows.

    Raises :class:`UsageError` for a pin that has no such function, and for files that are no benchmark;
    :class:`WheelError` for proofs of something else.
    """
    function = _function(pin)
    record = installed(interpreter, pin.project)
    assert record is not None
    target = Target(interpreter=interpreter, archs=(), archs_from="", gpus=find_gpus(interpreter).gpus)
    sha256, wheel = wheel_of(target.interpreter, pin.project, request.wheelhouse)
    rows: list[Proof] = []
    if wheel is not None:
        rows += open_wheelhouse(request.wheelhouse, create=False).proofs(wheel.filename)
    subject = f"{pin.project} {record.version}"
    for file in sources.proofs:
        rows += _proofs_in(file, sha256, subject)
    computed, wrong = _look(pin, request, target, rows, compute=compute)
    rows += computed
    benches = [*map(_read_bench, sources.benches)]
    return facts.Facts(
        call=function.call,
        project=pin.project,
        version=record.version,
        fingerprint=facts.fingerprint(record.read_text("RECORD") or ""),
        wrong=wrong,
        devices=devices(pin, function, target, rows, benches, subject),
        made_by=f"sagefix {__version__}",
        when=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def _function(pin: Pin) -> Function:
    proofs = load_proofs(pin) if has_proofs(pin) else None
    found = [each for each in proofs.function if each.kind == "dense"] if proofs is not None else []
    if proofs is None or proofs.backend != "torch" or not found:
        raise UsageError(
            f"{pin.name} has no function that could take the place of torch's attention.",
            hint="`sagefix pins list` prints the pins.",
        )
    return found[0]


def _proofs_in(file: Path, sha256: str, subject: str) -> list[Proof]:
    """Return the proofs in a file, which have to be about what is installed."""
    rows: list[Proof] = []
    for each in read_proofs(file):
        told = str(each.verdict.get("wheel_sha256", ""))
        same = told == sha256 if told and sha256 else each.verdict.get("subject") == subject
        if not same:
            raise WheelError(
                f"{file} is about {each.verdict.get('subject') or 'another wheel'}, and {subject} is installed.",
                hint="Verify what is installed: `sagefix verify --level numerics --proof FILE`.",
            )
        rows += [msgspec.structs.replace(row, verdict=each.verdict) for row in each.rows()]
    return rows


def _look(
    pin: Pin, request: Request, target: Target, rows: Sequence[Proof], *, compute: bool
) -> tuple[list[Proof], str]:
    """Verify what is installed; return new proofs, and what is wrong whatever the GPU."""
    kinds = [(gpu.name, gpu.capability) for gpu in target.gpus] or [("", CPU)] * (pin.device == "cpu")
    missing = [kind for kind in kinds if not _proven(rows, *kind)]
    verdict: Verdict | None = None
    if compute and missing:
        try:
            verdict = verify(request, "numerics")
        except GpuError as error:
            warn(f"{error} What is installed stays unproven.")
    if verdict is None:
        verdict = verify(request, "static")
    computed = []
    if verdict.level in NUMBERS:
        plain = msgspec.to_builtins(verdict)
        told = rows_of(plain, level=verdict.level, passed=verdict.passed, when=verdict.when)
        computed = [msgspec.structs.replace(row, verdict=plain) for row in told if row.capability]
    # What was computed is about a kind of GPU; a failure to load may be about this machine alone.
    return computed, _sentence(check for check in failures(verdict.checks) if _is_static(check))


def _is_static(check: Check) -> bool:
    return check.name in ("one copy", "files", "version", "torch", "source parses") or check.name.startswith(
        "fault: "
    )


def _sentence(checks: Iterable[Check]) -> str:
    return " ".join(f"{check.name}: {check.found}" for check in checks)


def _proven(rows: Sequence[Proof], gpu: str, capability: str) -> bool:
    """Tell whether the numbers are proven on this very kind of GPU, and nothing has failed there since."""
    mine = [row for row in rows if row.capability == capability and gpu in (row.gpu, "")]
    return standing(mine, capability) in NUMBERS


def devices(
    pin: Pin,
    function: Function,
    target: Target,
    rows: Sequence[Proof],
    benches: Sequence[Bench],
    subject: str,
) -> tuple[facts.Device, ...]:
    """Say what is known of every kind that is proven or here, and of each capability that something is known of."""
    table = load_attention_table()
    kinds = dict.fromkeys((row.gpu, row.capability) for row in rows if row.capability)
    kinds |= dict.fromkeys((gpu.name, gpu.capability) for gpu in target.gpus)
    if pin.device == "cuda":
        kinds |= dict.fromkeys((ANY, each.capability) for each in table.crossover if ANY in each.gpus)
    right_anywhere = _right_on_every_stream(pin, target)
    torch = target.interpreter.torch
    made = []
    for gpu, capability in kinds:
        mine = [row for row in rows if (row.gpu, row.capability) == (gpu, capability)]
        proven = [row for row in mine if row.passed and row.level in NUMBERS]
        stands = standing(mine, capability) in NUMBERS if mine else False
        last = proven[-1] if stands and proven else None
        made.append(
            facts.Device(
                type=pin.device,
                name=ANY if capability == CPU else gpu,
                capability=capability,
                proof=f"{named(last)}, {last.when}" if last else "",
                unproven="" if last else _unproven(mine, capability),
                torch=last.torch if last else torch.version if torch else "",
                any_stream=not wrong_elsewhere(last.hazards, function.name) if last else right_anywhere,
                longest=_longest(last, function.name, table.longest_on(capability)),
                crossovers=crossovers(
                    gpu, capability, function.name, benches, subject, torch.release if torch else ""
                ),
            )
        )
    return tuple(made)


def _unproven(rows: Sequence[Proof], capability: str) -> str:
    told = standing(rows, capability) if rows else ""
    if told.startswith(FAILED):
        return f"it failed level {told.removeprefix(FAILED)} there"
    return "nobody verified the numbers on this kind of GPU (`sagefix verify --level numerics`)"


def _right_on_every_stream(pin: Pin, target: Target) -> bool:
    """Tell whether the record says that the pin's fixes are in; where nothing computed, that is all there is."""
    record = installed_record(target.interpreter, pin.project)
    return record is not None and bool(pin.fix) and {fix.name for fix in pin.fix} <= set(record.fixes)


def _longest(proof: Proof | None, function: str, known: int) -> int:
    """Return up to how many tokens the numbers are proven: by this proof, or by one of that capability."""
    if proof is None:
        return known
    numerics = proof.verdict.get("numerics") or {}
    cases = msgspec.convert(numerics.get("cases", []), list[CaseResult])
    right = [
        max(case.shape[3:5])
        for case in cases
        if case.status == "right" and case.function.endswith(f":{function}") and len(case.shape) > 4
    ]
    return max([known, *right])


def _read_bench(file: Path) -> Bench:
    try:
        return msgspec.json.decode(file.expanduser().read_bytes(), type=Bench)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{file} is not what `sagefix bench --output` writes: {error}.", hint="Name the file of --output."
        ) from error


def crossovers(
    gpu: str, capability: str, function: str, given: Sequence[Bench], subject: str, torch: str
) -> tuple[facts.Crossover, ...]:
    """Return a crossover for each dtype, head_dim and is_causal: of a file, else of the cache, else what is known.

    Where a benchmark says that SDPA is faster at every length there is none, whatever others say.
    """
    found: dict[tuple[str, int, bool], facts.Crossover | None] = {}
    for bench in [*(each for each in given if each.device.name == gpu), *_kept(gpu, subject, torch)]:
        for each in bench.crossovers:
            if each.backend == function:
                batch, heads, head_dim = each.size
                made = facts.Crossover(
                    dtype=each.dtype,
                    head_dim=head_dim,
                    causal=each.causal,
                    tokens=each.tokens or 0,
                    sequences=batch * heads,
                    source=f"sagefix bench, {bench.when}",
                )
                found.setdefault((each.dtype, head_dim, each.causal), made if each.tokens else None)
    for known in load_attention_table().crossovers(gpu, capability):
        for dtype in known.dtypes:
            made = facts.Crossover(
                dtype=dtype,
                head_dim=known.head_dim,
                causal=known.causal,
                tokens=known.tokens,
                sequences=known.sequences,
                source=f"known: {known.derived}",
            )
            found.setdefault((dtype, known.head_dim, known.causal), made)
    return tuple(each for each in found.values() if each is not None)


def _kept(gpu: str, subject: str, torch: str) -> list[Bench]:
    """Return the benchmarks of the cache that are about this package and torch, those from an idle GPU first."""
    fitting = [
        bench
        for bench in kept.kept(gpu)
        if bench.subject == subject and ".".join(bench.torch.split(".")[:2]) == torch
    ]
    return sorted(fitting, key=lambda bench: (bench.method.queued, bench.method.l2_flush == 0))
