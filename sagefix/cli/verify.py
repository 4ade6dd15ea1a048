"""``sagefix verify``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running


class LevelName(str, Enum):
    """How far to look."""

    STATIC = "static"
    IMPORT = "import"
    NUMERICS = "numerics"
    FULL = "full"


class SkipName(str, Enum):
    """What may be left out."""

    STATIC = "static"
    IMPORT = "import"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", epilog="Example: sagefix verify --level static --python ComfyUI/venv")(verify)


def verify(
    context: typer.Context,
    python: options.Python = None,
    comfyui: options.ComfyUI = None,
    level: Annotated[
        LevelName,
        typer.Option(
            "--level",
            help="static: files, no GPU, no import. import: each extension, too. numerics: and the numbers, on the "
            "GPU, in seconds. full: every kernel, shape and way to call, in a minute.",
        ),
    ] = LevelName.IMPORT,
    emulate: Annotated[
        str | None,
        typer.Option(
            "--emulate",
            metavar="WHEEL",
            help="Verify a wheel of another architecture: its path, or its file name in the wheelhouse. It runs "
            "under qemu, with a Python of its own.",
            show_default=False,
        ),
    ] = None,
    gpu: Annotated[
        int | None,
        typer.Option(
            "--gpu",
            help="Compute on this GPU alone (torch's index). Default: every visible one.",
            show_default=False,
        ),
    ] = None,
    skip: Annotated[
        list[SkipName] | None,
        typer.Option(
            "--skip", help="Leave a level out; the verdict says so. Repeatable.", show_default=False
        ),
    ] = None,
    proof: Annotated[
        Path | None,
        typer.Option(
            "--proof",
            help="Also write the verdict into this file, for `sagefix wheelhouse prove` elsewhere.",
            show_default=False,
        ),
    ] = None,
    arch: options.ArchList = None,
    pin: options.Pin = "sageattention",
    ref: options.Ref = None,
    wheelhouse: options.WheelhousePath = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Verify what is installed, or a wheel of another architecture; exit status 0 only if all holds that the level
    promises.
    """
    with running("verify", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.checks import Level, failures
        from sagefix.cli import render as draw
        from sagefix.errors import UsageError, VerificationError
        from sagefix.workflows.proofs import write_proof
        from sagefix.workflows.situation import Request

        python = options.target(context, python, comfyui)
        request = Request(pin=pin, ref=ref, python=python, arch=arch, wheelhouse=wheelhouse, offline=offline)
        left_out: list[Level] = [each.value for each in skip or ()]
        if emulate is not None:
            from sagefix.workflows.emulation import verify_emulated

            if gpu is not None:
                raise UsageError("--gpu and --emulate exclude each other: an emulator has no GPU.")
            verdict = verify_emulated(request, emulate, level.value, skip=left_out)
        else:
            from sagefix.workflows.verify import verify as run_verify

            verdict = run_verify(request, level.value, gpu=gpu, skip=left_out)
        outcome.result(verdict, lambda console: draw.verdict(console, verdict, every_case=verbose))
        if proof is not None:
            write_proof(verdict, proof)
        if not verdict.passed:
            bad = failures(verdict.checks)
            raise VerificationError(
                f"{verdict.subject or pin} fails level {verdict.level}: "
                + ", ".join(check.name for check in bad)
                + ".",
                hint=next((check.fix for check in bad if check.fix), ""),
            )
