"""Shared libraries on this machine: where they are found, and whether they define a symbol.

libtorch defines more than 100,000 symbols, so they are looked up through the hash table that the dynamic
loader uses itself, and never listed.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from sagefix.errors import ProcessError
from sagefix.process import run


class Library(msgspec.Struct, kw_only=True, eq=False):
    """An open library.

    ``needed`` and ``rpath`` as its ELF file has them, ``$ORIGIN`` replaced by its folder.
    """

    path: Path
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    tables: tuple[Any, ...]

    def defines(self, symbol: str) -> bool:
        """Tell whether the library offers a symbol to others."""
        for table in self.tables:
            found = table.get_symbol(symbol)
            if found is not None and found["st_shndx"] != "SHN_UNDEF":
                return True
        return False


class LibraryFinder:
    """Finds and opens libraries for one machine (``x86_64``); a context manager that closes them.

    ``folders`` are searched first, then the asking library's own search path, then the system as its loader
    does (``LD_LIBRARY_PATH``, its cache, standard folders). Files for another machine are passed over, as
    ld.so does.
    """

    def __init__(self, machine: str, folders: tuple[Path, ...]) -> None:
        self.machine = machine
        self.folders = folders
        self._open_files = ExitStack()
        self._by_path: dict[Path, Library | None] = {}
        self._by_name: dict[str, Library] = {}

    def __enter__(self) -> LibraryFinder:
        return self

    def __exit__(self, *reason: object) -> None:
        self._open_files.close()

    def find(self, name: str, *, asked_by: Library | None = None) -> Library | None:
        """Return the library that a NEEDED entry names, or None when it is not on this machine."""
        # The loader, too, keeps one library per name: the first that was found serves everybody.
        if name not in self._by_name:
            rpath = tuple(Path(entry) for entry in asked_by.rpath) if asked_by else ()
            candidates = [folder / name for folder in (*self.folders, *rpath, *system_folders(self.machine))]
            candidates += loader_cache().get(name, ())
            for candidate in candidates:
                library = self.open(candidate)
                if library is not None:
                    self._by_name[name] = library
                    break
        return self._by_name.get(name)

    def open(self, path: Path) -> Library | None:
        """Return the library, or program, of a file; None when it is no ELF file for the machine."""
        if path not in self._by_path:
            self._by_path[path] = self._read(path) if path.is_file() else None
        return self._by_path[path]

    def _read(self, path: Path) -> Library | None:
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile

        from sagefix.wheels.elf import machine_name

        with suppress(OSError, ELFError):
            # Not `with`: symbols are looked up later, and close() ends it all.
            elf: Any = ELFFile(self._open_files.enter_context(path.open("rb")))
            if machine_name(elf) != self.machine:
                return None
            # One walk: asked by name, pyelftools reads every section twice, hash tables of megabytes among them.
            sections = {section.name: section for section in elf.iter_sections()}
            dynamic = sections.get(".dynamic")
            tags = list(dynamic.iter_tags()) if dynamic is not None else []
            # Distributions leave DT_HASH beside the GNU table or instead of it; the first that exists is
            # complete.
            tables = [sections.get(name) for name in (".gnu.hash", ".hash")]
            search = [tag.rpath for tag in tags if tag.entry.d_tag == "DT_RPATH"]
            search += [tag.runpath for tag in tags if tag.entry.d_tag == "DT_RUNPATH"]
            origin = str(path.resolve().parent)
            return Library(
                path=path,
                needed=tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"),
                rpath=tuple(
                    entry.replace("$ORIGIN", origin).replace("${ORIGIN}", origin)
                    for entries in search
                    for entry in entries.split(":")
                    if entry
                ),
                tables=tuple(table for table in tables if table is not None)[:1],
            )
        return None


def system_folders(machine: str) -> tuple[Path, ...]:
    """Return the loader's own folders for a machine, those of Debian's cross compilers included."""
    named = [Path(entry) for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":") if entry]
    triplet = f"{machine}-linux-gnu"
    fixed = [
        f"/lib/{triplet}",
        f"/usr/lib/{triplet}",
        "/lib64",
        "/usr/lib64",
        "/lib",
        "/usr/lib",
        f"/usr/{triplet}/lib",
    ]
    return (*named, *map(Path, fixed))


@cache
def loader_cache() -> dict[str, tuple[Path, ...]]:
    """Return what ``ldconfig -p`` lists: the paths behind each name, of all machines; empty without it."""
    for program in ("ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig"):
        with suppress(ProcessError):
            listing = run([program, "-p"], timeout=10).stdout
            found: dict[str, tuple[Path, ...]] = {}
            for line in listing.splitlines():
                name, arrow, path = line.strip().partition(" => ")
                if arrow:
                    name = name.split(" (")[0]
                    found[name] = (*found.get(name, ()), Path(path))
            return found
    return {}
