"""What a wheel says about how it was made, read back and held against its files; and one small record for each
published wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from sagefix.building.plan import key_of
from sagefix.checks import Check
from sagefix.errors import SagefixError, WheelError, WheelhouseError
from sagefix.files import sha256_bytes, sha256_file, write_bytes
from sagefix.settings import manifests_dir
from sagefix.wheelhouse.proving import proof_of
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.archive import WheelArchive, validate
from sagefix.wheels.model import Proof, Record
from sagefix.wheels.sbom import FOLDER, SUFFIX
from sagefix.wheels.statement import SUFFIX as STATEMENT_SUFFIX
from sagefix.wheels.statement import Statement, require_about
from sagefix.wheels.zips import open_zip

BUILDS = "builds"
"""The folder of build records below the manifests."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of how a wheel was made.

    ``sboms`` maps paths inside the wheel to their JSON. ``statement`` is None without one beside the wheel,
    ``published`` without a record under ``manifests/builds/``. ``checks`` hold it all against the files.
    """

    path: str
    filename: str
    sha256: str
    size: int
    record: Record | None
    sboms: dict[str, Any]
    statement: Statement | None
    proofs: tuple[Proof, ...]
    published: BuildRecord | None
    checks: tuple[Check, ...]


class BuildRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What stays in the repository of a published wheel, so that anybody can tell it from another.

    ``sha256`` is that of the wheel, ``statement_sha256`` that of the statement beside it, ``sbom_sha256`` that of the
    SBOM inside. ``proof`` is the level of verification it had passed (empty: none). ``sources_sha256`` is the hash
    of the record's list of sources.
    """

    schema: Literal[1] = 1
    filename: str
    sha256: str
    size: int
    project: str
    version: str
    commit: str
    tree: str
    key: str
    archs: tuple[str, ...]
    fixes: tuple[str, ...]
    torch: str
    cuda: str
    glibc: str
    tools: dict[str, str]
    sources_sha256: str
    sbom_sha256: str
    statement_sha256: str
    proof: str
    sagefix: str


def find_wheel(wheel: str, wheelhouse: Wheelhouse) -> Path:
    """Return a wheel that is named by its path or by its file name in the wheelhouse.

    Raises :class:`WheelhouseError` when there is no such one.
    """
    path = Path(wheel).expanduser()
    if path.is_file():
        return path.absolute()
    if "/" in wheel:
        raise WheelhouseError(
            f"There is no {wheel}.", hint="`sagefix wheelhouse list` prints the names of wheels."
        )
    kept = wheelhouse.get(wheel)
    if kept is None:
        raise WheelhouseError(
            f"{wheel} is neither a file nor in the wheelhouse {wheelhouse.path}.",
            hint="`sagefix wheelhouse list` prints what is; or give a path.",
        )
    return Path(kept.where)


def show(wheel: str, wheelhouse: Wheelhouse) -> Shown:
    """Read back what a wheel carries and what stands beside it.

    Raises :class:`WheelError` for a wheel that is damaged or renamed, :class:`WheelhouseError` when it is not there.
    What is merely missing or contradictory is a check.
    """
    path = find_wheel(wheel, wheelhouse)
    archive = validate(path)
    sha256 = sha256_file(path)
    statement, about = _statement(path, sha256)
    published, listed = _published(path.name, sha256)
    checks = [
        Check(
            name="wheel", status="ok", found=f"{len(archive.members)} files match RECORD and the file's name"
        ),
        _record_check(archive.record),
        about,
        listed,
    ]
    sboms, told = _sboms(archive)
    checks.insert(2, told)
    return Shown(
        path=str(path),
        filename=path.name,
        sha256=sha256,
        size=path.stat().st_size,
        record=archive.record,
        sboms=sboms,
        statement=statement,
        proofs=_proofs(path, sha256, wheelhouse),
        published=published,
        checks=tuple(checks),
    )


def _record_check(record: Record | None) -> Check:
    if record is None:
        return Check(
            name="record",
            status="skipped",
            found="there is none: the wheel was neither built nor saved by sagefix",
        )
    if record.origin == "saved":
        found = f"saved from an installation; not known: {', '.join(record.unknown) or 'nothing'}"
        return Check(name="record", status="ok", found=found)
    if not record.identity:
        return Check(name="record", status="skipped", found="written by a sagefix that kept less of the plan")
    if key_of(record.identity) != record.key:
        return Check(
            name="record",
            status="failure",
            found=f"its key is {record.key}, and what it says of the plan has the key {key_of(record.identity)}",
            fix="Do not trust the record: it was changed after the build.",
        )
    return Check(name="record", status="ok", found=f"key {record.key} is the hash of the plan in it")


def _sboms(archive: WheelArchive) -> tuple[dict[str, Any], Check]:
    inside = f"{archive.dist_info}/{FOLDER}/"
    names = [name for name in archive.members if name.startswith(inside) and name.endswith(SUFFIX)]
    found: dict[str, Any] = {}
    with open_zip(archive.path) as opened:
        for name in names:
            try:
                found[name] = msgspec.json.decode(opened.read(name))
            except msgspec.DecodeError as error:
                return found, Check(name="SBOM", status="failure", found=f"{name} cannot be read: {error}")
    if not found:
        return found, Check(name="SBOM", status="skipped", found="there is none in the wheel")
    counts = [
        f"{name.rpartition('/')[2]}: {len(sbom.get('components', ()))} components"
        for name, sbom in found.items()
    ]
    return found, Check(name="SBOM", status="ok", found="; ".join(counts))


def _statement(path: Path, sha256: str) -> tuple[Statement | None, Check]:
    beside = path.with_name(path.name + STATEMENT_SUFFIX)
    if not beside.is_file():
        return None, Check(name="statement", status="skipped", found="there is none beside the wheel")
    try:
        statement = require_about(beside.read_bytes(), beside.name, path.name, sha256)
    except WheelError as error:
        return None, Check(name="statement", status="failure", found=error.message, fix=error.hint)
    run = statement.predicate.runDetails
    return statement, Check(
        name="statement",
        status="ok",
        found=f"about this very file, by {run.builder.id}, {run.metadata.finishedOn}; not signed",
    )


def _published(filename: str, sha256: str) -> tuple[BuildRecord | None, Check]:
    path = record_path(manifests_dir() / BUILDS, filename)
    name = f"manifests/{BUILDS}"
    if not path.is_file():
        return None, Check(name=name, status="skipped", found="no record of a published wheel of this name")
    try:
        published = read_build_record(path)
    except SagefixError as error:
        return None, Check(name=name, status="failure", found=error.message, fix=error.hint)
    if published.sha256 != sha256:
        return published, Check(
            name=name,
            status="failure",
            found=f"the published wheel of this name has the sha256 {published.sha256}",
            fix="This is another build under the name of a published one: do not give it to others.",
        )
    return published, Check(name=name, status="ok", found="this is the published wheel")


def _proofs(path: Path, sha256: str, wheelhouse: Wheelhouse) -> tuple[Proof, ...]:
    """Return the proofs of a wheel; one outside has those that the wheelhouse keeps of the very same file."""
    sidecar = wheelhouse.sidecar(path.name)
    return wheelhouse.proofs(path.name) if sidecar is not None and sidecar.sha256 == sha256 else ()


def record_path(folder: Path, filename: str) -> Path:
    """Return where a wheel's build record stands in a folder: the wheel's name with ``.json`` for ``.whl``."""
    return folder / f"{filename.removesuffix('.whl')}.json"


def read_build_record(path: Path) -> BuildRecord:
    """Read a build record. Raises :class:`WheelError`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=BuildRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise WheelError(
            f"{path} is not a record of a build ({error}).", hint="Restore it from git."
        ) from error


def write_build_record(wheel: str, wheelhouse: Wheelhouse, folder: Path, *, replace: bool = False) -> Path:
    """Write the build record of a wheel that is to be published; return where.

    A published name stands for one file for good: another one under it is refused unless ``replace`` is given.
    Raises :class:`WheelError`: the wheel was not built by sagefix, something about it contradicts, or the name is
    taken. :class:`~sagefix.errors.DiskError`.
    """
    shown = show(wheel, wheelhouse)
    record = shown.record
    if record is None or record.origin != "built" or not record.identity:
        raise WheelError(
            f"{shown.filename} says too little about how it was built to be recorded as published.",
            hint="Build it with `sagefix build`.",
        )
    # What the folder holds of it already is compared below.
    bad = [check for check in shown.checks[:-1] if check.status == "failure"]
    if bad:
        raise WheelError(
            f"{shown.filename} was not recorded: {bad[0].name}: {bad[0].found}.", hint=bad[0].fix
        )
    path = record_path(folder, shown.filename)
    made = _build_record(shown, record)
    if path.exists() and not replace and (former := read_build_record(path)).sha256 != made.sha256:
        raise WheelError(
            f"{path.name} is the record of another wheel of this name, with the sha256 {former.sha256}.",
            hint="What is published keeps its content. If it was not, give --replace.",
        )
    write_bytes(path, msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    return path


def _build_record(shown: Shown, record: Record) -> BuildRecord:
    beside = Path(shown.path + STATEMENT_SUFFIX)
    return BuildRecord(
        filename=shown.filename,
        sha256=shown.sha256,
        size=shown.size,
        project=record.project,
        version=record.version,
        commit=record.commit,
        tree=record.tree,
        key=record.key,
        archs=record.archs,
        fixes=record.fixes,
        torch=record.torch,
        cuda=record.cuda,
        glibc=record.glibc,
        tools=record.tools,
        sources_sha256=sha256_bytes(msgspec.json.encode(record.sources, order="sorted")),
        sbom_sha256=_sbom_sha256(Path(shown.path), shown.sboms),
        statement_sha256=sha256_file(beside) if shown.statement is not None else "",
        proof=proof_of(shown.proofs),
        sagefix=record.sagefix,
    )


def _sbom_sha256(wheel: Path, sboms: dict[str, Any]) -> str:
    with open_zip(wheel) as opened:
        return sha256_bytes(opened.read(next(iter(sboms)))) if sboms else ""
