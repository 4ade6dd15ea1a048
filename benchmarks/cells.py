"""Several cells of a prebuild at once against one after the other, and the memory they took."""

from __future__ import annotations

import shutil
import time
from typing import Any

from benchmarks.measure import CommandError, NotHereError, Part, values_row
from benchmarks.surroundings import Asked, ask_sagefix, environment, given

TARGET = 1.0


def compare_cells(asked: Asked) -> Part:
    """Time ``sagefix prebuild`` with ``--jobs 2`` and 1, by turns; each arch of ``--arch`` is a cell."""
    archs = (asked.arch or "").replace(",", ";").split(";")
    if asked.python is None or len(archs) < 2:
        raise NotHereError(
            "Name --python TARGET and two archs (--arch '8.9;9.0'), and for most pins --source REPO."
        )
    at_once, one_by_one = [], []
    for _ in range(asked.build_runs):
        at_once.append(_prebuild(asked, archs, jobs=len(archs)))
        one_by_one.append(_prebuild(asked, archs, jobs=1))
    row = values_row(
        "cells", f"{len(archs)} at once", "one after the other",
        [spent for spent, _ in at_once], [spent for spent, _ in one_by_one], target=TARGET,
    )  # fmt: skip
    notes = []
    for name, runs in (("at once", at_once), ("one after the other", one_by_one)):
        for _, report in runs:
            memory, limit = report["memory"], report["max_memory"]
            notes.append(
                f"{name}: at most {memory['size'] / 2**30:.2f} GiB"
                + (f" of {limit / 2**30:.0f} GiB allowed" if limit else "")
                + f", said by {'the kernel' if memory['source'] == 'cgroup' else 'adding up processes'}"
            )
    return Part(name="cells", rows=(row,), notes=tuple(notes))


def _prebuild(asked: Asked, archs: list[str], *, jobs: int) -> tuple[float, dict[str, Any]]:
    wheels = asked.scratch / "cells"
    shutil.rmtree(wheels, ignore_errors=True)
    words = ["prebuild", "--pin", asked.pin, "--python", str(asked.python), "--jobs", str(jobs)]
    words += ["--wheelhouse", str(wheels), "--object-cache", "off", "--cuda", asked.cuda]
    words += given(ref=asked.ref, source=asked.source, max_memory=asked.max_memory)
    for arch in archs:
        words += ["--arch", arch]
    started = time.perf_counter()
    report: dict[str, Any] = ask_sagefix(*words, env=environment(asked.scratch))
    spent = time.perf_counter() - started
    if {row["status"] for row in report["rows"]} != {"built"}:
        raise CommandError(f"Not every cell was built: {[row['status'] for row in report['rows']]}")
    return spent, report
