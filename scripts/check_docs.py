"""Compares the documentation with the product, so that it cannot lie.

python scripts/check_docs.py           name everything that is wrong; exit status 1 if anything is
python scripts/check_docs.py --write   first write docs/commands.md, the table of exit statuses and the schemas anew
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from docs_checks import check_commands, check_generated, check_links, check_manifest, check_variables
from docs_product import (
    code_variables,
    commands_page,
    exit_codes_table,
    make_targets,
    manifest_tables,
    proof_schema,
    read_tree,
)

from sagefix.errors import all_errors

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = "docs/schemas/proof.schema.json"


def pages(root: Path) -> dict[str, str]:
    """Read every page of ours, by its path below ``root``; recorded results are left as they were."""
    ours = (root / name for name in ("README.md", "CHANGELOG.md", "wheels/README.md"))
    files = [*ours, *sorted((root / "docs").glob("*.md"))]
    return dict(zip((file.relative_to(root).as_posix() for file in files), _read(files), strict=True))


def _read(files: Iterable[Path]) -> list[str]:
    return [file.read_text(encoding="utf-8") for file in files]


def problems(root: Path) -> list[str]:
    """Return everything that is wrong with the documentation of a checkout."""
    texts, tree = pages(root), read_tree()
    targets = make_targets((root / "Makefile").read_text(encoding="utf-8"))
    python = (
        path for folder in ("sagefix", "tests/gpu", "benchmarks") for path in (root / folder).rglob("*.py")
    )
    shell = (
        path
        for folder in ("scripts", "manifests/docker", "manifests/kit")
        for path in (root / folder).glob("*.sh")
    )
    code = code_variables(_read(python), _read(shell))
    wrong = []
    for page, text in texts.items():
        wrong += check_commands(page, text, tree, targets)
        wrong += check_links(page, texts, lambda path: (root / path).exists())
    wrong += check_variables(texts, code)
    wrong += check_generated("docs/commands.md", texts.get("docs/commands.md", ""), commands_page(tree))
    wrong += check_generated(
        "docs/exit-codes.md", texts["docs/exit-codes.md"], exit_codes_table(all_errors())
    )
    schema = root / SCHEMA
    wrong += check_generated(
        SCHEMA, schema.read_text(encoding="utf-8") if schema.is_file() else "", proof_schema()
    )
    return wrong + check_manifest("docs/pins.md", texts["docs/pins.md"], manifest_tables())


def write(root: Path) -> None:
    """Write what is generated."""
    (root / "docs/commands.md").write_text(commands_page(read_tree()), encoding="utf-8")
    (root / SCHEMA).parent.mkdir(exist_ok=True)
    (root / SCHEMA).write_text(proof_schema(), encoding="utf-8")
    page = root / "docs/exit-codes.md"
    parts = re.split(
        r"<!-- generated: exit codes -->.*?<!-- end -->", page.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    page.write_text(exit_codes_table(all_errors()).join(parts), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Run; ``--write`` writes first."""
    if "--write" in arguments:
        write(ROOT)
    wrong = problems(ROOT)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
