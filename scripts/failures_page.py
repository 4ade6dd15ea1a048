"""Makes docs/failures.md out of manifests/failures.toml.

python scripts/failures_page.py           exit status 1 if the page is not what the table says
python scripts/failures_page.py --write   write it
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sagefix.building.failures import Failure, Table, When, load_failures

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/failures.md"

_INTRODUCTION = """# When a build fails

`sagefix explain` says what a failed build, install or import means and what to do about it:

    sagefix explain                 # the newest build that failed
    sagefix explain build.log       # any log: pip's, uv's, docker's, yours
    sagefix explain -               # an error that you paste (end with Ctrl-D)

It prints the cause, the fix and where that is known from, the first real error out of ninja's noise, and what was
different then from what is here now (`--python` names the target; the log tells its own compiler, toolkit and torch). A
build that fails says the same at its end. `--json` has all of it under `result`. The exit status is 0 when the
failure is known and 22 when it is not; then there is a report to paste, without user names, home folders and tokens.

The table is data: `manifests/failures.toml`. A row has patterns, a condition, cause, fix and sources, and a test
holds each to its example. **Seen** means that the message was provoked by this project; how is said in the row. The
others come from the report that is linked first. This page is made from the table
(`python scripts/failures_page.py --write`).
"""
_TITLES = {"build": "Building", "install": "Installing", "run": "Importing and calling"}


def page(table: Table) -> str:
    """Return the page."""
    parts = [_INTRODUCTION]
    for stage, title in _TITLES.items():
        rows = [row for row in table.failure if row.strikes[0] == stage]
        parts += [f"## {title}\n", *map(_row, rows)]
    return "\n".join(parts)


def _row(row: Failure) -> str:
    also = "" if len(row.strikes) == 1 else f" Also met at: {', '.join(row.strikes[1:])}."
    seen = f"Seen: {row.provoked}." if row.seen else "From the reports below."
    example = [line.strip() for line in row.example.strip().splitlines()]
    message = next((line for line in example if any(_matches(row, line))), example[-1])
    condition = f"- When {_condition(row.when)}.\n" if row.when != When() else ""
    return (
        f"### {row.means.format(*'XYZ')}\n\n"
        f"`{row.name}`\n\n"
        f"```text\n{message if len(message) < 240 else message[:240] + ' ...'}\n```\n\n"
        f"{condition}"
        f"- **Cause.** {row.cause.format(*'XYZ')}\n"
        f"- **Fix.** {row.fix.format(*'XYZ')}\n"
        f"- {seen}{also}\n"
        f"- {' '.join(f'<{source}>' for source in row.sources)}\n"
    )


def _matches(row: Failure, line: str) -> Sequence[bool]:
    import re

    return [re.search(pattern, line) is not None for pattern in row.patterns]


def _condition(when: When) -> str:
    said = {
        "torch has CUDA" if when.torch_cuda else "torch has no CUDA": when.torch_cuda is not None,
        "there is a CUDA toolkit" if when.toolkit else "there is no CUDA toolkit": when.toolkit is not None,
        f"torch is {when.torch}": bool(when.torch),
        f"nvcc is {when.cuda}": bool(when.cuda),
        f"the machine is {when.machine}": bool(when.machine),
        f"the system is {when.system}": bool(when.system),
        f"there are less than {when.memory_gib_below} GiB of memory": when.memory_gib_below is not None,
        f"the exit status is {' or '.join(map(str, when.exit_status))}": bool(when.exit_status),
    }
    return " and ".join(text for text, given in said.items() if given)


def main(arguments: Sequence[str]) -> int:
    """Run; ``--write`` writes."""
    made = page(load_failures(ROOT / "manifests"))
    if "--write" in arguments:
        PAGE.write_text(made, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != made:
        print(f"{PAGE} is not what manifests/failures.toml says: run with --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
