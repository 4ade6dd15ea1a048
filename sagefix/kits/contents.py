"""What stands in a kit besides the source and sagefix's wheels: how to begin, and a wheelhouse of the chosen wheels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from string import Template

import msgspec

from sagefix import __version__
from sagefix.kits.model import WHEELS, Manifest
from sagefix.kits.packing import Packed, epoch
from sagefix.settings import shipped_manifests
from sagefix.wheelhouse import index
from sagefix.wheelhouse.model import (
    MARKER_NAME,
    METADATA_SUFFIX,
    PROOFS_SUFFIX,
    SCHEMA,
    SIDECAR_SUFFIX,
    Marker,
    Sidecar,
)
from sagefix.wheelhouse.proving import in_words
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.model import Facts
from sagefix.wheels.statement import SUFFIX as STATEMENT_SUFFIX


def start(manifest: Manifest) -> Iterator[Packed]:
    """Yield what stands at the front, so that it is quickly got out."""
    folder = shipped_manifests() / "kit"
    readme = (folder / "README.txt").read_text(encoding="utf-8")
    told = {
        "PROJECT": manifest.project,
        "COMMIT": manifest.commit,
        "SAGEFIX": manifest.sagefix,
        "HOSTS": ", ".join(f"{host.python} ({host.machine})" for host in manifest.hosts),
        "WHEELS": "\n".join(f"  {wheel}" for wheel in manifest.wheels)
        or "  none: it compiles from the source",
    }
    text = Template(readme).substitute(told)
    yield Packed(path="README.txt", kind="start", what="how to use the kit", content=text.encode())
    for script in ("bootstrap.sh", "bootstrap.py"):
        yield Packed(path=script, kind="start", what="gets sagefix out of the kit", content=folder / script)


def wheels(wheelhouse: Wheelhouse, chosen: Sequence[Facts]) -> Iterator[Packed]:
    """Yield a wheelhouse of the chosen wheels: what is kept beside each comes along, and the index is made anew."""
    yield _kept(MARKER_NAME, "makes a folder a wheelhouse", _line(Marker(schema=SCHEMA, sagefix=__version__)))
    sidecars: dict[str, list[Sidecar]] = {}
    for facts in chosen:
        sidecar = wheelhouse.sidecar(facts.filename)
        assert sidecar is not None
        # When a wheel was added where it was packed is of no use elsewhere, and would change the kit's bytes.
        moment = epoch()
        added = datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="microseconds")
        sidecar = msgspec.structs.replace(
            sidecar,
            mtime_ns=moment * 1_000_000_000,
            added=added.replace("+00:00", "Z"),
            added_by=f"sagefix {__version__}",
        )
        wheel = Path(facts.where)
        project = wheel.parent.name
        sidecars.setdefault(project, []).append(sidecar)
        inside = f"{project}/{facts.filename}"
        yield _kept(inside, f"the wheel: {in_words(facts.proofs)}", wheel)
        yield _kept(inside + SIDECAR_SUFFIX, "what is known of the wheel", _line(sidecar))
        for suffix, what in (
            (METADATA_SUFFIX, "its METADATA, for installers"),
            (STATEMENT_SUFFIX, "its statement of provenance"),
            (PROOFS_SUFFIX, "its proofs"),
        ):
            beside = wheel.with_name(wheel.name + suffix)
            if beside.is_file():
                yield _kept(inside + suffix, what, beside)
    for name, page in index.pages(sidecars).items():
        yield _kept(name, "the index, for pip and uv", page)


def _kept(path: str, what: str, content: bytes | Path) -> Packed:
    return Packed(path=f"{WHEELS}/{path}", kind="wheelhouse", what=what, content=content)


def _line(value: Marker | Sidecar) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


def program(name: str) -> str:
    """Say what a wheel among sagefix's own is for."""
    if name.startswith("sagefix-"):
        return "sagefix itself"
    return (
        "installs sagefix, and wheels where there is no uv" if name.startswith("pip-") else "sagefix needs it"
    )
