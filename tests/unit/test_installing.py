"""What is installed, what a killed installer left, and the commands of the installers."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagefix.installing.installer import Installer
from sagefix.installing.stash import installed, remove_incomplete
from sagefix.targets.model import Interpreter


def _interpreter(site: Path, *more: Path) -> Interpreter:
    return Interpreter(
        executable="/t/bin/python",
        version="3.12.3",
        implementation="cpython",
        machine="x86_64",
        prefix="/t",
        base_prefix="/usr",
        platform_tag="linux_x86_64",
        python_tag="cp312",
        abi_tag="cp312",
        tags=(),
        glibc="2.36",
        ext_suffix=".so",
        purelib=str(site),
        platlib=str(site),
        sys_path=(str(site / "not there"), str(site), *map(str, more)),
        python_h="",
        externally_managed=False,
        packages={},
    )


def _distribution(site: Path, name: str, version: str, *, record: bool = True) -> Path:
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if record:
        (folder / "RECORD").write_text("")
    return folder


@pytest.mark.parametrize("name", ["demo_attention", "Demo.Attention", "Demo_Attention"])
def test_the_first_on_the_path_is_what_is_installed(tmp_path: Path, name: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    _distribution(first, "demo_attention_tools", "3.0")
    _distribution(second, name, "2.0+local")
    found = installed(_interpreter(first, second), "Demo-Attention")
    assert found is not None
    assert found.version == "2.0+local"
    _distribution(first, "demo_attention", "1.0")
    found = installed(_interpreter(first, second), "demo.attention")
    assert found is not None
    assert found.version == "1.0"


def test_a_name_that_only_begins_alike_is_another_project(tmp_path: Path) -> None:
    _distribution(tmp_path, "demo_attention", "1.0")
    (tmp_path / "demo").mkdir()
    assert installed(_interpreter(tmp_path), "demo") is None
    assert installed(_interpreter(tmp_path), "other") is None


def test_what_a_killed_installer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    whole = _distribution(tmp_path, "demo_attention", "1.0")
    left = _distribution(tmp_path, "Demo_Attention", "2.0+sm90.torch2.11", record=False)
    (left / "METADATA").unlink()
    other = _distribution(tmp_path, "demo_attention_tools", "1.0", record=False)
    remove_incomplete(_interpreter(tmp_path), "demo-attention")
    assert (whole.is_dir(), left.exists(), other.is_dir()) == (True, False, True)


def test_uv_is_asked_to_install_again_only_what_is_there(tmp_path: Path) -> None:
    uv, wheel = Installer(kind="uv", program=("uv",)), Path("/w/a-1-py3-none-any.whl")
    interpreter = _interpreter(tmp_path)
    assert "--reinstall" in uv.install_command(interpreter, wheel)
    fresh = uv.install_command(interpreter, wheel, again=False)
    assert "--reinstall" not in fresh
    assert fresh[-1] == str(wheel)
    assert {"--no-deps", "--no-index"} <= set(fresh)
    pip = Installer(kind="pip", program=("python", "-m", "pip"))
    assert "--force-reinstall" in pip.install_command(interpreter, wheel, again=False)
