"""The table of packaged compilers."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagefix.errors import PinError
from sagefix.pins.load import list_pins
from sagefix.settings import manifests_dir
from sagefix.targets.cudatable import load_cuda_table


def test_the_table_that_sagefix_comes_with() -> None:
    table = load_cuda_table()
    thirteen = table.of("13")
    assert thirteen is not None
    assert {"nvcc", "crt", "nvvm", "cccl", "cudart"} <= set(thirteen.extras)
    assert thirteen.compiler in thirteen.pinned
    library = thirteen.library_with("cusparse.h")
    assert library is not None and library.package == "nvidia-cusparse"
    assert thirteen.library_with("no_such.h") is None
    for major in ("11", "12"):
        refusal = table.refusal_of(major)
        assert table.of(major) is None and refusal is not None
        assert "12.8" in refusal.fix.format(version="12.8")
    rows = (*table.packaged, *table.unpackaged)
    assert all(link.startswith("https://") for row in rows for link in row.sources)
    assert all(row.sources for row in rows)
    assert "cuda" not in {pin.name for pin in list_pins(manifests_dir())}


def test_a_folder_of_pins_without_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(tmp_path))
    assert load_cuda_table().of("13") is not None
    (tmp_path / "cuda.toml").write_text("schema = 1\n", encoding="ascii")
    assert load_cuda_table().of("13") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("schema = 2\n", "Invalid enum value 2"),
        ("schema = 1\nother = 1\n", "unknown field"),
        ("= 1", "Invalid"),
    ],
)
def test_a_wrong_table(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "cuda.toml").write_text(text, encoding="ascii")
    with pytest.raises(PinError, match=reason) as caught:
        load_cuda_table(tmp_path)
    assert str(tmp_path / "cuda.toml") in caught.value.message
