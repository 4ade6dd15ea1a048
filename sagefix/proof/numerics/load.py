"""Reading ``manifests/proofs/NAME.toml``: what is computed for a pin, and what it is judged by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sagefix import settings
from sagefix.errors import PinError
from sagefix.pins.load import convert_table, read_table
from sagefix.pins.model import Pin
from sagefix.pins.rules import Problem
from sagefix.proof.numerics.model import Proofs

_TYPES = "sagefix/proof/numerics/model.py"


def load_proofs(pin: Pin, folder: Path | None = None) -> Proofs:
    """Return what is computed for a pin, from ``proofs/`` in a folder of manifests (default: that of the pins).

    Raises :class:`PinError`: there is none for this pin, or it is wrong.
    """
    where = (settings.manifests_dir() if folder is None else folder) / "proofs"
    path = where / f"{pin.name}.toml"
    if not path.is_file():
        raise PinError(
            f"There is no {path.name} in {where}: nobody has said how to compute with {pin.name}.",
            hint="Verify at level import, or write the file; docs/verify.md describes it.",
        )
    return convert_table(path, read_table(path), Proofs, _problems, described_in=_TYPES)


def has_proofs(pin: Pin) -> bool:
    """Tell whether there is anything to compute for a pin."""
    return (settings.manifests_dir() / "proofs" / f"{pin.name}.toml").is_file()


def _problems(proofs: Proofs, path: Path) -> Iterator[Problem]:
    """Yield what is wrong beyond the types: names that nobody defines, what no limit covers."""
    if proofs.pin != path.stem:
        yield ("pin",), f"the file is named {path.name}"
    names = {function.name for function in proofs.function}
    for number, block in enumerate(proofs.block):
        for name in block.functions:
            if name != "*" and name not in names:
                yield ("block", number, "functions"), f"there is no function {name!r}"
    for number, function in enumerate(proofs.function):
        if ":" not in function.call:
            yield ("function", number, "call"), "write module:attribute"
        for place in function.on:
            for dtype in function.dtypes:
                if not any(row.accuracy == place.accuracy and dtype in row.dtypes for row in proofs.limit):
                    yield (
                        ("function", number, "on"),
                        f"no limit covers accuracy {place.accuracy!r} and {dtype}",
                    )
