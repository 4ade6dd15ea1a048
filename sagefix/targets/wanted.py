"""What a CUDA toolkit made of packages has to be, read off the target it is for."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec

from sagefix.errors import ToolchainError
from sagefix.targets.cudatable import Library, Packaged, load_cuda_table
from sagefix.targets.headers import torch_headers
from sagefix.targets.model import Interpreter

FORMAT = 1
"""Part of every toolchain's key: raise it when what stands in the folder changes."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a toolchain from packages has to be; two targets that want the same share one.

    ``cuda`` is the version torch was built with (``13.0``), ``release`` that of the release package
    (``13.0.2`` where NVIDIA's wheels came with torch, else ``13.0.*``), ``machine`` where the compiler runs.
    ``headers`` are the target's packages whose headers are taken (name to version), ``fetched`` the extras of
    the release package whose headers are not in the target. ``libraries_for`` is the machine that extensions are for
    where it is another one: what they are linked with is that machine's.
    """

    cuda: str
    release: str
    machine: str
    headers: dict[str, str]
    fetched: tuple[str, ...]
    format: int = FORMAT
    libraries_for: str = ""


def wanted_for(interpreter: Interpreter) -> Wanted:
    """Return the toolchain that a target's torch calls for.

    Raises :class:`ToolchainError`: no torch with CUDA, or no packages for that CUDA or this machine.
    """
    torch = interpreter.torch
    if torch is None or not torch.cuda:
        raise ToolchainError(
            f"{interpreter.executable} has no torch with CUDA, which decides the version of the compiler.",
            hint="Give --python a target that has one.",
        )
    table = load_cuda_table()
    major = torch.cuda.split(".")[0]
    packaged = table.of(major)
    if packaged is None:
        refusal = table.refusal_of(major)
        raise ToolchainError(
            refusal.reason + "."
            if refusal
            else f"No packages of a compiler for CUDA {torch.cuda} are known.",
            hint=refusal.fix.format(version=torch.cuda) if refusal else "Install the toolkit itself.",
            details={"cuda": torch.cuda},
        )
    machine = platform.machine()
    for each in (machine, interpreter.machine):
        if each not in packaged.machines or os.name != "posix":
            raise ToolchainError(
                f"There are no packages of the CUDA {major} compiler for {platform.system()} on {each}.",
                hint=f"There are some for Linux on {', '.join(packaged.machines)}.",
            )
    # NVIDIA's headers are the same for every machine, so those of a described target stand in what builds for it.
    holder = interpreter.builder
    there = {
        library.package: holder.packages[library.package]
        for library in packaged.library
        if library.package in holder.packages
        and holder.packages[library.package] == interpreter.packages.get(library.package)
        and headers_of(holder, packaged, library)
    }
    needed = [packaged.library_with(header) for header in torch_headers(torch)]
    missing = [library.extra for library in needed if library and library.package not in there]
    minor = ".".join(torch.cuda.split(".")[:2])
    release = interpreter.packages.get(packaged.release, "")
    return Wanted(
        cuda=torch.cuda,
        release=release if release.startswith(f"{minor}.") else f"{minor}.*",
        machine=machine,
        headers=there,
        fetched=tuple(dict.fromkeys(missing)),
        libraries_for=interpreter.machine if interpreter.built_by is not None else "",
    )


def headers_of(interpreter: Interpreter, packaged: Packaged, library: Library) -> dict[str, Path]:
    """Return the headers of a library in the target, by their path below ``include``, as its RECORD lists
    them."""
    version = interpreter.packages.get(library.package)
    info = f"{library.package.replace('-', '_')}-{version}.dist-info"
    prefix = f"{packaged.folder}/include/"
    for entry in interpreter.sys_path:
        try:
            record = (Path(entry) / info / "RECORD").read_text(encoding="utf-8")
        except OSError:
            continue
        names = [line.split(",")[0] for line in record.splitlines() if line.startswith(prefix)]
        found = {name.removeprefix(prefix): Path(entry) / name for name in names}
        if all(path.is_file() for path in found.values()):
            return found
    return {}
