"""``sagefix install`` from the wheelhouse against ``pip install`` and ``uv pip install`` of the same wheel.

The target is fresh for every run: the package is uninstalled before, outside the measured time. What uv keeps in
its cache makes a large difference for uv itself and for sagefix, which calls it, so both ends are measured:
``first``, an empty cache, as on the first install into an environment; ``again``, a cache that knows this
interpreter and holds this very wheel unpacked. pip keeps nothing of a wheel that is a local file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from benchmarks.measure import NotHereError, Part, Row, Run, Way, alternate, call, compare
from benchmarks.surroundings import Asked, ask_sagefix, builder, environment, make_target, sagefix, uv

TARGETS = {"pip": 0.7, "uv": 2.0}
LEVELS = ("none", "static")
STATES = ("first", "again")


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What is installed and where: a kept wheel, its project, the fresh target, and ``sagefix install``'s words."""

    wheel: Path
    project: str
    python: Path
    words: tuple[str, ...]


def compare_install(asked: Asked, against: Sequence[str] = ("pip", "uv")) -> Part:
    """Time the installers by turns, for both states of uv's cache."""
    case = _given(asked) if asked.wheel else _demo(asked)
    rows: list[Row] = []
    for state in STATES:
        runs = alternate(_ways(asked, case, state, against), runs=asked.runs)
        rows += _rows(state, against, runs)
    size = case.wheel.stat().st_size
    notes = (
        f"{case.wheel.name}, {size / 1e6:.1f} MB; target without it before each run; no dependencies",
        "first: uv's cache is empty; again: uv knows the interpreter and has the wheel unpacked",
        f"{call(case.python, '-m', 'pip', '--version').split(' from ')[0]} of the target; it compiles the modules "
        "to bytecode as well, which uv and sagefix leave to the first import",
    )
    return Part(name="install", rows=tuple(rows), notes=notes)


def _ways(asked: Asked, case: Case, state: str, against: Sequence[str]) -> list[Way]:
    cache = asked.scratch / "uv-cache"
    env = environment(asked.scratch, UV_CACHE_DIR=str(cache), UV_NO_PROGRESS="1")
    before = _fresh(asked, case, cache if state == "first" else None)
    others = {
        "pip": (str(case.python), "-m", "pip", "install", "--no-deps", str(case.wheel)),
        "uv": (uv(), "pip", "install", "--python", str(case.python), "--no-deps", str(case.wheel)),
    }
    ways = [Way(name=name, command=others[name], env=env, before=before) for name in against]
    for level in LEVELS:
        command = (*sagefix(), "install", *case.words, "--no-build", "--verify", level)
        ways.append(Way(name=level, command=command, env=env, before=before))
    return ways


def _rows(state: str, against: Sequence[str], runs: dict[str, list[Run]]) -> list[Row]:
    titles = {"pip": "pip install", "uv": "uv pip install"}
    named = {**{titles[name]: runs[name] for name in against}}
    named.update({f"sagefix install --verify {level}": runs[level] for level in LEVELS})
    return [
        compare(
            f"install-{other}, {state}",
            f"sagefix install --verify {level}",
            titles[other],
            named,
            target=TARGETS[other],
        )
        for other in against
        for level in LEVELS
    ]


def _fresh(asked: Asked, case: Case, emptied: Path | None) -> Callable[[], None]:
    """Return what puts the target back: a uv with a cache of its own, so that the measured one learns nothing."""
    env = environment(asked.scratch, UV_CACHE_DIR=str(asked.scratch / "uv-aside"))

    def put_back() -> None:
        call(uv(), "pip", "uninstall", "--python", case.python, case.project, env=env)
        if emptied is not None:
            shutil.rmtree(emptied, ignore_errors=True)

    return put_back


def _demo(asked: Asked) -> Case:
    """Build the demo package's wheel; it is small, so what is measured is the programs themselves."""
    python = builder(asked.scratch / "builder")
    env = environment(asked.scratch)
    made = ask_sagefix("build", "--pin", "demo", "--python", python, env=env)
    target = make_target(asked.scratch / "target")
    return Case(
        wheel=Path(made["wheel"]["where"]),
        project=made["wheel"]["project"],
        python=target,
        words=("--pin", "demo", "--python", str(target)),
    )


def _given(asked: Asked) -> Case:
    """Take a wheel into a wheelhouse of our own, and make a target that sees the packages of ``--python``."""
    if asked.wheel is None or asked.python is None:
        raise NotHereError("--wheel needs --python, the environment whose torch the wheel was built for.")
    env = environment(asked.scratch)
    facts = ask_sagefix("wheelhouse", "add", asked.wheel, env=env)
    facts = facts[0] if isinstance(facts, list) else facts
    record = facts.get("record")
    if not record or not record["commit"]:
        raise NotHereError(
            f"{asked.wheel.name} has no record of sagefix, so it is nothing that install chooses."
        )
    target = make_target(asked.scratch / "target", like=asked.python)
    found = call(
        target,
        "-c",
        f"from importlib.metadata import distributions as d; print(*[x.version for x in d(name={facts['project']!r})])",
    ).strip()
    if found:
        raise NotHereError(
            f"{asked.python} has {facts['project']} {found} already; a fresh target is needed."
        )
    words = ["--pin", record["pin"], "--ref", record["commit"], "--python", str(target)]
    if record["archs"]:
        words += ["--arch", ";".join(record["archs"])]
    return Case(
        wheel=Path(facts["where"]),
        project=facts["project"],
        python=target,
        words=tuple(words),
    )
