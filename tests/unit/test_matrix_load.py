"""The matrix of wheels to build ahead: right and wrong tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagefix.errors import PinError
from sagefix.pins.load import list_pins, load_pin
from sagefix.pins.matrix import load_matrix

GOOD = """schema = 1

[cxx11_abi]
since = "2.7"
sources = ["https://example.org"]

[[torch]]
release = "2.11"
version = "2.11.0"
pythons = ["3.12", "3.13"]
cuda = { x86_64 = "13.0", aarch64 = "" }
sources = ["https://example.org"]

[[platform]]
name = "x86_64"
runner = "small"
sources = ["https://example.org"]

[[platform]]
name = "aarch64"
runner = "small-arm"
sources = ["https://example.org"]

[[wanted]]
pin = "tiny"
pythons = ["3.12"]
torch = ["2.11"]
platforms = ["x86_64"]
archs = ["9.0", "8.0;9.0+PTX"]

[[exclude]]
torch = ["2.11"]
archs = ["8.0"]
reason = "too slow"
sources = ["https://example.org"]
"""


def write(folder: Path, text: str) -> Path:
    (folder / "matrix.toml").write_text(text)
    return folder


def test_a_good_table(tmp_path: Path) -> None:
    matrix = load_matrix(write(tmp_path, GOOD))
    row = matrix.torch_of("2.11")
    assert row is not None
    assert row.cuda == {"x86_64": "13.0", "aarch64": ""}
    assert matrix.torch_of("2.1") is None
    platform = matrix.platform_of("aarch64")
    assert platform is not None
    assert platform.runner == "small-arm"
    assert [wanted.archs for wanted in matrix.wanted_of("tiny")] == [("9.0", "8.0;9.0+PTX")]
    assert matrix.wanted_of("other") == ()
    assert [matrix.has_new_abi(release) for release in ("2.6", "2.7", "2.11")] == [None, True, True]


# What is replaced, by what, and what it says (the line is that of the change).
WRONG = [
    ('release = "2.11"', 'release = "2"', "torch[0].release: '2' is not a release such as '2.11'"),
    ('version = "2.11.0"', 'version = "2.12.0"', "torch[0].version: '2.12.0' is not a patch of 2.11"),
    ('["3.12", "3.13"]', '["3.12", "313"]', "torch[0].pythons[1]: '313' is not a Python such as '3.12'"),
    ('["3.12", "3.13"]', '["3.12", 3.13]', "torch[0].pythons[1]: expected str, got float"),
    ('x86_64 = "13.0"', 'x86 = "13.0"', "torch[0].cuda.x86: there is no platform 'x86'"),
    ('x86_64 = "13.0"', 'x86_64 = "cu130"', "torch[0].cuda.x86_64: 'cu130' is not a CUDA version"),
    ('name = "aarch64"', 'name = "x86_64"', "platform[1].name: x86_64 is there twice"),
    ('runner = "small"\n', "", "platform[0]: missing key runner"),
    ('runner = "small"', 'runners = "small"', "platform[0].runners: unknown key"),
    (
        'platforms = ["x86_64"]',
        'platforms = ["amd64"]',
        "wanted[0].platforms[0]: there is no platform 'amd64'",
    ),
    ('platforms = ["x86_64"]', "platforms = []", "wanted[0].platforms: must name at least one"),
    ('"8.0;9.0+PTX"', '"hopper"', "wanted[0].archs[1]: 'hopper' is not a GPU architecture."),
    ('archs = ["8.0"]', 'archs = ["8"]', "exclude[0].archs[0]: '8' is not a GPU architecture."),
    (
        'reason = "too slow"\nsources = ["https://example.org"]',
        'reason = ""\nsources = []',
        "exclude[0].sources: must",
    ),
    (
        'runner = "small-arm"',
        'cross = "aarch64"\nrunner = "x"',
        "platform[1].cross: there is no other platform",
    ),
    (
        'runner = "small-arm"',
        'cross = "sparc"\nrunner = "x"',
        "platform[1].cross: there is no other platform",
    ),
    ('since = "2.7"', 'since = "new"', "cxx11_abi.since: 'new' is not a release such as '2.11'"),
    ("[[wanted]]", "[[wnated]]", "wnated: unknown key"),
    ("schema = 1", "schema = 2", "schema: invalid enum value 2"),
    ("[[exclude]]", "[[exclude", "not valid TOML: "),
]


@pytest.mark.parametrize(("old", "new", "says"), WRONG, ids=[row[2][:50] for row in WRONG])
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    with pytest.raises(PinError) as caught:
        load_matrix(write(tmp_path, text))
    where, _, said = caught.value.message.partition("matrix.toml:")
    line, _, problem = said.partition(": ")
    assert f"{tmp_path}/".endswith(where)
    assert problem.startswith(says)
    assert line.isdigit()
    assert "sagefix/pins/matrix.py" in caught.value.hint or "not valid TOML" in says


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(PinError, match=r"matrix\.toml cannot be read: No such file or directory"):
        load_matrix(tmp_path)


def test_own_manifests_without_a_matrix_use_the_one_that_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = load_matrix()
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(tmp_path))
    assert load_matrix() == shipped
    write(tmp_path, GOOD)
    assert load_matrix() != shipped


def test_the_matrix_that_sagefix_comes_with() -> None:
    matrix = load_matrix()
    pins = {pin.name for pin in list_pins()}
    assert {wanted.pin for wanted in matrix.wanted} <= pins
    for wanted in matrix.wanted:
        assert bool(wanted.torch) == load_pin(wanted.pin).build.torch
        assert bool(wanted.archs) == (load_pin(wanted.pin).device == "cuda")
        assert all(matrix.torch_of(release) for release in wanted.torch)
    # It is no pin, and no pin has its name.
    assert "matrix" not in pins
