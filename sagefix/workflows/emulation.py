"""A wheel of another architecture, verified by running that architecture's Python under an emulator."""

from __future__ import annotations

import os
import platform as host
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from packaging.utils import canonicalize_name

from sagefix.archs import parse_archs
from sagefix.checks import NUMBERS, Level
from sagefix.errors import SagefixError, UsageError
from sagefix.files import make_cache_dir, remove_tree, sha256_file
from sagefix.pins.load import load_pin
from sagefix.pins.model import Pin
from sagefix.pins.refs import resolve_ref
from sagefix.process import quote
from sagefix.progress import note, task
from sagefix.proof.model import Emulated, Verdict
from sagefix.proof.verify import verify
from sagefix.settings import cache_dir
from sagefix.targets.cross.emulated import find_emulator, make_driver_stub, make_interpreter
from sagefix.targets.cross.packages import fetch_packages, find_packages, resolve_packages
from sagefix.targets.cross.platforms import Platform, load_platforms
from sagefix.targets.cross.rootfs import forget_bytecode, make_root
from sagefix.targets.model import Target
from sagefix.targets.pythons import is_version
from sagefix.targets.stub import SONAME
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.archive import WheelArchive, validate
from sagefix.wheels.elf import read_extensions
from sagefix.wheels.model import Extension, Facts
from sagefix.wheels.unpacking import unpack
from sagefix.workflows.proofs import keep_beside, keep_proof
from sagefix.workflows.provenance import find_wheel
from sagefix.workflows.situation import Request, open_wheelhouse

# torch 2.11.0 for aarch64 with the libraries it brings: 4.3 GB unpacked, measured.
DISK_TORCH = 4_600_000_000
_EXACT = re.compile(r"cp3(\d+)-cp3\1-")
_LOADS = "that its extensions load"
_OPEN: dict[str, tuple[str, ...]] = {
    "cuda": (
        "that its kernels launch on a GPU",
        "the numbers they compute",
        "their speed",
        "what NVIDIA's driver says to it",
    ),
    "cpu": ("that a real processor computes the same", "its speed"),
}


def verify_emulated(request: Request, wheel: str, level: Level, *, skip: Collection[Level] = ()) -> Verdict:
    """Verify a wheel of another architecture here; ``wheel`` is a path, or a file name in the wheelhouse.

    It is unpacked into a folder that is thrown away, beside a Python and, where it needs torch, a torch of its
    architecture. The proof is kept beside the wheel and says that it was emulated; it counts for no kind of GPU.
    ``request.python`` counts where it is a version: the one to take for a wheel that fits several.

    Raises :class:`UsageError` for a wheel that needs no emulator, :class:`WheelError` for one that is damaged,
    :class:`ToolchainError` without an emulator, :class:`TargetError` when there is no such Python to be had,
    :class:`RemoteIndexError`, :class:`DiskError`.
    """
    pin = load_pin(request.pin)
    wheelhouse = open_wheelhouse(request.wheelhouse, create=False)
    path = find_wheel(wheel, wheelhouse)
    with task(f"Reading {path.name}"):
        archive = validate(path)
        extensions = read_extensions(path)
    platform = _platform_of(archive)
    wanted = _python_of(archive, request.python)
    _require_possible(pin, archive, level)
    revision = resolve_ref(pin, request.ref) if request.ref else None
    emulator = find_emulator(platform)
    kept = make_root(platform, wanted, offline=request.offline)
    packages = _packages(pin, archive, platform, wanted, offline=request.offline)
    with _folder() as folder:
        site = folder / "site"
        unpack(path, site)
        asking = _asks_for_driver(extensions)
        libraries = []
        if asking and level != "static":
            libraries.append(make_driver_stub(platform, packages[0] if packages else site, folder, asking))
        interpreter = make_interpreter(emulator, kept, folder, imports=(site, *packages), libraries=libraries)
        target = Target(
            interpreter=interpreter,
            archs=parse_archs(request.arch) if request.arch else (),
            archs_from="--arch",
        )
        note(f"Running Python {interpreter.version} for {platform.machine} under {emulator}.")
        try:
            verdict = verify(
                pin, target, level=level, revision=revision, wheel_sha256=sha256_file(path), skip=skip
            )
        finally:
            forget_bytecode(kept, folder)
    verdict = msgspec.structs.replace(
        verdict,
        interpreter=str(kept.program),
        emulated=Emulated(
            machine=platform.machine,
            emulator=str(emulator),
            python=f"{interpreter.version} ({kept.root.origin})",
            glibc=interpreter.glibc,
            stub=bool(libraries),
            unproven=((_LOADS,) if level == "static" else ()) + _OPEN[pin.device],
            command=_command(pin, archive),
        ),
    )
    if verdict.passed or not (request.arch or request.ref):
        _keep(wheelhouse, path, verdict, pin)
    return verdict


def _platform_of(archive: WheelArchive) -> Platform:
    """Return the platform that a wheel is for, which has to be another than this machine's."""
    tags = {tag.rsplit("-", 1)[1] for tag in archive.tags}
    platforms = load_platforms().platform
    found = [
        each
        for each in platforms
        if any(
            tag.endswith(f"linux_{each.machine}") or re.fullmatch(rf"manylinux\w+_{each.machine}", tag)
            for tag in tags
        )
    ]
    own = (
        any(each.here for each in found)
        or "any" in tags
        or any(tag.endswith(f"_{host.machine()}") for tag in tags)
    )
    if own:
        raise UsageError(
            f"{archive.path.name} needs no emulator: this machine is {host.machine()} itself.",
            hint="Install it and leave --emulate out: `sagefix install --no-build`, `sagefix verify`.",
        )
    if not found:
        raise UsageError(
            f"{archive.path.name} is for {', '.join(sorted(tags))}, which cannot be emulated here.",
            hint=f"Known are {', '.join(each.name for each in platforms)}.",
        )
    return found[0]


def _python_of(archive: WheelArchive, given: str | None) -> str:
    """Return the Python to run a wheel with (``"3.11"``): the one that its tags name."""
    named = ".".join(given.split(".")[:2]) if given is not None and is_version(given) else ""
    exact = sorted({f"3.{found[1]}" for tag in archive.tags if (found := _EXACT.match(tag))})
    if exact and named and named not in exact:
        raise UsageError(
            f"{archive.path.name} is for Python {', '.join(exact)}, not for {named}.",
            hint="Leave --python out.",
        )
    if not exact and not named:
        raise UsageError(
            f"{archive.path.name} does not name one Python, so it has to be said which.",
            hint="Write for example --python 3.11.",
        )
    return named or exact[0]


def _require_possible(pin: Pin, archive: WheelArchive, level: Level) -> None:
    if canonicalize_name(archive.project) != canonicalize_name(pin.project):
        raise UsageError(
            f"{archive.path.name} is {archive.project}, and the pin {pin.name} is {pin.project}.",
            hint="Name its pin with --pin; `sagefix pins list` prints them.",
        )
    if level in NUMBERS and pin.device == "cuda":
        raise UsageError(
            f"Level {level} computes on a GPU, and an emulator has none.",
            hint="Verify at level import here, and at this level on the machine itself.",
        )


def _packages(
    pin: Pin, archive: WheelArchive, platform: Platform, python: str, *, offline: bool
) -> tuple[Path, ...]:
    """Return the folder of what the wheel imports, for its platform: nothing, or torch with all that it needs.

    It is fetched once: the same requirements get the same folder again, without a look at the index.
    """
    requirements = _requirements(pin, archive)
    if not requirements:
        return ()
    kept = find_packages(platform, python, requirements, unpacked=())
    if kept is not None and len(kept.packages.unpacked) == len(kept.packages.closure):
        return (kept.site,)
    what = f"{requirements[0]} for {platform.machine}"
    closure = resolve_packages(platform, python, requirements, what, offline=offline)
    disk = DISK_TORCH if pin.build.torch else 0
    made = fetch_packages(
        platform, python, closure, what, requirements=requirements, disk=disk, offline=offline
    )
    return (made.site,)


def _requirements(pin: Pin, archive: WheelArchive) -> tuple[str, ...]:
    """Return what has to be there for the wheel to be imported, the very torch of its record first."""
    asked = [
        str(each)
        for each in archive.metadata.requires_dist or ()
        if each.marker is None or "extra" not in str(each.marker)
    ]
    if not pin.build.torch:
        return tuple(asked)
    record = archive.record
    torch = record.torch.partition("+")[0] if record is not None else ""
    return ("torch" + (f"=={torch}" if torch.count(".") == 2 else ""), *asked, *pin.build.import_requires)


def _asks_for_driver(extensions: Sequence[Extension]) -> str:
    """Return the first module that asks for the driver's library by name, or nothing."""
    return next((each.module or each.path for each in extensions if SONAME in each.needed), "")


@contextmanager
def _folder() -> Iterator[Path]:
    """Give a folder for one verification, and clear away those of processes that were killed.

    Not below /tmp, which may forbid to run programs.
    """
    import psutil

    above = make_cache_dir(cache_dir() / "emulating")
    for old in above.glob("verify-[0-9]*-*"):
        made_by = old.name.split("-")[1]
        if made_by.isdigit() and not psutil.pid_exists(int(made_by)):
            remove_tree(old)
    name = f"verify-{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=name, dir=above, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _command(pin: Pin, archive: WheelArchive) -> str:
    """Return the command that proves the wheel on a machine of its own, out of a wheelhouse or an index there."""
    words = ["sagefix", "install", "--no-build", "--verify", "full"]
    if pin.name != "sageattention":
        words += ["--pin", pin.name]
    record = archive.record
    if record is not None and record.commit != pin.source.commit:
        words += ["--ref", record.commit]
    if record is not None and pin.fix_level and not record.fixes:
        words.append("--no-fixes")
    return quote(words)


def _keep(wheelhouse: Wheelhouse, path: Path, verdict: Verdict, pin: Pin) -> None:
    """Keep the proof beside the wheel: in the wheelhouse if it is there, and beside a file elsewhere."""
    try:
        entries: list[Facts] = wheelhouse.entries(pin.project)
    except SagefixError:
        entries = []
    kept = next((each for each in entries if each.sha256 == verdict.wheel_sha256), None)
    if kept is not None:
        keep_proof(wheelhouse, kept, verdict, pin)
    if kept is None or not path.samefile(kept.where):
        keep_beside(path, verdict, pin)
