"""``sagefix source``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sagefix.cli import options
from sagefix.cli.output import running

app = typer.Typer(
    help="The pinned source: fetch it, or pack it for a machine without network.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("fetch", epilog="Example: sagefix source fetch --ref d1a57a5")
def fetch(
    pin: options.Pin = "sageattention",
    ref: options.Ref = None,
    source: options.Source = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Fetch the commit into the cache and compare it with the pin."""
    with running("source fetch", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.files import human_size
        from sagefix.workflows.situation import Request
        from sagefix.workflows.source import fetch_source

        fetched = fetch_source(Request(pin=pin, ref=ref, source=source, offline=offline))
        how = "from the cache" if fetched.from_cache else f"{human_size(fetched.received)} received"
        outcome.result(
            fetched,
            lambda console: console.print(
                f"{fetched.commit} (tree {fetched.tree[:12]}) from {fetched.origin}: {how}", soft_wrap=True
            ),
        )


@app.command("bundle", epilog="Example: sagefix source bundle sageattention.bundle")
def bundle(
    file: Annotated[Path, typer.Argument(help="The bundle to write.", show_default=False)],
    pin: options.Pin = "sageattention",
    ref: options.Ref = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help="Also every commit from this one on, for `sagefix bisect` without a network.",
            show_default=False,
        ),
    ] = None,
    source: options.Source = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write the commit into one file; `--source FILE` builds from it without a network."""
    with running("source bundle", json=json, quiet=quiet, verbose=verbose) as outcome:
        from sagefix.files import human_size
        from sagefix.workflows.situation import Request
        from sagefix.workflows.source import bundle_history, bundle_source

        request = Request(pin=pin, ref=ref, source=source, offline=offline)
        written = bundle_history(request, since, file) if since else bundle_source(request, file)
        before = f" and {written.commits - 1} commits before it" if written.commits > 1 else ""
        outcome.result(
            written,
            lambda console: console.print(
                f"Wrote {written.file} ({human_size(written.size)}) with {written.commit}{before}",
                soft_wrap=True,
            ),
        )
