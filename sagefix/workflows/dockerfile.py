"""A Dockerfile for a pin: a stage that builds its wheel without a GPU, and one that runs it."""

from __future__ import annotations

import os
import re
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from sagefix import __version__
from sagefix.archs import join_archs, parse_archs
from sagefix.errors import NoWheelError, PinError, UsageError
from sagefix.files import sha256_bytes, write_text
from sagefix.pins.images import Images, load_images
from sagefix.pins.load import load_pin
from sagefix.pins.matrix import Cell, load_matrix
from sagefix.pins.model import Pin, Revision
from sagefix.pins.refs import refuse_known_bad, resolve_ref
from sagefix.settings import manifests_dir, shipped_manifests
from sagefix.targets.environments import read_spec
from sagefix.wheels.own import own_filename, write_own_wheel
from sagefix.workflows.image_wheel import copy_beside, described, travelling
from sagefix.workflows.matrix import Choice, cells

PYTHON = "3.12"
OLDEST = (3, 10)
"""The oldest Python that runs sagefix, which stands in the image."""
_TEMPLATE = "docker/Dockerfile.jinja"
_HEAD = "# Written by sagefix "
_SEAL = re.compile(r"# Written by sagefix \S+ \(sha256 of what follows: ([0-9a-f]{64})\)\.\n", re.ASCII)
# A name with a tag or a digest; nothing that could end the line: https://github.com/distribution/reference
_IMAGE = re.compile(
    r"(?P<name>[a-z0-9]+(?:[._:/-]+[a-z0-9]+)*?)(?P<tag>:[A-Za-z0-9_][\w.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?",
    re.ASCII,
)


class ImageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the image has to hold; ``archs`` are in the form of ``--arch``.

    ``python`` is a version (empty: that of ``wheel``, else 3.12). ``wheel`` is one at hand, in place of a build.
    ``newest`` is the day whose packages are the newest that the image takes (``2026-11-20``; ``""``: today,
    ``none``: any).
    """

    pin: str = "sageattention"
    ref: str | None = None
    python: str = ""
    torch: str | None = None
    archs: tuple[str, ...] = ()
    wheel: Path | None = None
    base: str | None = None
    newest: str = ""


class Dockerfile(msgspec.Struct, frozen=True, kw_only=True):
    """A Dockerfile: its text, where it was written (empty: nowhere), and the files of its build context.

    ``commit`` is what is built; ``archs``, ``torch`` and ``python`` for what. ``keeps_compiler``: why the image that
    runs has a C compiler (empty: it has none).
    """

    text: str
    file: str
    context: tuple[str, ...]
    base: str
    commit: str
    archs: tuple[str, ...]
    torch: str
    python: str
    newest: str
    keeps_compiler: str


def write_dockerfile(request: ImageRequest, output: Path | None, *, force: bool = False) -> Dockerfile:
    """Make the Dockerfile of a request; with ``output`` it is written there, and sagefix's own wheel beside it.

    Raises :class:`UsageError`: an option that cannot be, or ``output`` holds something that sagefix did not write, or
    that was changed since, and ``force`` is not given. :class:`NoWheelError`: there can be no such wheel.
    :class:`PinError`, :class:`KnownBadError`, :class:`~sagefix.errors.GpuError`, :class:`~sagefix.errors.DiskError`.
    """
    if output is not None:
        if output.is_dir():
            output = output / "Dockerfile"
        if not force:
            _require_ours(output)
    made = make_dockerfile(request)
    if output is None:
        return made
    write_own_wheel(output.parent)
    if request.wheel is not None:
        copy_beside(request.wheel, output.parent)
    write_text(output, made.text)
    return msgspec.structs.replace(made, file=str(output))


def make_dockerfile(request: ImageRequest) -> Dockerfile:
    """Return the Dockerfile of a request; nothing is written. Raises as :func:`write_dockerfile`."""
    if manifests_dir() != shipped_manifests():
        raise UsageError(
            "SAGEFIX_MANIFESTS names manifests of your own, and an image has those that sagefix comes with.",
            hint="Unset it, or add your pin to sagefix's manifests.",
        )
    pin, images = load_pin(request.pin), load_images()
    revision = _revision(pin, request.ref)
    taken: tuple[Path, ...] = ()
    if (wheel := request.wheel) is not None:
        request = described(request, wheel, pin, revision.commit)
        taken = travelling(wheel)
    context = (own_filename(), *(path.name for path in taken))
    cell = _cell(pin, revision, msgspec.structs.replace(request, python=request.python or PYTHON))
    archs = parse_archs(cell.archs) if cell.archs else ()
    refuse_known_bad(pin, revision, archs, False)
    base, has_python = _base(request.base or images.base.format(python=cell.python), cell.python)
    needs = [row for row in images.runtime if row.package in pin.build.import_requires]
    headers = any(row.headers for row in needs) and not has_python
    apt = sorted({name for row in needs for name in row.apt})
    if not has_python:
        apt = [
            "ca-certificates",
            *apt,
            f"python{cell.python}",
            *([f"libpython{cell.python}-dev"] if headers else []),
        ]
    torch = request.torch or ""
    newest = _newest(request.newest)
    text = _render(
        images,
        {
            "project": pin.project,
            "package": pin.package,
            "pin": pin.name,
            "version": revision.commit[:7],
            "ref": f" --ref {revision.commit}" if request.ref else "",
            "python": cell.python,
            "torch": torch,
            "torch_requirement": torch if torch.count(".") == 2 else f"{torch}.*",
            "archs": [str(arch) for arch in archs],
            "arch": f' --arch "{join_archs(archs)}"' if archs else "",
            "cuda": pin.device == "cuda",
            "base": base,
            "has_python": has_python,
            "own": own_filename(),
            "files": context,
            "build_apt": list(images.build.cuda if pin.device == "cuda" else images.build.cpu),
            "runtime_apt": sorted(apt),
            "reasons": [row.reason for row in needs],
            "newest": newest,
            "wheel": taken[0].name if taken else "",
            "taken": [path.name for path in taken],
        },
    )
    return Dockerfile(
        text=text,
        file="",
        context=context,
        base=base,
        commit=revision.commit,
        archs=tuple(str(arch) for arch in archs),
        torch=torch,
        python=cell.python,
        newest=newest,
        keeps_compiler="; ".join(row.reason for row in needs),
    )


def _revision(pin: Pin, ref: str | None) -> Revision:
    """Return the commit, which the pin has to list: nothing is fetched to write a text."""
    revision = resolve_ref(pin, ref)
    if revision is None or not revision.recipe:
        raise PinError(
            f"The pin {pin.name} does not list {ref}, so nobody knows here what it takes to build it.",
            hint=f"`sagefix pins show {pin.name}` prints the commits that it knows.",
        )
    return revision


def _cell(pin: Pin, revision: Revision, request: ImageRequest) -> Cell:
    """Return the wheel that is wanted, on the first platform on which there can be one."""
    spec = read_spec(request.python, request.torch, pin.build.requires)
    python = ".".join(spec.python.split(".")[:2])
    if tuple(int(part) for part in python.split(".")) < OLDEST:
        raise UsageError(
            f"--python {request.python} is too old: sagefix runs in the image as well, and needs "
            f"{OLDEST[0]}.{OLDEST[1]} or newer."
        )
    if pin.build.torch and not spec.torch:
        raise UsageError(
            f"{pin.name} is built against torch: which one?", hint="Write for example --torch 2.11."
        )
    if spec.torch and not pin.build.torch:
        raise UsageError(f"{pin.name} needs no torch.", hint="Leave --torch out.")
    if pin.device == "cuda" and not request.archs:
        raise UsageError(
            "--arch is missing: there is no GPU to ask where an image is built.",
            hint="Give the compute capability of the GPU it will run on, for example --arch 9.0.",
        )
    if pin.device == "cpu" and request.archs:
        raise UsageError(f"{pin.name} runs on the CPU.", hint="Leave --arch out.")
    choice = Choice(
        pythons=(python,),
        torch=(".".join(spec.torch.split(".")[:2]),) if spec.torch else (),
        platforms=tuple(row.name for row in load_matrix().platform),
        archs=(join_archs(parse_archs(";".join(request.archs))),) if request.archs else (),
        # What is known to be bad has an error of its own.
        allow_known_bad=True,
    )
    found = cells(load_matrix(), pin, revision, choice)
    possible = [cell for cell in found if cell.status == "possible"]
    if not possible:
        raise NoWheelError(
            f"There can be no such wheel: {found[0].reason}.",
            hint=f"`sagefix matrix --pin {pin.name}` shows what there can be.",
            details={"cells": {cell.id: cell.reason for cell in found}},
        )
    return possible[0]


def _base(image: str, python: str) -> tuple[str, bool]:
    """Return the image that the stages begin with, and whether it brings the Python (an official ``python`` image)."""
    found = _IMAGE.fullmatch(image)
    if found is None:
        raise UsageError(f"--base {image!r} is not the name of an image.")
    tag = (found["tag"] or "").removeprefix(":")
    if not (tag or found["digest"]) or (tag == "latest" and not found["digest"]):
        raise UsageError(
            f"--base {image} is another image every month.",
            hint="Give it a tag, or better a digest (NAME:TAG@sha256:...).",
        )
    if "alpine" in image:
        raise UsageError(
            f"--base {image} has musl in place of glibc, and torch has no wheels for it.",
            hint="Take an image of Debian or Ubuntu.",
        )
    has_python = found["name"].rpartition("/")[2] == "python"
    if has_python and tag and not re.match(rf"{re.escape(python)}(?![0-9])", tag):
        raise UsageError(
            f"--base {image} has another Python than {python}.",
            hint="Give --python and --base of one version.",
        )
    return image, has_python


def _newest(told: str) -> str:
    """Return the day as ``2026-11-20``; of today's packages a build at another time may find newer ones."""
    if told == "none":
        # uv knows no word for it; a day that does not come is one.
        return "2999-12-31"
    if told:
        try:
            return date.fromisoformat(told).isoformat()
        except ValueError as error:
            raise UsageError(
                f"--exclude-newer {told} is not a day.", hint="Write for example 2026-11-20, or none."
            ) from error
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.now(timezone.utc)
    return (datetime.fromtimestamp(int(epoch), timezone.utc) if epoch.isdecimal() else now).date().isoformat()


def _render(images: Images, values: dict[str, Any]) -> str:
    """Fill the template in and put a seal on it: a line that tells whether the rest is as it was written."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(shipped_manifests()),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - a Dockerfile is no HTML; every value is one of ours or was looked at
    )
    body = environment.get_template(_TEMPLATE).render(**values, uv=images.uv)
    return f"{_HEAD}{__version__} (sha256 of what follows: {sha256_bytes(body.encode())}).\n{body}"


def is_ours(text: str) -> bool:
    """Tell whether a text is one that :func:`write_dockerfile` wrote and nobody changed."""
    found = _SEAL.match(text)
    return found is not None and sha256_bytes(text[found.end() :].encode()) == found[1]


def _require_ours(path: Path) -> None:
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not is_ours(text):
        changed = text.startswith(_HEAD)
        raise UsageError(
            f"{path} {'was changed since sagefix wrote it' if changed else 'is there, and sagefix did not write it'}.",
            hint="Choose another file with --output, or replace it with --force.",
        )
