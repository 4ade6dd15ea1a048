"""The record inside a wheel, as JSON; see :class:`~sagefix.wheels.model.Record`."""

from __future__ import annotations

import msgspec

from sagefix.errors import WheelError
from sagefix.wheels.model import RECORD_NAME, Record


def encode_record(record: Record) -> bytes:
    """Write a record as JSON: the same record gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(record, order="deterministic"), indent=2) + b"\n"


def decode_record(data: bytes, name: str) -> Record:
    """Read a record; ``name`` says in the error of whom it is. Raises :class:`WheelError`."""
    try:
        return msgspec.json.decode(data, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WheelError(
            f"{name} has a {RECORD_NAME} that cannot be read: {error}.",
            hint="A newer sagefix may have written it; otherwise the wheel is damaged.",
        ) from error
