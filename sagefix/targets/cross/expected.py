"""A target that is not here, described as far as choosing a wheel for it needs: nothing of it can be run or read.

Tags follow from Python, platform and glibc; torch's full version and its CUDA are those that were given, else those
that the package index has for that platform, else those of ``manifests/matrix.toml``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from sagefix.errors import RemoteIndexError, ToolchainError, TorchError, UsageError
from sagefix.pins.matrix import Matrix, load_matrix
from sagefix.progress import warn
from sagefix.targets.cross.packages import resolve_packages
from sagefix.targets.cross.platforms import Platform
from sagefix.targets.fetching import Locked
from sagefix.targets.model import Interpreter, Torch
from sagefix.targets.tags import platform_tags, python_tags, wheel_tags

GIVEN, INDEX, TABLE = "as given", "as the package index has it", "as matrix.toml says"
# 2.11, 2.11.0, and torch's own way to name a build: 2.11.0+cu130, 2.11.0+cpu
# (https://pytorch.org/get-started/previous-versions/).
_TORCH = re.compile(r"(\d+\.\d+)(\.\d+)?(?:\+(?:(cpu)|cu(\d+)(\d)))?", re.ASCII)
_CUDA = re.compile(r"\d+\.\d+", re.ASCII)
# torch brings the CUDA runtime of the toolkit that it was built with: https://pypi.org/project/nvidia-cuda-runtime/,
# and https://pypi.org/project/nvidia-cuda-runtime-cu12/ up to CUDA 12.
_RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu\d+)?")


class ExpectedTorch(msgspec.Struct, frozen=True, kw_only=True):
    """The torch that a target is taken to have, and where its version and CUDA were read, in words."""

    torch: Torch
    told_by: str


def expected_interpreter(
    machine: str, python: str, *, glibc: str, abi: str = "", torch: Torch | None = None
) -> Interpreter:
    """Return a CPython on Linux that is not here: ``machine`` like ``"aarch64"``, ``python`` like ``"3.12"``.

    ``abi`` is the tag of what it loads (default: that of a release build). It has no executable; see
    :func:`sagefix.targets.needs.require_present`.
    """
    own, abis = python_tags(python)
    abis = [abi] if abi else abis
    return Interpreter(
        executable="",
        version=python,
        implementation="cpython",
        machine=machine,
        prefix="",
        base_prefix="",
        platform_tag=f"linux_{machine}",
        python_tag=own,
        abi_tag=abis[0],
        tags=_tags(python, abis[0], machine, glibc),
        glibc=glibc,
        ext_suffix="",
        purelib="",
        platlib="",
        sys_path=(),
        python_h="",
        externally_managed=False,
        packages={},
        torch=torch,
    )


@lru_cache(maxsize=64)
def _tags(python: str, abi: str, machine: str, glibc: str) -> tuple[str, ...]:
    return wheel_tags(python, [abi], platform_tags(f"linux_{machine}", glibc=glibc))


def expected_torch(
    platform: Platform, python: str, text: str, cuda: str = "", *, offline: bool
) -> ExpectedTorch:
    """Return the torch that ``--torch`` (``2.11``, ``2.11.0``, ``2.11.0+cu130``) and ``cuda`` (``13.0``) come to there.

    What is given counts. The rest is what uv or pip would take from the package index for that platform; offline, or
    when the index does not answer, what ``manifests/matrix.toml`` says.

    Raises :class:`UsageError` for what cannot be read, :class:`TorchError` when the index has no such torch for that
    platform, or nobody here can say which CUDA it has.
    """
    release, patch, given = _read(text, cuda)
    matrix = load_matrix()
    if patch and given is not None:
        return ExpectedTorch(torch=_torch(release, patch, given, matrix), told_by=GIVEN)
    if not offline:
        try:
            wanted = f"torch=={release}{patch}" if patch else f"torch=={release}.*"
            version, found = _on_index(platform, python, wanted)
            made = _torch(release, version.removeprefix(release), found if given is None else given, matrix)
            return ExpectedTorch(torch=made, told_by=INDEX)
        except RemoteIndexError as error:
            warn(f"{error.message} What {TABLE.removeprefix('as ')} counts.")
    row = matrix.torch_of(release)
    if row is None or (given is None and platform.machine not in row.cuda):
        raise TorchError(
            f"Nothing here says what torch {text} for {platform.name} is: which patch, and which CUDA.",
            hint=f"Say both, for example --torch {release}.0 --cuda 13.0, or leave --offline out.",
        )
    told = row.cuda[platform.machine] if given is None else given
    made = _torch(release, patch or row.version.removeprefix(release), told, matrix)
    return ExpectedTorch(torch=made, told_by=TABLE)


def _read(text: str, cuda: str) -> tuple[str, str, str | None]:
    """Return the release (``2.11``), the patch (``.0`` or empty), and the CUDA (None: not said, empty: CPU)."""
    found = _TORCH.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--torch {text} is not a version.", hint="Write for example 2.11, 2.11.0 or 2.11.0+cu130."
        )
    if cuda and not _CUDA.fullmatch(cuda):
        raise UsageError(
            f"--cuda {cuda} is not a version of CUDA.", hint="Write for example 13.0: the one that torch has."
        )
    labelled = "" if found[3] else f"{found[4]}.{found[5]}" if found[4] else None
    if cuda and labelled is not None and cuda != labelled:
        raise UsageError(f"--torch {text} and --cuda {cuda} contradict each other.", hint="Leave one out.")
    return found[1], found[2] or "", cuda or labelled


def _on_index(platform: Platform, python: str, wanted: str) -> tuple[str, str]:
    """Return the full version of torch and its CUDA (empty: CPU only), as an installer there would get them."""
    what = f"torch for Python {python} on {platform.name}"
    try:
        closure = resolve_packages(platform, python, [wanted], what, offline=False)
    except ToolchainError as error:
        raise TorchError(
            f"The package index has no {wanted} for Python {python} on {platform.name}: "
            f"{error.details.get('reason', error.message)}",
            hint="Choose a torch and a Python that go together (https://pypi.org/project/torch/#history). For a torch "
            "from elsewhere say its whole version and its CUDA: --torch 2.11.0 --cuda 13.0.",
            details=error.details,
        ) from error
    version = next(each.version for each in closure if each.name == "torch")
    return version.partition("+")[0], cuda_of(closure)


def cuda_of(closure: Iterable[Locked]) -> str:
    """Return the CUDA (``"13.0"``) of the torch among packages at exact versions; empty for one for the CPU."""
    found = next((each.version for each in closure if _RUNTIME.fullmatch(each.name)), "")
    return ".".join(found.split(".")[:2])


def _torch(release: str, patch: str, cuda: str, matrix: Matrix) -> Torch:
    return Torch(version=release + patch, cuda=cuda, cxx11_abi=matrix.has_new_abi(release), folder="")
