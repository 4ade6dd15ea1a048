"""The check of the documentation: every kind of lie is caught, and the pages of this checkout hold none."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from check_docs import ROOT, main, problems
from docs_checks import (
    anchors,
    check_commands,
    check_generated,
    check_links,
    check_manifest,
    check_variables,
    shell_lines,
    simple_commands,
)
from docs_product import (
    Command,
    Option,
    code_variables,
    commands_page,
    exit_codes_table,
    make_targets,
    manifest_tables,
    read_tree,
)
from draw_output import PICTURES, draw

from sagefix.errors import BuildError, all_errors

LEVEL = Option(("--level",), value="static|import", choices=("static", "import"))
TREE = Command(
    path=(),
    children={
        "install": Command(
            path=("install",),
            text="Install it.",
            example="sagefix install --level static",
            options=(LEVEL, Option(("-p", "--python"), value="TEXT"), Option(("--dry-run",), help="Say it.")),
        ),
        "wheelhouse": Command(path=("wheelhouse",), children={"list": Command(path=("wheelhouse", "list"))}),
    },
)
TARGETS = frozenset({"demo", "check-readme"})


def sh(line: str) -> str:
    return f"```sh\n{line}\n```\n"


def wrong(text: str) -> list[str]:
    return check_commands("page.md", text, TREE, TARGETS)


# Commands


@pytest.mark.parametrize(
    "line",
    [
        "sagefix install -p venv --level=static --dry-run",
        "sagefix install --level LEVEL --help",
        "A=1 sagefix wheelhouse list | head -1 && make demo PYTHON=python3.12",
        'pip install --index-url "file://$(sagefix wheelhouse list)" x',
        "scripts/install-sageattention.sh --python venv   # sagefix frob",
        "sagefix install \\\n  --dry-run",
        "git clone <this repository> && python -m http.server --frob",
    ],
)
def test_what_exists_passes(line: str) -> None:
    assert wrong(sh(line)) == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("sagefix frob", "sagefix has no command frob"),
        ("sagefix wheelhouse frob", "sagefix wheelhouse has no command frob"),
        ("sagefix install --frob", "sagefix install has no option --frob"),
        ("sagefix wheelhouse list --dry-run", "sagefix wheelhouse list has no option --dry-run"),
        ("sagefix install --level numerics", "--level takes static, import, not numerics"),
        ("sagefix install --python", "sagefix install --python needs a value"),
        ("cd x; A=1 /opt/bin/sagefix frob", "sagefix has no command frob"),
        ('pip install "file://$(sagefix wheelhouse frob)"', "sagefix wheelhouse has no command frob"),
        ("scripts/install-sageattention.sh --frob", "sagefix install has no option --frob"),
        ("make frob", "no target frob"),
        ("sagefix install --python 'x", "cannot be read as a command: No closing quotation"),
    ],
)
def test_what_does_not_exist_is_found(line: str, why: str) -> None:
    (told,) = wrong(sh(line))
    assert told.startswith(f"page.md: `{line}`")
    assert told.endswith(why)


def test_commands_stand_in_blocks_and_in_sentences() -> None:
    text = (
        "Run `sagefix a` or `make b`, see `sagefix.toml`.\n"
        "```text\n$ sagefix c\nsagefix d\n```\n"
        "```toml\nsagefix e\n```\n"
    )
    assert list(shell_lines(text)) == ["sagefix a", "make b", "sagefix c"]


def test_a_line_of_shell_is_taken_apart() -> None:
    line = "A=1 x 'a;b' \"$(y z)\" | w > f"
    assert list(simple_commands(line)) == [["y", "z"], ["x", "a;b", "SUBSTITUTED"], ["w"], ["f"]]


def test_the_reference_tells_of_every_command_and_option() -> None:
    page = commands_page(TREE)
    assert check_generated("docs/commands.md", page, page) == []
    assert "## sagefix wheelhouse list" in page
    assert "| `--level static\\|import` |" in page
    (told,) = check_generated("docs/commands.md", page.replace("Say it.", "Do it."), page)
    assert told.startswith("docs/commands.md is out of date (it lacks: | `--dry-run` | Say it. |)")


def test_the_real_command_line_is_read() -> None:
    install = read_tree().children["install"]
    assert install.option("-p") == install.option("--python")
    assert install.option("--verify") is not None
    level = read_tree().children["verify"].option("--level")
    assert level is not None
    assert level.choices == ("static", "import", "numerics", "full")
    (wheels,) = read_tree().children["wheelhouse"].children["add"].arguments
    assert wheels.repeatable


# Exit statuses, make targets, variables


def test_a_changed_exit_status_is_found() -> None:
    table = exit_codes_table(all_errors())
    assert f"| {BuildError.exit_code} | `build` | The build backend or a compiler failed. |" in table
    assert check_generated("docs/exit-codes.md", f"# Title\n\n{table}\n", table) == []
    assert check_generated("docs/exit-codes.md", table.replace("| 10 |", "| 11 |"), table)


def test_targets_are_read_from_the_makefile() -> None:
    text = "X := 1\ndemo: dev\n\tmake x\n$(VENV)/.installed: y\ncheck-readme:\n.PHONY: demo\n"
    assert make_targets(text) == TARGETS


def test_variables_are_told_both_ways() -> None:
    code = code_variables(
        ['environ.get("SAGEFIX_A")\n# SAGEFIX_COMMENT'], ['x="${SAGEFIX_B:-y}"\nunset SAGEFIX_C']
    )
    assert code == {"SAGEFIX_A", "SAGEFIX_B"}
    assert check_variables({"page.md": "`SAGEFIX_A`, `SAGEFIX_B`, `SAGEFIX_*`"}, code) == []
    assert check_variables({"page.md": "`SAGEFIX_A` and `SAGEFIX_Z`"}, code) == [
        "page.md: nothing reads SAGEFIX_Z",
        "docs/settings.md: SAGEFIX_B is in the code and in no page",
    ]


# Manifest keys


class Row(msgspec.Struct, kw_only=True):
    arch: str
    links: tuple[str, ...] = ()


class Manifest(msgspec.Struct, kw_only=True):
    schema: Literal[1]
    torch: bool = True
    row: tuple[Row, ...] = ()


KEYS = """\
### Top level

| key | type | default | meaning |
|---|---|---|---|
| `schema` | `1` | required | A. |
| `torch` | true or false | `true` | B. |
| `row` | `[[row]]` | `[]` | C. |

### `[[row]]`

| `arch` | text | required | D. |
| `links` | list of text | `[]` | E. |

## Another table

| `other` | text | required | F. |
"""


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("| `links` | list of text | `[]` | E. |\n", "", "[row] has no row for links"),
        ("| D. |\n", "| D. |\n| `frob` | text | required | X. |\n", "[row] has no key frob"),
        ("true or false", "text", "torch of the top level should be | true or false | `true` |"),
        ("`[]` | E.", "required | E.", "links of [row] should be | list of text | `[]` |"),
    ],
)
def test_a_table_of_keys_is_compared_with_the_types(old: str, new: str, why: str) -> None:
    tables = manifest_tables(Manifest)
    assert check_manifest("docs/pins.md", KEYS, tables) == []
    assert check_manifest("docs/pins.md", KEYS.replace(old, new), tables) == [f"docs/pins.md: {why}"]


# Links


def test_dead_links_and_anchors_are_found() -> None:
    texts = {
        "README.md": "[a](docs/a.md#the-title) [b](docs/b.md) [c](docs/a.md#gone) [d](#here)\n"
        "[e](https://x.y/#z)\n\n# Here\n",
        "docs/a.md": "# The `title`\n\n```sh\n# no heading\n[x](nowhere.md)\n```\n[up](../README.md) [f](../LICENSE)\n",
    }
    there = {*texts, "LICENSE"}
    assert check_links("README.md", texts, there.__contains__) == [
        "README.md: the link to docs/b.md leads nowhere",
        "README.md: docs/a.md has no heading for #gone",
    ]
    assert check_links("docs/a.md", texts, there.__contains__) == []


def test_anchors_are_those_of_github() -> None:
    assert anchors("# A b, c!\n## A b, c!\n### `[[recipe.capability]]`\n") == {
        "a-b-c",
        "a-b-c-1",
        "recipecapability",
    }


# This checkout


def test_the_pages_of_this_checkout_are_true(capsys: pytest.CaptureFixture[str]) -> None:
    assert problems(ROOT) == []
    assert main([]) == 0
    assert capsys.readouterr().err == ""


def test_a_lie_ends_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("sagefix", "tests", "scripts", "benchmarks", "manifests", "LICENSE", "Makefile"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "wheels/README.md"]:
        copy = tmp_path / page.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "docs/commands.md").write_text("# Commands\n", encoding="utf-8")
    (tmp_path / "README.md").write_text("Run `sagefix frob`.\n", encoding="utf-8")
    monkeypatch.setattr("check_docs.ROOT", tmp_path)
    assert main([]) == 1
    told = capsys.readouterr().err
    assert "README.md: `sagefix frob`: sagefix has no command frob\n" in told
    assert "docs/commands.md is out of date" in told
    # What is generated is put right; what people wrote is theirs to correct.
    assert main(["--write"]) == 1
    assert "docs/commands.md" not in capsys.readouterr().err


# Pictures


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_shows_the_result_that_was_recorded(name: str) -> None:
    recorded = json.loads(PICTURES[name].read_text(encoding="utf-8"))["result"]
    drawn = draw(PICTURES[name])
    # Which rich draws decides about colours and places; what is said is the same.
    for picture in (drawn, (ROOT / "docs" / "pictures" / name).read_text(encoding="utf-8")):
        text = html.unescape(picture).replace("\xa0", " ")
        assert recorded["subject"] in text
        assert all(
            f">{check['name']} " in text or f">{check['name']}<" in text for check in recorded["checks"]
        )
        assert "@font-face" not in text and not re.search(r"\.[\w-]*\.[\w-]* \{", text)
