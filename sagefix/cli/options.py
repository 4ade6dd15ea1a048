"""Options that several commands share, spelled once."""

from __future__ import annotations

from typing import Annotated

import typer

from sagefix.errors import UsageError

Pin = Annotated[
    str, typer.Option("--pin", envvar="SAGEFIX_PIN", help="Which pin to work on (see `sagefix pins list`).")
]
Ref = Annotated[
    str | None,
    typer.Option("--ref", help="Another commit or tag than the pinned one.", show_default=False),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--source",
        envvar="SAGEFIX_SOURCE",
        help="Take the source from this URL, repository, folder or bundle.",
        show_default=False,
    ),
]
Python = Annotated[
    str | None,
    typer.Option(
        "--python",
        "-p",
        envvar="SAGEFIX_PYTHON",
        help="The Python to work on: its program or its environment's folder. Default: the active virtual "
        "environment, else this Python.",
        show_default=False,
    ),
]
ComfyUI = Annotated[
    str | None,
    typer.Option(
        "--comfyui",
        envvar="SAGEFIX_COMFYUI",
        help="In place of --python: the folder of a ComfyUI; its Python is found (see `sagefix comfyui find`).",
        show_default=False,
    ),
]
ArchList = Annotated[
    str | None,
    typer.Option(
        "--arch",
        envvar="SAGEFIX_ARCH",
        help="Compute capability such as 9.0 (also 90, sm_90, 9.0+PTX, lists). Default: ask the GPU.",
        show_default=False,
    ),
]
Cuda = Annotated[
    str,
    typer.Option(
        "--cuda",
        envvar="SAGEFIX_CUDA",
        help="CUDA toolkit: auto (the system's if it fits, else packages), system, pypi, or its folder.",
    ),
]
Torch = Annotated[
    str | None,
    typer.Option(
        "--torch",
        help="Build for this torch (2.11) and a version of --python (3.12), in an environment of its own.",
        show_default=False,
    ),
]
Platform = Annotated[
    str | None,
    typer.Option(
        "--platform",
        help="Build for this platform (linux_aarch64, linux_x86_64) and a version of --python, without a machine of "
        "its kind. Default: this machine.",
        show_default=False,
    ),
]
ObjectCache = Annotated[
    str,
    typer.Option(
        "--object-cache",
        envvar="SAGEFIX_OBJECT_CACHE",
        help="Reuse what sccache kept of earlier builds: auto (if it is installed), off, or its path.",
    ),
]
WheelhousePath = Annotated[
    str | None,
    typer.Option(
        "--wheelhouse",
        envvar="SAGEFIX_WHEELHOUSE",
        help="Where wheels are kept. Default: wheels/ of a checkout, else the cache folder.",
        show_default=False,
    ),
]
Index = Annotated[
    list[str] | None,
    typer.Option(
        "--index",
        envvar="SAGEFIX_INDEX",
        help="Also look for wheels on this index (repeatable).",
        show_default=False,
    ),
]
Kit = Annotated[
    str | None,
    typer.Option(
        "--kit",
        help="Use this file of `sagefix kit` and nothing else: no network, no other wheels, no other source.",
        show_default=False,
    ),
]
Offline = Annotated[bool, typer.Option("--offline", envvar="SAGEFIX_OFFLINE", help="Use no network.")]
AllowKnownBad = Annotated[
    bool, typer.Option("--allow-known-bad", help="Go on with a commit that is known to be broken.")
]
NoFixes = Annotated[
    bool,
    typer.Option("--no-fixes", help="Build upstream as it is, without the pin's fixes (see `pins show`)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and warnings only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell every command that is run.")]
BreakSystem = Annotated[
    bool,
    typer.Option("--break-system-packages", help="Install even where the operating system owns the Python."),
]


Names = Annotated[list[str] | None, typer.Argument(help="Names, or parts of them.", show_default=False)]


def require_names(names: list[str] | None, everything: bool) -> None:
    """Refuse a removal that names nothing, or everything and something."""
    if bool(names) == everything:
        raise UsageError(
            "Name what to remove, or give --all." if not names else "Give names or --all, not both."
        )


def pin_of(context: typer.Context, pin: str, kit: str | None) -> str:
    """Return the pin that was asked for; empty when nobody named one and a kit says which it is."""
    source = context.get_parameter_source("pin")
    return "" if kit and source is not None and source.name == "DEFAULT" else pin


# What was typed counts before a variable, and that before a file of settings.
_SOURCES = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP")


def one_of(context: typer.Context, python: str | None, comfyui: str | None) -> tuple[str | None, str | None]:
    """Return ``--python`` and ``--comfyui``, of which one counts: the one that was named more closely.

    Raises :class:`UsageError` when both were named in the same way.
    """
    if python is None or comfyui is None:
        return python, comfyui
    ranks = [
        _SOURCES.index(source.name) if (source := context.get_parameter_source(name)) is not None else 0
        for name in ("python", "comfyui")
    ]
    if ranks[0] == ranks[1]:
        raise UsageError(
            f"Both a Python ({python}) and a ComfyUI ({comfyui}) are named.",
            hint="Give --python or --comfyui, not both.",
        )
    return (python, None) if ranks[0] < ranks[1] else (None, comfyui)


def target(context: typer.Context, python: str | None, comfyui: str | None) -> str | None:
    """Return the Python to work on: ``--python``, or the one that the ComfyUI of ``--comfyui`` runs in.

    Raises :class:`UsageError` when both were named; :class:`~sagefix.errors.TargetError` for an installation whose
    Python is not clear.
    """
    python, comfyui = one_of(context, python, comfyui)
    if comfyui is None:
        return python
    from sagefix.workflows.comfyui import python_of

    return python_of(comfyui)
