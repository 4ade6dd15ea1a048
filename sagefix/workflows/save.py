"""The package that is installed in the target, turned into a wheel that is kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from sagefix.files import make_cache_dir
from sagefix.pins.load import load_pin
from sagefix.progress import task
from sagefix.settings import cache_dir
from sagefix.targets.interpreter import find_python, probe
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.model import Facts
from sagefix.wheels.saved import wheel_from_installed


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """The wheel that was made, and the facts about it that the installation did not tell."""

    wheel: Facts
    unknown: tuple[str, ...]


def save(pin_name: str, python: str | None, wheelhouse: Wheelhouse, *, replace: bool = False) -> Saved:
    """Save the installed package of a pin into the wheelhouse.

    Raises :class:`TargetError` for the interpreter and :class:`WheelError` when nothing is installed, when its
    files are not those of its RECORD, or when it cannot be a wheel (an editable installation).
    """
    pin = load_pin(pin_name)
    interpreter = probe(find_python(python))
    scratch = make_cache_dir(cache_dir() / "saving")
    with tempfile.TemporaryDirectory(dir=scratch) as folder, task(f"Saving {pin.project}"):
        wheel = wheel_from_installed(pin, interpreter, Path(folder))
        facts = wheelhouse.add(wheel, replace=replace)
    return Saved(wheel=facts, unknown=facts.record.unknown if facts.record else ())
