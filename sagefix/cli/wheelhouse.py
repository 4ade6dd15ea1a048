"""``sagefix wheelhouse``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sagefix.cli import choose, compare, options
from sagefix.cli.output import running

app = typer.Typer(help="The wheels that are kept.", no_args_is_help=True, rich_markup_mode=None)


@app.command(
    "path", epilog="Example: pip install --index-url file://$(sagefix wheelhouse path) sageattention"
)
def path(
    wheelhouse: options.WheelhousePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Print where the wheelhouse is."""
    with running("wheelhouse path", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.situation import wheelhouse_path

        where = wheelhouse_path(wheelhouse)
        # Not through a table or a wrapping console: scripts take this line as it is.
        outcome.result({"path": str(where)}, lambda _: typer.echo(str(where)))


@app.command("list", epilog="Example: sagefix wheelhouse list --json")
def list_(
    wheelhouse: options.WheelhousePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """List the wheels with what is known of each."""
    with running("wheelhouse list", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.cli.render import wheels
        from sagefix.workflows.situation import open_wheelhouse

        entries = open_wheelhouse(wheelhouse, create=False).entries()
        outcome.result(
            entries,
            lambda console: (
                wheels(console, entries) if entries else console.print("The wheelhouse is empty.")
            ),
        )


@app.command("add", epilog="Example: sagefix wheelhouse add dist/*.whl")
def add(
    wheels: Annotated[list[Path], typer.Argument(help="Wheels to add.", show_default=False)],
    replace: Annotated[bool, typer.Option("--replace", help="Replace a wheel of the same name.")] = False,
    wheelhouse: options.WheelhousePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Check wheels and copy them into the wheelhouse."""
    with running("wheelhouse add", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.situation import open_wheelhouse

        store = open_wheelhouse(wheelhouse, create=True)
        added = [store.add(wheel, replace=replace) for wheel in wheels]
        outcome.result(
            added,
            lambda console: console.print(
                "\n".join(f"Added {facts.where}" for facts in added), soft_wrap=True
            ),
        )


@app.command("prove", epilog="Example: sagefix wheelhouse prove sageattention-2.2.0+68de379...whl proof.json")
def prove(
    wheel: Annotated[str, typer.Argument(help="File name of a wheel of the wheelhouse.", show_default=False)],
    files: Annotated[
        list[Path],
        typer.Argument(
            help="What `sagefix verify --proof FILE` wrote, or the .proofs.json of another wheelhouse.",
            show_default=False,
        ),
    ],
    wheelhouse: options.WheelhousePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Take in proofs of a wheel that were made on another machine."""
    with running("wheelhouse prove", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.wheelhouse.proving import in_words
        from sagefix.workflows.proofs import take_proof
        from sagefix.workflows.situation import open_wheelhouse

        facts = take_proof(open_wheelhouse(wheelhouse, create=False), wheel, *files)
        outcome.result(
            facts,
            lambda console: console.print(f"{facts.filename}: {in_words(facts.proofs)}", soft_wrap=True),
        )


@app.command("remove", epilog="Example: sagefix wheelhouse remove sageattention-2.2.0+68de379...whl")
def remove(
    names: Annotated[list[str], typer.Argument(help="File names of wheels.", show_default=False)],
    wheelhouse: options.WheelhousePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Delete wheels and their proofs."""
    with running("wheelhouse remove", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.situation import open_wheelhouse

        store = open_wheelhouse(wheelhouse, create=False)
        for name in names:
            store.remove(name)
        outcome.result(names, lambda console: console.print(f"Removed {len(names)}."))


@app.command("check", epilog="Example: sagefix wheelhouse check --wheelhouse wheels")
def check(
    wheelhouse: options.WheelhousePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Hash every wheel and name every damaged or foreign file."""
    with running("wheelhouse check", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.checks import failures
        from sagefix.cli.render import checks
        from sagefix.errors import WheelhouseError
        from sagefix.workflows.situation import open_wheelhouse

        store = open_wheelhouse(wheelhouse, create=False)
        found = store.check()
        outcome.result(found, lambda console: checks(console, found, title=str(store.path)))
        if bad := failures(found):
            raise WheelhouseError(
                f"{len(bad)} of {len(found)} checks of {store.path} failed.",
                hint=next((c.fix for c in bad if c.fix), ""),
            )


@app.command("index", epilog="Example: sagefix wheelhouse index && python -m http.server --directory wheels")
def index(
    wheelhouse: options.WheelhousePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write the pages of the simple index anew."""
    with running("wheelhouse index", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.situation import open_wheelhouse

        store = open_wheelhouse(wheelhouse, create=True)
        store.write_index()
        url = store.path.as_uri()
        outcome.result(
            {"path": str(store.path), "url": url},
            lambda console: console.print(f"pip install --index-url {url} PROJECT", soft_wrap=True),
        )


@app.command("prune", epilog="Example: sagefix wheelhouse prune --keep 1 --dry-run")
def prune(
    keep: Annotated[
        int | None,
        typer.Option("--keep", min=1, help="Keep so many of the newest of each kind.", show_default=False),
    ] = None,
    unproven: Annotated[
        bool, typer.Option("--unproven", help="Also delete what passed no verification.")
    ] = False,
    project: Annotated[
        str | None, typer.Option("--project", help="Only wheels of this project.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
    wheelhouse: options.WheelhousePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Delete wheels that are not wanted any more, and what interrupted writes left."""
    with running("wheelhouse prune", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.workflows.situation import open_wheelhouse

        gone = open_wheelhouse(wheelhouse, create=False).prune(
            keep, unproven, project=project, dry_run=dry_run
        )
        word = "Would delete" if dry_run else "Deleted"
        lines = [f"{word} {line}" for line in gone] or ["Nothing to delete."]
        outcome.result(gone, lambda console: console.print("\n".join(lines), soft_wrap=True))


@app.command("show", epilog="Example: sagefix wheelhouse show sageattention-2.2.0+68de379...whl --explain")
def show(
    wheel: Annotated[
        str, typer.Argument(help="A wheel's path, or its file name in the wheelhouse.", show_default=False)
    ],
    explain: Annotated[
        bool, typer.Option("--explain", help="Say in words and commands how to build it again.")
    ] = False,
    wheelhouse: options.WheelhousePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Read back how a wheel was made: its record, SBOM, statement and proofs, held against its files."""
    with running("wheelhouse show", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.checks import failures
        from sagefix.cli.showing import explanation, provenance
        from sagefix.errors import WheelError
        from sagefix.workflows.howto import how_to_rebuild
        from sagefix.workflows.provenance import show as read_back
        from sagefix.workflows.situation import open_wheelhouse

        shown = read_back(wheel, open_wheelhouse(wheelhouse, create=False))
        if explain:
            lines = how_to_rebuild(shown)
            outcome.result({"wheel": shown.path, "lines": lines}, lambda console: explanation(console, lines))
        else:
            outcome.result(shown, lambda console: provenance(console, shown))
        if bad := failures(shown.checks):
            raise WheelError(
                f"What is told of {shown.filename} is contradictory: {bad[0].name}: {bad[0].found}.",
                hint=bad[0].fix,
            )


@app.command("record", epilog="Example: sagefix wheelhouse record sageattention-2.2.0+68de379...whl")
def record(
    names: Annotated[
        list[str], typer.Argument(help="Wheels: paths, or file names in the wheelhouse.", show_default=False)
    ],
    to: Annotated[
        Path | None,
        typer.Option("--to", help="The folder of records. Default: manifests/builds.", show_default=False),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the record of another wheel of the same name.")
    ] = False,
    wheelhouse: options.WheelhousePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write the small record that stays in the repository of each published wheel."""
    with running("wheelhouse record", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.settings import manifests_dir
        from sagefix.workflows.provenance import BUILDS, write_build_record
        from sagefix.workflows.situation import open_wheelhouse

        store = open_wheelhouse(wheelhouse, create=False)
        folder = to or manifests_dir() / BUILDS
        written = [str(write_build_record(name, store, folder, replace=replace)) for name in names]
        outcome.result(
            written,
            lambda console: console.print("\n".join(f"Wrote {path}" for path in written), soft_wrap=True),
        )


choose.register(app)
compare.register(app)
