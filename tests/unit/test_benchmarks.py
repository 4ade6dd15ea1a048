"""What the benchmarks make of times and bytes, and how they tell it; nothing is measured here."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks import run as benchmark
from benchmarks.build import ANSWERS
from benchmarks.fetch import packs
from benchmarks.machine import Machine, cpu_name, describe
from benchmarks.measure import (
    CommandError,
    NotHereError,
    Part,
    Run,
    Way,
    alternate,
    call,
    compare,
    timed,
    values_row,
)
from benchmarks.report import as_json, markdown
from benchmarks.surroundings import Asked, environment, python_of

MACHINE = Machine(
    cores=2,
    cpu="A chip",
    memory=16_000_000_000,
    system="Linux",
    python="3.12.1",
    load=0.5,
    programs={"pip": "25.0", "uv": "0.9"},
)


def _runs(*seconds: float) -> list[Run]:
    return [Run(seconds=value, cpu=value / 2) for value in seconds]


def test_the_ratio_is_the_median_of_neighbouring_runs() -> None:
    # The second pair was disturbed: both took long, so its ratio still tells the truth.
    row = compare("x", "a", "b", {"a": _runs(1.0, 8.0, 1.5), "b": _runs(2.0, 10.0, 2.0)}, target=0.75)
    assert (row.ratio, row.ratio_min, row.ratio_max) == (0.75, 0.5, 0.8)
    assert (row.ours_value, row.ours_min, row.ours_max) == (1.5, 1.0, 8.0)
    assert (row.theirs_value, row.theirs_min, row.theirs_max) == (2.0, 2.0, 10.0)
    assert (row.ours_cpu, row.theirs_cpu) == (0.75, 1.0)
    assert (row.runs, row.met) == (3, True)


@pytest.mark.parametrize(("target", "met"), [(0.5, True), (0.49, False)])
def test_a_target_is_an_upper_bound(target: float, met: bool) -> None:
    assert values_row("x", "a", "b", [1], [2], target=target).met is met


def test_values_have_to_come_in_pairs() -> None:
    with pytest.raises(ValueError, match="zip"):
        values_row("x", "a", "b", [1, 2], [1], target=1)


def test_ways_take_turns_and_the_warm_up_does_not_count(tmp_path: Path) -> None:
    order = tmp_path / "order"
    order.touch()

    def way(name: str) -> Way:
        code = f"open({str(order)!r}, 'a').write({name!r})"
        return Way(
            name=name,
            command=(sys.executable, "-S", "-c", code),
            before=lambda: order.write_text(order.read_text() + "-"),
        )

    done = alternate([way("a"), way("b")], runs=2, warmup=1)
    assert order.read_text() == "-a-b" * 3
    assert {name: len(runs) for name, runs in done.items()} == {"a": 2, "b": 2}
    assert all(run.seconds > 0 for runs in done.values() for run in runs)


def test_a_command_that_fails_says_so_with_its_output() -> None:
    command = (sys.executable, "-S", "-c", "print('out'); raise SystemExit('no such thing')")
    for attempt in (lambda: timed(Way(name="x", command=command)), lambda: call(*command)):
        with pytest.raises(CommandError, match=r"exit status 1:\nout\nno such thing"):
            attempt()


def test_the_report_shows_measured_beside_wanted() -> None:
    rows = (
        values_row("help", "sagefix --help", "pip --help", [0.08], [0.12], target=1.0),
        values_row("build", "ours", "theirs", [210.0], [290.0], target=0.7),
        values_row("fetch", "ours", "theirs", [77_918], [44_300_000], target=0.02, unit="bytes"),
    )
    parts = [
        Part(name="all", rows=rows, notes=("as it is",)),
        Part(name="other", skipped="Nothing to compare."),
    ]
    text = markdown(MACHINE, parts)
    assert text.startswith(
        "2 cores, A chip, 16.0 GB; Linux; Python 3.12.1; load at the start 0.5\npip 25.0, uv 0.9\n\n| "
    )
    assert (
        "| help | 80 ms `sagefix --help` | 120 ms `pip --help` | **0.667** | 0.667 to 0.667 | 1 | met |"
        in text
    )
    assert "| build | 210 s `ours` | 290 s `theirs` | **0.724** | 0.724 to 0.724 | 0.7 | missed |" in text
    assert "| fetch | 77.9 kB `ours` | 44.3 MB `theirs` | **0.00176** |" in text
    assert text.endswith("- all: as it is\n- other: skipped. Nothing to compare.\n")
    document = json.loads(as_json(MACHINE, parts))
    assert document["schema"] == 1
    assert document["machine"]["cores"] == 2
    assert [row["met"] for row in document["parts"][0]["rows"]] == [True, False, True]
    assert document["parts"][1]["skipped"] == "Nothing to compare."


def test_a_report_without_rows_has_no_table() -> None:
    assert "|" not in markdown(msgspec.structs.replace(MACHINE, load=None), [Part(name="a", skipped="No.")])


def test_the_exit_status_judges_only_when_asked_to() -> None:
    met = Part(name="a", rows=(values_row("a", "x", "y", [1], [1], target=1),))
    missed = Part(name="b", rows=(values_row("b", "x", "y", [2], [1], target=1),))
    skipped, failed = Part(name="c", skipped="No."), Part(name="d", skipped="Broken.", failed=True)
    assert benchmark.status([met, missed, skipped], strict=False) == 0
    assert benchmark.status([met, missed, skipped], strict=True) == 1
    assert benchmark.status([met, skipped], strict=True) == 0
    assert benchmark.status([met, failed], strict=False) == 1


def test_what_is_not_possible_is_skipped_and_what_breaks_does_not_end_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(asked: Asked, against: list[str]) -> Part:
        raise CommandError(f"no {against}")

    def impossible(asked: Asked) -> Part:
        raise NotHereError("Name it.")

    monkeypatch.setattr(benchmark, "compare_install", broken)
    monkeypatch.setattr(benchmark, "compare_fetch", impossible)
    parts = benchmark.measure(Asked(scratch=tmp_path), ["install-uv", "build", "fetch"])
    assert [part.name for part in parts] == ["install", "build", "fetch"]
    assert [part.failed for part in parts] == [True, False, False]
    assert parts[0].skipped == "It failed: no ['uv']"
    assert "--source" in parts[1].skipped
    assert parts[2].skipped == "Name it."


@pytest.mark.parametrize("words", [["--runs", "0"], ["--only", "everything"], ["--build-runs", "x"]])
def test_wrong_options_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        benchmark.parser().parse_args(words)
    assert words[0] in capsys.readouterr().err


def test_the_environment_holds_nothing_that_leaks_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONDONTWRITEBYTECODE", "SAGEFIX_PIN", "GIT_DIR", "PIP_TARGET", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("CUDA_HOME", "/toolkit")
    env = environment(tmp_path, UV_CACHE_DIR="there")
    assert {"PYTHONDONTWRITEBYTECODE", "SAGEFIX_PIN", "GIT_DIR", "PIP_TARGET", "VIRTUAL_ENV"}.isdisjoint(env)
    assert (env["CUDA_HOME"], env["UV_CACHE_DIR"]) == ("/toolkit", "there")
    assert env["SAGEFIX_CACHE_DIR"] == str(tmp_path / "cache")
    assert env["PATH"].startswith(str(Path(sys.executable).parent))


def test_the_answers_for_a_build_without_a_gpu_wait_for_torch(tmp_path: Path) -> None:
    """A stand-in for torch: what is answered, and that nothing is imported before somebody asks."""
    cuda = tmp_path / "torch" / "cuda"
    cuda.mkdir(parents=True)
    (tmp_path / "torch" / "__init__.py").write_text("from torch import cuda\n")
    (cuda / "__init__.py").write_text("def device_count():\n    return 0\n")
    text = ANSWERS.format(capabilities=[(9, 0), (8, 6)])
    ast.parse(text, feature_version=(3, 9))
    (tmp_path / "sitecustomize.py").write_text(text)
    code = (
        "import sys; before = 'torch' in sys.modules; import torch\n"
        "print(before, torch.cuda.device_count(), torch.cuda.get_device_capability(1), torch.cuda.is_available())"
    )
    said = call(sys.executable, "-c", code, env={"PYTHONPATH": str(tmp_path)})
    assert said.strip() == "False 2 (8, 6) True"


def test_packs_are_summed_wherever_they_lie(tmp_path: Path) -> None:
    for name, size in (("objects/pack/a.pack", 3), ("other/b.pack", 4), ("objects/pack/a.idx", 100)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    assert packs(tmp_path) == 7


def test_the_machine_is_described() -> None:
    assert (
        cpu_name("processor : 0\nmodel name\t: Some CPU @ 2 GHz\n\nmodel name\t: Other\n")
        == "Some CPU @ 2 GHz"
    )
    assert cpu_name("CPU implementer : 0x41\n") == ""
    machine = describe()
    assert machine.cores >= 1
    assert machine.memory > 0
    assert machine.cpu
    assert python_of(Path("env")).parts[0] == "env"
