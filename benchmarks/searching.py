"""``sagefix bisect`` with shared compilations against one build for each commit that is tested, in one run.

    python benchmarks/searching.py --good 68de379 --bad d1a57a5 --arch 9.0 --python TARGET --source BUNDLE

Both searches begin with empty caches of their own but for the CUDA toolkit, judge the same commits and have to find
the same edges. Without --source and --python the demo package's history of the tests is searched, which compiles in
a second: then the ratio says nothing but that it runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.machine import describe
from benchmarks.measure import CommandError, Part, call, values_row
from benchmarks.report import as_json, markdown
from benchmarks.surroundings import builder, environment, sagefix
from benchmarks.surroundings import given as options

TARGET = 0.25
SHARED, APART = "sagefix bisect", "sagefix bisect --no-share"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        description="Shared compilations against one build for each tested commit."
    )
    made.add_argument("--good", help="default: the demo's history")
    made.add_argument("--bad")
    made.add_argument("--level", default="numerics", choices=("import", "numerics", "full"))
    made.add_argument("--pin", default="sageattention")
    made.add_argument("--arch")
    made.add_argument("--python", type=Path)
    made.add_argument("--source")
    made.add_argument("--first-parent", action="store_true")
    made.add_argument(
        "--only", choices=("shared", "apart"), help="measure one of the two, to compare by hand"
    )
    made.add_argument("--results", type=Path, metavar="FOLDER", help="write the JSON of each search there")
    made.add_argument("--json", action="store_true")
    return made


def search(
    given: argparse.Namespace, scratch: Path, more: Sequence[str], env: dict[str, str]
) -> tuple[float, Any]:
    """Run one search; return its seconds, as a whole process, and its result."""
    words = ["bisect", "--pin", given.pin, "--good", given.good, "--bad", given.bad, "--level", given.level]
    words += options(arch=given.arch, python=given.python, source=given.source)
    words += ["--first-parent"] if given.first_parent else []
    # The second search would find the objects of the first.
    words += ["--object-cache", "off"]
    started = time.perf_counter()
    said = call(*sagefix(), *words, "--fresh", *more, "--json", env=env, cwd=scratch)
    seconds = time.perf_counter() - started
    if given.results:
        given.results.mkdir(parents=True, exist_ok=True)
        name = "apart" if "--no-share" in more else "shared"
        (given.results / f"bisect-{name}.json").write_text(said, encoding="utf-8")
    return seconds, json.loads(said)["result"]


def demo(given: argparse.Namespace, scratch: Path, env: dict[str, str]) -> None:
    """Search the history that the tests make."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from histories import make_history, write_manifest

    history = make_history(scratch / "history")
    env["SAGEFIX_MANIFESTS"] = str(write_manifest(scratch / "manifests", history))
    given.pin, given.good, given.bad = "demo", history["good"], history["last"]
    given.python = given.python or builder(scratch / "builder")


def measure(given: argparse.Namespace, scratch: Path) -> Part:
    """Run both and make the row."""
    env = environment(scratch)
    if given.good is None:
        demo(given, scratch, env)
    elif given.pin != "demo":
        # Fetching a CUDA toolkit is neither's work: the first search would pay for it.
        from sagefix.settings import cache_dir

        toolkits = cache_dir() / "toolchains"
        if toolkits.is_dir():
            (scratch / "cache").mkdir()
            (scratch / "cache" / "toolchains").symlink_to(toolkits)
    found = {}
    for name, more in ((SHARED, ()), (APART, ("--no-share",))):
        if given.only in (None, "shared" if name == SHARED else "apart"):
            print(f"{name} ...", file=sys.stderr, flush=True)
            found[name] = search(given, scratch, more, env)
            seconds, result = found[name]
            print(
                f"{seconds:.1f} s, {result['compiled']} compiled, {result['grafted']} grafted",
                file=sys.stderr,
            )
    notes = tuple(
        f"{name}: {seconds:.1f} s, {result['compiled']} compiled, {result['grafted']} grafted, "
        f"{sum(row['how'] == 'tested' for row in result['rows'])} tested of {len(result['rows'])} commits"
        for name, (seconds, result) in found.items()
    )
    if len(found) < 2:
        return Part(name="bisect", notes=notes)
    if found[SHARED][1]["edges"] != found[APART][1]["edges"]:
        raise CommandError("The two searches found different edges.")
    row = values_row("bisect", SHARED, APART, [found[SHARED][0]], [found[APART][0]], target=TARGET)
    return Part(name="bisect", rows=(row,), notes=notes)


def main(words: Sequence[str] | None = None) -> int:
    """Run what the command line says."""
    given = parser().parse_args(words)
    if (given.good is None) != (given.bad is None):
        parser().error("--good and --bad belong together")
    machine = describe()
    with tempfile.TemporaryDirectory(prefix="sagefix-bench-") as scratch:
        part = measure(given, Path(scratch))
    print((as_json if given.json else markdown)(machine, [part]), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
