"""``sagefix install``."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.workflows.install import Installed


class InstallerName(str, Enum):
    """Who installs."""

    AUTO = "auto"
    UV = "uv"
    PIP = "pip"


class VerifyLevel(str, Enum):
    """How far to verify before the installation counts."""

    AUTO = "auto"
    FULL = "full"
    NUMERICS = "numerics"
    IMPORT = "import"
    STATIC = "static"
    NONE = "none"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("install", epilog="Example: sagefix install --python ComfyUI/venv")(install)


def install(
    context: typer.Context,
    python: options.Python = None,
    comfyui: options.ComfyUI = None,
    arch: options.ArchList = None,
    cuda: options.Cuda = "auto",
    pin: options.Pin = "sageattention",
    ref: options.Ref = None,
    source: options.Source = None,
    kit: options.Kit = None,
    wheelhouse: options.WheelhousePath = None,
    index: options.Index = None,
    verify: Annotated[
        VerifyLevel,
        typer.Option(
            "--verify",
            help="Level to verify. auto: numerics where the GPU is, import where only its driver is, else static.",
        ),
    ] = VerifyLevel.AUTO,
    require_proof: Annotated[
        bool,
        typer.Option(
            "--require-proof",
            envvar="SAGEFIX_REQUIRE_PROOF",
            help="Take only a wheel whose numbers are proven on this kind of GPU; never compile.",
        ),
    ] = False,
    no_build: Annotated[
        bool, typer.Option("--no-build", help="Take a wheel at hand or fail; never compile.")
    ] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Compile even if a wheel is at hand.")] = False,
    reinstall: Annotated[
        bool, typer.Option("--reinstall", help="Install even if this very build is installed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show plan, candidates and commands; change nothing.")
    ] = False,
    installer: Annotated[
        InstallerName, typer.Option("--installer", help="auto: uv if it is there, else pip.")
    ] = InstallerName.AUTO,
    allow_known_bad: options.AllowKnownBad = False,
    no_fixes: options.NoFixes = False,
    object_cache: options.ObjectCache = "auto",
    break_system_packages: options.BreakSystem = False,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Install the pinned commit: from a wheel at hand, else built for this GPU and this torch; then verify it.

    What was installed before is put back if the new one fails its verification.
    """
    with running("install", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.install import InstallOptions
        from sagefix.workflows.install import install as run_install
        from sagefix.workflows.situation import Request

        installed = run_install(
            Request(
                pin=options.pin_of(context, pin, kit),
                ref=ref,
                source=source,
                python=options.target(context, python, comfyui),
                arch=arch,
                wheelhouse=wheelhouse,
                index=tuple(index or ()),
                offline=offline,
                allow_known_bad=allow_known_bad,
                fixes=not no_fixes,
                cuda=cuda,
                object_cache=object_cache,
                kit=kit,
            ),
            InstallOptions(
                no_build=no_build,
                rebuild=rebuild,
                reinstall=reinstall,
                dry_run=dry_run,
                break_system=break_system_packages,
                require_proof=require_proof,
                verify=verify.value,
                installer=installer.value,
            ),
        )
        outcome.result(installed, lambda console: render(console, installed, verbose=verbose))


def render(console: Console, installed: Installed, *, verbose: bool) -> None:
    """Say what was done, and how sure it is."""
    from sagefix.cli import render as draw

    planned = installed.action == "planned"
    if (planned or verbose) and installed.decisions:
        draw.decisions(console, installed.decisions)
    if installed.verdict is not None:
        draw.verdict(console, installed.verdict)
    where = f"for {', '.join(installed.archs)} (from {installed.archs_from}) " if installed.archs else ""
    how = "compiled" if installed.compiled else "from a wheel at hand, nothing compiled"
    if planned:
        made = "compile and install" if installed.compiled else "install"
        console.print(
            f"Would {made} {installed.project} {installed.version} {where}into {installed.interpreter}"
        )
        console.print(
            f"  wheel: {installed.wheel}\n  key: {installed.key or 'unknown'}",
            soft_wrap=True,
        )
        for command in installed.commands:
            console.print(f"  command: {command}", soft_wrap=True)
        console.print(f"  then verify at level {installed.level}; nothing was changed.")
        if installed.numbers:
            console.print(f"  {installed.numbers}", soft_wrap=True)
        return
    console.print(
        f"{installed.project} {installed.version} {where}is {installed.action}: {how}.", soft_wrap=True
    )
    if installed.before and installed.action == "installed" and installed.before != installed.version:
        console.print(f"It replaced {installed.before}.")
    spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in installed.seconds.items())
    reached = f"level {installed.level} passed" if installed.verdict else "not verified"
    console.print(f"{reached}; {spent}")
    console.print(installed.numbers, soft_wrap=True)
