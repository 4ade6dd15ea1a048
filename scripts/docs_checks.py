"""What pages may get wrong. Each ``check_`` function returns sentences, one for each thing that is wrong."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from docs_product import Command

WRITE = "run `python scripts/check_docs.py --write`"
# The two scripts that people know, and the command that each one is.
SCRIPTS = {"install-sageattention.sh": "install", "save-sageattention-wheel.sh": "save-wheel"}


def shell_lines(text: str) -> Iterator[str]:
    """Yield the commands in a page: lines of ``sh`` blocks, ``$`` lines of others, and code inside sentences."""
    language: str | None = None
    waiting = ""
    for line in text.splitlines():
        if fence := re.match(r"\s*```(\w*)", line):
            language, waiting = (fence[1] if language is None else None), ""
        elif language is None:
            yield from (
                span for span in re.findall(r"`([^`]+)`", line) if re.match(r"(sagefix|make)\s", span)
            )
        elif language == "sh" or line.startswith("$ ") or waiting:
            waiting += line.removeprefix("$ ")
            if waiting.endswith("\\"):
                waiting = waiting[:-1] + " "
            else:
                yield waiting
                waiting = ""


def simple_commands(line: str) -> Iterator[list[str]]:
    """Split a line of shell into the words of each command in it, those inside ``$(...)`` included."""
    inner = re.findall(r"\$\(([^()]*)\)", line)
    for part in inner:
        yield from simple_commands(part)
    lexer = shlex.shlex(re.sub(r"\$\([^()]*\)", "SUBSTITUTED", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if not token.strip("();<>|&"):
            if words:
                yield words
            words = []
        elif words or not re.match(r"[A-Z_]+=", token):
            words.append(token)


def check_commands(page: str, text: str, tree: Command, targets: frozenset[str]) -> list[str]:
    """Every ``sagefix ...`` and ``make ...`` in a page exists, with its options."""
    wrong = []
    for line in shell_lines(text):
        try:
            commands = list(simple_commands(line))
        except ValueError as error:
            wrong.append(f"{page}: `{line}` cannot be read as a command: {error}")
            continue
        for first, *rest in commands:
            name = first.rpartition("/")[2]
            if name in ("sagefix", *SCRIPTS):
                words = [SCRIPTS[name], *rest] if name in SCRIPTS else rest
                wrong += [f"{page}: `{line}`: {why}" for why in _misuse(words, tree)]
            elif name == "make":
                given = [word for word in rest if "=" not in word and not word.startswith("-")]
                wrong += [f"{page}: `{line}`: no target {word}" for word in given if word not in targets]
    return wrong


def _misuse(words: Sequence[str], tree: Command) -> Iterator[str]:
    node, waiting = tree, list(words)
    while waiting:
        word = waiting.pop(0)
        path = " ".join(["sagefix", *node.path])
        if word.startswith("-"):
            name, given, value = word.partition("=")
            option = node.option(name)
            if option is None:
                yield f"{path} has no option {name}"
            elif option.value and not given and not waiting:
                yield f"{path} {name} needs a value"
            elif option.value:
                value = value if given else waiting.pop(0)
                if option.choices and value not in option.choices and not value.isupper():
                    yield f"{path} {name} takes {', '.join(option.choices)}, not {value}"
        elif node.children:
            if word not in node.children:
                yield f"{path} has no command {word}"
                return
            node = node.children[word]


def check_links(page: str, texts: Mapping[str, str], exists: Callable[[str], bool]) -> list[str]:
    """Every relative link of a page leads to a file, and its anchor to a heading."""
    wrong = []
    for target in re.findall(r"\]\(([^()\s]+)\)", _without_code(texts[page])):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = _resolve(page, path) if path else page
        if not exists(file):
            wrong.append(f"{page}: the link to {target} leads nowhere")
        elif anchor and file in texts and anchor not in anchors(texts[file]):
            wrong.append(f"{page}: {file} has no heading for #{anchor}")
    return wrong


def anchors(text: str) -> frozenset[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    seen: dict[str, int] = {}
    for title in re.findall(r"^#+ +(.+?) *$", _without_code(text), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        seen[slug] = seen.get(slug, -1) + 1
    return frozenset(f"{slug}-{n}" if n else slug for slug, count in seen.items() for n in range(count + 1))


def _without_code(text: str) -> str:
    return re.sub(r"^\s*```.*?^\s*```", "", text, flags=re.MULTILINE | re.DOTALL)


def _resolve(page: str, path: str) -> str:
    parts: list[str] = []
    for part in [*page.split("/")[:-1], *path.split("/")]:
        if part == "..":
            parts = parts[:-1] if parts and parts[-1] != ".." else [*parts, ".."]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def check_variables(texts: Mapping[str, str], code: frozenset[str]) -> list[str]:
    """Every ``SAGEFIX_*`` variable that a page names is in the code, and every one of the code in some page."""
    named = {page: set(re.findall(r"\bSAGEFIX_[A-Z_]*[A-Z]\b", text)) for page, text in texts.items()}
    wrong = [
        f"{page}: nothing reads {name}" for page, names in named.items() for name in sorted(names - code)
    ]
    untold = code - {name for names in named.values() for name in names}
    return wrong + [f"docs/settings.md: {name} is in the code and in no page" for name in sorted(untold)]


def check_manifest(page: str, text: str, tables: Mapping[str, Mapping[str, tuple[str, str]]]) -> list[str]:
    """The page's tables list every key of a manifest with its type and default, and no other."""
    told: dict[str, dict[str, tuple[str, str]]] = {}
    current: str | None = None
    for line in text.splitlines():
        if line.startswith("#"):
            heading = re.fullmatch(r"#+ (?:`\[+([a-z.]+)\]+`|Top level)", line)
            current = (heading[1] or "") if heading else None
        elif current is not None and (row := re.match(r"\| `(\w+)` \| (.+?) \| (.+?) \|", line)):
            told.setdefault(current, {})[row[1]] = (row[2], row[3])
    wrong = []
    for name, keys in tables.items():
        where = f"[{name}]" if name else "the top level"
        rows = told.get(name, {})
        wrong += [f"{page}: {where} has no row for {key}" for key in keys if key not in rows]
        wrong += [f"{page}: {where} has no key {key}" for key in rows if key not in keys]
        wrong += [
            f"{page}: {key} of {where} should be | {' | '.join(keys[key])} |"
            for key in keys
            if key in rows and rows[key] != keys[key]
        ]
    return wrong


def check_generated(page: str, text: str, wanted: str) -> list[str]:
    """A generated part stands in its page as it would be written now."""
    if wanted in text:
        return []
    there = set(text.splitlines())
    lost = next((line for line in wanted.splitlines() if line not in there), "")
    return [f"{page} is out of date{f' (it lacks: {lost})' if lost else ''}: {WRITE}"]
