"""The SBOM is valid CycloneDX 1.6, the same each time, and says what became of each part."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from sagefix.targets.model import Package
from sagefix.wheels.model import Extension, Record
from sagefix.wheels.sbom import make_sbom, sbom_name, static_parts
from tests.unit.test_archive import sample_record
from tests.unit.test_elf import extension

PACKAGES = (
    Package(name="ninja", version="1.13.2", record_sha256="11" * 32, license="Apache-2.0"),
    Package(name="nvidia-cuda-nvcc", version="13.0.88", license="LicenseRef-NVIDIA-Proprietary"),
    Package(
        name="nvidia-cuda-runtime",
        version="13.0.96",
        wheel_sha256="22" * 32,
        license="NVIDIA Proprietary Software",
    ),
    Package(name="nvidia-cublas", version="13.1.0.3"),
    Package(name="torch", version="2.11.0+cu130", record_sha256="33" * 32, license="BSD-3-Clause AND MIT"),
)
MODULE = extension(cubins=("9.0a",), needed=("libc10.so", "libcudart.so.13", "libc.so.6"))


def record(**changes: Any) -> Record:
    made = msgspec.structs.replace(
        sample_record(),
        commit="68de3797d163b89d28f9a38026c3b7313f6940d2",
        source_url="https://git.example/tiny",
        packages=PACKAGES,
        fixes=("current-stream",),
        tools={
            "python": "3.12.1",
            "glibc": "2.36",
            "ld": "GNU ld 2.40",
            "nvcc": "13.0.88",
            "ninja": "1.13.2",
        },
    )
    return msgspec.structs.replace(made, **changes)


def sbom(*modules: Extension, **changes: Any) -> dict[str, Any]:
    data = make_sbom(record(**changes), modules or (MODULE,), license="Apache-2.0")
    assert data == make_sbom(record(**changes), modules or (MODULE,), license="Apache-2.0")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    told: dict[str, Any] = json.loads(data)
    return told


def test_it_is_valid_and_names_the_package_with_its_commit() -> None:
    told = sbom()
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    subject = told["metadata"]["component"]
    assert subject["purl"].startswith("pkg:pypi/tiny@1.0%2B")
    assert subject["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert subject["pedigree"]["commits"] == [
        {
            "uid": "68de3797d163b89d28f9a38026c3b7313f6940d2",
            "url": "https://git.example/tiny/commit/68de3797d163b89d28f9a38026c3b7313f6940d2",
        }
    ]
    properties = {each["name"]: each["value"] for each in subject["properties"]}
    assert properties["sagefix:static"] == "none"
    assert properties["sagefix:fixes"] == "current-stream"
    assert properties[f"sagefix:needed:{MODULE.path}"] == "libc10.so libcudart.so.13 libc.so.6"
    assert sbom_name(record()) == "sboms/tiny.cdx.json"


def test_each_part_says_what_became_of_it() -> None:
    told = sbom()
    parts = {part["name"]: part for part in told["components"]}
    assert {name for name, part in parts.items() if part["scope"] == "required"} == {
        "torch", "nvidia-cuda-runtime", "glibc", "python",
    }  # fmt: skip
    assert parts["torch"]["licenses"] == [{"expression": "BSD-3-Clause AND MIT"}]
    assert parts["nvidia-cuda-nvcc"]["licenses"] == [{"expression": "LicenseRef-NVIDIA-Proprietary"}]
    assert parts["nvidia-cuda-runtime"]["licenses"] == [{"license": {"name": "NVIDIA Proprietary Software"}}]
    assert parts["nvidia-cuda-runtime"]["hashes"] == [{"alg": "SHA-256", "content": "22" * 32}]
    assert "licenses" not in parts["nvidia-cublas"]
    (graph,) = (each for each in told["dependencies"] if each["ref"] == "tiny")
    assert graph["dependsOn"] == ["package:nvidia-cuda-runtime", "package:torch", "part:glibc", "part:python"]


def test_gpu_code_without_the_runtime_in_needed_has_it_inside() -> None:
    alone = extension(cubins=("9.0a",), needed=("libc.so.6",))
    assert static_parts([alone, MODULE]) == ("cudart_static",)
    assert static_parts([MODULE, extension(needed=("libc.so.6",))]) == ()
    told = sbom(alone)
    assert any(part["name"] == "cudart_static" and part["scope"] == "required" for part in told["components"])


@pytest.mark.parametrize("url", ["embedded:demo", "file:///somewhere", ""])
def test_a_source_that_nobody_else_can_reach_gets_no_link(url: str) -> None:
    subject = sbom(source_url=url)["metadata"]["component"]
    assert "externalReferences" not in subject
    assert "url" not in subject["pedigree"]["commits"][0]


def test_another_key_gives_another_serial_number() -> None:
    assert sbom()["serialNumber"] != sbom(key="other")["serialNumber"]
