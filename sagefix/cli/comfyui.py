"""``sagefix comfyui``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from sagefix.comfyui.table import Sets

app = typer.Typer(
    help="ComfyUI: its installations, workflows and console.", no_args_is_help=True, rich_markup_mode=None
)

_Folder = Annotated[
    str | None,
    typer.Option(
        "--comfyui",
        envvar="SAGEFIX_COMFYUI",
        help="The installation to work on: its folder. Default: the one that the workflow lies in.",
        show_default=False,
    ),
]


@app.command("find", epilog="Example: sagefix comfyui find D:/ComfyUI_windows_portable")
def find(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="Where to look. Default: here and in the usual places.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find installations of ComfyUI, and the Python that each of them runs in, with the reasons."""
    with running("comfyui find", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.cli import comfytable
        from sagefix.workflows.comfyui import find as run_find

        found = run_find(folder)
        outcome.result(found, lambda console: comfytable.installations(console, found))


@app.command("check", epilog="Example: sagefix comfyui check wan-i2v.json --comfyui ComfyUI")
def check(
    context: typer.Context,
    workflows: Annotated[
        list[Path] | None,
        typer.Argument(metavar="WORKFLOW.json", help="Workflow files, saved or exported for the API."),
    ] = None,
    comfyui: _Folder = None,
    python: options.Python = None,
    arch: options.ArchList = None,
    launch_args: Annotated[
        str | None,
        typer.Option(
            "--launch-args",
            help="What ComfyUI is started with, in place of what its start scripts say.",
            show_default=False,
        ),
    ] = None,
    pin: options.Pin = "sageattention",
    wheelhouse: options.WheelhousePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Say which nodes choose attention and precision, and whether that fits; exit status 26 if something does not."""
    with running("comfyui check", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.cli import comfytable
        from sagefix.workflows.comfyui_check import check as run_check
        from sagefix.workflows.comfyui_check import require_fitting
        from sagefix.workflows.situation import Request

        python, comfyui = options.one_of(context, python, comfyui)
        checked = run_check(
            workflows or [],
            Request(pin=pin, python=python, arch=arch, wheelhouse=wheelhouse),
            comfyui=comfyui,
            launch_arguments=launch_args,
        )
        outcome.result(checked, lambda console: comfytable.checked(console, checked))
        require_fitting(checked)


@app.command("set", epilog="Example: sagefix comfyui set wan-i2v.json --attention sageattn --precision bf16")
def set_(
    workflows: Annotated[
        list[Path],
        typer.Argument(metavar="WORKFLOW.json", help="Workflow files, saved or exported for the API."),
    ],
    attention: Annotated[
        str | None,
        typer.Option(
            "--attention",
            help="sageattn, sdpa (turns it back) or another; or a value of the node.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", help="bf16, fp16, fp16_fast, fp32 or default.", show_default=False),
    ] = None,
    node: Annotated[
        list[str] | None,
        typer.Option(
            "--node", help="Only the node of this id; repeatable. Default: all.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be written; change nothing.")
    ] = False,
    comfyui: _Folder = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write attention and precision into workflows, with a backup; no other byte of a file changes.

    What sagefix does not understand is not edited: it says which, and then writes none of the files.
    """
    with running("comfyui set", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.cli import comfytable
        from sagefix.workflows.comfyui import require_set, set_values

        asked: dict[Sets, str] = {}
        if attention is not None:
            asked["attention"] = attention
        if precision is not None:
            asked["precision"] = precision
        written = set_values(workflows, asked, comfyui=comfyui, nodes=tuple(node or ()), dry_run=dry_run)
        outcome.result(written, lambda console: comfytable.written(console, written, dry_run=dry_run))
        require_set(written)


@app.command("log", epilog="Example: sagefix comfyui log ComfyUI/user/comfyui.log")
def log(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The log of its console, or - for standard input.")
    ],
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Say whether SageAttention ran, or calls fell back, and why: status 0 if it ran, 22 if no line tells, else 26."""
    with running("comfyui log", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.cli import comfytable
        from sagefix.workflows.comfyui import read_console_of, read_log, require_ran

        path = Path(file).expanduser()
        read = read_console_of(sys.stdin.buffer) if file == "-" else read_log(path)
        outcome.result(read, lambda console: comfytable.console_log(console, read))
        require_ran(read)
