"""What there is of a matrix: which cells the wheelhouse or an index has, which are missing, which cannot be."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from sagefix.archs import parse_archs
from sagefix.errors import RemoteIndexError, ToolchainError, UsageError
from sagefix.pins.load import load_pin
from sagefix.pins.matrix import Cell, load_matrix
from sagefix.pins.model import Pin, Revision
from sagefix.progress import task, warn
from sagefix.targets.cross.compilers import find_cross_compilers
from sagefix.targets.cross.expected import expected_interpreter
from sagefix.targets.cross.platforms import platform_named
from sagefix.targets.interpreter import find_python, probe
from sagefix.targets.model import Interpreter, Target, Torch
from sagefix.wheelhouse.remote import candidates
from sagefix.wheelhouse.select import select
from sagefix.wheelhouse.web import MissingError
from sagefix.wheels.model import Facts
from sagefix.workflows.matrix import Choice, cells
from sagefix.workflows.situation import Request, find_revision, open_wheelhouse

# Whose glibc is new enough for a wheel is decided where it is installed; in a matrix every wheel counts.
_ANY_GLIBC = "2.99"
# https://docs.github.com/en/actions/reference/limits: a matrix makes at most so many jobs.
GITHUB_MOST = 256
_VERSIONS = re.compile(r"3\.\d{1,2}([;,\s]+3\.\d{1,2})*", re.ASCII)
_BETWEEN = re.compile(r"[;,\s]+")


class MatrixRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for, as text; empty or None means: what the matrix wants.

    ``pythons``: versions, lists of them, or paths. Each entry of ``archs`` is one wheel. ``here``: only what this
    machine can build. ``native``: nothing by cross build. ``cells``: only those with these ids. ``fixes``: wheels with
    the pin's fixes, or without.
    """

    pin: str = "sageattention"
    ref: str | None = None
    source: str | None = None
    offline: bool = False
    pythons: tuple[str, ...] = ()
    torch: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    wheelhouse: str | None = None
    index: tuple[str, ...] = ()
    here: bool = False
    native: bool = False
    cuda: str = "auto"
    allow_known_bad: bool = False
    fixes: bool = True


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A cell and what there is of it. ``reason`` says why it is impossible; ``wheel`` is there for ``have``."""

    cell: Cell
    status: Literal["have", "missing", "impossible"]
    reason: str = ""
    wheel: Facts | None = None


class Surveyed(msgspec.Struct, frozen=True, kw_only=True):
    """A request, resolved: the pin, the commit, and every cell with what there is of it."""

    pin: Pin
    revision: Revision
    found: tuple[Found, ...]


def survey_matrix(request: MatrixRequest) -> Surveyed:
    """Resolve a request. Nothing is built.

    Raises :class:`~sagefix.errors.UsageError`, :class:`~sagefix.errors.PinError`, what finding the commit raises
    (:class:`~sagefix.errors.SourceError`), what reading a wheelhouse or an index raises, and with ``here``
    :class:`ToolchainError` when cells or platforms were named whose cross compiler is not on this machine.
    """
    pin = load_pin(request.pin)
    revision, _ = find_revision(
        pin, Request(pin=pin.name, ref=request.ref, source=request.source, offline=request.offline)
    )
    wanted = cells(load_matrix(), pin, revision, _choice(request))
    if request.cells:
        unknown = set(request.cells) - {cell.id for cell in wanted}
        if unknown:
            raise UsageError(
                f"The matrix has no cell {', '.join(sorted(unknown))}.",
                hint="`sagefix matrix` prints them: " + ", ".join(cell.id for cell in wanted[:3]) + ", ...",
            )
        wanted = tuple(cell for cell in wanted if cell.id in request.cells)
    if request.here:
        wanted = _with_compilers(wanted, pin, request)
    at_hand = open_wheelhouse(request.wheelhouse, create=False).entries(pin.project)
    for url in request.index:
        if request.offline and not url.startswith("file:"):
            raise RemoteIndexError(
                f"--offline and the index {url} exclude each other.", hint="Leave one of them out."
            )
        at_hand += _offered(url, pin.project)
    level = pin.fix_level if request.fixes else 0
    return Surveyed(
        pin=pin, revision=revision, found=look(wanted, pin, revision, at_hand=at_hand, fixes=level)
    )


def _with_compilers(wanted: tuple[Cell, ...], pin: Pin, request: MatrixRequest) -> tuple[Cell, ...]:
    """Make cells impossible whose cross compiler is not here; who names such cells has to know before anything is
    compiled."""
    lacking: dict[str, str] = {}
    for name in dict.fromkeys(each.platform for each in wanted if each.cross and each.status == "possible"):
        try:
            find_cross_compilers(platform_named(f"linux_{name}"), cxx=pin.build.torch)
        except ToolchainError as error:
            if request.cells or name in _split(request.platforms):
                raise
            lacking[name] = f"{error.message} {error.hint}"
            warn(f"No wheel for {name} is built: {lacking[name]}")
    return tuple(
        msgspec.structs.replace(each, status="impossible", reason=lacking[each.platform])
        if each.cross and each.status == "possible" and each.platform in lacking
        else each
        for each in wanted
    )


def _choice(request: MatrixRequest) -> Choice:
    versions: list[str] = []
    interpreters: list[Interpreter] = []
    for text in request.pythons:
        if _VERSIONS.fullmatch(text.strip()):
            versions += _BETWEEN.split(text.strip())
        else:
            interpreters.append(probe(find_python(text)))
    if interpreters and request.torch:
        raise UsageError(
            "--torch and the path of a Python exclude each other: a Python brings its own torch.",
            hint="Give --python a version.",
        )
    return Choice(
        pythons=tuple(versions),
        interpreters=tuple(interpreters),
        torch=_split(request.torch),
        platforms=_split(request.platforms),
        archs=request.archs,
        machine=platform.machine() if request.here else "",
        native=request.native,
        cuda=request.cuda,
        allow_known_bad=request.allow_known_bad,
    )


def _split(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(part for text in texts for part in _BETWEEN.split(text) if part)


def look(
    wanted: Sequence[Cell],
    pin: Pin,
    revision: Revision,
    *,
    at_hand: Sequence[Facts],
    fixes: int | None = None,
) -> tuple[Found, ...]:
    """Say of each cell whether among the wheels at hand there is one that ``install`` would take for it.

    Give what is on this machine first. ``fixes``: the level of the pin's fixes that is wanted (default: the pin's).
    """
    level = pin.fix_level if fixes is None else fixes
    return tuple(_found(cell, pin, revision, at_hand, level) for cell in wanted)


def _found(cell: Cell, pin: Pin, revision: Revision, at_hand: Sequence[Facts], fixes: int) -> Found:
    if cell.status == "impossible":
        return Found(cell=cell, status="impossible", reason=cell.reason)
    decisions = select(at_hand, described(cell), pin, revision, fixes=fixes, allow_known_bad=True)
    best = next((each.facts for each in decisions if each.accepted), None)
    return Found(cell=cell, status="missing" if best is None else "have", wheel=best)


def github_matrix(found: Iterable[Found]) -> dict[str, Any]:
    """Return the missing cells in the form of a GitHub Actions matrix: ``{"include": [...]}``.

    What is more than a matrix may hold is left for the next run, with a warning.
    https://docs.github.com/en/actions/how-tos/write-workflows/choose-what-workflows-do/run-job-variations
    """
    missing = [each.cell for each in found if each.status == "missing"]
    if len(missing) > GITHUB_MOST:
        warn(f"{len(missing)} cells are missing; a matrix takes {GITHUB_MOST}. Run it again for the others.")
    return {
        "include": [
            {
                "cell": cell.id,
                "pin": cell.pin,
                "python": cell.python,
                "torch": cell.torch,
                "cuda": cell.cuda,
                "arch": cell.archs,
                "platform": cell.platform,
                "host": cell.host,
                "runner": cell.runner,
            }
            for cell in missing[:GITHUB_MOST]
        ]
    }


def described(cell: Cell) -> Target:
    """Return the target of a cell as far as choosing a wheel needs it; it may not exist on this machine."""
    torch = None
    if cell.torch:
        # The wheels of every torch in the matrix have the new C++ string ABI; see cxx11_abi there.
        torch = Torch(version=cell.torch_version or cell.torch, cuda=cell.cuda, cxx11_abi=True, folder="")
    interpreter = expected_interpreter(
        cell.platform, cell.python, glibc=_ANY_GLIBC, abi=cell.abi, torch=torch
    )
    archs = parse_archs(cell.archs) if cell.archs else ()
    return Target(interpreter=interpreter, archs=archs, archs_from="matrix")


def _offered(url: str, project: str) -> list[Facts]:
    """Return what an index has of a project; one without it, as before the first publication, has nothing."""
    try:
        with task(f"Reading {url}"):
            # The label says everything that is asked here, so METADATA is fetched of none.
            return candidates(url, project, tags=())
    except RemoteIndexError as error:
        if isinstance(error.__cause__, MissingError):
            warn(f"{error.message} It counts as empty.")
            return []
        raise
