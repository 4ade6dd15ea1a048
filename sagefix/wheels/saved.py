"""A wheel from what is installed, however it got there."""

from __future__ import annotations

import email.parser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from packaging.metadata import Metadata
from packaging.tags import parse_tag
from packaging.utils import canonicalize_name

import sagefix
from sagefix.errors import WheelError
from sagefix.pins.model import Pin
from sagefix.progress import warn
from sagefix.targets.model import Interpreter
from sagefix.wheels.archive import read_wheel
from sagefix.wheels.checking import platform_problems
from sagefix.wheels.elf import glibc_floor, is_library, read_extension, uses_cxx11_abi
from sagefix.wheels.installed import Installed, read_installed
from sagefix.wheels.label import escape_name, make_label, normal_version, parse_label, wheel_filename
from sagefix.wheels.metadata import add_requirements, set_version
from sagefix.wheels.model import RECORD_NAME, Extension, Label, Record
from sagefix.wheels.origin import Origin, base_version, find_origin
from sagefix.wheels.record import encode_record
from sagefix.wheels.writing import Content, write_wheel
from sagefix.wheels.zips import some

_EPOCH = 315532800
"""1980-01-01: an installation does not tell when it was built, and two saves of one have to be equal."""

Tags = tuple[str, str, str]


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """What was read before anything is decided; ``tags`` are those of Python, ABI and platform."""

    pin: Pin
    installed: Installed
    extensions: tuple[Extension, ...]
    tags: Tags


def wheel_from_installed(pin: Pin, interpreter: Interpreter, destination: Path) -> Path:
    """Write a wheel of the installed ``pin.project`` into the folder ``destination`` and return its path.

    Files are checked against RECORD first. A wheel of sagefix comes out as it went in, byte for byte. Any
    other gets a label with what its files tell (:mod:`~sagefix.wheels.origin`), in place of the one it had,
    and a record with ``origin="saved"`` that names what stays unknown. Raises :class:`WheelError` (see
    :func:`~sagefix.wheels.installed.read_installed`) and :class:`~sagefix.errors.DiskError`.
    """
    installed = read_installed(pin.project, pin.package, interpreter.sys_path)
    if installed.unlisted:
        warn(f"Left out, because RECORD does not list them: {some(installed.unlisted)}.")
    extensions = tuple(
        read_extension(path.read_bytes(), name)
        for name, path in sorted(installed.files.items())
        if is_library(name)
    )
    tags = _tags(installed, extensions, interpreter)
    record = installed.record
    if record is not None and canonicalize_name(record.project) == canonicalize_name(pin.project):
        saved = _as_it_was(installed, record, destination)
    else:
        found = _Found(pin=pin, installed=installed, extensions=extensions, tags=tags)
        saved = _relabelled(found, interpreter, destination)
    read_wheel(saved)
    return saved


def _tags(installed: Installed, extensions: Sequence[Extension], interpreter: Interpreter) -> Tags:
    """Return Python, ABI and platform tag as WHEEL says, after comparing them with the compiled modules."""
    headers = email.parser.BytesParser().parsebytes(installed.read("WHEEL"))
    found = {tag for line in headers.get_all("Tag", []) for tag in parse_tag(str(line).strip())}
    parts = [
        ".".join(sorted({getattr(tag, part) for tag in found})) for part in ("interpreter", "abi", "platform")
    ]
    if not found or parse_tag("-".join(parts)) != found:
        raise WheelError(
            f"The WHEEL file of {installed.project} {installed.version} holds tags that no file name has: "
            f"{', '.join(sorted(map(str, found))) or 'none'}."
        )
    python_tag, abi_tag, platform_tag = parts
    problems = platform_problems(
        extensions, platform_tag, machine=interpreter.machine, ext_suffix=interpreter.ext_suffix
    )
    if problems:
        raise WheelError(
            f"{installed.project} {installed.version} does not fit this Python: {some(problems)}.",
            hint="It was copied from another machine or Python; install one that was built for this.",
        )
    return python_tag, abi_tag, platform_tag


def _as_it_was(installed: Installed, record: Record, destination: Path) -> Path:
    if normal_version(record.version) != normal_version(installed.version):
        raise WheelError(
            f"The installed {installed.project} {installed.version} carries the record of {record.version}.",
            hint="Install it again, or build a wheel with `sagefix build`.",
        )
    return write_wheel(
        destination,
        wheel_filename(
            record.project, record.version, record.python_tag, record.abi_tag, record.platform_tag
        ),
        dist_info=installed.dist_info,
        files=dict(installed.files),
        epoch=record.source_date_epoch,
    )


def _relabelled(found: _Found, interpreter: Interpreter, destination: Path) -> Path:
    pin, installed = found.pin, found.installed
    metadata = installed.read("METADATA")
    origin = find_origin(
        pin, installed, found.extensions, Metadata.from_email(metadata, validate=False), interpreter
    )
    label = Label(
        commit=origin.commit,
        fix=parse_label(installed.version).fix,
        cuda=origin.cuda,
        torch=origin.torch,
        archs=tuple(str(arch) for arch in origin.archs),
    )
    version = normal_version(f"{base_version(installed.version)}+{make_label(label)}")
    metadata = set_version(metadata, version)
    if origin.torch:
        metadata = add_requirements(metadata, [f"torch=={origin.torch}.*"])
    dist_info = f"{escape_name(pin.project)}-{version}.dist-info"
    files: dict[str, Content] = {
        _moved(name, installed.dist_info, dist_info): path for name, path in installed.files.items()
    }
    files[f"{dist_info}/METADATA"] = metadata
    files[f"{dist_info}/{RECORD_NAME}"] = encode_record(_record(found, origin, version))
    filename = wheel_filename(pin.project, version, *found.tags)
    return write_wheel(destination, filename, dist_info=dist_info, files=files, epoch=_EPOCH)


def _moved(name: str, old: str, new: str) -> str:
    folder, slash, rest = name.partition("/")
    return f"{new}/{rest}" if slash and folder == old else name


def _record(found: _Found, origin: Origin, version: str) -> Record:
    pin = found.pin
    ref = pin.ref_of(origin.commit)
    abi = uses_cxx11_abi(found.extensions)
    known: dict[str, object] = {
        "commit": origin.commit,
        "tree": ref.tree if ref else "",
        "recipe": ref.recipe if ref else "",
    }
    if pin.device == "cuda":
        known |= {"cuda": origin.cuda, "archs": origin.archs}
    if pin.build.torch:
        known |= {"torch": origin.torch, "cxx11_abi": abi is not None}
    # How it was built left no trace in the files.
    untold = ("fixes", "patches", "key", "tools", "environment", "sources", "packages", "compiled")
    return Record(
        origin="saved",
        pin=pin.name,
        project=pin.project,
        version=version,
        commit=origin.commit,
        tree=ref.tree if ref else "",
        recipe=ref.recipe if ref else "",
        archs=tuple(str(arch) for arch in origin.archs),
        extensions=tuple(extension.module for extension in found.extensions if extension.module),
        python_tag=found.tags[0],
        abi_tag=found.tags[1],
        platform_tag=found.tags[2],
        glibc=glibc_floor(found.extensions),
        torch=origin.torch,
        cuda=origin.cuda,
        cxx11_abi=abi,
        key="",
        tools={},
        environment={},
        source_url=_public_url(found.installed.direct_url),
        source_date_epoch=_EPOCH,
        sagefix=sagefix.__version__,
        unknown=(*(name for name, value in known.items() if not value), *untold),
        extra={"saved_version": found.installed.version, "told_by": origin.told_by},
    )


def _public_url(direct_url: dict[str, Any]) -> str:
    """Return where an installation came from, unless that is a path on somebody's machine."""
    url = str(direct_url.get("url", ""))
    return "" if url.startswith("file:") else url
