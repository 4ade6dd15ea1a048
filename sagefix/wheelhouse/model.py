"""What a wheelhouse keeps beside its wheels, what an index offers, and what a choice says."""

from __future__ import annotations

import msgspec

from sagefix.wheels.model import Facts, Proof

MARKER_NAME = ".sagefix-wheelhouse.json"
LOCK_NAME = ".lock"
SIDECAR_SUFFIX = ".sagefix.json"
METADATA_SUFFIX = ".metadata"
"""The suffix that PEP 658 gives a wheel's METADATA beside it. https://peps.python.org/pep-0658/"""
PROOFS_SUFFIX = ".proofs.json"
"""What the name of the file with a wheel's whole verdicts has behind that of the wheel."""
SCHEMA = 1


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """The file that makes a folder a wheelhouse. ``schema`` says which sagefix can read it."""

    schema: int
    sagefix: str


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept beside a wheel; a wheel counts as present once its sidecar stands.

    ``size`` in bytes and ``mtime_ns`` let a listing trust ``sha256`` without reading the wheel again.
    ``facts`` is what the wheel said when it was added (its ``where`` and ``proof`` are empty: a wheelhouse
    can be moved, and proofs are added later). ``added`` is UTC in ISO 8601.

    ``proofs`` says each verification in a line, oldest first; the whole verdicts stand in a file of their own
    (:mod:`sagefix.wheelhouse.evidence`) whose hash is ``proofs_sha256`` (empty: there is none), so that a
    listing never reads hundreds of numbers. sagefix 0.1 wrote the verdicts here, and they are still read.
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
    proofs_sha256: str = ""


class RemoteWheel(msgspec.Struct, frozen=True, kw_only=True):
    """A wheel as a remote index offers it.

    ``url`` holds no credentials. ``size`` is 0 and ``sha256`` empty when the index does not say.
    ``has_metadata``: the index serves its METADATA (PEP 658), with ``metadata_sha256`` if it says so.
    ``proofs`` are what the index, if it is one of sagefix, tells of its verifications, and ``proofs_sha256``
    the hash of the file with them (empty: it has none).
    """

    filename: str
    project: str
    url: str
    sha256: str
    size: int = 0
    requires_python: str = ""
    has_metadata: bool = False
    metadata_sha256: str = ""
    proofs: tuple[Proof, ...] = ()
    proofs_sha256: str = ""


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
