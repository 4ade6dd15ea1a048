"""Where things are, and what the file of settings says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer

from sagefix import settings
from sagefix.cli.app import app
from sagefix.cli.defaults import default_map, unknown_keys
from sagefix.errors import DiskError, UsageError
from sagefix.files import CACHEDIR_TAG


def test_a_variable_names_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEFIX_CACHE_DIR", str(tmp_path / "a cache"))
    assert settings.cache_path() == tmp_path / "a cache"
    assert not settings.cache_path().exists()
    assert settings.cache_dir() == tmp_path / "a cache"
    assert (tmp_path / "a cache" / CACHEDIR_TAG).read_text().startswith("Signature: 8a477f597d28d172")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAGEFIX_CACHE_DIR", "relative")
    assert settings.cache_path() == tmp_path / "relative"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SAGEFIX_CACHE_DIR", "~/mine")
    assert settings.cache_path() == tmp_path / "mine"


def test_the_platform_names_it_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEFIX_CACHE_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert settings.cache_path().name == "sagefix"
    assert settings.cache_path().is_relative_to(tmp_path)


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file", "file/below"):
        monkeypatch.setenv("SAGEFIX_CACHE_DIR", str(tmp_path / name))
        with pytest.raises(DiskError, match="Cannot make the cache folder") as raised:
            settings.cache_dir()
        assert "SAGEFIX_CACHE_DIR" in raised.value.hint


def test_manifests_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = settings.manifests_dir()
    assert (usual / "sageattention.toml").is_file()
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(tmp_path))
    assert settings.manifests_dir() == tmp_path
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"SAGEFIX_MANIFESTS names .*none, which is not a folder"):
        settings.manifests_dir()
    monkeypatch.setenv("SAGEFIX_MANIFESTS", "")
    assert settings.manifests_dir() == usual


def test_a_checkout_keeps_its_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PACKAGE", tmp_path / "sagefix")
    monkeypatch.setenv("SAGEFIX_CACHE_DIR", str(tmp_path / "cache"))
    assert settings.checkout() is None
    assert settings.default_wheelhouse() == tmp_path / "cache" / "wheels"
    (tmp_path / "manifests").mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    assert settings.checkout() == tmp_path
    assert settings.default_wheelhouse() == tmp_path / "wheels"


def test_which_file_counts(tmp_path: Path) -> None:
    assert settings.settings_file(tmp_path) is None
    assert settings.file_settings(tmp_path) == {}
    project = tmp_path / "pyproject.toml"
    project.write_text("[project]\nname = 'somebody'\n")
    assert settings.file_settings(tmp_path) == {}
    project.write_text("[tool.sagefix]\npin = 'a'\n[tool.sagefix.install]\nno-build = true\n")
    assert settings.file_settings(tmp_path) == {"pin": "a", "install": {"no-build": True}}
    own = tmp_path / "sagefix.toml"
    own.write_text("")
    assert settings.settings_file(tmp_path) == own
    assert settings.file_settings(tmp_path) == {}
    own.write_text("pin = 'b'\n[tool.sagefix]\npin = 'c'\n")
    assert settings.file_settings(tmp_path)["pin"] == "b"
    own.unlink()
    for text in ("tool = 3", "[tool]\nsagefix = 'x'\n", ""):
        project.write_text(text)
        assert settings.file_settings(tmp_path) == {}


@pytest.mark.parametrize("data", [b"pin = ", b"pin = '\xff'", b"\x00"])
def test_a_file_that_is_no_toml(tmp_path: Path, data: bytes) -> None:
    for name in ("pyproject.toml", "sagefix.toml"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match=f"{name} is not valid TOML") as raised:
            settings.file_settings(tmp_path)
        assert raised.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "sagefix.toml").write_text("")
    (tmp_path / "sagefix.toml").chmod(0)
    with pytest.raises(UsageError, match="cannot be read"):
        settings.file_settings(tmp_path)


ROOT = typer.main.get_command(app)


def test_settings_reach_the_commands_that_have_them() -> None:
    given = {
        "pin": "demo",
        "wheelhouse": {"wheelhouse": "here"},
        "install": {"no-build": True, "pin": "other", "index": "https://example.org/"},
        "json": True,
    }
    found = default_map(ROOT, given)
    assert found["install"] == {"pin": "other", "no_build": True, "index": ["https://example.org/"]}
    assert found["verify"] == {"pin": "demo"}
    assert found["source"] == {"fetch": {"pin": "demo"}, "bundle": {"pin": "demo"}}
    # An argument of a command is no option, whatever its name is.
    assert found["pins"] == {"list": {}, "show": {}}
    assert found["wheelhouse"]["list"] == {"wheelhouse": "here"}
    assert found.keys() == ROOT.commands.keys()  # type: ignore[attr-defined]


def test_what_nothing_reads_is_found() -> None:
    assert unknown_keys(ROOT, {"pin": "demo", "install": {"no_build": True}, "wheelhouse": {"keep": 1}}) == []
    wrong = {
        "pni": 1,
        "json": True,
        "version": True,
        "help": 1,
        "name": "x",
        "install": {"keep": 1},
        "x": {"pin": 1},
    }
    assert unknown_keys(ROOT, wrong) == ["pni", "json", "version", "help", "name", "install.keep", "x"]
