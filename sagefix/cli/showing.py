"""How the provenance of a wheel looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from sagefix.files import human_size

if TYPE_CHECKING:
    from rich.console import Console

    from sagefix.wheels.model import Command, Proof, Record
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
        drawn.add_row("proof", escape("\n".join(_proof(proof))))
    console.print(drawn)
    checks(console, shown.checks)


def _proof(proof: Proof) -> Iterator[str]:
    """Say a proof: outcome, place and time; then how many cases came out how, what they mean, and hazards."""
    from sagefix.wheelhouse.proving import named

    yield f"{named(proof)} {'passed' if proof.passed else 'FAILED'}, {proof.when}"
    where = [f"driver {proof.driver}" if proof.driver else "", f"torch {proof.torch}" if proof.torch else ""]
    numerics = proof.verdict.get("numerics") or {}
    counted = Counter(str(case.get("status")) for case in numerics.get("cases", ()))
    cases = ", ".join(f"{count} {status}" for status, count in counted.most_common())
    if told := [*filter(None, where), *([f"cases: {cases}"] if cases else [])]:
        yield "  " + "; ".join(told)
    if emulated := proof.verdict.get("emulated"):
        yield f"  {emulated['machine']} under {emulated['emulator']}, Python {emulated['python']}"
        yield f"  unproven: {', '.join(emulated['unproven'])}"
        yield f"  proven on a machine of its own by: {emulated['command']}"
    yield from (f"  {sentence}" for sentence in numerics.get("words", ()))
    yield from (f"  hazard: {sentence}" for sentence in proof.hazards)
    if not proof.passed:
        failed = [check for check in proof.verdict.get("checks", ()) if check.get("status") == "failure"]
        yield from (f"  {check.get('name')}: {check.get('found')}" for check in failed)


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
