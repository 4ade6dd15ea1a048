"""The files of an installation against its RECORD.

Source: https://packaging.python.org/en/latest/specifications/recording-installed-packages/
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import msgspec

from sagefix.checks import Check
from sagefix.files import human_size
from sagefix.proof.installed import COMPILED_SUFFIXES, Installed

# What the specification allows, and what hashlib can compute without being told a length.
_HASHES = frozenset({"sha256", "sha384", "sha512"})
_BLOCK = 1 << 20
_SHOWN = 4


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between RECORD and the disk; paths as RECORD writes them.

    ``shadowing``: files in the package folder that RECORD does not list and that ``import`` would use;
    ``leftover``: compiled modules for another Python, which it would not.
    """

    listed: int
    size: int
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    shadowing: tuple[str, ...] = ()
    leftover: tuple[str, ...] = ()
    invalid: str = ""


def compare(installed: Installed, ext_suffix: str) -> Comparison | None:
    """Hash every file that RECORD lists and look for those it does not; None when there is no RECORD."""
    from installer.records import InvalidRecordEntry, RecordEntry, parse_record_file

    try:
        rows = (installed.info / "RECORD").read_text(encoding="utf-8").splitlines()
        entries = [RecordEntry.from_elements(*row) for row in parse_record_file(rows)]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, InvalidRecordEntry) as error:
        return Comparison(listed=0, size=0, invalid=str(error))
    missing, changed, size = [], [], 0
    listed = set()
    for entry in entries:
        path = installed.root / entry.path
        listed.add(path)
        if not path.is_file():
            if path.suffix != ".pyc":
                missing.append(entry.path)
            continue
        length = path.stat().st_size
        size += length
        if entry.hash_ is None:
            continue
        if entry.hash_.name not in _HASHES:
            return Comparison(
                listed=0, size=0, invalid=f"{entry.path}: {entry.hash_.name} is not allowed in RECORD"
            )
        differs = entry.size is not None and entry.size != length
        if differs or _digest(path, entry.hash_.name) != entry.hash_.value.rstrip("="):
            changed.append(entry.path)
    unlisted = [path for path in (*installed.sources(), *installed.compiled()) if path not in listed]
    return Comparison(
        listed=len(entries),
        size=size,
        missing=tuple(missing),
        changed=tuple(changed),
        shadowing=tuple(installed.relative(path) for path in unlisted if _usable(path, ext_suffix)),
        leftover=tuple(installed.relative(path) for path in unlisted if not _usable(path, ext_suffix)),
    )


def check_files(installed: Installed, ext_suffix: str, *, fix: str) -> Check:
    """Judge :func:`compare`: anything changed, missing or added that ``import`` would meet is a failure."""
    found = compare(installed, ext_suffix)
    if found is None:
        return Check(
            name="files",
            status="failure",
            found=f"{installed.info} has no RECORD, so nothing says what its files should be.",
            fix=fix,
        )
    if found.invalid:
        return Check(
            name="files", status="failure", found=f"RECORD cannot be read: {found.invalid}.", fix=fix
        )
    said = [
        f"{word}: {_list(paths)}"
        for word, paths in (
            ("changed", found.changed),
            ("missing", found.missing),
            ("not in RECORD", found.shadowing),
        )
        if paths
    ]
    if said:
        return Check(name="files", status="failure", found=_sentence("; ".join(said)), fix=fix)
    if found.leftover:
        return Check(
            name="files",
            status="warning",
            found=f"All {found.listed} files match RECORD; left over: {_list(found.leftover)}.",
            fix="Delete the files named.",
        )
    return Check(
        name="files",
        status="ok",
        found=f"All {found.listed} files ({human_size(found.size)}) match RECORD.",
    )


def _usable(path: Path, ext_suffix: str) -> bool:
    if path.suffix not in COMPILED_SUFFIXES:
        return True
    tags = path.name.partition(".")[2]
    return f".{tags}" in (ext_suffix, ".abi3.so", ".so", ".pyd")


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")


def _list(paths: tuple[str, ...]) -> str:
    more = len(paths) - _SHOWN
    return ", ".join(paths[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
