"""Which verdicts are kept beside a wheel: those that are about the wheel."""

from __future__ import annotations

import msgspec

from sagefix.checks import failures
from sagefix.errors import SagefixError
from sagefix.pins.model import Pin
from sagefix.progress import warn
from sagefix.proof.model import Verdict
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheels.model import Facts

# Checks that fail because of the place: another copy, a torch that was exchanged, files that were changed after
# the installation (a wheel's own are compared with its RECORD when it is taken into the wheelhouse).
_NOT_THE_WHEEL = frozenset({"one copy", "files", "record", "torch"})


def keep_proof(wheelhouse: Wheelhouse, wheel: Facts, verdict: Verdict, pin: Pin) -> None:
    """Write the verdict beside the wheel; a read-only wheelhouse is told, not fatal.

    A wheel that failed is never chosen again, so a failure that another machine, or this one tomorrow, would not
    see is left out.
    """
    if not verdict.passed and not blames_wheel(verdict, pin):
        return
    try:
        wheelhouse.record_proof(
            wheel.filename, msgspec.to_builtins(verdict), level=verdict.level, passed=verdict.passed
        )
    except SagefixError as error:
        warn(f"The proof was not kept: {error}")


def blames_wheel(verdict: Verdict, pin: Pin) -> bool:
    """Tell whether a negative verdict is about the wheel, and not about where it was installed."""
    failed = {check.name for check in failures(verdict.checks)}
    others = {f"import {name}" for name in ("torch", *pin.build.import_requires)}
    if failed & (_NOT_THE_WHEEL | others):
        return False
    # Without a GPU there is often no libcuda.so.1 either, and then no kernel loads, however good it is.
    only_imports = all(name.startswith("import ") for name in failed)
    return not (only_imports and pin.device == "cuda" and not verdict.gpus)
