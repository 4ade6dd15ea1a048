"""Run the benchmarks: ``python benchmarks/run.py [--only NAME ...]``. See README.md for what is compared."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

if __package__ in (None, ""):  # called as a file: its folder is on the path, and the packages stand above it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.build import compare_build
from benchmarks.cells import compare_cells
from benchmarks.crossing import compare_cross
from benchmarks.fetch import compare_fetch
from benchmarks.install import compare_install
from benchmarks.machine import describe
from benchmarks.measure import CommandError, NotHereError, Part
from benchmarks.objects import compare_objects
from benchmarks.report import as_json, markdown
from benchmarks.startup import compare_help
from benchmarks.surroundings import Asked

NAMES = ("help", "install-pip", "install-uv", "build", "fetch", "objects", "cells", "cross")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description="sagefix beside pip, uv and git, as ratios.")
    made.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"of: {', '.join(NAMES)}")
    made.add_argument("--runs", type=_positive, default=10, help="of each way, after one that does not count")
    made.add_argument("--build-runs", type=_positive, default=1, help="builds of each way (minutes each)")
    made.add_argument("--wheel", type=Path, help="install this wheel instead of the demo's; needs --python")
    made.add_argument("--python", type=Path, help="the Python that has the torch for --wheel or build")
    made.add_argument("--source", help="repository or URL of the pin's source, for build and fetch")
    made.add_argument("--arch", help="compute capability for build and objects, such as 9.0; two for cells")
    made.add_argument("--cuda", default="auto", help="toolkit for objects and cells, as for sagefix build")
    made.add_argument("--max-memory", help="limit for cells, as for sagefix prebuild")
    made.add_argument("--python-version", default=".".join(map(str, sys.version_info[:2])), help="for cross")
    made.add_argument("--torch", help="version of torch for cross")
    made.add_argument("--platform", help="platform for cross (default: the other one that is known)")
    made.add_argument("--cache", type=Path, help="cache of sagefix's with environments for cross (5 GB each)")
    made.add_argument("--pin", default="sageattention", help="pin for build and fetch")
    made.add_argument("--ref", help="another commit of the pin")
    made.add_argument("--json", action="store_true", help="print JSON instead of a table")
    made.add_argument("--output", type=Path, metavar="FILE", help="also write the JSON into a file")
    made.add_argument("--strict", action="store_true", help="exit with 1 when a target was missed")
    return made


def measure(asked: Asked, only: Sequence[str] = NAMES) -> list[Part]:
    """Make the comparisons that were asked for; one that fails or is not possible is told, not fatal."""
    against = [name.removeprefix("install-") for name in only if name.startswith("install-")]
    todo: list[tuple[str, Callable[[], Part]]] = []
    if "help" in only:
        todo.append(("help", lambda: compare_help(asked)))
    if against:
        todo.append(("install", lambda: compare_install(asked, against)))
    if "build" in only:
        todo.append(("build", lambda: compare_build(asked)))
    if "fetch" in only:
        todo.append(("fetch", lambda: compare_fetch(asked)))
    if "objects" in only:
        todo.append(("objects", lambda: compare_objects(asked)))
    if "cells" in only:
        todo.append(("cells", lambda: compare_cells(asked)))
    if "cross" in only:
        todo.append(("cross", lambda: compare_cross(asked)))
    parts = []
    for name, compare in todo:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            parts.append(compare())
        except NotHereError as reason:
            parts.append(Part(name=name, skipped=str(reason)))
        except CommandError as reason:
            parts.append(Part(name=name, skipped=f"It failed: {reason}", failed=True))
    return parts


def status(parts: Sequence[Part], *, strict: bool) -> int:
    """Return the exit status: 1 when something failed, or with ``strict`` when a target was missed."""
    if any(part.failed for part in parts):
        return 1
    return int(strict and any(not row.met for part in parts for row in part.rows))


def main(words: Sequence[str] | None = None) -> int:
    """Run what the command line says."""
    given = parser().parse_args(words)
    machine = describe()
    with tempfile.TemporaryDirectory(prefix="sagefix-bench-") as scratch:
        asked = Asked(
            scratch=Path(scratch),
            runs=given.runs,
            build_runs=given.build_runs,
            pin=given.pin,
            ref=given.ref,
            wheel=given.wheel and given.wheel.absolute(),
            # Not resolved: the link is what tells a virtual environment.
            python=given.python and given.python.absolute(),
            source=given.source,
            arch=given.arch,
            cuda=given.cuda,
            max_memory=given.max_memory,
            python_version=given.python_version,
            torch=given.torch,
            platform=given.platform,
            cache=given.cache and given.cache.absolute(),
        )
        parts = measure(asked, given.only or NAMES)
    document = as_json(machine, parts)
    print(document if given.json else markdown(machine, parts), end="")
    if given.output:
        given.output.write_text(document, encoding="utf-8")
    return status(parts, strict=given.strict)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
