"""The parts of a prebuild that need no build: shares, sizes, summaries, state."""

from __future__ import annotations

import io
import math
from pathlib import Path

import msgspec
import pytest

from sagefix.cli.celltable import PlainCells, counts, first_line, last_line, markdown, totals
from sagefix.errors import UsageError
from sagefix.pins.load import load_pin
from sagefix.pins.matrix import Cell
from sagefix.workflows import prebuild as module
from sagefix.workflows.book import Book, State
from sagefix.workflows.cells import Row
from sagefix.workflows.coverage import Found
from sagefix.workflows.metering import Peak
from sagefix.workflows.prebuild import GIB, Order, Report, Share, parse_size, share_out

SAGE = load_pin("sageattention")
CELL = Cell(id="cp312-x86_64", pin="demo", python="3.12", abi="cp312", platform="x86_64")


def share(jobs: int, memory: float, count: int = 10) -> tuple[int, int]:
    made = share_out(SAGE, Order(wheelhouse=Path(), jobs=jobs, max_memory=math.ceil(memory * GIB)), count)
    return made.cells, made.jobs_each


def test_memory_and_cores_are_divided_among_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 8)
    one = SAGE.build.memory_gib
    assert share(2, 4 * one) == (2, 2)
    assert share(4, 100 * one) == (4, 2)
    # Fewer cells than wished when memory is short; never more compilers together than fit.
    assert share(4, 2.9 * one) == (2, 1)
    assert share(3, 5 * one, count=2) == (2, 2)
    for jobs in (1, 2, 3, 7):
        for fitting in (1, 2, 3, 5, 9):
            cells, each = share(jobs, fitting * one)
            assert 1 <= cells * each <= fitting


def test_one_cell_with_all_memory_decides_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 8)
    assert share(1, 0) == (1, 0)
    assert share(1, 10 * SAGE.build.memory_gib) == (1, 8)


def test_max_jobs_is_for_all_cells_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 8)
    monkeypatch.setenv("MAX_JOBS", "6")
    assert share(3, 100) == (3, 2)
    monkeypatch.setenv("MAX_JOBS", "many")
    with pytest.raises(UsageError, match="MAX_JOBS is 'many'"):
        share(3, 100)


def test_limits_that_cannot_be() -> None:
    with pytest.raises(
        UsageError, match=r"One compiler of sageattention needs .* GiB; --max-memory is 1 GiB"
    ):
        share(1, 1)
    with pytest.raises(UsageError, match="--jobs is 0"):
        share(0, 16)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16G", 16 * GIB),
        ("512M", GIB // 2),
        ("1.5GiB", GIB * 3 // 2),
        ("2 g", 2 * GIB),
        ("4096", 4096),
        ("8kB", 8192),
    ],
)
def test_amounts_of_memory(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "0", "-1G", "16X", "1e9", "many"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(UsageError, match="is not an amount of memory"):
        parse_size(text)


def report(*rows: Row, interrupted: bool = False) -> Report:
    return Report(
        key="k",
        rows=rows,
        seconds=12.3,
        share=Share(cells=1, jobs_each=1),
        max_memory=GIB,
        memory=Peak(size=GIB // 2, source="cgroup"),
        state="state.json",
        interrupted=interrupted,
    )


BUILT = Row(
    cell=CELL, status="built", seconds=4.2, wheel="demo-1.whl", size=12600, sha256="a" * 64,
    memory=Peak(size=70_000_000, source="sampled"), proven="static, numbers unproven", log="/logs/cp312.log",
)  # fmt: skip
FAILED = Row(
    cell=msgspec.structs.replace(CELL, id="cp313-x86_64"), status="failed", seconds=1.0,
    reason="The build failed:\n\n<b>`x`</b> | [y](z)\nmore", hint="Do this.", log="/logs/cp313.log",
)  # fmt: skip


def test_the_summary_for_ci_says_everything_and_runs_nothing() -> None:
    text = markdown(report(BUILT, FAILED), "demo a629b70")
    assert text.startswith(
        "### demo a629b70\n\n2 cells: 1 built, 1 failed, in 12 s; at most 0.50 GiB of 1.0 GiB"
    )
    rows = [line for line in text.splitlines() if line.startswith("| cp")]
    assert rows[0] == (
        f"| cp312-x86_64 | built | 4.2 s | 70.0 MB ~ | 12.6 kB | `{'a' * 64}` | static, numbers unproven "
        "| `demo-1.whl` |"
    )
    # What a compiler said cannot end the cell of a table, nor be HTML or a link.
    assert r"The build failed: \<b\>\`x\`\</b\> \| \[y\](z) (log: `cp313.log`)" in rows[1]
    assert rows[1].replace(r"\|", "").count("|") == 9


def test_totals() -> None:
    assert counts([]) == "0 cells: none"
    assert counts([BUILT]) == "1 cell: 1 built"
    sampled = msgspec.structs.replace(report(BUILT), max_memory=0, memory=Peak(size=GIB, source="sampled"))
    assert totals(sampled) == "1 cell: 1 built, in 12 s; at most 1.00 GiB at once, sampled."


def test_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    tell = PlainCells(stream)
    waiting, running = (
        msgspec.structs.replace(BUILT, status=status, wheel="") for status in ("waiting", "running")
    )
    for rows in ([waiting], [waiting], [running], [running], [BUILT]):
        tell(rows)
    assert stream.getvalue().splitlines() == [
        "cp312-x86_64: running",
        "cp312-x86_64: built in 4 s: demo-1.whl (12.6 kB)",
    ]


def test_first_and_last_lines(tmp_path: Path) -> None:
    assert first_line("\n a \n b") == "a"
    assert first_line("Failed:\n\n why \n more") == "Failed: why"
    assert first_line("") == ""
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_bytes(b"one\n" * 5000 + b"\xff two \n\n")
    assert last_line(log) == "\ufffd two"


def test_a_damaged_state_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    missing = [Found(cell=CELL, status="missing")]
    book = Book(path, "key", missing, {CELL.id}, None)
    book.write(msgspec.structs.replace(BUILT, status="running"))
    assert msgspec.json.decode(path.read_bytes(), type=State).rows[CELL.id].status == "running"
    assert Book(path, "key", missing, {CELL.id}, None).rows[CELL.id].status == "waiting"
    for damage in (b"", b"{", b'{"schema": 2}', b"\xff"):
        path.write_bytes(damage)
        assert Book(path, "key", missing, {CELL.id}, None).rows[CELL.id] == Row(cell=CELL, status="waiting")


def test_a_cell_is_built_by_a_command_that_exists() -> None:
    import typer

    from sagefix.cli.app import app

    order = Order(
        wheelhouse=Path("/w"), ref="d1a57a5", source="file:///s", cuda="pypi", offline=True, allow_known_bad=True,
        fixes=False, manylinux=True,
    )  # fmt: skip
    cell = msgspec.structs.replace(CELL, pin="sageattention", torch="2.11", cuda="13.0", archs="8.0;9.0")
    job = module._job(
        Found(cell=cell, status="missing"), SAGE, order, Share(cells=2, jobs_each=3), Path("/l"), None
    )
    assert job.environment == {"MAX_JOBS": "3"}
    assert job.log == "/l/cp312-x86_64.log"
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for arguments in (job.build, (*job.gate, "--python", "/gate/bin/python")):
        context = commands[arguments[0]].make_context(arguments[0], list(arguments[1:]))
        assert context.params["pin"] == "sageattention"
        assert context.params["arch"] == "8.0;9.0"
        assert context.params["ref"] == "d1a57a5"
    build = commands["build"].make_context("build", list(job.build[1:])).params
    assert (build["python"], build["torch"], build["cuda"]) == ("3.12", "2.11", "pypi")
    assert build["manylinux"] and build["no_fixes"] and build["offline"] and build["allow_known_bad"]
    named = msgspec.structs.replace(cell, interpreter="/some/python")
    job = module._job(
        Found(cell=named, status="missing"), SAGE, order, Share(cells=1, jobs_each=0), Path("/l"), None
    )
    build = commands["build"].make_context("build", list(job.build[1:])).params
    assert (build["python"], build["torch"]) == ("/some/python", None)
    assert job.environment == {}
