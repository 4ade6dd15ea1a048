"""Manifests, right and wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagefix import settings
from sagefix.archs import parse_arch
from sagefix.errors import PinError
from sagefix.pins.load import list_pins, load_file, load_pin

A, B, C, D = "a" * 40, "b" * 40, "c" * 40, "d" * 40

GOOD = f'''schema = 1
name = "tiny"
project = "tiny"
package = "tiny"
version = "1.0"
summary = "For tests"
device = "cuda"
license = "MIT"

[source]
url = "https://example.org/tiny"
commit = "{A}"
tree = "{B}"
files = ["/setup.py", "/tiny/"]

[build]
memory_gib = 2

[[recipe]]
name = "only"
setup_py = ["{C}"]
sources = ["https://example.org"]

    [[recipe.capability]]
    arch = "8.9"
    gencode = "89"
    min_cuda = "12.4"
    extensions = ["tiny._a"]
    dispatch = "a"
    sources = ["https://example.org"]

    [[recipe.capability]]
    arch = "9.0"
    gencode = "90a"
    min_cuda = "12.3"
    extensions = ["tiny._a", "tiny._b"]
    dispatch = ""
    reason = "refused"
    sources = ["https://example.org"]

    [[recipe.refusal]]
    archs = ["12.1"]
    reason = "too new"
    sources = ["https://example.org"]

    [[recipe.refusal]]
    archs = ["*"]
    reason = "unknown"
    sources = ["https://example.org"]

[[ref]]
names = ["v1"]
commit = "{A}"
tree = "{B}"
recipe = "only"

[[ref]]
names = ["v2", "next"]
commit = "{D}"
tree = "{C}"
recipe = "only"

[[known]]
status = "bad"
archs = ["9.0"]
commits = ["{D}"]
reason = "noise"
sources = ["https://example.org"]

[[fault]]
name = "broken"
kind = "unparsable"
files = ["tiny/a.py"]
archs = ["*"]
reason = "it does not parse"
sources = ["https://example.org"]
'''


def write(folder: Path, text: str, name: str = "tiny") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_a_good_manifest_becomes_a_pin(tmp_path: Path) -> None:
    pin = load_file(write(tmp_path, GOOD))
    assert pin.source.files == ("/setup.py", "/tiny/")
    assert pin.build.memory_gib == 2.0
    assert pin.build.requires == ("setuptools", "wheel", "packaging", "ninja")
    recipe = pin.recipe_named("only")
    assert pin.recipe_for(C) is recipe
    assert pin.recipe_for(A) is None
    row = recipe.for_arch(parse_arch("9.0+PTX"))
    assert row is not None
    assert (row.gencode, row.reason) == ("90a", "refused")
    ref = pin.ref_of(D)
    assert ref is not None
    assert ref.names == ("v2", "next")
    assert [known.status for known in pin.known_about(D, (parse_arch("8.9"),))] == []
    assert [known.status for known in pin.known_about(D, (parse_arch("8.9"), parse_arch("9.0")))] == ["bad"]
    assert load_pin("tiny", tmp_path) == pin


def test_a_recipe_says_why_it_refuses_an_arch(tmp_path: Path) -> None:
    recipe = load_file(write(tmp_path, GOOD)).recipe[0]
    reasons = {arch: recipe.refusal_of(parse_arch(arch)) for arch in ("9.0", "12.1", "7.5")}
    assert {arch: row.reason if row else None for arch, row in reasons.items()} == {
        "9.0": None,
        "12.1": "too new",
        "7.5": "unknown",
    }


def test_an_embedded_source_is_a_folder_beside_the_manifest(tmp_path: Path) -> None:
    text = GOOD.replace('url = "https://example.org/tiny"', 'embedded = "tiny"')
    with pytest.raises(PinError, match="there is no folder 'tiny' beside the manifest"):
        load_file(write(tmp_path, text))
    (tmp_path / "tiny").mkdir()
    assert load_file(write(tmp_path, text)).source.embedded == "tiny"


@pytest.mark.parametrize("url", ["ssh://git@example.org/tiny", "file:///srv/tiny.git"])
def test_other_urls_that_are_allowed(tmp_path: Path, url: str) -> None:
    assert load_file(write(tmp_path, GOOD.replace("https://example.org/tiny", url))).source.url == url


# What is replaced, by what, on which line the error is (default: the changed one; "@2:x": the second
# that holds x), and what it says.
WRONG = [
    ('min_cuda = "12.3"', "min_cuda = 12", None, "recipe[0].capability[1].min_cuda: expected str, got int"),
    ('device = "cuda"', 'device = "tpu"', None, "device: invalid enum value 'tpu'"),
    ("schema = 1", "schema = 2", None, "schema: invalid enum value 2"),
    ("memory_gib = 2", 'memory_gib = "2"', None, "build.memory_gib: expected float, got str"),
    ("memory_gib = 2", "memory_gib = 0", None, "build.memory_gib: must be more than 0"),
    ("memory_gib = 2", "memory_gb = 2", None, "build.memory_gb: unknown key"),
    ('tree = "' + B + '"\nfiles', "files", "[source]", "source: missing key tree"),
    ('gencode = "90a"\n', "", "@2:[[recipe.capability]]", "recipe[0].capability[1]: missing key gencode"),
    ('license = "MIT"\n', "", "schema = 1", "missing key license"),
    ("[[known]]", "[[knwon]]", None, "knwon: unknown key"),
    ('["/setup.py", "/tiny/"]', '["/setup.py", 3]', None, "source.files[1]: expected str, got int"),
    (
        '["/setup.py", "/tiny/"]',
        '["/setup.py", "tiny/"]',
        None,
        "source.files[1]: 'tiny/' does not start with '/'",
    ),
    ('["/setup.py", "/tiny/"]', '["/../x"]', None, "source.files[0]: '/../x' contains '..'"),
    ('["/setup.py", "/tiny/"]', "[]", None, "source.files: must name at least one pattern"),
    ('name = "tiny"', 'name = "other"', None, "name: 'other' is not the name of the file ('tiny')"),
    (
        f'commit = "{A}"\ntree = "{B}"\nf',
        f'commit = "{A[:7]}"\ntree = "{B}"\nf',
        None,
        "source.commit: 'aaaaaaa' is",
    ),
    (f'tree = "{B}"\nfiles', f'tree = "{B.upper()}"\nfiles', None, "source.tree: 'BBBB"),
    (
        f'tree = "{B}"\nfiles',
        f'tree = "{D}"\nfiles',
        None,
        f"source.tree: {D} is not the tree of its ref ({B})",
    ),
    (
        f'commit = "{A}"\ntree = "{B}"\nf',
        f'commit = "{C}"\ntree = "{B}"\nf',
        None,
        f"source.commit: {C} is not among",
    ),
    (
        f'setup_py = ["{C}"]',
        'setup_py = ["x"]',
        None,
        "recipe[0].setup_py[0]: 'x' is not a full git object name",
    ),
    (f'setup_py = ["{C}"]', f'setup_py = ["{C}", "{C}"]', None, f"recipe[0].setup_py[1]: {C} is there twice"),
    (
        '"https://example.org/tiny"',
        '"http://example.org"',
        None,
        "source.url: 'http://example.org' does not start",
    ),
    (
        '"https://example.org/tiny"',
        '"ext::sh -c id"',
        None,
        "source.url: 'ext::sh -c id' does not start with",
    ),
    (
        '"https://example.org/tiny"',
        '"git@example.org:tiny"',
        None,
        "source.url: 'git@example.org:tiny' does not",
    ),
    (
        'url = "https://example.org/tiny"\n',
        "",
        "[source]",
        "source: exactly one of url and embedded must be given",
    ),
    (
        "[build]",
        'embedded = "x"\n[build]',
        "[source]",
        "source: exactly one of url and embedded must be given",
    ),
    (
        'url = "https://example.org/tiny"',
        'embedded = "../x"',
        None,
        "source.embedded: '../x' is not the name of",
    ),
    (
        'recipe = "only"\n\n[[known',
        'recipe = "none"\n\n[[known',
        None,
        "ref[1].recipe: there is no recipe named 'none'",
    ),
    ('["v2", "next"]', '["v2", "v1"]', None, "ref[1].names[1]: 'v1' is there twice"),
    (
        f'commit = "{D}"\ntree',
        f'commit = "{A}"\ntree',
        '@3:commit = "' + A,
        f"ref[1].commit: {A} is there twice",
    ),
    (
        'arch = "8.9"',
        'arch = "H100"',
        None,
        "recipe[0].capability[0].arch: 'H100' is not a GPU architecture.",
    ),
    ('arch = "8.9"', 'arch = "sm_89"', None, "recipe[0].capability[0].arch: 'sm_89' has to be written '8.9'"),
    ('arch = "8.9"', 'arch = "9.0"', '@2:arch = "9.0"', "recipe[0].capability[1].arch: 9.0 is there twice"),
    (
        'min_cuda = "12.3"',
        'min_cuda = "new"',
        None,
        "recipe[0].capability[1].min_cuda: 'new' is not a version",
    ),
    (
        'gencode = "90a"',
        'gencode = "sm_90a"',
        None,
        "recipe[0].capability[1].gencode: 'sm_90a' is not a number",
    ),
    (
        '["tiny._a", "tiny._b"]',
        "[]",
        None,
        "recipe[0].capability[1].extensions: must name at least one module",
    ),
    (
        '["tiny._a", "tiny._b"]',
        '["x._a"]',
        None,
        "recipe[0].capability[1].extensions[0]: 'x._a' is not a module",
    ),
    (
        'reason = "refused"\n',
        "",
        "@2:[[recipe.cap",
        "recipe[0].capability[1]: missing key reason (dispatch is empty)",
    ),
    (
        'archs = ["12.1"]',
        'archs = ["9.0"]',
        "@1:archs",
        "recipe[0].refusal[0].archs[0]: 9.0 is among the recipe's",
    ),
    ('archs = ["9.0"]', 'archs = ["*", "x"]', None, "known[0].archs[1]: 'x' is not a GPU architecture."),
    (
        f'commits = ["{D}"]',
        'commits = ["main"]',
        None,
        "known[0].commits[0]: 'main' is not a full git object name",
    ),
    (
        'reason = "noise"\nsources = ["https://example.org"]',
        'reason = "noise"\nsources = []',
        "sources = []",
        "known[0]",
    ),
    (
        'files = ["tiny/a.py"]',
        'files = ["../a.py"]',
        None,
        "fault[0].files[0]: '../a.py' is not a path inside",
    ),
    (
        'device = "cuda"',
        'device = "cpu"',
        "@1:[[recipe.cap",
        "recipe[0].capability: a pin for the CPU has none",
    ),
    ('status = "bad"', 'status = "odd"', None, "known[0].status: invalid enum value 'odd'"),
    ("[build]", "[build", None, "not valid TOML: Expected ']'"),
    ('license = "MIT"', 'license = "MIT', None, "not valid TOML: "),
    (
        'license = "MIT"',
        'license = "MIT"\nlicense = "x"',
        'license = "x"',
        "not valid TOML: Cannot overwrite a value",
    ),
]


@pytest.mark.parametrize(("old", "new", "where", "says"), WRONG, ids=[row[3][:60] for row in WRONG])
def test_what_is_wrong_is_told_with_its_line_and_key(
    tmp_path: Path, old: str, new: str, where: str | None, says: str
) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    path = write(tmp_path, text)
    if where is None:
        changed = [
            number for number, line in enumerate(text.splitlines(), 1) if line not in GOOD.splitlines()
        ]
        line = changed[0] if changed else text[: text.index(new)].count("\n") + 1
    else:
        nth, _, fragment = where[1:].partition(":") if where.startswith("@") else ("1", "", where)
        lines = [number for number, each in enumerate(text.splitlines(), 1) if fragment in each]
        line = lines[int(nth) - 1]
    with pytest.raises(PinError) as caught:
        load_file(path)
    expected = f"{path}:{line}: {says}"
    assert caught.value.message[: len(expected)] == expected
    assert caught.value.details == {"file": str(path), "line": line}
    assert "sagefix/pins/model.py" in caught.value.hint


def test_paths_inside_the_working_folder_are_shown_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PinError) as caught:
        load_file(write(tmp_path, "schema = 1\nname = 2\n"))
    assert caught.value.message == "tiny.toml:2: name: expected str, got int"


def test_a_file_that_is_not_text_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_bytes(b"schema = 1\nname = '\xff'\n")
    with pytest.raises(PinError, match=r"tiny\.toml:2: not UTF-8 text$"):
        load_file(path)
    with pytest.raises(PinError, match=r"none\.toml cannot be read: No such file or directory\.$"):
        load_file(tmp_path / "none.toml")


def test_a_text_that_ends_too_early_is_told_by_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(PinError, match=r"tiny\.toml:2: not valid TOML: .*end of the file"):
        load_file(write(tmp_path, "schema = 1\nname = ["))


def test_an_unknown_pin_is_answered_with_those_that_exist(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, "schema = ", "damaged")
    write(tmp_path, "[[row]]\nx = 1\n", "not-a-pin")
    for name in ("other", "../tiny", "", "not-a-pin", "tiny\n"):
        with pytest.raises(PinError) as caught:
            load_pin(name, tmp_path)
        assert caught.value.message.startswith(f"There is no pin named {name!r} in ")
        assert caught.value.hint == "Choose one of: damaged, tiny."
    with pytest.raises(PinError) as caught:
        load_pin("tiny", tmp_path / "nowhere")
    assert caught.value.hint == "The folder holds no pin."


def test_the_pins_of_a_folder_are_listed_by_name(tmp_path: Path) -> None:
    write(tmp_path, GOOD.replace('name = "tiny"', 'name = "zwei"'), "zwei")
    write(tmp_path, GOOD)
    write(tmp_path, "[[row]]\nx = 1\n", "a-table")
    assert [pin.name for pin in list_pins(tmp_path)] == ["tiny", "zwei"]
    write(tmp_path, "schema = 1\n[source]\n", "wrong")
    with pytest.raises(PinError, match=r"wrong\.toml:"):
        list_pins(tmp_path)


def test_the_pins_that_sagefix_comes_with_are_right() -> None:
    assert {pin.name for pin in list_pins()} >= {"demo", "sageattention"}
    assert load_pin("demo").device == "cpu"
    assert load_file(settings.manifests_dir() / "demo.toml") == load_pin("demo")
