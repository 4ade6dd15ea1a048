"""The wheels of several machines, made into one index that can be published: all of them, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from sagefix.checks import LEVELS
from sagefix.errors import PrebuildError, UsageError, VerificationError, WheelError, WheelhouseError
from sagefix.files import sha256_file
from sagefix.pins.load import load_pin
from sagefix.pins.matrix import Cell
from sagefix.progress import task
from sagefix.wheelhouse.evidence import written_inside
from sagefix.wheelhouse.model import PROOFS_SUFFIX, SCHEMA, SIDECAR_SUFFIX, Sidecar
from sagefix.wheelhouse.proving import failed_somewhere, proof_of
from sagefix.wheelhouse.shelf import told
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.model import Facts
from sagefix.workflows.coverage import look
from sagefix.workflows.situation import Request, find_revision


class GitHubCell(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of :func:`~sagefix.workflows.coverage.github_matrix`."""

    cell: str
    pin: str
    python: str
    torch: str
    cuda: str
    arch: str
    platform: str


class GitHubMatrix(msgspec.Struct, frozen=True, kw_only=True):
    """The document that ``sagefix matrix --format github`` prints."""

    include: tuple[GitHubCell, ...]


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """An index that was written: where, every wheel in it, and how many of them are new there."""

    site: str
    wheels: tuple[Facts, ...]
    added: int


def gather(
    folders: Sequence[Path], site: Path, *, expected: Path | None = None, ref: str | None = None
) -> Gathered:
    """Put every wheel below ``folders`` into the wheelhouse ``site``, with its proofs, and write its index.

    The index says of each wheel how far it is proven, and on which GPUs.

    The folders are wheelhouses or anything that holds wheels with what a wheelhouse keeps beside them.
    ``expected`` is a file with the cells that have to be there (``sagefix matrix --format github``), built from
    ``ref``. Nothing is written before everything was looked at.

    Raises :class:`VerificationError`: a wheel passed no verification, or failed one on any kind of GPU (who takes
    wheels from an index may have that kind). :class:`WheelError`: it is not the one that was verified.
    :class:`WheelhouseError`: what stands beside it contradicts itself. :class:`PrebuildError`: an expected cell is
    not there. :class:`UsageError`: a folder does not exist, or the expectation cannot be read.
    """
    wanted = read_expected(expected) if expected else ()
    found: list[tuple[Path, Sidecar]] = []
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder.")
        found += [(wheel, _vouched(wheel)) for wheel in sorted(folder.rglob("*.whl"))]
    there = Wheelhouse.open(site, create=False).entries()
    _require_all(wanted, [told(sidecar, where="") for _, sidecar in found] + there, ref)
    store = Wheelhouse.open(site, create=True)
    with task("Writing the index", total=len(found)) as running:
        for number, (wheel, sidecar) in enumerate(found, 1):
            store.add(wheel)
            if older := written_inside(sidecar):
                store.take_proofs(wheel.name, older)
            running.update(done=number)
    store.write_index()
    wheels = tuple(store.entries())
    return Gathered(
        site=str(store.path),
        wheels=wheels,
        added=len({facts.sha256 for facts in wheels} - {facts.sha256 for facts in there}),
    )


def read_expected(path: Path) -> tuple[GitHubCell, ...]:
    """Read the cells of ``sagefix matrix --format github``. Raises :class:`UsageError`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=GitHubMatrix).include
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(
            f"{path} is not a matrix: {error}.", hint="`sagefix matrix --format github` writes one."
        ) from error


def _vouched(wheel: Path) -> Sidecar:
    """Return what is kept beside a wheel, after making sure that it passed its gate and is still the same."""
    path = wheel.with_name(wheel.name + SIDECAR_SUFFIX)
    try:
        sidecar = msgspec.json.decode(path.read_bytes(), type=Sidecar)
        proof, bad = proof_of(sidecar.proofs), failed_somewhere(sidecar.proofs)
    except FileNotFoundError as error:
        raise VerificationError(
            f"{wheel} comes from no wheelhouse: nothing says that it passed a verification.",
            hint="`sagefix prebuild` builds and verifies.",
        ) from error
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise WheelhouseError(f"{path} cannot be understood: {error}.") from error
    if sidecar.schema != SCHEMA or sidecar.facts.filename != wheel.name:
        raise WheelhouseError(f"{path} does not describe {wheel.name}.")
    digest = sha256_file(wheel)
    if digest != sidecar.sha256:
        raise WheelError(
            f"{wheel} is not the wheel that was verified: its sha256 is {digest}, not {sidecar.sha256}."
        )
    beside = wheel.with_name(wheel.name + PROOFS_SUFFIX)
    if sidecar.proofs_sha256 and not (beside.is_file() and sha256_file(beside) == sidecar.proofs_sha256):
        raise WheelhouseError(
            f"{beside} is {'not what the sidecar sums up' if beside.is_file() else 'missing'}.",
            hint="`sagefix wheelhouse check` says what is wrong with a wheelhouse.",
        )
    if proof not in LEVELS or bad:
        what = f"failed the {bad}" if bad else "passed no verification"
        raise VerificationError(
            f"{wheel.name} {what}; nothing is published.", hint="`sagefix prebuild` verifies what it builds."
        )
    return sidecar


def _require_all(wanted: Sequence[GitHubCell], at_hand: Sequence[Facts], ref: str | None) -> None:
    missing = []
    for name in sorted({each.pin for each in wanted}):
        pin = load_pin(name)
        revision, _ = find_revision(pin, Request(pin=name, ref=ref))
        cells = [_cell(each) for each in wanted if each.pin == name]
        missing += [
            each.cell.id for each in look(cells, pin, revision, at_hand=at_hand) if each.status != "have"
        ]
    if missing:
        raise PrebuildError(
            f"{len(missing)} of {len(wanted)} cells are not there; nothing is published: {', '.join(missing)}.",
            hint="Look at the jobs that should have built them, and run them again.",
            details={"missing": missing},
        )


def _cell(row: GitHubCell) -> Cell:
    return Cell(
        id=row.cell,
        pin=row.pin,
        python=row.python,
        abi=f"cp{row.python.replace('.', '')}",
        torch=row.torch,
        cuda=row.cuda,
        platform=row.platform,
        archs=row.arch,
    )
