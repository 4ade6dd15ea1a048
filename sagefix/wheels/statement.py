"""The statement beside a wheel: which build made it, in the words of in-toto and SLSA. It is not signed.

What is inside the wheel is the same for every build with one key; what is true of one build alone (when, where, what
was asked for, from where the source came) stands here, with the hash of the whole wheel.
Sources: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and https://slsa.dev/spec/v1.0/provenance
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from sagefix.errors import WheelError
from sagefix.files import sha256_file
from sagefix.wheels.model import Record

SUFFIX = ".provenance.json"
"""What the name of a statement's file has behind that of the wheel."""
STATEMENT_TYPE: Literal["https://in-toto.io/Statement/v1"] = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Literal["https://slsa.dev/provenance/v1"] = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:sagefix:build:1"
"""Names the meaning of the parameters; ``docs/provenance.md`` describes them."""
LOCAL_BUILDER = "urn:sagefix:builder:local"

_WRONG = "Delete it: the wheel is as good without; or build the wheel again."


class Digest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Hashes by their names in in-toto; https://github.com/in-toto/attestation/blob/main/spec/v1/digest_set.md."""

    sha256: str = ""
    gitCommit: str = ""  # noqa: N815 - in-toto's spelling
    gitTree: str = ""  # noqa: N815


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What the statement is about: a file's name and its hash."""

    name: str
    digest: Digest


class Resource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that went in or came out; in-toto's ResourceDescriptor."""

    name: str = ""
    uri: str = ""
    digest: Digest | None = None
    downloadLocation: str = ""  # noqa: N815
    annotations: dict[str, str] = {}


class BuildDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """What was to be built: ``externalParameters`` are the user's, ``internalParameters`` sagefix's own."""

    buildType: str  # noqa: N815
    externalParameters: dict[str, Any]  # noqa: N815
    internalParameters: dict[str, Any] = {}  # noqa: N815
    resolvedDependencies: tuple[Resource, ...] = ()  # noqa: N815


class Builder(msgspec.Struct, frozen=True, kw_only=True):
    """Who built it, and the versions of what did."""

    id: str
    version: dict[str, str] = {}


class Metadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When it was built (UTC, RFC 3339), and the number of the run."""

    invocationId: str = ""  # noqa: N815
    startedOn: str = ""  # noqa: N815
    finishedOn: str = ""  # noqa: N815


class RunDetails(msgspec.Struct, frozen=True, kw_only=True):
    """This one run of the build."""

    builder: Builder
    metadata: Metadata = Metadata()
    byproducts: tuple[Resource, ...] = ()


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """The predicate of SLSA."""

    buildDefinition: BuildDefinition  # noqa: N815
    runDetails: RunDetails  # noqa: N815


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement as it stands in its file."""

    type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type", default=STATEMENT_TYPE)
    subject: tuple[Subject, ...]
    predicateType: Literal["https://slsa.dev/provenance/v1"] = PREDICATE_TYPE  # noqa: N815
    predicate: Provenance


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of one build alone.

    ``asked`` is what the user asked for. ``fetched_from`` is where the source came from. ``installed_from`` says of
    packages, by name, what their installation tells (:func:`~sagefix.targets.distributions.installed_from`).
    ``started`` and ``finished`` are UTC, RFC 3339; ``log`` is the build's log or None.
    """

    asked: dict[str, Any]
    fetched_from: str
    installed_from: dict[str, dict[str, str]]
    started: str
    finished: str
    log: Path | None = None


def make_statement(wheel: Path, record: Record, run: Run, env: Mapping[str, str]) -> bytes:
    """Write the statement of a wheel that was just built. ``env`` tells of the CI that runs this, if one does."""
    byproducts: tuple[Resource, ...] = ()
    if run.log is not None and run.log.is_file():
        byproducts = (Resource(name=run.log.name, digest=Digest(sha256=sha256_file(run.log))),)
    builder, invocation = _who(env)
    statement = Statement(
        subject=(Subject(name=wheel.name, digest=Digest(sha256=sha256_file(wheel))),),
        predicate=Provenance(
            buildDefinition=BuildDefinition(
                buildType=BUILD_TYPE,
                externalParameters=run.asked,
                internalParameters={
                    "key": record.key,
                    "recipe": record.recipe,
                    "tools": record.tools,
                    "environment": record.environment,
                },
                resolvedDependencies=(
                    _source(record, run.fetched_from),
                    *_packages(record, run.installed_from),
                ),
            ),
            runDetails=RunDetails(
                builder=Builder(id=builder, version={"sagefix": record.sagefix}),
                metadata=Metadata(invocationId=invocation, startedOn=run.started, finishedOn=run.finished),
                byproducts=byproducts,
            ),
        ),
    )
    return msgspec.json.format(msgspec.json.encode(statement), indent=1) + b"\n"


def read_statement(data: bytes, name: str) -> Statement:
    """Read a statement; ``name`` says in the error of what file it is. Raises :class:`WheelError`."""
    try:
        return msgspec.json.decode(data, type=Statement)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WheelError(f"{name} is not a statement of provenance ({error}).", hint=_WRONG) from error


def require_about(data: bytes, name: str, filename: str, sha256: str) -> Statement:
    """Read a statement and make sure that it is about a wheel with this name and hash. Raises :class:`WheelError`."""
    statement = read_statement(data, name)
    subjects = {subject.name: subject.digest.sha256 for subject in statement.subject}
    if subjects.get(filename) != sha256:
        told = ", ".join(f"{each} ({digest[:12]}...)" for each, digest in subjects.items()) or "nothing"
        raise WheelError(
            f"{name} is about {told}, not about {filename} with the sha256 {sha256[:12]}...", hint=_WRONG
        )
    return statement


def _source(record: Record, fetched_from: str) -> Resource:
    is_url = "://" in record.source_url
    commit = Digest(gitCommit=record.commit) if len(record.commit) == 40 else Digest(gitTree=record.tree)
    return Resource(
        name=record.pin,
        uri=f"git+{record.source_url}@{record.commit}" if is_url else record.source_url,
        digest=commit,
        downloadLocation=fetched_from if fetched_from != record.source_url else "",
        annotations={"tree": record.tree},
    )


def _packages(record: Record, told: Mapping[str, Mapping[str, str]]) -> tuple[Resource, ...]:
    found = []
    for package in record.packages:
        more = told.get(package.name, {})
        wheel = package.wheel_sha256 or more.get("sha256", "")
        annotations = {"record_sha256": package.record_sha256, "installer": more.get("installer", "")}
        found.append(
            Resource(
                name=package.name,
                uri=f"pkg:pypi/{package.name}@{package.version.replace('+', '%2B')}",
                digest=Digest(sha256=wheel) if wheel else None,
                downloadLocation=more.get("url", ""),
                annotations={name: value for name, value in annotations.items() if value},
            )
        )
    return tuple(found)


def _who(env: Mapping[str, str]) -> tuple[str, str]:
    """Return builder and invocation: a workflow of GitHub Actions names itself, anything else is this machine.

    https://docs.github.com/en/actions/reference/workflows-and-actions/variables
    """
    server, workflow = env.get("GITHUB_SERVER_URL", ""), env.get("GITHUB_WORKFLOW_REF", "")
    if env.get("GITHUB_ACTIONS") != "true" or not server or not workflow:
        return LOCAL_BUILDER, ""
    run = f"{server}/{env.get('GITHUB_REPOSITORY', '')}/actions/runs/{env.get('GITHUB_RUN_ID', '')}"
    return f"{server}/{workflow}", f"{run}/attempts/{env.get('GITHUB_RUN_ATTEMPT', '1')}"
