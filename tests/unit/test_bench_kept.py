"""Benchmarks as documents: written, read again, kept by GPU, and drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from sagefix.errors import UsageError
from sagefix.proof.benchmark import judging, kept, plot
from sagefix.proof.benchmark.model import (
    Bench,
    Case,
    Measured,
    Method,
    Recommendation,
    bench_json,
    bench_schema,
)
from sagefix.proof.model import Device

LABELS = {"sdpa": "SDPA", "sageattn": "sageattn", "sdpa-math": "SDPA math", "xformers": "xformers"}


def make_bench(when: str = "2026-11-20T10:00:00+00:00", *, wrong: bool = False) -> Bench:
    cases = []
    for dtype in ("bfloat16", "float16"):
        for tokens, ratio in ((512, 4.2), (2048, 1.96), (8192, 0.92), (32760, 0.74)):
            time = (tokens / 1000) ** 2 / 20
            rows = [
                Measured(backend="sdpa", status="measured", median=time, error=0.002),
                Measured(backend="sageattn", status="wrong" if wrong else "measured", median=time * ratio),
                Measured(backend="sdpa-math", status="out of memory")
                if tokens > 8000
                else Measured(backend="sdpa-math", status="measured", median=time * 8),
                Measured(backend="xformers", status="not installed"),
            ]
            cases.append(
                Case(
                    id=f"{tokens} {dtype}",
                    size=(1, 40, tokens, 128),
                    dtype=dtype,
                    causal=False,
                    results=judging.with_ratios(rows),
                    recommendation=Recommendation(backend="sdpa", words="use SDPA"),
                )
            )
    return Bench(
        pin="sageattention", subject="sageattention 2.2.0+68de379.fix1", interpreter="/venv/bin/python",
        torch="2.11.0+cu130", device=Device(name="NVIDIA H200", capability="9.0"), ceiling=None, extent="full",
        method=Method(clock="cuda events", l2_flush=200 << 20, queued=False, budget_s=0.5, least=5, most=50,
                      warmups=2, rows=128, seed=1),
        backends=LABELS, cases=tuple(cases), crossovers=judging.crossovers(cases, LABELS, "sageattn"),
        when=when, seconds=99.5, sagefix="0.1.0",
    )  # fmt: skip


def test_what_is_written_is_read_again() -> None:
    bench = make_bench()
    assert msgspec.json.decode(bench_json(bench), type=Bench) == bench
    assert bench_json(bench).endswith(b"}\n")
    assert "Crossover" in bench_schema()["$defs"]


def test_a_gpus_benchmarks_are_found_again(own_environment: Path) -> None:
    assert kept.kept("NVIDIA H200") == ()
    full = make_bench()
    path = kept.keep(full)
    assert path == own_environment / "bench/nvidia-h200/sageattention-2.2.0+68de379.fix1-torch2.11-full.json"
    quick = msgspec.structs.replace(full, extent="quick", when="2026-12-01T10:00:00+00:00")
    older = msgspec.structs.replace(full, subject="sageattention 1.0.6", when="2026-01-01T10:00:00+00:00")
    for bench in (older, quick):
        kept.keep(bench)
    # A quick one is newer and still comes last.
    assert kept.kept("NVIDIA H200") == (full, older, quick)
    assert kept.kept("NVIDIA H200 NVL") == ()
    again = msgspec.structs.replace(full, when="2026-12-02T10:00:00+00:00")
    assert kept.keep(again) == path
    assert kept.kept("NVIDIA H200")[0] == again


def test_other_ways_of_measuring_stand_beside(own_environment: Path) -> None:
    full = make_bench()
    causal = msgspec.structs.replace(
        full, cases=tuple(msgspec.structs.replace(case, causal=True) for case in full.cases)
    )
    queued = msgspec.structs.replace(full, method=msgspec.structs.replace(full.method, queued=True))
    warm = msgspec.structs.replace(full, method=msgspec.structs.replace(full.method, l2_flush=0))
    names = {
        path.name.partition("torch2.11-")[2]
        for each in (full, causal, queued, warm)
        if (path := kept.keep(each))
    }
    assert names == {"full.json", "full-causal.json", "full-queued.json", "full-warm.json"}


def test_what_somebody_chose_is_not_kept_and_what_is_damaged_is_passed_over(own_environment: Path) -> None:
    assert kept.keep(msgspec.structs.replace(make_bench(), extent="chosen")) is None
    path = kept.keep(make_bench())
    assert path is not None
    path.with_name("old.json").write_text('{"schema": 0}')
    path.with_name("cut.json").write_text(path.read_text()[:100])
    assert len(kept.kept("NVIDIA H200")) == 1


def test_a_picture_as_svg_and_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = [tmp_path / "new" / "a.svg", tmp_path / "a.png"]
    plot.require_plot(paths, [[512], [512, 1024]])
    plot.draw(make_bench(), paths)
    text = paths[0].read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    for word in (
        "NVIDIA H200",
        "torch 2.11.0+cu130",
        "bf16",
        "fp16",
        "SDPA math",
        "tokens",
        "median time, ms",
        "32760",
    ):
        assert word in text
    assert "from about 7000 on" in text
    assert "xformers" not in text
    assert paths[1].read_bytes().startswith(b"\x89PNG\r\n")
    # The same numbers give the same bytes, so that a picture in a repository changes only with them.
    again = tmp_path / "again.svg"
    plot.draw(make_bench(), [again])
    assert again.read_bytes() == paths[0].read_bytes()


def test_what_is_wrong_is_drawn_as_wrong_and_wins_nothing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot.draw(make_bench(wrong=True), [tmp_path / "a.svg"])
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "sageattn (wrong)" in text
    assert "wins" not in text


def test_a_plot_that_cannot_be_drawn_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plot.require_plot([], [])
    with pytest.raises(UsageError, match="neither SVG nor PNG"):
        plot.require_plot([Path("a.pdf")], [[1, 2]])
    pytest.importorskip("matplotlib")
    with pytest.raises(UsageError, match="no shape is measured at two lengths"):
        plot.require_plot([Path("a.svg")], [[512], [512, 512]])
    # As where the extra is not installed: Python refuses to import a module that is None.
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match="A plot needs matplotlib") as raised:
        plot.require_plot([Path("a.svg")], [[1, 2]])
    assert "pip install 'sagefix[plot]'" in raised.value.hint
