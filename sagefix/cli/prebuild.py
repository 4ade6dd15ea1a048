"""``sagefix prebuild``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.matrix import Archs, Cells, Index, Native, Platforms, Pythons, Torches
from sagefix.cli.output import running

if TYPE_CHECKING:
    from sagefix.workflows.prebuild import Report


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("prebuild", epilog="Example: sagefix prebuild --arch 9.0 --jobs 2 --max-memory 16G")(prebuild)


def prebuild(
    pin: options.Pin = "sageattention",
    ref: options.Ref = None,
    source: options.Source = None,
    pythons: Pythons = None,
    torches: Torches = None,
    archs: Archs = None,
    platforms: Platforms = None,
    cells: Cells = None,
    native: Native = False,
    wheelhouse: options.WheelhousePath = None,
    index: Index = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Cells at once.")] = 1,
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory", help="For all cells together: 16G. Default: what is free.", show_default=False
        ),
    ] = None,
    manylinux: Annotated[
        bool, typer.Option("--manylinux", help="Tag each wheel with the lowest glibc that it runs on.")
    ] = False,
    no_gate: Annotated[
        bool, typer.Option("--no-gate", help="Do not verify the wheels at the level static.")
    ] = False,
    cuda: options.Cuda = "auto",
    summary: Annotated[
        Path | None,
        typer.Option(
            "--summary",
            help="Write a Markdown summary into this file. In a GitHub Actions job one is added to the job's.",
            show_default=False,
        ),
    ] = None,
    object_cache: options.ObjectCache = "auto",
    allow_known_bad: options.AllowKnownBad = False,
    no_fixes: options.NoFixes = False,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Build every wheel of the matrix that is missing and that this machine can build.

    The same command goes on where a killed one was.
    """
    with running("prebuild", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.cli.celltable import listening
        from sagefix.cli.celltable import summary as draw
        from sagefix.workflows.coverage import MatrixRequest, survey_matrix
        from sagefix.workflows.prebuild import Order, parse_size
        from sagefix.workflows.prebuild import prebuild as run_prebuild
        from sagefix.workflows.situation import open_wheelhouse

        limit = parse_size(max_memory) if max_memory else 0
        store = open_wheelhouse(wheelhouse, create=True)
        surveyed = survey_matrix(
            MatrixRequest(
                pin=pin,
                ref=ref,
                source=source,
                offline=offline,
                pythons=tuple(pythons or ()),
                torch=tuple(torches or ()),
                archs=tuple(archs or ()),
                platforms=tuple(platforms or ()),
                cells=tuple(cells or ()),
                wheelhouse=wheelhouse,
                index=tuple(index or ()),
                here=True,
                native=native,
                cuda=cuda,
                allow_known_bad=allow_known_bad,
                fixes=not no_fixes,
            )
        )
        order = Order(
            wheelhouse=store.path,
            ref=surveyed.revision.commit if ref else None,
            source=source,
            cuda=cuda,
            offline=offline,
            allow_known_bad=allow_known_bad,
            fixes=not no_fixes,
            manylinux=manylinux,
            object_cache=object_cache,
            jobs=jobs,
            max_memory=limit,
            gate=not no_gate,
        )
        with listening(quiet=quiet) as listener:
            report = run_prebuild(surveyed.found, surveyed.pin, surveyed.revision, order, listener=listener)
        outcome.result(report, lambda console: draw(console, report))
        _write_summaries(report, f"{pin} {surveyed.revision.commit[:7]}", summary)
        _judge(report)


def _write_summaries(report: Report, title: str, file: Path | None) -> None:
    from sagefix.cli.celltable import markdown
    from sagefix.files import disk_errors, write_text

    text = markdown(report, title)
    if file is not None:
        write_text(file, text)
    # https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands: a file to append to.
    if job := os.environ.get("GITHUB_STEP_SUMMARY"):
        with disk_errors(Path(job), "write the job summary"), Path(job).open("a", encoding="utf-8") as stream:
            stream.write(text)


def _judge(report: Report) -> None:
    """Raise when not everything is there that could be."""
    from sagefix.errors import InterruptedByUser, PrebuildError

    if report.interrupted:
        raise InterruptedByUser("Interrupted.", hint="The same command goes on where it was.")
    if failed := report.with_status("failed", "interrupted", "waiting"):
        raise PrebuildError(
            f"{len(failed)} of {len(report.rows)} cells failed: "
            + ", ".join(row.cell.id for row in failed)
            + ".",
            hint=next((row.hint for row in failed if row.hint), "")
            or f"Their logs: {Path(failed[0].log).parent}",
            details={"failed": [row.cell.id for row in failed], "logs": [row.log for row in failed]},
        )
