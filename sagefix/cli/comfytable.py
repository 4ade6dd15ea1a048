"""How installations, edits and logs of ComfyUI look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.comfyui.consoles import Console as Log
    from sagefix.comfyui.installations import Installation
    from sagefix.workflows.comfyui import Written
    from sagefix.workflows.comfyui_check import Checked


def installations(console: Console, found: Sequence[Installation]) -> None:
    """Draw each installation with its Pythons, and say which one it runs in."""
    from rich.text import Text

    from sagefix.cli.render import table

    for each in found:
        version = f"ComfyUI {each.version}" if each.version else "ComfyUI"
        drawn = table(
            "Python", "", "version", "torch", "because", title=f"{version} ({each.kind}) in {each.root}"
        )
        for candidate in each.candidates:
            mark = Text("chosen", "green") if candidate.python == each.python else Text("", "yellow")
            if not each.python and candidate.accepted:
                mark = Text("may be", "yellow")
            drawn.add_row(
                candidate.python,
                mark,
                candidate.version or "-",
                candidate.torch or "-",
                "; ".join(candidate.reasons),
            )
        console.print(drawn)
        if not each.python:
            _plain(console, "Which Python it runs in is not clear: name it with --python.")


def checked(console: Console, made: Checked) -> None:
    """Draw the checks, and what they were made for."""
    from sagefix.cli.render import checks

    where = f" for ComfyUI in {made.installation.root}" if made.installation else ""
    on = f" on {', '.join(made.archs)} (from {made.archs_from})" if made.archs else ""
    checks(console, made.checks, title=f"Checked{where}{on}" if where or on else None)


def written(console: Console, files: Sequence[Written], *, dry_run: bool) -> None:
    """Say what was written into each file, or would be."""
    for each in files:
        for change in each.changes:
            inside = f" in {change.inside}" if change.inside else ""
            _plain(
                console,
                f"{each.file}: node {change.node} ({change.type}){inside}: {change.field}: "
                f"{change.before} -> {change.after}",
            )
        for label in each.already:
            _plain(console, f"{each.file}: {label}: already so")
        for refusal in each.refused:
            _plain(
                console,
                f"{each.file}: node {refusal.node} ({refusal.type}): {refusal.field}: cannot be set: {refusal.why}",
            )
        for node in each.left:
            _plain(console, f"{each.file}: {node}: left alone, since sagefix does not know this type of node")
        if each.written:
            _plain(console, f"Written; as it was: {each.backup}")
        elif dry_run and each.changes:
            _plain(console, "Nothing was written (--dry-run).")


def console_log(console: Console, read: Log) -> None:
    """Draw the lines that tell something, then the verdict and what to do."""
    from rich.text import Text

    from sagefix.cli.render import table

    if read.seen:
        drawn = table("line", "times", "it says", "which means")
        for each in read.seen:
            means = Text(each.says)
            for source in each.sources if each.fix else ():
                means.append(f"\n  {source}", style="dim")
            drawn.add_row(str(each.number), str(each.count), Text(each.line[:160]), means)
        console.print(drawn)
    if read.starts > 1:
        _plain(console, f"The log holds {read.starts} starts of ComfyUI; this is about the last.")
    _plain(console, read.words)
    for fix in read.fixes:
        _plain(console, f"-> {fix}")


def _plain(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
