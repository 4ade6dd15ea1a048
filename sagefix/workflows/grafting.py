"""Wheels of many commits with few compilations: compiled modules are taken over where the native sources are equal.

What is equal is not assumed. The build files of each commit are run up to ``setup()``, in the target and for its
archs, and say what they would compile and how (:mod:`sagefix.guest.describe`). Equal extensions, equal sources and
an equal plan make equal modules. All else of a grafted wheel is made by the commit's own build files.

A grafted wheel is for trying out a commit. It is not what the commit builds by itself, its record says so, and no
wheelhouse takes it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from sagefix.building.backend import Workplace, build_environment, run_backend
from sagefix.building.plan import SHIM, Plan
from sagefix.files import disk_errors, make_cache_dir, remove_tree, sha256_bytes
from sagefix.pins.model import Pin
from sagefix.progress import task
from sagefix.settings import cache_dir
from sagefix.source.export import commit_time, export
from sagefix.source.lines import Change
from sagefix.source.model import Fetched, File
from sagefix.targets.cuda import Toolkit
from sagefix.targets.guests import GUEST, ask
from sagefix.targets.host import Jobs
from sagefix.wheels.archive import facts
from sagefix.wheels.elf import read_extensions
from sagefix.wheels.finish import finish_wheel
from sagefix.wheels.sbom import make_sbom, sbom_name
from sagefix.wheels.zips import open_zip
from sagefix.workflows.recording import Build, hash_sources, make_record, now
from sagefix.workflows.situation import Situation

_ONE_JOB = Jobs(count=1, limited_by="a graft")
_DESCRIBE_S = 600.0
# Build files may read them, too, and then hand nvcc a second time what it has found by itself. The user's are part of
# the plan. https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/#nvcc-environment-variables
_READ_BY_NVCC = ("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS")
_FOR_PEOPLE = ("README", "LICENSE", "CHANGELOG")
_BACKENDS = ("setuptools.build_meta", "setuptools.build_meta:__legacy__")
_CODE = (
    ".c",
    ".cc",
    ".cpp",
    ".cxx",
    ".cu",
    ".cuh",
    ".h",
    ".hh",
    ".hpp",
    ".inl",
    ".inc",
    ".pyx",
    ".pxd",
    ".S",
    ".s",
)


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What build files gave to ``setup()``: extensions, commands of their own, and what chooses the wheel's files.

    ``declared`` is what pyproject.toml and setup.cfg say besides, which setuptools reads after that. ``error`` says why
    they never came that far; then nothing else is known.
    """

    extensions: tuple[dict[str, Any], ...] = ()
    commands: dict[str, str] = {}
    content: dict[str, Any] = {}
    declared: dict[str, Any] = {}
    error: str = ""


def build_files(change: Change, pin: Pin) -> str:
    """Return a name of the files that a description depends on: all but the package and what is for people."""
    files = [
        (file.path, file.blob)
        for file in change.files
        if not file.path.startswith(f"{pin.package}/") and not file.path.upper().startswith(_FOR_PEOPLE)
    ]
    return sha256_bytes(msgspec.json.encode(files))


def describe(fetched: Mapping[str, Fetched], pin: Pin, plan: Plan, folder: Path) -> dict[str, Description]:
    """Describe commits, by any name, in one process of the target that works in ``folder``, which is gone afterwards.

    The folder's name should be the same each time: what build files make of it is part of what they say. ``plan`` is
    that of any of them: it says for which archs, and with which toolkit. Raises
    :class:`~sagefix.errors.ProcessError` when the process gives no answer.
    """
    remove_tree(folder)
    with disk_errors(folder, "write the build files"):
        folder.mkdir(parents=True)
    try:
        folders = {}
        for number, (name, source) in enumerate(fetched.items()):
            folders[str(folder / str(number))] = name
            export(source, pin, folder / str(number))
        environment = build_environment(plan, _ONE_JOB, folder / "distutils.cfg", folder, 0, os.environ)
        environment["TMPDIR"] = str(folder)
        for variable in _READ_BY_NVCC:
            environment.pop(variable, None)
        # Without the shim's own changes: what differs by the plan is compared as part of the plan.
        environment["SAGEFIX_SHIM"] = msgspec.json.encode(
            {"archs": plan.identity.archs, "fake_gpus": bool(plan.identity.torch and plan.identity.archs)}
        ).decode()
        with task(f"Reading {len(folders)} states of the build files"):
            answer = ask(
                plan.python,
                SHIM.name,
                str(GUEST / "describe.py"),
                *folders,
                timeout=_DESCRIBE_S,
                env=environment,
            )
        return {name: _description(answer[path], Path(path)) for path, name in folders.items()}
    finally:
        remove_tree(folder)


def _description(answer: dict[str, Any], folder: Path) -> Description:
    if "error" in answer:
        return Description(error=str(answer["error"]))
    declared: dict[str, Any] = {}
    if (folder / "pyproject.toml").is_file():
        try:
            declared = msgspec.toml.decode((folder / "pyproject.toml").read_bytes())
        except msgspec.DecodeError as error:
            return Description(error=f"pyproject.toml: {error}")
        # Builds are not isolated, so what it requires decides nothing.
        backend = declared.pop("build-system", {}).get("build-backend", _BACKENDS[1])
        if backend not in _BACKENDS:
            return Description(error=f"the build backend {backend} is not one whose steps are known")
    if (folder / "setup.cfg").is_file():
        declared["setup.cfg"] = (folder / "setup.cfg").read_text(encoding="utf-8", errors="replace")
    return msgspec.structs.replace(msgspec.convert(answer["setup"], Description), declared=declared)


def native_key(change: Change, pin: Pin, description: Description, plan: Plan) -> str:
    """Return a name of what decides the compiled modules of a commit: equal names, equal modules."""
    named = {
        os.path.normpath(path)
        for extension in description.extensions
        for path in (*(extension.get("sources") or ()), *(extension.get("depends") or ()))
    }
    identity = plan.identity
    parts = [
        [(file.path, file.blob) for file in change.files if _is_native(file, pin, named)],
        description.extensions,
        description.commands,
        description.declared,
        # All of the plan that reaches a compiler; the rest is the name of the commit.
        [identity.archs, identity.gencodes, identity.archs_of, identity.extensions, identity.abi_tag],
        [identity.platform_tag, identity.torch, identity.nvcc, identity.host_compiler, identity.fixes],
        [identity.environment, identity.shim, identity.tools, identity.packages],
    ]
    return sha256_bytes(msgspec.json.encode(parts, order="sorted"))[:20]


def _is_native(file: File, pin: Pin, named: set[str]) -> bool:
    if file.path in named:
        return True
    # Of the root, other files are read by setup.py, if at all: see its description.
    elsewhere = "/" in file.path and not file.path.startswith(f"{pin.package}/")
    return elsewhere or file.path.endswith(_CODE)


def content_key(change: Change, pin: Pin, description: Description, native: str) -> str:
    """Return a name of all files that a commit's wheel installs, its metadata left out."""
    files = [(file.path, file.blob) for file in change.below(pin.package)]
    # MANIFEST.in chooses files of the wheel only where package data is included by it.
    chooses = description.declared or description.content.get("include_package_data")
    manifest = change.blob_of("MANIFEST.in") if chooses else ""
    parts = [files, description.content, description.declared, manifest, native]
    return sha256_bytes(msgspec.json.encode(parts, order="sorted"))[:20]


def key_by_itself(change: Change) -> str:
    """Return a name of all files of a commit that no description stands for."""
    return sha256_bytes(msgspec.json.encode([(file.path, file.blob) for file in change.files]))[:20]


def graft(
    situation: Situation, plan: Plan, toolkit: Toolkit | None, fetched: Fetched, donor: Path, folder: Path
) -> Path:
    """Make the wheel of a commit with the compiled modules of ``donor``, a wheel with the same native key.

    It is written into ``folder``, which is no wheelhouse. Raises :class:`~sagefix.errors.BuildError` when the build
    files fail, and :class:`~sagefix.errors.WheelError`.
    """
    started = now()
    pin = situation.pin
    with Workplace(plan, place=f"graft-{plan.key}") as workplace:
        workplace.clear()
        export(fetched, pin, workplace.root / "src")
        sources = hash_sources(workplace.root / "src")
        modules, commit = _unpack(donor, workplace.root / "donor")
        log = make_cache_dir(cache_dir() / "logs") / f"graft-{Path(plan.wheel).stem}-{plan.key}.log"
        variables = {**os.environ, "SAGEFIX_GRAFT": msgspec.json.encode(modules).decode()}
        epoch = commit_time(fetched)
        built = run_backend(
            plan,
            workplace,
            _ONE_JOB,
            log,
            source_date_epoch=epoch,
            environment=variables,
            wrapper=GUEST / "graft.py",
        )
        build = Build(
            situation=situation,
            plan=plan,
            toolkit=toolkit,
            built=built,
            fetched=fetched,
            sources=sources,
            root=workplace.root,
            epoch=epoch,
            started=started,
        )
        extensions = read_extensions(built.wheel)
        record = msgspec.structs.replace(
            make_record(build, extensions, plan.identity.platform_tag),
            origin="grafted",
            key=f"grafted-{plan.key}",
            extra={
                "modules_of": commit,
                "purpose": "bisect: its compiled modules were built at another commit",
            },
        )
        final = finish_wheel(
            built.wheel,
            folder,
            record=record,
            requires=plan.requires,
            epoch=epoch,
            notes={sbom_name(record): make_sbom(record, extensions, license=pin.license)},
        )
        workplace.sweep()
    return final


def _unpack(donor: Path, folder: Path) -> tuple[dict[str, str], str]:
    """Write the compiled modules of a wheel into a folder; return their files by import name, and the commit."""
    modules = {}
    with open_zip(donor) as archive:
        for extension in read_extensions(donor):
            if extension.module:
                modules[extension.module] = archive.extract(extension.path, folder)
    record = facts(donor).record
    return modules, record.commit if record else ""
