"""Programs of the user, read for what makes SageAttention wrong however good its wheel is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from sagefix.checks import Check
from sagefix.pins.model import Pin
from sagefix.proof.faults import Finding
from sagefix.proof.replacing import NAME, find_replacements
from sagefix.targets.model import Interpreter

_LARGEST = 4_000_000
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_SOURCE = (
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html"
)
_FIX = (
    "Call `sagefix.attention.enable()` in its place, which sends masked calls to torch (`sagefix attention install`, "
    "docs/attention.md), or hand calls with a mask or dropout to torch yourself."
)
_TOLD = 10


def check_programs(paths: Iterable[Path], pin: Pin) -> list[Check]:
    """Read programs, files or whole folders, for attention that is replaced outright; one check for each path.

    Nothing of them is run or imported.
    """
    checks = []
    for path in paths:
        name = f"program {path}"
        if not path.exists():
            checks.append(
                Check(
                    name=name,
                    status="failure",
                    found="There is no such file or folder.",
                    fix="Check the path.",
                )
            )
            continue
        files = [path] if path.is_file() else sorted(_python_files(path))
        found = [(file, each) for file in files for each in _findings(file, pin.package)]
        read = f"{len(files)} Python file{'s' * (len(files) != 1)} read"
        ok = Check(name=name, status="ok", found=f"{read}: nothing replaces torch's attention outright.")
        checks.append(_hazard(name, found, path) if found else ok)
    return checks


def check_customizations(interpreter: Interpreter, pin: Pin) -> list[Check]:
    """Look at what every program of a target runs first: ``sitecustomize``, ``usercustomize`` and ``.pth`` files.

    https://docs.python.org/3/library/site.html. No check, where there is nothing to tell.
    """
    found = []
    for folder in map(Path, dict.fromkeys(interpreter.sys_path)):
        for file in (folder / "sitecustomize.py", folder / "usercustomize.py", *sorted(folder.glob("*.pth"))):
            found += [(file, each) for each in _findings(file, pin.package)]
    return [_hazard("start of Python", found, None)] if found else []


def _hazard(name: str, found: list[tuple[Path, Finding]], below: Path | None) -> Check:
    said = []
    for file, each in found[:_TOLD]:
        shown = file.relative_to(below) if below is not None and below.is_dir() else file
        said.append(f"{shown}:{each.line}: {each.text}.")
    if len(found) > _TOLD:
        said.append(f"And {len(found) - _TOLD} more.")
    return Check(
        name=name, status="warning", found="A hazard: " + " ".join(said), fix=_FIX, sources=(_SOURCE,)
    )


def _python_files(folder: Path) -> Iterator[Path]:
    """Yield the Python files of a program, without those of environments and packages in it."""
    for where, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if name not in _SKIPPED
            and not name.startswith(".")
            and not Path(where, name, "pyvenv.cfg").is_file()
        ]
        yield from (Path(where, name) for name in files if name.endswith(".py"))


def _findings(file: Path, package: str) -> list[Finding]:
    """Read one file; one that cannot be read has no findings."""
    try:
        if file.stat().st_size > _LARGEST:
            return []
        source = file.read_bytes()
    except OSError:
        return []
    if NAME.encode() not in source or package.encode() not in source:
        return []
    if file.suffix != ".pth":
        return find_replacements(source, package)
    # Of such a file Python runs the lines that import.
    lines = [line if line.startswith((b"import ", b"import\t")) else b"" for line in source.splitlines()]
    return find_replacements(b"\n".join(lines), package)
