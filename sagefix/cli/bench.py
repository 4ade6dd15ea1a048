"""``sagefix bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench", epilog="Example: sagefix bench --python ComfyUI/venv --plot attention.svg")(bench)


def bench(
    context: typer.Context,
    python: options.Python = None,
    comfyui: options.ComfyUI = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            "--shape",
            help="batch,heads,tokens,head_dim, or a name such as wan-480p or sweep; repeatable. Default: all.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option("--dtype", help="bfloat16 or float16; repeatable. Default: both.", show_default=False),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend", help="A backend such as sageattn; repeatable. Default: all.", show_default=False
        ),
    ] = None,
    causal: Annotated[bool, typer.Option("--causal", help="Measure causal attention.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer shapes and lengths, bf16 alone, shorter runs.")
    ] = False,
    gpu: Annotated[int, typer.Option("--gpu", min=0, help="Measure on this GPU (torch's index).")] = 0,
    cpu: Annotated[
        bool,
        typer.Option("--cpu", help="Measure on the processor: small shapes, SDPA alone, to try the command."),
    ] = False,
    queued: Annotated[
        bool,
        typer.Option("--queued", help="Enqueue each call behind other work, so that launches cost nothing."),
    ] = False,
    no_flush: Annotated[
        bool, typer.Option("--no-flush", help="Leave inputs in the level-2 cache between runs.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option("--output", help="Write the whole result to this file (JSON).", show_default=False),
    ] = None,
    plot: Annotated[
        list[str] | None,
        typer.Option(
            "--plot",
            help="Draw time against length to this .svg or .png; repeatable. Needs sagefix[plot].",
            show_default=False,
        ),
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Measure nothing: show and draw what --output wrote, on any machine.",
            show_default=False,
        ),
    ] = None,
    pin: options.Pin = "sageattention",
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure attention backends side by side, and say which to use at which shape and from which length on."""
    with running("bench", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.cli import benchtable
        from sagefix.workflows.bench import Request, draw_again
        from sagefix.workflows.bench import bench as run_bench

        if measured is not None:
            again = draw_again(measured, plot or ())
            outcome.result(again, lambda console: benchtable.draw(console, again))
            return
        made = run_bench(
            Request(
                pin=pin,
                python=options.target(context, python, comfyui),
                shapes=tuple(shape or ()),
                dtypes=tuple(dtype or ()),
                backends=tuple(backend or ()),
                causal=causal,
                quick=quick,
                gpu=gpu,
                cpu=cpu,
                flush=not no_flush,
                queued=queued,
                output=output,
                plots=tuple(plot or ()),
            )
        )
        outcome.result(made, lambda console: benchtable.draw(console, made))
