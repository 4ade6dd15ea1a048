"""What is known of a wheel: its label, its record, and what its files say."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from sagefix.targets.model import Package

RECORD_NAME = "sagefix.json"
"""The record's file name inside ``.dist-info``."""


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """The local version label, taken apart. An empty field or tuple means unknown or not applicable.

    ``68de379.fix1.cu130.torch2.11.sm90``: ``commit`` is a prefix of the full one (a ``g`` in front is
    dropped) or ``"unknown"``; ``fix`` the level of the pin's fixes (0: none); ``cuda`` ``"13.0"``; ``torch``
    ``"2.11"``; ``archs`` like ``("9.0", "12.0+PTX")``.
    """

    commit: str = ""
    fix: int = 0
    cuda: str = ""
    torch: str = ""
    archs: tuple[str, ...] = ()


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One way a compiler was called: ``program`` (``nvcc``, ``c++``), its flags, and the sources it was called for.

    Flags that name places (``-I``, ``-L``, ``-o``) are left out. ``{build}``, ``{cuda}``, ``{site-packages}`` ... stand
    for folders of the building machine.
    """

    program: str
    flags: tuple[str, ...]
    sources: tuple[str, ...] = ()


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """How one library of a wheel was made: where it stands in the wheel, how it was compiled and linked."""

    path: str
    compile: tuple[Command, ...]
    link: Command


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What a wheel was made from and with; kept in its ``.dist-info`` as JSON.

    ``origin``: ``"built"`` by sagefix, ``"saved"`` from an installation, or ``"grafted"`` for a search (compiled
    modules of another commit; no wheelhouse takes it). Facts a saved wheel does not tell stand in ``unknown``.
    ``glibc`` is the lowest version it needs, read from its extensions' symbol versions.
    ``tools`` maps a program to its version. ``environment`` holds the variables that decided the bytes.
    ``identity`` is what ``key`` is the hash of. ``sources`` maps the paths of the files that were built to their
    SHA-256, ``packages`` are the installed ones that took part, ``compiled`` says how each library was made.
    """

    schema: Literal[1] = 1
    origin: Literal["built", "saved", "grafted"]
    pin: str
    project: str
    version: str
    commit: str
    tree: str
    recipe: str
    archs: tuple[str, ...]
    extensions: tuple[str, ...]
    python_tag: str
    abi_tag: str
    platform_tag: str
    glibc: str
    torch: str
    cuda: str
    cxx11_abi: bool | None
    fixes: tuple[str, ...] = ()
    patches: tuple[str, ...] = ()
    key: str
    tools: dict[str, str]
    environment: dict[str, str]
    source_url: str
    source_date_epoch: int
    sagefix: str
    unknown: tuple[str, ...] = ()
    extra: dict[str, Any] = {}
    identity: dict[str, Any] = {}
    sources: dict[str, str] = {}
    packages: tuple[Package, ...] = ()
    compiled: tuple[Compiled, ...] = ()


class Extension(msgspec.Struct, frozen=True, kw_only=True):
    """What one compiled module's ELF file says.

    ``module`` is its import name; ``cubins`` the archs of its machine code (``"9.0a"`` keeps the suffix),
    ``ptx`` those of its PTX; ``needed`` its NEEDED entries; ``undefined`` the symbols it expects from
    elsewhere; ``glibc`` the highest ``GLIBC_`` version it asks for, ``glibcxx`` the highest ``GLIBCXX_`` one (that of
    libstdc++); ``machine`` like ``x86_64``. ``module``
    is empty for a shared library that is no module. ``exports`` are the symbols it offers to others,
    ``relocated`` those that its code uses through the loader, ``cuda`` the CUDA release that made its cubins
    (empty: they do not tell).
    """

    path: str
    module: str
    machine: str
    soname: str
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    undefined: tuple[str, ...]
    glibc: str
    cubins: tuple[str, ...]
    ptx: tuple[str, ...]
    exports: tuple[str, ...] = ()
    relocated: tuple[str, ...] = ()
    cuda: str = ""
    glibcxx: str = ""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One verification of a wheel in a line: level, outcome, when (UTC, ISO 8601), and on what.

    ``gpu`` and ``capability`` (``"9.0"``, or ``"cpu"``) name the kind of GPU that computed; both are empty when
    the outcome is about no kind: files and imports are the same for all. ``driver`` and ``torch`` are versions.
    ``hazards`` are dangers that plain use never meets. ``emulated``: an emulator ran it, so that it is about no kind of
    GPU and proves no numbers. ``verdict`` is the whole verdict as plain JSON where it is told; listings leave it out.
    """

    level: str
    passed: bool
    when: str
    verdict: dict[str, Any] = {}
    gpu: str = ""
    capability: str = ""
    driver: str = ""
    torch: str = ""
    hazards: tuple[str, ...] = ()
    emulated: bool = False


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """A wheel as a candidate: everything selection looks at. ``size`` in bytes; empty strings mean unknown.

    ``where`` is a path or URL, ``requires_torch`` the specifier of its METADATA (``==2.11.*``), ``proof`` the
    highest level of verification it passed on any kind of GPU (``""``: unproven, ``"failed:<level>"``: it failed
    one and passed nowhere). ``proofs`` tells every kind by itself, oldest first.
    """

    filename: str
    project: str
    version: str
    label: Label
    tags: tuple[str, ...]
    sha256: str
    size: int
    where: str
    requires_torch: str
    requires_python: str
    record: Record | None = None
    proof: str = ""
    proofs: tuple[Proof, ...] = ()
