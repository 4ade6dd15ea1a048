"""One file for a machine without a network: wheels with all that is known of them, the source, and sagefix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from sagefix import __version__
from sagefix.archs import parse_archs, sort_archs
from sagefix.errors import KitError, NoWheelError, UsageError, VerificationError
from sagefix.files import sha256_file
from sagefix.kits.contents import program, start, wheels
from sagefix.kits.model import PROGRAMS, SOURCE, Host, Manifest
from sagefix.kits.opening import read_manifest, work_folder
from sagefix.kits.packing import Packed, write_kit
from sagefix.kits.programs import fetch_programs, here
from sagefix.pins.load import load_pin
from sagefix.pins.model import Pin, Revision
from sagefix.progress import note, task, warn
from sagefix.settings import manifests_dir, shipped_manifests
from sagefix.source.fetch import write_bundle
from sagefix.wheelhouse.fitting import archs_of
from sagefix.wheelhouse.proving import failed_somewhere
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.label import commit_matches
from sagefix.wheels.model import Facts
from sagefix.workflows.situation import Request, find_revision, open_wheelhouse

OLDEST = (3, 10)
"""The oldest Python that runs sagefix."""
_EXTENSION = ".kit.tar"


class KitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a kit has to hold.

    ``wheels`` are names or paths of wheels in the wheelhouse; without them all of the pin's commit are meant that
    ``pythons`` (``3.12``), ``torch`` (``2.11``) and ``archs`` leave (empty: any). ``hosts`` and ``machines`` say where
    sagefix itself will run (empty: what the wheels are for). ``source_only``: no wheels.
    """

    request: Request
    wheels: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()
    torch: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    source_only: bool = False


class Kit(msgspec.Struct, frozen=True, kw_only=True):
    """A kit that was written: where, its size in bytes, its SHA-256, and what it holds."""

    file: str
    size: int
    sha256: str
    manifest: Manifest


def make_kit(wanted: KitRequest, output: Path | None) -> Kit:
    """Write a kit; ``output`` is a file, a folder, or None for a file in the working folder.

    Raises :class:`NoWheelError`: no wheel at hand is what was asked for; :class:`VerificationError`: one that is named
    failed a verification; :class:`UsageError`; :class:`KitError`; what fetching the source and packages raises.
    """
    if manifests_dir() != shipped_manifests():
        raise UsageError(
            "SAGEFIX_MANIFESTS names manifests of your own, and the sagefix of a kit has those that it comes with.",
            hint="Unset it, or add your pin to sagefix's manifests.",
        )
    if wanted.source_only and (wanted.wheels or wanted.pythons or wanted.torch or wanted.archs):
        raise UsageError(
            "--source-only takes no wheels along: leave --wheel, --python, --torch and --arch out."
        )
    request = wanted.request
    pin = load_pin(request.pin)
    revision, _ = find_revision(pin, request)
    file = _file(output, f"{pin.name}-{revision.commit[:7]}{_EXTENSION}")
    wheelhouse = open_wheelhouse(request.wheelhouse, create=False)
    chosen = [] if wanted.source_only else _choose(wanted, pin, revision, wheelhouse)
    hosts = _hosts(wanted, chosen)
    with work_folder("make the kit") as folder:
        bundle = folder / f"{pin.name}.bundle"
        write_bundle(
            pin, revision.commit, revision.tree, bundle, origin=request.source, offline=request.offline
        )
        programs = fetch_programs(hosts, folder / PROGRAMS)
        manifest = Manifest(
            sagefix=__version__,
            pin=pin.name,
            project=pin.project,
            commit=revision.commit,
            tree=revision.tree,
            ref=request.ref or "",
            wheels=tuple(sorted(facts.filename for facts in chosen)),
            source=f"{SOURCE}/{bundle.name}",
            hosts=hosts,
            files=(),
        )
        packed = [
            *start(manifest),
            *wheels(wheelhouse, chosen),
            Packed(
                path=manifest.source,
                kind="source",
                what=f"the source of {revision.commit[:7]}",
                content=bundle,
            ),
            *(
                Packed(path=f"{PROGRAMS}/{path.name}", kind="sagefix", what=program(path.name), content=path)
                for path in programs
            ),
        ]
        with task(f"Writing {file.name}") as running:
            whole = write_kit(file, manifest, packed, running)
    return Kit(file=str(file), size=file.stat().st_size, sha256=sha256_file(file), manifest=whole)


def _file(output: Path | None, name: str) -> Path:
    """Return where the kit goes; a file that is there has to be a kit."""
    file = Path.cwd() / name if output is None else output / name if output.is_dir() else output.absolute()
    if file.exists():
        try:
            read_manifest(file)
        except KitError as error:
            raise UsageError(
                f"{file} is there, and is not a kit.", hint="Name another with --output."
            ) from error
    return file


def _choose(wanted: KitRequest, pin: Pin, revision: Revision, wheelhouse: Wheelhouse) -> list[Facts]:
    """Return the wheels to take along, each intact and none of them known to fail."""
    entries = wheelhouse.entries(pin.project)
    if wanted.wheels:
        chosen = [_named(name, entries, wheelhouse) for name in dict.fromkeys(wanted.wheels)]
        for facts in chosen:
            if bad := failed_somewhere(facts.proofs):
                raise VerificationError(f"{facts.filename} failed the {bad}; a kit does not take it along.")
    else:
        chosen = [facts for facts in entries if _is_of(facts, revision) and _is_wanted(facts, wanted)]
        for facts in [facts for facts in chosen if failed_somewhere(facts.proofs)]:
            warn(f"{facts.filename} failed the {failed_somewhere(facts.proofs)}; it is left out.")
            chosen.remove(facts)
    if not chosen:
        there = ", ".join(facts.filename for facts in entries[:5]) or "none of this project"
        raise NoWheelError(
            f"No wheel in {wheelhouse.path} is one of {pin.project} at {revision.commit[:7]} as it is asked for. "
            f"There: {there}.",
            hint="Build it with `sagefix build` or `sagefix prebuild`, or take the source alone with --source-only.",
        )
    for facts in chosen:
        wheelhouse.require_intact(facts)
    return sorted(chosen, key=lambda facts: facts.filename)


def _named(name: str, entries: Sequence[Facts], wheelhouse: Wheelhouse) -> Facts:
    filename = Path(name).name
    found = next((facts for facts in entries if facts.filename == filename), None)
    if found is None:
        raise NoWheelError(
            f"{filename} is not in {wheelhouse.path}.",
            hint="`sagefix wheelhouse list` prints what is; `sagefix wheelhouse add` takes a file in.",
        )
    return found


def _is_of(facts: Facts, revision: Revision) -> bool:
    told = (facts.record.commit if facts.record is not None else "") or facts.label.commit
    return bool(told) and commit_matches(told, revision.commit)


def _is_wanted(facts: Facts, wanted: KitRequest) -> bool:
    pythons = {tag.replace(".", "") for tag in wanted.pythons}
    has = {tag.split("-")[0].removeprefix("cp") for tag in facts.tags}
    torch = ((facts.record.torch if facts.record is not None else "") or facts.label.torch).partition("+")[0]
    minor = ".".join(torch.split(".")[:2])
    archs = [sort_archs(parse_archs(text)) for text in wanted.archs]
    return (
        (not pythons or bool(pythons & has))
        and (not wanted.torch or minor in {".".join(each.split(".")[:2]) for each in wanted.torch})
        and (not archs or any(set(each) <= set(archs_of(facts)) for each in archs))
    )


def _hosts(wanted: KitRequest, chosen: Sequence[Facts]) -> tuple[Host, ...]:
    """Return where sagefix will run: what was asked for, else where the wheels will be."""
    own = here()
    tags = [tag.split("-") for facts in chosen for tag in facts.tags]
    told = {f"3.{python.removeprefix('cp3')}" for python, _, _ in tags if python.startswith("cp3")}
    pythons = wanted.hosts or tuple(told) or (own.python,)
    machines = wanted.machines or tuple(
        {
            machine
            for *_, machine_tag in tags
            for machine in ("x86_64", "aarch64")
            if machine_tag.endswith(machine)
        }
    )
    made = []
    for python in pythons:
        try:
            number = tuple(int(part) for part in python.split("."))
        except ValueError as error:
            raise UsageError(
                f"--host-python {python} is not a version.", hint="Write for example 3.12."
            ) from error
        if len(number) != 2:
            raise UsageError(
                f"--host-python {python} is not a minor version.", hint="Write for example 3.12."
            )
        if number < OLDEST:
            if wanted.hosts:
                raise UsageError(f"--host-python {python}: sagefix itself needs Python 3.10 or newer.")
            note(f"sagefix itself does not run on Python {python}: the machine needs a newer one beside it.")
            continue
        made += [(number, Host(python=python, machine=machine)) for machine in machines or (own.machine,)]
    if not made:
        made = [((0, 0), Host(python=own.python, machine=machine)) for machine in machines or (own.machine,)]
    return tuple(host for _, host in sorted(made, key=lambda each: (each[0], each[1].machine)))
