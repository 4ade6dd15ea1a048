"""What a wheelhouse keeps beside its wheels, what an index offers, and what a choice says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from sagefix.wheels.model import Facts

MARKER_NAME = ".sagefix-wheelhouse.json"
LOCK_NAME = ".lock"
SIDECAR_SUFFIX = ".sagefix.json"
METADATA_SUFFIX = ".metadata"
"""The suffix that PEP 658 gives a wheel's METADATA beside it. https://peps.python.org/pep-0658/"""
SCHEMA = 1

LEVELS = ("static", "import", "numerics", "full")
"""Levels of verification, weakest first; each includes those before it."""


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """The file that makes a folder a wheelhouse. ``schema`` says which sagefix can read it."""

    schema: int
    sagefix: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One verification of a wheel: level, outcome, when (UTC, ISO 8601), and the verdict as plain JSON."""

    level: str
    passed: bool
    when: str
    verdict: dict[str, Any]


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept beside a wheel; a wheel counts as present once its sidecar stands.

    ``size`` in bytes and ``mtime_ns`` let a listing trust ``sha256`` without reading the wheel again.
    ``facts`` is what the wheel said when it was added (its ``where`` and ``proof`` are empty: a wheelhouse
    can be moved, and proofs are added later). ``added`` is UTC in ISO 8601.
    """

    schema: int = SCHEMA
    sha256: str
    size: int
    mtime_ns: int
    metadata_sha256: str
    added: str
    added_by: str
    facts: Facts
    proofs: tuple[Proof, ...] = ()


class RemoteWheel(msgspec.Struct, frozen=True, kw_only=True):
    """A wheel as a remote index offers it.

    ``url`` holds no credentials. ``size`` is 0 and ``sha256`` empty when the index does not say.
    ``has_metadata``: the index serves its METADATA (PEP 658), with ``metadata_sha256`` if it says so.
    """

    filename: str
    project: str
    url: str
    sha256: str
    size: int = 0
    requires_python: str = ""
    has_metadata: bool = False
    metadata_sha256: str = ""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A file of an index that is not even a candidate, and why."""

    filename: str
    reason: str


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What an index offers of a project."""

    wheels: tuple[RemoteWheel, ...]
    refused: tuple[Refused, ...] = ()


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate, whether it was accepted, and why: one sentence per fact.

    An accepted candidate tells every fact that was looked at, a refused one only those that speak against it.
    """

    facts: Facts
    accepted: bool
    reasons: tuple[str, ...]


def proof_of(proofs: Iterable[Proof]) -> str:
    """Sum up proofs, oldest first, in the words of :attr:`Facts.proof`.

    A level includes those before it: a pass settles every earlier failure up to its level, and a failure
    takes back every pass from its level on.
    """
    passed = -1
    failed: set[int] = set()
    for proof in proofs:
        rank = LEVELS.index(proof.level)
        if proof.passed:
            failed = {level for level in failed if level > rank}
            passed = max(passed, rank)
        else:
            failed.add(rank)
            passed = min(passed, rank - 1)
    if failed:
        return f"failed:{LEVELS[min(failed)]}"
    return LEVELS[passed] if passed >= 0 else ""
