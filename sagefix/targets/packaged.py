"""The CUDA compiler from packages: fetched once, kept in the cache, fitted to the target's torch.

``<cache>/toolchains/<name>/`` holds ``packages`` (the wheels, unpacked and otherwise untouched), ``headers``
(those of libraries that torch's headers include), ``toolkit`` (the CUDA_HOME: links, and the driver's stub)
and the lock, ``sagefix.json``. Nothing in it points outside: the headers are copied from the target, which may
go away. A toolchain for another machine has that machine's runtime library as well, in ``libraries``: the compiler
is this machine's, what is linked with is the other's.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sagefix.errors import SagefixError, ToolchainError
from sagefix.files import sha256_bytes
from sagefix.progress import note
from sagefix.targets.compilers import find_host_compiler
from sagefix.targets.cross.platforms import platform_named
from sagefix.targets.cudatable import Packaged, load_cuda_table
from sagefix.targets.fetching import Elsewhere, Fetcher, Locked, find_fetcher, resolve, unpack
from sagefix.targets.kept import (
    Removed,
    made_folders,
    make_once,
    read_facts,
    remove_from,
    require_free,
    shelf,
    size_of,
)
from sagefix.targets.model import Interpreter
from sagefix.targets.overlay import make_overlay
from sagefix.targets.stub import NAME as STUB_NAME
from sagefix.targets.stub import make_stub
from sagefix.targets.toolkit import Toolkit, find_toolkit
from sagefix.targets.wanted import Wanted, headers_of

SHELF = "toolchains"
FOUND_IN = "PyPI"


class Toolchain(msgspec.Struct, frozen=True, kw_only=True):
    """The lock of a toolchain: what it is, and the packages it is made of, at exact versions with hashes.

    ``nvcc`` is the compiler's full version, ``driver_functions`` how many the stub has, ``stub_compiler`` what
    compiled it, ``made`` the time in UTC (ISO 8601).
    """

    key: str
    wanted: Wanted
    nvcc: str
    packages: tuple[Locked, ...]
    fetched_by: str
    driver_functions: int
    stub_compiler: str
    made: str


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A toolchain in the cache: its folder, its CUDA_HOME, its size in bytes."""

    name: str
    toolchain: Toolchain
    folder: str
    home: str
    size: int


def find_packaged(wanted: Wanted, env: Mapping[str, str] | None = None) -> Toolkit | None:
    """Return the toolkit in the cache that is what is wanted, or None. Uses no network."""
    fitting = [kept for kept in list_packaged(sizes=False) if kept.toolchain.wanted == wanted]
    if not fitting:
        return None
    return _toolkit(max(fitting, key=lambda kept: kept.toolchain.made), env)


def expect_packaged(wanted: Wanted, *, offline: bool) -> Toolkit:
    """Return what :func:`make_packaged` would make, without fetching it: its version, but no files
    (``nvcc`` is empty).

    Raises as :func:`make_packaged`.
    """
    packaged = _packaged(wanted)
    locked = resolve(find_fetcher(), _requirements(packaged, wanted), _what(wanted), offline=offline)
    version = _nvcc_version(packaged, locked)
    home = shelf(SHELF) / _name(wanted, _key(wanted, locked)) / "toolkit"
    return Toolkit(
        home=str(home), nvcc="", version=".".join(version.split(".")[:2]), full_version=version,
        found_in=FOUND_IN, include_folders=(), lib_folders=(), stub_folders=(),
    )  # fmt: skip


def make_packaged(
    wanted: Wanted,
    interpreter: Interpreter,
    env: Mapping[str, str] | None = None,
    *,
    offline: bool,
) -> Toolkit:
    """Return the wanted toolkit from the cache; fetch and make it when it is not there.

    Raises :class:`ToolchainError` (no such versions, no compiler for the stub), :class:`RemoteIndexError`,
    :class:`DiskError`.
    """
    if (found := find_packaged(wanted, env)) is not None:
        return found
    packaged, fetcher, what = _packaged(wanted), find_fetcher(), _what(wanted)
    # Before anything is fetched: without it the stub of the driver cannot be made, and nothing compiled.
    find_host_compiler(env)
    root = shelf(SHELF)
    require_free(root, packaged.disk_mb * 1_000_000, what[0].upper() + what[1:])
    locked = resolve(fetcher, _requirements(packaged, wanted), what, offline=offline)
    key = _key(wanted, locked)
    folder = root / _name(wanted, key)
    note(f"Fetching {what} from packages (about {packaged.download_mb} MB) into {folder}")
    maker = _Maker(wanted, packaged, interpreter, fetcher, locked, key, env, offline)
    make_once(folder, what, maker.fill)
    kept = _read(folder, sizes=False)
    assert kept is not None
    return _toolkit(kept, env)


def list_packaged(*, sizes: bool = True) -> tuple[Kept, ...]:
    """Return the toolchains in the cache, by name; ``sizes`` asks for their bytes, which takes a moment."""
    return tuple(kept for folder in made_folders(SHELF) if (kept := _read(folder, sizes=sizes)) is not None)


def remove_packaged(names: tuple[str, ...] = (), *, everything: bool = False) -> tuple[Removed, ...]:
    """Remove toolchains by name or key, or all of them with what was never finished; return what was freed.

    Raises :class:`UsageError` for one that is not there, :class:`LockError` for one in the making.
    """
    return remove_from(SHELF, names, everything=everything, what="a toolchain")


class _Maker:
    """Fills the folder of a toolchain."""

    def __init__(
        self,
        wanted: Wanted,
        packaged: Packaged,
        interpreter: Interpreter,
        fetcher: Fetcher,
        locked: tuple[Locked, ...],
        key: str,
        env: Mapping[str, str] | None,
        offline: bool,
    ) -> None:
        self.wanted, self.packaged, self.interpreter = wanted, packaged, interpreter
        self.fetcher, self.locked, self.key = fetcher, locked, key
        self.env, self.offline = env, offline

    def fill(self, folder: Path) -> Toolchain:
        what = _what(self.wanted)
        libraries = {
            library.package for library in self.packaged.library if library.extra in self.wanted.fetched
        }
        # What the fetched libraries need at run time is of no use here: only their headers are.
        others = {library.package for library in self.packaged.library} - libraries
        compiler = [each for each in self.locked if each.name not in libraries | others]
        unpack(self.fetcher, compiler, folder / "packages", what, offline=self.offline)
        self._headers(folder, [each for each in self.locked if each.name in libraries])
        toolkit = folder / "toolkit"
        packages = folder / "packages" / self.packaged.folder
        make_overlay(toolkit, packages, folder / "headers", self._libraries(folder))
        host = find_host_compiler(self.env)
        count = make_stub([toolkit / "include"], toolkit / "lib64" / "stubs" / STUB_NAME, host, self.env)
        return Toolchain(
            key=self.key,
            wanted=self.wanted,
            nvcc=_nvcc_version(self.packaged, self.locked),
            packages=tuple(each for each in self.locked if each.name not in others),
            fetched_by=self.fetcher.kind,
            driver_functions=count,
            stub_compiler=f"{host.kind} {host.version}",
            made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )

    def _libraries(self, folder: Path) -> Path | None:
        """Fetch what extensions for another machine are linked with; return its folder, None for this machine."""
        if not self.wanted.libraries_for:
            return None
        platform = platform_named(f"linux_{self.wanted.libraries_for}")
        # The runtime is in C: which Python asks for it makes no difference.
        short = ".".join(self.interpreter.version.split(".")[:2])
        elsewhere = Elsewhere(python=short, machine=platform.machine, glibc=platform.glibc)
        runtime = next(each for each in self.locked if each.name == self.packaged.runtime)
        what = f"the CUDA {self.wanted.cuda} libraries of {platform.machine}"
        # pip tells the hash of the file for this machine alone, so it is asked again.
        found = resolve(
            self.fetcher, [f"{runtime.name}=={runtime.version}"], what,
            offline=self.offline, elsewhere=elsewhere,
        )  # fmt: skip
        unpack(self.fetcher, found, folder / "libraries", what, offline=self.offline, elsewhere=elsewhere)
        return folder / "libraries" / self.packaged.folder / "lib"

    def _headers(self, folder: Path, locked: list[Locked]) -> None:
        """Gather the headers of libraries: from the target's packages, and from those that are fetched."""
        headers = folder / "headers"
        headers.mkdir()
        for library in self.packaged.library:
            if library.package in self.wanted.headers:
                for inside, path in headers_of(self.interpreter.builder, self.packaged, library).items():
                    (headers / inside).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, headers / inside)
        if locked:
            scratch = folder / "fetched"
            names = ", ".join(each.name for each in locked)
            unpack(self.fetcher, locked, scratch, f"the headers of {names}", offline=self.offline)
            shutil.copytree(scratch / self.packaged.folder / "include", headers, dirs_exist_ok=True)
            shutil.rmtree(scratch)


def _requirements(packaged: Packaged, wanted: Wanted) -> list[str]:
    extras = ",".join([*packaged.extras, *wanted.fetched])
    minor = ".".join(wanted.cuda.split(".")[:2])
    return [
        f"{packaged.release}[{extras}]=={wanted.release}",
        *(f"{package}=={minor}.*" for package in packaged.pinned),
    ]


def _packaged(wanted: Wanted) -> Packaged:
    packaged = load_cuda_table().of(wanted.cuda.split(".")[0])
    assert packaged is not None
    return packaged


def _nvcc_version(packaged: Packaged, locked: tuple[Locked, ...]) -> str:
    version = next((each.version for each in locked if each.name == packaged.compiler), "")
    if not version:
        raise ToolchainError(f"The packages that were found hold no {packaged.compiler}.")
    return version


def _what(wanted: Wanted) -> str:
    return f"the CUDA {wanted.cuda} compiler" + (
        f" for {wanted.libraries_for}" if wanted.libraries_for else ""
    )


def _key(wanted: Wanted, locked: tuple[Locked, ...]) -> str:
    return sha256_bytes(msgspec.json.encode([wanted, locked], order="sorted"))[:12]


def _name(wanted: Wanted, key: str) -> str:
    machine = f"{wanted.libraries_for}-" if wanted.libraries_for else ""
    return f"cuda-{re.sub(r'[^0-9.]', '', wanted.release).rstrip('.')}-{machine}{key}"


def _read(folder: Path, *, sizes: bool) -> Kept | None:
    toolchain = read_facts(folder, Toolchain)
    if toolchain is None:
        return None
    return Kept(
        name=folder.name,
        toolchain=toolchain,
        folder=str(folder),
        home=str(folder / "toolkit"),
        size=size_of(folder) if sizes else 0,
    )


def _toolkit(kept: Kept, env: Mapping[str, str] | None) -> Toolkit:
    try:
        found = find_toolkit(kept.home, env)
    except SagefixError as error:
        raise ToolchainError(
            f"The toolchain {kept.name} in the cache is damaged: {error.message}",
            hint=f"Run `sagefix toolchain remove {kept.name}`; it is fetched anew when it is needed.",
            details=error.details,
        ) from error
    return msgspec.structs.replace(found, found_in=FOUND_IN)
