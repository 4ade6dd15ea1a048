"""What a target is: the interpreter that will import the wheel, and the GPUs it will run on."""

from __future__ import annotations

import msgspec

from sagefix.archs import Arch

SLOWER = 8.0
"""How much longer an emulated Python may take for anything: importing torch took 19 s instead of 3."""


class Torch(msgspec.Struct, frozen=True, kw_only=True):
    """The torch of an interpreter, read without importing it.

    ``version`` is the full one (``2.11.0+cu130``), ``cuda`` the toolkit it was built with (``13.0``; empty
    for a CPU build), ``cxx11_abi`` whether its C++ symbols use the new string ABI (None: not known, of a torch that
    is not here), ``folder`` the package folder, ``hip`` the version of HIP for a ROCm build (empty otherwise).
    """

    version: str
    cuda: str
    cxx11_abi: bool | None
    folder: str
    hip: str = ""

    @property
    def release(self) -> str:
        """``"2.11"``: the part that decides which compiled wheels load."""
        return ".".join(self.version.split("+")[0].split(".")[:2])


class Interpreter(msgspec.Struct, frozen=True, kw_only=True):
    """A Python that was asked about itself; see ``guest/probe.py``. Or one that is not here and was described; see
    ``targets/cross``.

    ``executable`` is absolute and keeps links, since a resolved one leaves its virtual environment;
    it is empty where nothing can be run.
    ``tags`` are the wheel tags it takes, best first (PEP 425). ``glibc`` is ``"2.36"`` or empty.
    ``packages`` maps normalised distribution names to versions. ``sys_path`` are its import folders, in
    order. ``python_h`` is the path of the header (empty: not there), ``include`` the folder it belongs in,
    ``scripts`` that of programs such as ninja. ``torch_error`` says why ``torch`` is None although files of
    it are there. ``build_flags`` are the compilers and flags that this Python gives to every extension it builds.
    ``built_by`` is set for a Python of another platform, which is described and not present: the interpreter of this
    machine, of the same version and torch, whose setuptools builds for it. ``executable`` then names no file.
    ``emulator`` is what runs one of another machine (``qemu-aarch64-static 7.2.22``; empty: this machine itself), and
    ``sysroot`` the root of the file system that its C library is in (empty: this machine's).
    """

    executable: str
    version: str
    implementation: str
    machine: str
    prefix: str
    base_prefix: str
    platform_tag: str
    python_tag: str
    abi_tag: str
    tags: tuple[str, ...]
    glibc: str
    ext_suffix: str
    purelib: str
    platlib: str
    sys_path: tuple[str, ...]
    python_h: str
    externally_managed: bool
    packages: dict[str, str]
    torch: Torch | None = None
    torch_error: str = ""
    include: str = ""
    scripts: str = ""
    build_flags: dict[str, str] = {}
    built_by: Interpreter | None = None
    emulator: str = ""
    sysroot: str = ""

    @property
    def patience(self) -> float:
        """By what to multiply the time that it gets for anything."""
        return SLOWER if self.emulator else 1.0

    @property
    def builder(self) -> Interpreter:
        """The interpreter that drives a build for this one: itself, unless it is described."""
        return self.built_by or self


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """An installed distribution, identified as far as an installation tells.

    ``name`` is normalised. ``record_sha256`` is the SHA-256 of the lines that the wheel itself has in RECORD (path,
    hash, size), sorted, without what installers add: two installations of one wheel have the same, whoever
    installed them (empty: no RECORD). It is not the hash of the wheel's file, which no installer keeps;
    ``wheel_sha256`` is that, where a lock says it.
    ``license`` is what METADATA says, an SPDX expression where it is one.
    """

    name: str
    version: str
    record_sha256: str = ""
    wheel_sha256: str = ""
    license: str = ""


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU as its driver describes it. ``memory`` in bytes (0: unknown), ``driver`` empty when not asked."""

    index: int
    name: str
    capability: str
    memory: int = 0
    driver: str = ""


class Gpus(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, by whom (``driver``, ``torch``, ``nvml``, ``nvidia-smi`` or empty), and what each other way said.

    The first two speak of a process in the target. ``driver_cuda`` is the newest CUDA that the driver supports
    (``"13.0"``; empty: not asked).
    """

    gpus: tuple[Gpu, ...]
    found_by: str
    tried: tuple[str, ...]
    driver_cuda: str = ""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An interpreter with the archs a wheel for it must hold, and why those (``--arch``, ``torch`` ...)."""

    interpreter: Interpreter
    archs: tuple[Arch, ...]
    archs_from: str
    gpus: tuple[Gpu, ...] = ()
