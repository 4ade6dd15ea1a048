"""The ``sagefix`` command: its root, and the way from what was typed to an exit status."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sagefix import __version__
from sagefix.cli import (
    attention,
    bench,
    bisect,
    build,
    comfyui,
    dockerfile,
    doctor,
    environments,
    explain,
    gather,
    install,
    kit,
    lock,
    matrix,
    outdated,
    pins,
    prebuild,
    rebuild,
    save_wheel,
    source,
    toolchain,
    verify,
    wheelhouse,
)
from sagefix.cli.defaults import default_map, unknown_keys
from sagefix.cli.output import leave_stdout, prepare_streams, print_envelope, print_error, unexpected
from sagefix.errors import DiskError, InterruptedByUser, SagefixError, UsageError
from sagefix.settings import file_settings, settings_file

app = typer.Typer(
    name="sagefix",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"sagefix {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Example: sagefix install --python ComfyUI/venv   Exit codes: 0 all is well; each kind of failure "
    "has its own (docs/exit-codes.md)."
)
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """From a pinned commit to a SageAttention that is right on this GPU.

    SageAttention 2.2.0 installs, imports and is silently wrong on H100, H200 and GH200. sagefix builds the
    commit that works for your GPU and your torch, keeps the wheel, installs it and checks it.
    """


install.register(app)
build.register(app)
save_wheel.register(app)
verify.register(app)
doctor.register(app)
outdated.register(app)
lock.register(app)
bench.register(app)
explain.register(app)
matrix.register(app)
prebuild.register(app)
bisect.register(app)
gather.register(app)
rebuild.register(app)
dockerfile.register(app)
kit.register(app)
app.add_typer(comfyui.app, name="comfyui")
app.add_typer(pins.app, name="pins")
app.add_typer(source.app, name="source")
app.add_typer(wheelhouse.app, name="wheelhouse")
app.add_typer(toolchain.app, name="toolchain")
app.add_typer(environments.app, name="environments")
app.add_typer(attention.app, name="attention")

# Errors in what was typed; typer exports one leaf of this family, and its root is what all of them share.
_TypedWrong: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
# These must answer whatever the settings of the working folder look like.
_ABOUT_ITSELF = frozenset({"-h", "--help", "--version", "--show-completion", "--install-completion"})


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit."""
    typed = sys.argv[1:] if args is None else args
    prepare_streams()
    command = typer.main.get_command(app)
    try:
        status = command.main(
            args=typed, prog_name="sagefix", standalone_mode=False, default_map=_defaults(command, typed)
        )
        sys.stdout.flush()
    except _TypedWrong as raised:
        if type(raised).__name__ == "NoArgsIsHelpError":
            typer.echo(getattr(raised, "message", ""), err=True)
            sys.exit(UsageError.exit_code)
        _fail(_usage_error(raised, command, typed), command, typed)
    except SagefixError as raised:
        _fail(raised, command, typed)
    except (KeyboardInterrupt, typer.Abort):
        _fail(InterruptedByUser("Interrupted."), command, typed)
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell.
        leave_stdout()
        sys.exit(1)
    except OSError as raised:
        if raised.errno not in (errno.ENOSPC, errno.EIO):
            _fail(unexpected(raised), command, typed)
        leave_stdout()
        print_error(DiskError(f"The result could not be written to standard output: {raised.strerror}."))
        sys.exit(DiskError.exit_code)
    except Exception as raised:  # noqa: BLE001 - as in output.running: a bug becomes a report
        _fail(unexpected(raised), command, typed)
    sys.exit(status if isinstance(status, int) else 0)


def _defaults(command: Any, typed: list[str]) -> dict[str, Any]:
    """Return what the working folder's settings say, and warn of what no command knows."""
    if not _ABOUT_ITSELF.isdisjoint(typed) or "_SAGEFIX_COMPLETE" in os.environ:
        return {}
    try:
        folder = Path.cwd()
    except OSError as error:
        raise UsageError(
            "The working folder does not exist any more.", hint="Change to one that does, and try again."
        ) from error
    settings = file_settings(folder)
    if not settings:
        return {}
    for key in unknown_keys(command, settings):
        typer.echo(
            f"warning: {settings_file(folder)}: no command has a setting {key!r}; it is not used.", err=True
        )
    return default_map(command, settings)


def _fail(error: SagefixError, command: Any, typed: list[str]) -> None:
    if "--json" in typed:
        print_envelope(" ".join(_command_words(command, typed)), None, error)
    else:
        print_error(error)
    sys.exit(error.exit_code)


def _usage_error(raised: Any, command: Any, typed: list[str]) -> UsageError:
    path = " ".join(["sagefix", *_command_words(command, typed)])
    message = str(raised.format_message())
    context: Any = getattr(raised, "ctx", None)
    parameter: Any = getattr(raised, "param", None)
    source = context.get_parameter_source(parameter.name) if context and parameter else None
    if source is not None and source.name == "DEFAULT_MAP":
        file = settings_file(Path.cwd())
        return UsageError(f"{parameter.name} in {file} is wrong: {message}", hint=f"Correct {file}.")
    return UsageError(message, hint=f"`{path} --help` shows what can be given.")


def _command_words(command: Any, typed: list[str]) -> list[str]:
    """Return the words of what was typed that name the command: ``["wheelhouse", "add"]``."""
    words: list[str] = []
    for word in typed:
        if word.startswith("-"):
            continue
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        words.append(word)
    return words
