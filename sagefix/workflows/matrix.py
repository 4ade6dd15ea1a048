"""The cells of a pin: which wheels could be built ahead, and why the others cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import msgspec

from sagefix.archs import Arch, join_archs, parse_archs
from sagefix.errors import UsageError
from sagefix.pins.matrix import Cell, Exclude, Matrix, Wanted
from sagefix.pins.model import Pin, Revision
from sagefix.targets.choice import why_not
from sagefix.targets.cudatable import CudaTable, load_cuda_table
from sagefix.targets.model import Interpreter


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What replaces the lists of a pin's ``[[wanted]]`` rows; an empty field leaves them as they are.

    ``interpreters`` are Pythons to build with as they are, their torch included. ``machine`` makes cells impossible
    that such a machine builds neither natively nor by cross build. ``native``: a machine of a cell's own kind builds
    it, and none by cross build. ``cuda`` is the toolkit as in ``--cuda``: with ``system`` or a path, whether there is
    a compiler on a package index does not matter. ``allow_known_bad`` makes cells of a broken commit possible.
    """

    pythons: tuple[str, ...] = ()
    interpreters: tuple[Interpreter, ...] = ()
    torch: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()
    machine: str = ""
    native: bool = False
    cuda: str = "auto"
    allow_known_bad: bool = False


def cells(
    matrix: Matrix, pin: Pin, revision: Revision | None = None, choice: Choice | None = None
) -> tuple[Cell, ...]:
    """Return the cells of a pin, in the order of the matrix, each once.

    ``revision`` is the commit that will be built (default: the pin's own). Raises :class:`UsageError` when the
    matrix wants nothing of the pin and the choice does not say enough.
    """
    judge = _Judge(matrix, pin, revision, choice or Choice())
    made: dict[str, Cell] = {}
    for cell in judge.all_cells():
        made.setdefault(cell.id, cell)
    return tuple(made.values())


class _Judge:
    """Makes the cells of one pin and says which are impossible."""

    def __init__(self, matrix: Matrix, pin: Pin, revision: Revision | None, choice: Choice) -> None:
        self.matrix = matrix
        self.pin = pin
        self.choice = choice
        self.commit = revision.commit if revision else pin.source.commit
        named = revision.recipe if revision else ""
        listed = pin.ref_of(self.commit)
        self.recipe = pin.recipe_named(named or (listed.recipe if listed else pin.recipe[-1].name))
        self.packaged: CudaTable = load_cuda_table()

    def all_cells(self) -> Iterator[Cell]:
        """Yield every cell, some of them twice when rows overlap."""
        for row in self._rows():
            archs = row.archs if self.pin.device == "cuda" else ("",)
            for python, platform in product(row.pythons, row.platforms):
                for torch, arch in product(row.torch if self.pin.build.torch else ("",), archs):
                    yield self._described(python, platform, torch, arch)
            for interpreter, arch in product(self.choice.interpreters, archs):
                if interpreter.machine in row.platforms:
                    yield self._at_hand(interpreter, arch)

    def _rows(self) -> Iterator[Wanted]:
        """Yield the wanted rows with the choice's lists in place of their own."""
        chosen = self.choice
        rows = self.matrix.wanted_of(self.pin.name) or (
            Wanted(pin=self.pin.name, pythons=(), platforms=tuple(row.name for row in self.matrix.platform)),
        )
        listed = {name for row in rows for name in row.platforms}
        # A platform narrows the rows down to those that have it; one that no row has goes into all of them.
        narrow = bool(listed & set(chosen.platforms))
        for row in rows:
            pythons = chosen.pythons if chosen.pythons or chosen.interpreters else row.pythons
            platforms = chosen.platforms or row.platforms
            made = msgspec.structs.replace(
                row,
                pythons=pythons,
                torch=chosen.torch or row.torch,
                platforms=tuple(name for name in platforms if name in row.platforms or not narrow),
                archs=chosen.archs or row.archs,
            )
            self._require_enough(made)
            yield made

    def _require_enough(self, row: Wanted) -> None:
        lacks = [] if row.pythons or self.choice.interpreters else ["--python"]
        if self.pin.build.torch and not row.torch and not self.choice.interpreters:
            lacks.append("--torch")
        if self.pin.device == "cuda" and not row.archs:
            lacks.append("--arch")
        if lacks:
            raise UsageError(
                f"The matrix wants nothing of the pin {self.pin.name}.",
                hint=f"Say what you want with {', '.join(lacks)}, or add a [[wanted]] row to matrix.toml.",
            )

    def _described(self, python: str, platform: str, torch: str, arch: str) -> Cell:
        known = self.matrix.torch_of(torch) if torch else None
        return self._finish(
            Cell(
                id="",
                pin=self.pin.name,
                python=python,
                abi=f"cp{python.replace('.', '')}",
                platform=platform,
                torch=torch,
                torch_version=known.version if known else "",
                cuda=known.cuda.get(platform, "") if known else "",
                archs=arch,
            )
        )

    def _at_hand(self, interpreter: Interpreter, arch: str) -> Cell:
        torch = interpreter.torch if self.pin.build.torch else None
        return self._finish(
            Cell(
                id="",
                pin=self.pin.name,
                python=".".join(interpreter.version.split(".")[:2]),
                abi=interpreter.abi_tag,
                interpreter=interpreter.executable,
                platform=interpreter.machine,
                torch=torch.release if torch else "",
                torch_version=torch.version if torch else "",
                cuda=torch.cuda if torch else "",
                archs=arch,
            )
        )

    def _finish(self, cell: Cell) -> Cell:
        archs = parse_archs(cell.archs) if cell.archs else ()
        host = self._host(cell)
        where = self.matrix.platform_of(host)
        parts = (
            cell.abi,
            f"torch{cell.torch}" if cell.torch else "",
            f"cu{cell.cuda.replace('.', '')}" if cell.cuda else "",
            ".".join(arch.label for arch in archs),
            cell.platform,
        )
        made = msgspec.structs.replace(
            cell,
            id="-".join(filter(None, parts)),
            archs=join_archs(archs),
            host=host,
            runner=where.runner if where else "",
        )
        if reason := next(self._against(made, archs), ""):
            return msgspec.structs.replace(made, status="impossible", reason=reason)
        return made

    def _host(self, cell: Cell) -> str:
        """Return the kind of machine that builds a cell: its own where that is at hand or asked for."""
        row = self.matrix.platform_of(cell.platform)
        own = self.choice.native or bool(cell.interpreter) or cell.platform == self.choice.machine
        return cell.platform if row is None or own else row.cross or cell.platform

    def _against(self, cell: Cell, archs: tuple[Arch, ...]) -> Iterator[str]:
        """Yield what makes a cell impossible, the first thing to know first."""
        from packaging.specifiers import SpecifierSet

        if self.matrix.platform_of(cell.platform) is None:
            yield f"the matrix has no platform {cell.platform}"
        if self.choice.machine and cell.host != self.choice.machine:
            yield f"it needs an {cell.host} machine, and this one is {self.choice.machine}"
        if not SpecifierSet(self.pin.build.python).contains(f"{cell.python}.999", prereleases=True):
            yield f"{self.pin.name} needs Python {self.pin.build.python}"
        if self.pin.build.torch:
            yield from self._against_torch(cell)
        if cell.cuda and not cell.interpreter:
            yield from self._against_compiler(cell)
        for arch in archs:
            yield from self._against_arch(cell, arch)
        for known in self.pin.known_about(self.commit, archs):
            if known.status != "good" and not self.choice.allow_known_bad:
                yield f"{self.commit[:7]} is known to be {known.status}: {known.reason}"
        yield from (row.reason for row in self.matrix.exclude if _names(row, cell))

    def _against_torch(self, cell: Cell) -> Iterator[str]:
        if cell.interpreter:
            if not cell.torch:
                yield f"there is no torch in {cell.interpreter}"
            elif self.pin.device == "cuda" and not cell.cuda:
                yield f"the torch of {cell.interpreter} is for the CPU only"
            return
        known = self.matrix.torch_of(cell.torch)
        if known is None:
            have = ", ".join(row.release for row in self.matrix.torch)
            yield f"the matrix does not know torch {cell.torch}, only {have}"
            return
        if cell.python not in known.pythons:
            yield f"torch {cell.torch} has no build for Python {cell.python}, only for {', '.join(known.pythons)}"
        if self.pin.device == "cuda" and not cell.cuda:
            first = next((row.release for row in self.matrix.torch if row.cuda.get(cell.platform)), "")
            later = f"; it has CUDA from {first} on" if first else ""
            yield f"torch {cell.torch} is for the CPU only on {cell.platform}{later}"

    def _against_compiler(self, cell: Cell) -> Iterator[str]:
        if self.choice.cuda not in ("auto", "pypi"):
            return
        major = cell.cuda.split(".", maxsplit=1)[0]
        packaged, refusal = self.packaged.of(major), self.packaged.refusal_of(major)
        if packaged is None:
            reason = refusal.reason if refusal else f"no compiler for CUDA {major} is known to be on PyPI"
            yield f"{reason} (with a toolkit of your own: --cuda)"
        elif cell.host not in packaged.machines:
            yield f"the compiler for CUDA {major} on PyPI is not for {cell.host}"

    def _against_arch(self, cell: Cell, arch: Arch) -> Iterator[str]:
        if reason := why_not(self.recipe, arch):
            yield f"{arch.capability}: {reason}"
            return
        row = self.recipe.for_arch(arch)
        if row is not None and cell.cuda and _numbers(cell.cuda) < _numbers(row.min_cuda):
            yield f"{arch.capability} needs CUDA {row.min_cuda}, and torch {cell.torch} is for {cell.cuda}"


def _names(row: Exclude, cell: Cell) -> bool:
    """Tell whether a row of excludes names a cell."""
    archs = {join_archs(parse_archs(text)) for text in row.archs}
    return (
        row.pin in ("", cell.pin)
        and (not row.pythons or cell.python in row.pythons)
        and (not row.torch or cell.torch in row.torch)
        and (not row.platforms or cell.platform in row.platforms)
        and (not archs or cell.archs in archs)
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
