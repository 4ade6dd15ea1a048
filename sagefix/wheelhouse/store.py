"""The wheelhouse: a folder of wheels that is a simple index at the same time.

``pip install --index-url`` and ``uv pip install --index-url`` work on it, from ``file://`` and from any
static server. See :mod:`sagefix.wheelhouse.shelf` for how it lies on disk.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from packaging.utils import canonicalize_name

from sagefix import __version__
from sagefix.checks import LEVELS, Check
from sagefix.errors import DiskError, WheelError, WheelhouseError
from sagefix.files import aside, sha256_bytes, sha256_file, write_bytes
from sagefix.wheelhouse import shelf
from sagefix.wheelhouse.locking import locked
from sagefix.wheelhouse.model import (
    MARKER_NAME,
    METADATA_SUFFIX,
    PROOFS_SUFFIX,
    SCHEMA,
    SIDECAR_SUFFIX,
    Marker,
    Sidecar,
)
from sagefix.wheels.model import Facts, Proof
from sagefix.wheels.statement import SUFFIX as STATEMENT_SUFFIX
from sagefix.wheels.statement import require_about

if TYPE_CHECKING:
    from sagefix.wheelhouse.evidence import Entry

_LOCK_TIMEOUT_S = 120.0
_LIST_HINT = "`sagefix wheelhouse list` prints what is."


class Wheelhouse:
    """A folder of wheels with their records and proofs. Made by :meth:`open`.

    Reading takes no lock and needs no right to write, so a wheelhouse on a shared disk or from a CI run can
    be listed and chosen from. Writing takes one lock for the whole folder and replaces each file as a whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        """The root of the wheelhouse, which is also the root of the simple index; absolute."""
        return self._path

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Wheelhouse:
        """Open the wheelhouse in a folder; with ``create`` a missing one is made.

        Without ``create`` nothing is written, and a missing folder, or one that holds nothing but a README,
        is an empty wheelhouse.

        Raises :class:`WheelhouseError`: it is not a folder, holds other things, or its marker is unreadable
        or of a newer sagefix. :class:`DiskError`: not writable.
        """
        root = path.expanduser().absolute()
        if root.exists() and not root.is_dir():
            raise WheelhouseError(
                f"{root} is not a folder.", hint="Choose another with --wheelhouse or SAGEFIX_WHEELHOUSE."
            )
        marked = False
        if root.is_dir():
            # In this order: what another process begins meanwhile has its marker before anything else.
            empty = shelf.empty_enough(root)
            marked = shelf.read_marker(root) is not None
            if not marked and not empty:
                raise WheelhouseError(
                    f"{root} is not a wheelhouse and not empty.",
                    hint="Choose an empty folder, then add wheels to it with `sagefix wheelhouse add`.",
                )
        wheelhouse = cls(root)
        if create and not marked:
            wheelhouse._make()
        return wheelhouse

    def entries(self, project: str | None = None) -> list[Facts]:
        """Return the kept wheels of one project or of all, newest first within a project.

        Each is known by size and time of change to be the one that was added; :meth:`check` hashes.

        Raises :class:`WheelhouseError` when one is damaged.
        """
        names = shelf.project_folders(self._path) if project is None else [canonicalize_name(project)]
        return [
            shelf.whole(self._path, sidecar)
            for name in names
            for sidecar in shelf.read_project(self._path, name)
        ]

    def get(self, filename: str) -> Facts | None:
        """Return a kept wheel by its file name, or None.

        Raises :class:`WheelhouseError`: not a wheel's name, or the wheel is damaged.
        """
        sidecar = self.sidecar(filename)
        return None if sidecar is None else shelf.whole(self._path, sidecar)

    def path_of(self, filename: str) -> Path:
        """Return where a wheel of this name lies, or would. Raises :class:`WheelhouseError`: not a wheel's name."""
        return self._beside(filename)

    def sidecar(self, filename: str) -> Sidecar | None:
        """Return what is kept of a wheel for listings, a line for each of its proofs among it, or None."""
        return shelf.read_sidecar(self._beside(filename, SIDECAR_SUFFIX))

    def proofs(self, filename: str) -> tuple[Proof, ...]:
        """Return the proofs of a kept wheel with their whole verdicts, oldest first; none when it is not there.

        Raises :class:`WheelhouseError`: the file with the verdicts is gone, damaged, or about another wheel.
        """
        sidecar = self.sidecar(filename)
        if sidecar is None:
            return ()
        from sagefix.wheelhouse.evidence import whole

        return whole(sidecar.proofs, self._entries(sidecar))

    def require_intact(self, facts: Facts) -> None:
        """Hash a kept wheel and compare: what is handed to an installer is what was checked when it was added.

        Raises :class:`WheelhouseError` when the content is another.
        """
        shelf.require_content(Path(facts.where), facts.sha256)

    def add(self, wheel: Path, *, move: bool = False, replace: bool = False) -> Facts:
        """Keep a wheel: check it, copy it (``move``: and delete the original), index it.

        The same content again changes nothing and keeps its proofs; a damaged or half-added copy of it is put
        right. Other content under the same name is refused unless ``replace`` is given; its proofs go then.
        A statement of provenance and proofs that stand beside the wheel come along.

        Raises :class:`WheelError`: not a sound wheel, or the statement or the proofs are about another one.
        :class:`WheelhouseError`: the name is taken.
        :class:`DiskError`: no space, or not writable. :class:`LockError`.
        """
        # Opening zips and parsing METADATA is slow to import, and listing needs neither.
        from sagefix.wheelhouse.evidence import dump, settle, written_inside
        from sagefix.wheels.archive import facts, validate

        wheel = wheel.absolute()
        metadata = validate(wheel).metadata_bytes
        found = facts(wheel, where="")
        if found.record is not None and found.record.origin == "grafted":
            raise WheelhouseError(
                f"{wheel.name} was grafted for a search: its compiled modules are those of another commit.",
                hint="Build that commit: `sagefix build --ref COMMIT`.",
            )
        statement = _statement_of(wheel, found)
        incoming = _proofs_of(wheel, found)
        target = self._beside(found.filename)
        with self._locked(f"add {found.filename} to the wheelhouse"):
            former = _readable(target)
            kept = former if former is not None and former.sha256 == found.sha256 else None
            there = sha256_file(target) if target.is_file() and not target.is_symlink() else ""
            known = written_inside(kept) if kept else []
            with contextlib.suppress(WheelError):  # of another wheel, or damaged: replaced
                known += _proofs_of(target, found)
            proofs, rows = settle([*known, *incoming])
            evidence = dump(found.filename, found.sha256, proofs) if proofs else b""
            if there != found.sha256:
                if there and kept is None and not replace:
                    raise WheelhouseError(
                        f"{target} is kept already, with other content.",
                        hint="Replace it with --replace, or delete it first.",
                        details={"kept": there, "offered": found.sha256},
                    )
                # Without a sidecar a wheel does not count: no moment shows new content with old facts.
                _forget(self._beside(found.filename, SIDECAR_SUFFIX))
                _forget(self._beside(found.filename, STATEMENT_SUFFIX))
                _copy(wheel, target, found.sha256)
            seen = target.stat()
            sidecar = Sidecar(
                sha256=found.sha256,
                size=seen.st_size,
                mtime_ns=seen.st_mtime_ns,
                metadata_sha256=sha256_bytes(metadata),
                added=kept.added if kept else _now(),
                added_by=kept.added_by if kept else f"sagefix {__version__}",
                facts=found,
                proofs=rows,
                proofs_sha256=sha256_bytes(evidence) if evidence else "",
            )
            if not shelf.holds(self._beside(found.filename, METADATA_SUFFIX), metadata):
                write_bytes(self._beside(found.filename, METADATA_SUFFIX), metadata)
            if statement and not shelf.holds(self._beside(found.filename, STATEMENT_SUFFIX), statement):
                write_bytes(self._beside(found.filename, STATEMENT_SUFFIX), statement)
            self._write_evidence(found.filename, evidence)
            if sidecar != kept or there != found.sha256:
                self._write_sidecar(sidecar)
            self._write_pages()
            if move and not wheel.samefile(target):
                wheel.unlink()
                _forget(wheel.with_name(wheel.name + STATEMENT_SUFFIX))
                _forget(wheel.with_name(wheel.name + PROOFS_SUFFIX))
            return shelf.whole(self._path, sidecar)

    def remove(self, filename: str) -> None:
        """Delete a wheel, whole or damaged, and everything beside it.

        Raises :class:`WheelhouseError`: not there. :class:`DiskError`. :class:`LockError`.
        """
        self._beside(filename)
        with self._locked(f"remove {filename} from the wheelhouse"):
            if not self._delete(filename):
                raise WheelhouseError(f"{filename} is not in {self._path}.", hint=_LIST_HINT)
            self._write_pages()

    def record_proof(self, filename: str, verdict: Mapping[str, Any], level: str, passed: bool) -> None:
        """Keep the outcome of a verification beside its wheel; ``verdict`` is plain JSON.

        Raises what :meth:`take_proofs` raises, and :class:`WheelhouseError` for an unknown level.
        """
        if level not in LEVELS:
            raise WheelhouseError(
                f"{level!r} is no level of verification.", hint=f"Levels: {', '.join(LEVELS)}."
            )
        from sagefix.wheelhouse.evidence import entry

        self.take_proofs(filename, [entry(verdict, level=level, passed=passed)])

    def take_proofs(self, filename: str, entries: Sequence[Entry]) -> Facts:
        """Keep verifications beside their wheel and return what is known of it now.

        Of one level, outcome and kind of GPU the latest is kept; see :mod:`sagefix.wheelhouse.proving`.

        Raises :class:`WheelhouseError`: no such wheel, or what is kept of its proofs is damaged.
        :class:`WheelError`: a verdict is about another wheel. :class:`DiskError`. :class:`LockError`.
        """
        from sagefix.wheelhouse.evidence import dump, require_wheel, settle

        with self._locked("record a proof in the wheelhouse"):
            sidecar = self.sidecar(filename)
            if sidecar is None:
                raise WheelhouseError(f"{filename} is not in {self._path}.", hint=_LIST_HINT)
            for each in entries:
                require_wheel(each, filename, sidecar.sha256)
            proofs, rows = settle([*self._entries(sidecar), *entries])
            evidence = dump(filename, sidecar.sha256, proofs)
            self._write_evidence(filename, evidence)
            settled = msgspec.structs.replace(sidecar, proofs=rows, proofs_sha256=sha256_bytes(evidence))
            self._write_sidecar(settled)
            self._write_pages()
            return shelf.told(settled, where=str(self._beside(filename)))

    def check(self) -> list[Check]:
        """Look at every file and hash every wheel; see :func:`sagefix.wheelhouse.audit.audit`.

        Raises :class:`WheelhouseError` when the folder is missing or cannot be read.
        """
        from sagefix.wheelhouse.audit import audit

        if not self._path.is_dir():
            raise _missing(self._path)
        with contextlib.ExitStack() as stack:
            # Waiting for writers avoids false alarms; where nobody can write there are none.
            with contextlib.suppress(DiskError, WheelhouseError):
                stack.enter_context(self._locked("check the wheelhouse"))
            return audit(self._path)

    def write_index(self) -> None:
        """Write every page of the index that is missing or out of date.

        Raises :class:`WheelhouseError`: a sidecar is unreadable. :class:`DiskError`. :class:`LockError`.
        """
        with self._locked("write the index of the wheelhouse"):
            self._write_pages()

    def prune(
        self,
        keep: int | None = None,
        unproven: bool = False,
        project: str | None = None,
        dry_run: bool = False,
    ) -> list[str]:
        """Delete wheels that are not wanted any more; return a line for each: its name and why it goes.

        ``keep``: only so many of the newest for each project, Python, platform, archs and torch (None: all).
        ``unproven``: also those that passed no verification or failed one. Left-overs of interrupted writes
        go as well. With ``dry_run`` nothing is deleted and no lock taken.

        Raises what :meth:`remove` and :meth:`entries` raise.
        """
        from sagefix.wheelhouse.pruning import leftovers, superfluous

        with contextlib.nullcontext() if dry_run else self._locked("prune the wheelhouse"):
            going = superfluous(self.entries(project), keep=keep, unproven=unproven)
            partial = leftovers(self._path)
            if not dry_run:
                for filename in going:
                    self._delete(filename)
                for path in partial:
                    _forget(path)
                self._write_pages()
        lines = [f"{filename}: {reason}" for filename, reason in going.items()]
        lines += [f"{path.relative_to(self._path)}: left over by an interrupted write" for path in partial]
        return lines

    def _make(self) -> None:
        with shelf.store_errors(self._path, "make the wheelhouse"):
            self._path.mkdir(parents=True, exist_ok=True)
        with self._locked("make the wheelhouse"):
            if shelf.read_marker(self._path) is None:
                marker = msgspec.json.encode(Marker(schema=SCHEMA, sagefix=__version__))
                write_bytes(self._path / MARKER_NAME, marker + b"\n")
                self._write_pages()

    def _beside(self, filename: str, suffix: str = "") -> Path:
        return self._path / shelf.project_of(filename) / f"{filename}{suffix}"

    def _locked(self, doing: str) -> AbstractContextManager[None]:
        if not self._path.is_dir():  # the lock would create it
            raise _missing(self._path)
        return locked(self._path, doing, timeout=_LOCK_TIMEOUT_S)

    def _entries(self, sidecar: Sidecar) -> list[Entry]:
        """Return what is kept of a wheel's verifications. Raises :class:`WheelhouseError`."""
        from sagefix.wheelhouse.evidence import require_about, written_inside

        path = self._beside(sidecar.facts.filename, PROOFS_SUFFIX)
        if not sidecar.proofs_sha256 and not path.exists():
            return written_inside(sidecar)
        with shelf.read_errors(path):
            data = path.read_bytes()
        try:
            read = require_about(data, str(path), sidecar.facts.filename, sidecar.sha256)
        except WheelError as error:
            raise WheelhouseError(error.message, hint=error.hint) from error
        return [*written_inside(sidecar), *read.proofs]

    def _write_evidence(self, filename: str, evidence: bytes) -> None:
        path = self._beside(filename, PROOFS_SUFFIX)
        if not evidence:
            _forget(path)
        elif not shelf.holds(path, evidence):
            write_bytes(path, evidence)

    def _write_sidecar(self, sidecar: Sidecar) -> None:
        data = msgspec.json.format(msgspec.json.encode(sidecar), indent=1) + b"\n"
        write_bytes(self._beside(sidecar.facts.filename, SIDECAR_SUFFIX), data)

    def _delete(self, filename: str) -> bool:
        # The sidecar goes first: what is interrupted here leaves a wheel that does not count.
        suffixes = (SIDECAR_SUFFIX, METADATA_SUFFIX, STATEMENT_SUFFIX, PROOFS_SUFFIX, "")
        gone = [_forget(self._beside(filename, suffix)) for suffix in suffixes]
        return any(gone)

    def _write_pages(self) -> None:
        from sagefix.wheelhouse import index

        wanted = index.pages(shelf.read_all(self._path))
        for name, data in wanted.items():
            if not shelf.holds(self._path / name, data):
                write_bytes(self._path / name, data)
        for project in shelf.project_folders(self._path):
            for page in (index.HTML_NAME, index.JSON_NAME):
                if f"{project}/{page}" not in wanted:
                    _forget(self._path / project / page)
            with contextlib.suppress(OSError):
                (self._path / project).rmdir()  # succeeds for an empty folder only


def _copy(wheel: Path, target: Path, sha256: str) -> None:
    with aside(target) as staged:
        shutil.copyfile(wheel, staged)
        if sha256_file(staged) != sha256:
            raise WheelError(f"{wheel} changed while it was being copied.", hint="Try again.")


def _statement_of(wheel: Path, found: Facts) -> bytes:
    """Return the statement beside a wheel that is to be added, or nothing. Raises :class:`WheelError`."""
    path = wheel.with_name(wheel.name + STATEMENT_SUFFIX)
    if not path.is_file():
        return b""
    data = path.read_bytes()
    require_about(data, path.name, found.filename, found.sha256)
    return data


def _proofs_of(wheel: Path, found: Facts) -> list[Entry]:
    """Return the proofs beside a wheel, or none. Raises :class:`WheelError`."""
    from sagefix.wheelhouse.evidence import require_about

    path = wheel.with_name(wheel.name + PROOFS_SUFFIX)
    if not path.is_file():
        return []
    return list(require_about(path.read_bytes(), path.name, found.filename, found.sha256).proofs)


def _missing(root: Path) -> WheelhouseError:
    return WheelhouseError(
        f"There is no wheelhouse at {root}.", hint="`sagefix wheelhouse add WHEEL` makes one."
    )


def _forget(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _readable(target: Path) -> Sidecar | None:
    """Return what is kept about a wheel; None also when that is damaged: adding the wheel again cures it."""
    with contextlib.suppress(WheelhouseError):
        return shelf.read_sidecar(target.with_name(target.name + SIDECAR_SUFFIX))
    return None
