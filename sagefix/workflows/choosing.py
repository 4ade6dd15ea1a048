"""Which wheel a machine would take that is not here, why none of the others, and how it would be built."""

from __future__ import annotations

import platform as host
from typing import NamedTuple

import msgspec

from sagefix.archs import Arch, join_archs
from sagefix.errors import GpuError, NoWheelError, UsageError
from sagefix.pins.load import load_pin
from sagefix.pins.matrix import load_matrix
from sagefix.pins.model import Pin, Revision
from sagefix.process import quote
from sagefix.targets.choice import choose_archs
from sagefix.targets.cross.expected import ExpectedTorch, expected_interpreter, expected_torch
from sagefix.targets.cross.platforms import Platform, platform_named
from sagefix.targets.model import Gpus, Target
from sagefix.targets.pythons import is_version
from sagefix.wheelhouse.model import Decision
from sagefix.wheels.model import Facts
from sagefix.workflows.candidates import best, decide
from sagefix.workflows.matrix import Choice, cells
from sagefix.workflows.situation import Request, Situation, find_revision, open_wheelhouse


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What a described target would take.

    ``torch`` and ``cuda`` are empty for a pin that needs no torch; ``torch_told_by`` says where they were read.
    ``wheel`` is None when nothing fits. ``build`` is the command that would build it, empty when it cannot be built:
    then ``cannot_build`` says why.
    """

    project: str
    commit: str
    platform: str
    glibc: str
    python: str
    torch: str
    cuda: str
    torch_told_by: str
    archs: tuple[str, ...]
    wheel: Facts | None
    decisions: tuple[Decision, ...]
    build: str
    cannot_build: str = ""


def choose(request: Request, cuda: str = "", *, require_proof: bool = False) -> Chosen:
    """Judge every wheel at hand for the target that ``request`` describes: ``platform`` (default: this machine's),
    ``python``, ``torch`` and ``arch``; ``cuda`` is that of its torch, where it is not the one on the index.

    Raises :class:`UsageError` and :class:`GpuError` when too little is said of the target,
    :class:`~sagefix.errors.TorchError` when there is no such torch or nobody can say which CUDA it has, and what
    finding the commit, the wheelhouse or an index raises.
    """
    pin = load_pin(request.pin)
    platform = _platform(request.platform)
    python = _python(request)
    torch = _torch(pin, platform, python, request, cuda)
    revision, fetched = find_revision(pin, request)
    archs, archs_from = choose_archs(
        pin, pin.recipe_named(revision.recipe), request.arch, lambda: _no_gpu_to_ask(platform)
    )
    interpreter = expected_interpreter(
        platform.machine, python, glibc=platform.glibc, torch=torch.torch if torch else None
    )
    situation = Situation(
        pin=pin,
        revision=revision,
        target=Target(interpreter=interpreter, archs=archs, archs_from=archs_from),
        fetched=fetched,
        fixes=request.fixes,
        offline=request.offline,
    )
    wheelhouse = open_wheelhouse(request.wheelhouse, create=False)
    decisions = decide(situation, request, wheelhouse, require_proof=require_proof)
    taken = best(decisions)
    built = _build(_Wanted(pin, revision, platform, python, torch, archs), request)
    return Chosen(
        project=pin.project,
        commit=revision.commit,
        platform=platform.name,
        glibc=platform.glibc,
        python=python,
        torch=torch.torch.version if torch else "",
        cuda=torch.torch.cuda if torch else "",
        torch_told_by=torch.told_by if torch else "",
        archs=tuple(str(arch) for arch in archs),
        wheel=taken.facts if taken else None,
        decisions=decisions,
        build=built.command,
        cannot_build=built.cannot,
    )


def nothing_fits(chosen: Chosen) -> NoWheelError:
    """Return the error that none of the wheels at hand fits, with how to come by one."""
    wanted = f"{chosen.platform} with Python {chosen.python}" + (
        f" and torch {chosen.torch}" if chosen.torch else ""
    )
    count = len(chosen.decisions)
    return NoWheelError(
        f"None of {count} wheels of {chosen.project} at hand fits {wanted}."
        if count
        else f"There is no wheel of {chosen.project} at hand.",
        hint=f"To build it: {chosen.build}"
        if chosen.build
        else f"It cannot be built: {chosen.cannot_build}.",
    )


def _platform(text: str | None) -> Platform:
    """Return the platform that was named; without one this machine's, with its own glibc."""
    if text is not None:
        return platform_named(text)
    here = platform_named(f"linux_{host.machine()}")
    _, glibc = host.libc_ver()
    return msgspec.structs.replace(here, glibc=glibc or here.glibc)


def _python(request: Request) -> str:
    if request.python and is_version(request.python):
        return request.python
    if not request.python:
        raise UsageError("Nobody said which Python the target has.", hint="Write for example --python 3.12.")
    raise UsageError(
        f"--python {request.python} is no version, and the target is described by one.",
        hint=f"Write for example 3.12. For a Python that is here: sagefix install --dry-run --python {request.python}",
    )


def _torch(pin: Pin, platform: Platform, python: str, request: Request, cuda: str) -> ExpectedTorch | None:
    if request.torch:
        return expected_torch(platform, python, request.torch, cuda, offline=request.offline)
    if pin.build.torch:
        raise UsageError(
            f"{pin.name} is built against torch, and nobody said which one the target has.",
            hint="Write for example --torch 2.11.",
        )
    return None


def _no_gpu_to_ask(platform: Platform) -> Gpus:
    raise GpuError(
        f"The GPU of a described target ({platform.name}) cannot be asked.",
        hint="Say its compute capability (https://developer.nvidia.com/cuda-gpus): --arch 9.0 for GH200, H200, H100.",
    )


class _Wanted(NamedTuple):
    pin: Pin
    revision: Revision
    platform: Platform
    python: str
    torch: ExpectedTorch | None
    archs: tuple[Arch, ...]


class _Build(NamedTuple):
    """The command that builds what is wanted, or why there is none."""

    command: str
    cannot: str = ""


def _build(wanted: _Wanted, request: Request) -> _Build:
    if cannot := _why_not(wanted, request):
        return _Build("", cannot)
    words = ["sagefix", "build", *(["--pin", wanted.pin.name] if wanted.pin.name != "sageattention" else [])]
    words += [] if wanted.platform.here else ["--platform", request.platform or wanted.platform.name]
    words += ["--python", wanted.python]
    words += (
        ["--torch", (request.torch or "").partition("+")[0]]
        if wanted.torch and wanted.pin.build.torch
        else []
    )
    words += ["--arch", join_archs(wanted.archs)] if wanted.archs else []
    words += ["--ref", request.ref] if request.ref else []
    words += [] if request.fixes else ["--no-fixes"]
    words += ["--allow-known-bad"] if request.allow_known_bad else []
    words += ["--wheelhouse", request.wheelhouse] if request.wheelhouse else []
    return _Build(quote(words))


def _why_not(wanted: _Wanted, request: Request) -> str:
    """Return why the wheel cannot be built, as far as the matrix knows; it says nothing of what it does not know."""
    matrix, torch = load_matrix(), wanted.torch.torch if wanted.torch and wanted.pin.build.torch else None
    row = matrix.torch_of(torch.release) if torch else None
    if matrix.platform_of(wanted.platform.machine) is None or (torch and row is None):
        return ""
    has = row.cuda.get(wanted.platform.machine, "") if row else ""
    if torch and torch.cuda and has and torch.cuda.partition(".")[0] != has.partition(".")[0]:
        return (
            f"torch {torch.release} is on PyPI with CUDA {has} for {wanted.platform.machine}, not with {torch.cuda}, "
            "and that is what a build from packages links"
        )
    choice = Choice(
        pythons=(".".join(wanted.python.split(".")[:2]),),
        torch=(torch.release,) if torch else (),
        platforms=(wanted.platform.machine,),
        archs=(join_archs(wanted.archs),) if wanted.archs else (),
        allow_known_bad=request.allow_known_bad,
    )
    cell = next(iter(cells(matrix, wanted.pin, wanted.revision, choice)), None)
    return cell.reason.rstrip(".") if cell is not None and cell.status == "impossible" else ""
