"""What sagefix knows of an installation, as it wrote it down for this package: what is proven, and what is faster.

The file is JSON, ``facts.json`` in the metadata of the distribution ``sagefix-attention``;
``SAGEFIX_ATTENTION_FACTS`` names another one. Nothing here imports torch, so that sagefix itself writes with the
same types as this package reads with.
"""

import csv
import dataclasses
import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

SCHEMA = 1
PROJECT = "sagefix-attention"
NAME = "facts.json"
VARIABLE = "SAGEFIX_ATTENTION_FACTS"
ANY = "*"
"""The name of a device that stands for every one of its capability."""


class FactsError(Exception):
    """The file is there, and cannot be used; the message says why."""


@dataclasses.dataclass(frozen=True)
class Crossover:
    """From how many tokens on SageAttention is faster, for a dtype (``bfloat16``), head_dim and is_causal.

    ``sequences`` is batch times heads where that was measured, ``source`` says by whom and when.
    """

    dtype: str
    head_dim: int
    causal: bool
    tokens: int
    sequences: int
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Device:
    """A kind of device: torch's type, the driver's name (``*``: any) and the compute capability (``cpu``: none).

    ``proof`` says in words how the numbers are proven there; it is empty, and ``unproven`` says why, where they are
    not. ``torch`` is the version that computed it. ``any_stream`` is false where the build is right on the default
    stream alone. ``longest`` is the largest number of tokens that was proven.
    """

    type: str
    name: str
    capability: str
    proof: str = ""
    unproven: str = ""
    torch: str = ""
    any_stream: bool = False
    longest: int = 0
    crossovers: Tuple[Crossover, ...] = ()


@dataclasses.dataclass(frozen=True)
class Facts:
    """The whole file.

    ``call`` is ``module:attribute``, ``project`` the distribution it comes from. ``version`` and ``fingerprint`` (see
    :func:`fingerprint`) say which installation this is about; ``wrong`` says what is known to be wrong with it
    (empty: nothing).
    """

    call: str
    project: str
    version: str
    fingerprint: str
    wrong: str = ""
    devices: Tuple[Device, ...] = ()
    made_by: str = ""
    when: str = ""
    schema: int = SCHEMA

    def device(self, type_: str, name: str, capability: str) -> Optional[Device]:
        """Return what is known of a device: by its name, else what is said of all of its capability."""
        alike = [each for each in self.devices if (each.type, each.capability) == (type_, capability)]
        by_name = {each.name: each for each in alike}
        return by_name.get(name, by_name.get(ANY))


def encode(facts: Facts) -> bytes:
    """Write the file: the same facts give the same bytes."""
    return json.dumps(dataclasses.asdict(facts), indent=1, sort_keys=True).encode("utf-8") + b"\n"


def decode(data: bytes, name: str) -> Facts:
    """Read the file; ``name`` says which one in the error. Raises :class:`FactsError`."""
    try:
        plain = json.loads(data.decode("utf-8"))
        schema = plain["schema"]
        if schema != SCHEMA:
            raise FactsError(
                f"{name} has the schema {schema}, and this sagefix.attention reads {SCHEMA}: run "
                "`sagefix attention install` again."
            )
        devices = tuple(
            Device(**dict(row, crossovers=tuple(Crossover(**each) for each in row.get("crossovers", ()))))
            for row in plain.get("devices", ())
        )
        return Facts(**dict(plain, devices=devices))
    except FactsError:
        raise
    except Exception as error:
        raise FactsError(
            f"{name} cannot be read ({type(error).__name__}: {error}): run `sagefix attention install` again."
        ) from error


def find(named: Optional[str] = None) -> Optional[Facts]:
    """Read the facts: from the file ``named``, else the variable's, else those that were installed.

    None: there are none. Raises :class:`FactsError`.
    """
    path = named or os.environ.get(VARIABLE)
    if path:
        try:
            return decode(Path(path).expanduser().read_bytes(), path)
        except OSError as error:
            raise FactsError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        text = importlib.metadata.distribution(PROJECT).read_text(NAME)
    except importlib.metadata.PackageNotFoundError:
        return None
    return None if text is None else decode(text.encode("utf-8"), f"{NAME} of {PROJECT}")


def installed(project: str) -> Tuple[str, str]:
    """Return version and fingerprint of an installed distribution; empty when it is not installed."""
    try:
        distribution = importlib.metadata.distribution(project)
    except importlib.metadata.PackageNotFoundError:
        return "", ""
    return distribution.version, fingerprint(distribution.read_text("RECORD") or "")


def fingerprint(record: str) -> str:
    """Return the SHA-256 of what a RECORD says about the files of the package; empty when it says nothing.

    Metadata and byte code are left out, since installers write theirs: two installations of one wheel agree.
    https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    """
    rows = sorted(
        ",".join(row[:2])
        for row in csv.reader(record.splitlines())
        if len(row) > 1 and row[1] and ".dist-info/" not in row[0] and not row[0].startswith("..")
    )
    return hashlib.sha256("\n".join(rows).encode("utf-8")).hexdigest() if rows else ""


def as_plain(device: Device) -> Dict[str, Any]:
    """Return a device as JSON has it."""
    return dataclasses.asdict(device)
