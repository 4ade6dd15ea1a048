"""sagefix's own wheel, which images and kits take along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sagefix import __version__
from sagefix.errors import WheelError
from sagefix.settings import shipped_manifests
from sagefix.wheels.archive import validate
from sagefix.wheels.own import own_filename, write_own_wheel


def test_it_holds_the_package_and_the_manifests_and_no_caches(tmp_path: Path) -> None:
    wheel = validate(write_own_wheel(tmp_path))
    assert {"sagefix/cli/app.py", "sagefix/py.typed", "sagefix/guest/probe.py"} <= set(wheel.members)
    manifests = {
        path.relative_to(shipped_manifests()).as_posix() for path in shipped_manifests().rglob("*.toml")
    }
    assert {f"sagefix/manifests/{name}" for name in manifests} <= set(wheel.members)
    assert not [name for name in wheel.members if "__pycache__" in name or name.endswith(".pyc")]
    assert any(each.name == "msgspec" for each in wheel.metadata.requires_dist or ())


def test_written_twice_it_is_the_same(tmp_path: Path) -> None:
    first, second = (write_own_wheel(tmp_path / name).read_bytes() for name in ("first", "second"))
    assert first == second


def test_from_an_installation_it_comes_out_as_it_went_in(tmp_path: Path) -> None:
    wheel = write_own_wheel(tmp_path)
    subprocess.run(
        ["uv", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path / "site", wheel], check=True
    )
    code = "from pathlib import Path; from sagefix.wheels.own import write_own_wheel; write_own_wheel(Path('again'))"
    env = {"PYTHONPATH": str(tmp_path / "site"), "PATH": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=tmp_path)
    assert (tmp_path / "again" / own_filename()).read_bytes() == wheel.read_bytes()


def test_metadata_of_another_sagefix_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "sagefix-99.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sagefix\nVersion: 99\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WheelError, match="sagefix 99 is not the one that runs"):
        write_own_wheel(tmp_path / "out")
    # The right version with other requirements: a checkout that was pulled and not installed again.
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sagefix\nVersion: {__version__}\n")
    with pytest.raises(WheelError, match="METADATA differs"):
        write_own_wheel(tmp_path / "out")
    assert not (tmp_path / "out").exists()
