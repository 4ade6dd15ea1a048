"""Installed packages, told from each other by what they hold."""

from __future__ import annotations

import json
from pathlib import Path

from sagefix.files import sha256_bytes
from sagefix.targets.distributions import find_packages, installed_from, packages_below, record_sha256
from sagefix.targets.model import Package

OWN = ["pkg/__init__.py,sha256=aaa,1", "pkg-1.0.dist-info/METADATA,sha256=bbb,2"]


def install(
    site: Path, name: str, *, record: list[str] | None = None, metadata: str = "", **files: str
) -> Path:
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{metadata}\n")
    if record is not None:
        (info / "RECORD").write_text("\n".join(record) + "\n")
    for file, text in files.items():
        (info / file.replace("_json", ".json")).write_text(text)
    return info


def test_what_installers_add_does_not_count() -> None:
    own = record_sha256("\n".join(OWN), "pkg-1.0.dist-info")
    assert own == sha256_bytes("\n".join(sorted(OWN)).encode())
    added = [
        "pkg-1.0.dist-info/INSTALLER,sha256=ccc,4",
        "pkg-1.0.dist-info/REQUESTED,sha256=ddd,0",
        "pkg-1.0.dist-info/direct_url.json,sha256=eee,9",
        "pkg-1.0.dist-info/uv_cache.json,sha256=eee,9",
        "pkg/__pycache__/__init__.cpython-312.pyc,,",
        "../../../bin/pkg,sha256=fff,200",
        "pkg-1.0.dist-info/RECORD,,",
    ]
    assert record_sha256("\r\n".join([*added, *reversed(OWN)]), "pkg-1.0.dist-info") == own
    assert record_sha256("\n".join([*OWN, "pkg/more.py,sha256=ggg,3"]), "pkg-1.0.dist-info") != own
    # The same names further down belong to the wheel.
    assert record_sha256("\n".join([*OWN, "pkg/INSTALLER,sha256=ggg,3"]), "pkg-1.0.dist-info") != own


def test_packages_are_found_by_name_in_the_order_of_the_folders(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    install(first, "pkg", record=OWN, metadata="License-Expression: MIT")
    install(second, "pkg", record=[*OWN, "pkg/x.py,sha256=x,1"])
    install(second, "Some-Other", metadata="License: " + "word " * 100)
    found = find_packages([tmp_path / "missing", first, second], ["some-other", "pkg", "absent"])
    assert found == (
        Package(
            name="pkg",
            version="1.0",
            record_sha256=record_sha256("\n".join(OWN), "pkg-1.0.dist-info"),
            license="MIT",
        ),
        Package(name="some-other", version="1.0"),
    )


def test_a_long_license_text_gives_way_to_the_classifiers(tmp_path: Path) -> None:
    metadata = "License: A\n  long\n  text\nClassifier: License :: OSI Approved :: BSD License"
    install(tmp_path, "pkg", metadata=metadata)
    assert find_packages([tmp_path], ["pkg"])[0].license == "BSD License"


def test_the_packages_of_a_toolkit_are_those_with_files_below_it(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    install(site, "nvidia-cuda-nvcc", record=["nvidia/cu13/bin/nvcc,sha256=a,1"])
    install(site, "nvidia-cudnn-cu13", record=["nvidia/cudnn/lib/libcudnn.so.9,sha256=b,1"])
    install(site, "torch", record=["torch/nvidia/cu13/x,sha256=c,1"])
    real = site / "nvidia" / "cu13"
    real.mkdir(parents=True)
    overlay = tmp_path / "cuda"
    overlay.symlink_to(real)
    assert [package.name for package in packages_below(overlay)] == ["nvidia-cuda-nvcc"]
    elsewhere = tmp_path / "usr" / "cuda"
    elsewhere.mkdir(parents=True)
    assert packages_below(elsewhere) == ()


def test_an_installation_from_a_url_tells_the_hash_of_its_wheel(tmp_path: Path) -> None:
    direct = {
        "url": "https://user:secret@files.example/pkg.whl",
        "archive_info": {"hashes": {"sha256": "ab"}},
    }
    install(tmp_path, "pkg", INSTALLER="pip\n", direct_url_json=json.dumps(direct))
    told = installed_from([tmp_path], "pkg")
    assert told == {"installer": "pip", "url": "https://files.example/pkg.whl", "sha256": "ab"}
    install(
        tmp_path,
        "local",
        direct_url_json=json.dumps({"url": "file:///home/me/x.whl", "archive_info": {"hash": "sha256=cd"}}),
    )
    assert installed_from([tmp_path], "local") == {"sha256": "cd"}
    install(tmp_path, "broken", direct_url_json="{")
    assert installed_from([tmp_path], "broken") == {}
    assert installed_from([tmp_path], "absent") == {}
