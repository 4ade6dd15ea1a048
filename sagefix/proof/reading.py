"""A commit judged by reading its Python files: level ``static``, without a build and without an installation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from sagefix.archs import Arch
from sagefix.pins.model import Pin
from sagefix.proof import faults
from sagefix.proof.edges import Judgement
from sagefix.proof.static import check_fault

_SHOWN = 3


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about one state of a package, in words as well; no verdict: it cannot be judged.

    ``hazards`` are dangers that plain use never meets; they decide nothing.
    """

    verdict: Judgement | None
    words: str
    hazards: tuple[str, ...] = ()


def judge_sources(pin: Pin, sources: Mapping[str, bytes], archs: Sequence[Arch]) -> Judged:
    """Judge the Python files of a package, by their paths inside site-packages, for some archs (none: any).

    A file that does not parse makes it ``unparsable``, a known fault of the pin that matters on the archs makes it
    ``bad``. ``good`` means that none of the known faults is there: reading cannot say more.
    """
    if not sources:
        return Judged(verdict=None, words=f"There is no package {pin.package} at this commit.")
    broken = [(path, found) for path in sorted(sources) for found in faults.unparsable(sources[path])]
    if broken:
        more = f"; and {len(broken) - _SHOWN} more files" if len(broken) > _SHOWN else ""
        told = "; ".join(f"{path}: {finding.text}" for path, finding in broken[:_SHOWN])
        return Judged(verdict="unparsable", words=f"Does not parse: {told}{more}.")
    checks = [check_fault(fault, sources, archs, ()) for fault in pin.fault]
    found = [check.found for check in checks if check.status == "failure"]
    if found:
        return Judged(verdict="bad", words=" ".join(found))
    dormant = [check.found for check in checks if check.status == "warning"]
    return Judged(verdict="good", words=" ".join(["No known fault of source.", *dormant]))
