"""How the provenance of a wheel looks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sagefix.files import human_size

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.wheels.model import Command, Record
    from sagefix.workflows.provenance import Shown


def provenance(console: Console, shown: Shown) -> None:
    """Draw what a wheel is, what it was made from and with, and whether all that agrees."""
    from rich.markup import escape

    from sagefix.cli.render import checks, table

    drawn = table("", "")
    drawn.add_row("wheel", shown.path)
    drawn.add_row("sha256", f"{shown.sha256} ({human_size(shown.size)})")
    for name, value in _facts(shown.record) if shown.record else ():
        drawn.add_row(name, escape(value))
    for proof in shown.proofs:
        drawn.add_row("proof", f"{proof.level} {'passed' if proof.passed else 'FAILED'}, {proof.when}")
    console.print(drawn)
    checks(console, shown.checks)


def explanation(console: Console, lines: Iterable[str]) -> None:
    """Print lines as they are: commands in them are to be copied."""
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _facts(record: Record) -> list[tuple[str, str]]:
    tools = [f"{name} {version}" for name, version in record.tools.items()]
    packages = [f"{package.name} {package.version}" for package in record.packages]
    flags = [f"{each.path}: {_flags(each.compile)}" for each in record.compiled]
    rows = [
        ("made", f"{record.origin} by sagefix {record.sagefix}"),
        ("commit", f"{record.commit} of {record.source_url}"),
        ("tree", f"{record.tree}, {len(record.sources)} files"),
        ("for", " ".join(filter(None, [record.python_tag, record.platform_tag, *record.archs]))),
        ("torch", f"{record.torch} (CUDA {record.cuda})" if record.torch else ""),
        ("glibc", f"{record.glibc} or newer" if record.glibc else ""),
        ("fixes", " ".join(record.fixes)),
        ("patches", " ".join(record.patches)),
        ("key", record.key),
        ("tools", "\n".join(tools)),
        ("packages", "\n".join(packages)),
        ("environment", "\n".join(f"{name}={value}" for name, value in record.environment.items())),
        ("flags", "\n".join(flags)),
        ("not known", ", ".join(record.unknown)),
    ]
    return [(name, value) for name, value in rows if value]


def _flags(commands: Iterable[Command]) -> str:
    return " / ".join(f"{command.program} {' '.join(command.flags)}" for command in commands)
