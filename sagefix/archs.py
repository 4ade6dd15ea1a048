"""GPU architectures as people write them.

The words follow NVIDIA's: a *compute capability* is ``9.0``, its machine code is built for ``sm_90`` (a
cubin), its PTX for ``compute_90``. Which suffix a kernel needs (``sm_90a``) is a fact of the pin, not of the
user's wish, so ``9.0a`` and ``9.0`` name the same arch here.
Source: https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/ (GPU feature list) and
https://pytorch.org/docs/stable/cpp_extension.html (``TORCH_CUDA_ARCH_LIST``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from sagefix.errors import UsageError

_ARCH = re.compile(
    r"^(?:sm_?|compute_?)?(?:(?P<major>\d{1,2})\.(?P<minor>\d)|(?P<digits>\d{2,3}))[af]?(?P<ptx>\+ptx)?$",
    re.IGNORECASE | re.ASCII,
)


class Arch(msgspec.Struct, frozen=True, order=True):
    """One compute capability, with PTX beside the cubin or not."""

    major: int
    minor: int
    ptx: bool = False

    @property
    def capability(self) -> str:
        """``"9.0"``: the form of drivers, torch and manifests."""
        return f"{self.major}.{self.minor}"

    @property
    def number(self) -> str:
        """``"90"``: the form inside ``sm_90``."""
        return f"{self.major}{self.minor}"

    @property
    def label(self) -> str:
        """``"sm90"`` or ``"sm90ptx"``: the form inside a wheel's local version label."""
        return f"sm{self.number}{'ptx' if self.ptx else ''}"

    def __str__(self) -> str:
        return self.capability + ("+PTX" if self.ptx else "")


def parse_arch(text: str) -> Arch:
    """Read one arch: ``9.0``, ``90``, ``9.0a``, ``sm_90``, ``compute_90``, ``9.0+PTX``.

    Raises :class:`UsageError` for anything else, marketing names (``H200``, ``hopper``) among them: those do
    not say what code a GPU runs.
    """
    match = _ARCH.match(text.strip())
    if match is None:
        raise UsageError(
            f"{text!r} is not a GPU architecture.",
            hint="Write a compute capability such as 9.0, 90, sm_90 or 9.0+PTX; `nvidia-smi "
            "--query-gpu=compute_cap --format=csv` prints that of your GPU.",
        )
    if match["digits"]:
        major, minor = int(match["digits"][:-1]), int(match["digits"][-1])
    else:
        major, minor = int(match["major"]), int(match["minor"])
    return Arch(major, minor, match["ptx"] is not None)


def parse_archs(text: str) -> tuple[Arch, ...]:
    """Read a list with ``;``, ``,`` or spaces between; sorted, each capability once (PTX wins)."""
    parts = [part for part in re.split(r"[;,\s]+", text) if part]
    if not parts:
        raise UsageError("The list of GPU architectures is empty.", hint="Write for example --arch 9.0")
    return sort_archs(parse_arch(part) for part in parts)


def sort_archs(archs: Iterable[Arch]) -> tuple[Arch, ...]:
    """Sort and merge: each capability stands once, with PTX if any of its mentions had it."""
    merged: dict[tuple[int, int], bool] = {}
    for arch in archs:
        key = (arch.major, arch.minor)
        merged[key] = merged.get(key, False) or arch.ptx
    return tuple(Arch(major, minor, ptx) for (major, minor), ptx in sorted(merged.items()))


def join_archs(archs: Iterable[Arch]) -> str:
    """Write a list in the form of ``TORCH_CUDA_ARCH_LIST``: ``8.6;9.0+PTX``."""
    return ";".join(str(arch) for arch in archs)
