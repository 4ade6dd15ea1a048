"""Statements beside wheels: in-toto's and SLSA's words, and about one file only."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from sagefix.errors import WheelError
from sagefix.files import sha256_file
from sagefix.targets.model import Package
from sagefix.wheels.statement import (
    LOCAL_BUILDER,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    Run,
    make_statement,
    read_statement,
    require_about,
)
from tests.unit.test_archive import sample_record

CI = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.example",
    "GITHUB_REPOSITORY": "some/where",
    "GITHUB_WORKFLOW_REF": "some/where/.github/workflows/prebuild.yml@refs/heads/main",
    "GITHUB_RUN_ID": "7",
    "GITHUB_RUN_ATTEMPT": "2",
}
COMMIT = "68de3797d163b89d28f9a38026c3b7313f6940d2"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    path.write_bytes(b"some bytes")
    return path


def statement(wheel: Path, env: dict[str, str] | None = None, log: Path | None = None) -> bytes:
    record = msgspec.structs.replace(
        sample_record(),
        commit=COMMIT,
        source_url="https://git.example/tiny",
        packages=(
            Package(name="torch", version="2.11.0+cu130", record_sha256="ab" * 32),
            Package(name="nvidia-nvvm", version="13.0.88", wheel_sha256="cd" * 32),
        ),
    )
    run = Run(
        asked={"pin": "tiny", "archs": ["9.0"]},
        fetched_from="file:///mirror",
        installed_from={
            "torch": {"installer": "uv", "sha256": "ef" * 32, "url": "https://files.example/t.whl"}
        },
        started="2026-01-01T00:00:00Z",
        finished="2026-01-01T00:05:00Z",
        log=log,
    )
    return make_statement(wheel, record, run, env or {})


def test_it_has_the_form_of_in_toto_and_slsa(wheel: Path, tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    log.write_text("compiled\n")
    told = json.loads(statement(wheel, log=log))
    assert told["_type"] == STATEMENT_TYPE
    assert told["predicateType"] == PREDICATE_TYPE
    assert told["subject"] == [{"name": wheel.name, "digest": {"sha256": sha256_file(wheel)}}]
    definition, run = told["predicate"]["buildDefinition"], told["predicate"]["runDetails"]
    assert definition["externalParameters"] == {"pin": "tiny", "archs": ["9.0"]}
    source, torch, nvvm = definition["resolvedDependencies"]
    assert source["uri"] == f"git+https://git.example/tiny@{COMMIT}"
    assert source["digest"] == {"gitCommit": COMMIT}
    assert source["downloadLocation"] == "file:///mirror"
    assert torch["uri"] == "pkg:pypi/torch@2.11.0%2Bcu130"
    assert torch["digest"] == {"sha256": "ef" * 32}
    assert torch["annotations"] == {"record_sha256": "ab" * 32, "installer": "uv"}
    assert nvvm["digest"] == {"sha256": "cd" * 32}
    assert run["builder"]["id"] == LOCAL_BUILDER
    assert run["metadata"] == {"startedOn": "2026-01-01T00:00:00Z", "finishedOn": "2026-01-01T00:05:00Z"}
    assert run["byproducts"] == [{"name": "build.log", "digest": {"sha256": sha256_file(log)}}]


def test_a_workflow_names_itself(wheel: Path) -> None:
    run = read_statement(statement(wheel, CI), "it").predicate.runDetails
    assert (
        run.builder.id == "https://github.example/some/where/.github/workflows/prebuild.yml@refs/heads/main"
    )
    assert run.metadata.invocationId == "https://github.example/some/where/actions/runs/7/attempts/2"


def test_what_is_read_is_what_was_written(wheel: Path) -> None:
    data = statement(wheel)
    assert msgspec.json.format(msgspec.json.encode(read_statement(data, "it")), indent=1) + b"\n" == data
    assert require_about(data, "it", wheel.name, sha256_file(wheel)).subject[0].name == wheel.name


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda told: told.update(predicateType="https://example.org/other"),
        lambda told: told.pop("subject"),
        lambda told: told["predicate"].pop("runDetails"),
    ],
)
def test_another_kind_of_statement_is_refused(wheel: Path, change: object) -> None:
    told = json.loads(statement(wheel))
    change(told)  # type: ignore[operator]
    with pytest.raises(WheelError, match="is not a statement of provenance"):
        read_statement(json.dumps(told).encode(), "it")


def test_bytes_that_are_no_json_are_refused() -> None:
    with pytest.raises(WheelError, match="is not a statement"):
        read_statement(b"\xff\x00", "it")


def test_a_statement_about_another_wheel_is_refused(wheel: Path) -> None:
    data = statement(wheel)
    for name, digest in ((wheel.name, "0" * 64), ("other-1.0-py3-none-any.whl", sha256_file(wheel))):
        with pytest.raises(WheelError, match=r"it is about tiny-1\.0"):
            require_about(data, "it", name, digest)
