"""The local version label of a wheel, and its file name.

A label is ``[a-z0-9]+`` joined by dots, and a segment of digits alone is read as a number, which loses
leading zeros
(https://packaging.python.org/en/latest/specifications/version-specifiers/#local-version-identifiers). What is
written here stays as it is when a tool normalises it.
"""

from __future__ import annotations

import re

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from sagefix.archs import Arch, parse_arch, sort_archs
from sagefix.errors import WheelError
from sagefix.wheels.model import Label

UNKNOWN = "unknown"
SHORT = 7
"""Digits of a commit in a label: as many as git shows and people quote."""

# "dir" stands before the tree id of a plain folder, which has no commit to show (sagefix.source.plain).
_COMMIT = re.compile(r"[0-9a-f]{7,64}|dir[0-9a-f]{7,64}")
_COMMIT_SEGMENT = re.compile(r"g?[0-9a-f]{7,64}|dir[0-9a-f]{7,64}")
_CUDA = re.compile(r"cu(\d{2,4})")
_ARCH = re.compile(r"sm(\d{2,3})[af]?(ptx)?")


def make_label(label: Label) -> str:
    """Write a label: ``68de379.fix1.cu130.torch2.11.sm90``; what is unknown or zero is left out.

    A commit that is not known (empty) stands as ``unknown``, so that each label starts with the answer to
    "which commit is it?". Raises :class:`WheelError` when a field is not what its type promises.
    """
    parts = [short_commit(label.commit)]
    if label.fix:
        parts.append(f"fix{label.fix}")
    if label.cuda:
        parts.append("cu" + "".join(_numbers(label.cuda, "CUDA version")))
    if label.torch:
        parts.append("torch" + ".".join(_numbers(label.torch, "torch version")))
    parts += [arch.label for arch in sort_archs(parse_arch(arch) for arch in label.archs)]
    return ".".join(parts)


def short_commit(commit: str) -> str:
    """Shorten a commit to what can stand in a label.

    Seven digits; more if those hold no letter, until one appears; with none at all a ``g`` in front, as
    ``git describe`` writes it.
    """
    commit = commit.lower()
    if commit in ("", UNKNOWN):
        return UNKNOWN
    if not _COMMIT.fullmatch(commit):
        raise WheelError(f"{commit!r} is not a commit: at least {SHORT} hexadecimal digits are needed.")
    if commit.startswith("dir"):
        return commit
    for length in range(SHORT, len(commit) + 1):
        if not commit[:length].isdigit():
            return commit[:length]
    return "g" + commit[:SHORT]


def _numbers(version: str, what: str) -> list[str]:
    """Return the first two numbers of a version (``2.11.0+cu130`` gives ``2`` and ``11``)."""
    try:
        release = Version(version).release
    except InvalidVersion as error:
        raise WheelError(f"{version!r} is not a {what}.") from error
    # "13" stays "13": a minor version that nobody saw is not invented.
    return [str(number) for number in release[:2]]


def parse_label(version: str) -> Label:
    """Read the label of a version (``2.2.0+68de379.cu130``); never fails, what is not understood stays empty.

    Labels of other projects are read as far as their parts look like ours.
    """
    _, plus, local = version.lower().partition("+")
    segments = re.split(r"[-_.]", local) if plus else []
    commit = fix = cuda = torch = ""
    archs: list[Arch] = []
    if segments and (segments[0] == UNKNOWN or _is_commit(segments[0])):
        commit = segments[0].removeprefix("g")
    for index, segment in enumerate(segments):
        following = segments[index + 1] if index + 1 < len(segments) else ""
        if match := _CUDA.fullmatch(segment):
            digits = match[1]
            cuda = digits if len(digits) == 2 else f"{digits[:-1]}.{digits[-1]}"
        elif re.fullmatch(r"torch\d+", segment) and following.isdecimal():
            torch = f"{segment.removeprefix('torch')}.{following}"
        elif re.fullmatch(r"fix\d{1,4}", segment):
            fix = segment.removeprefix("fix")
        elif match := _ARCH.fullmatch(segment):
            archs.append(Arch(int(match[1][:-1]), int(match[1][-1]), match[2] is not None))
    return Label(
        commit=commit,
        fix=int(fix or 0),
        cuda=cuda,
        torch=torch,
        archs=tuple(str(arch) for arch in sort_archs(archs)),
    )


def _is_commit(segment: str) -> bool:
    # Digits alone are a number (a date, a build) of somebody else: ours would have a letter or a "g".
    return _COMMIT_SEGMENT.fullmatch(segment) is not None and not segment.isdecimal()


def commit_matches(label_commit: str, full: str) -> bool:
    """Tell whether a label's commit is a prefix of a full one; an unknown commit matches none."""
    short = label_commit.lower().removeprefix("g")
    return _COMMIT.fullmatch(short) is not None and full.lower().startswith(short)


def wheel_filename(project: str, version: str, python_tag: str, abi_tag: str, platform_tag: str) -> str:
    """Write the file name of a wheel, each part normalised as the wheel specification asks.

    https://packaging.python.org/en/latest/specifications/binary-distribution-format/#file-name-convention;
    compressed tag sets (``cp311.cp312``) stay. Raises :class:`WheelError` for a version that is none.
    """
    name = escape_name(project)
    tags = "-".join(tag.replace("-", "_") for tag in (python_tag, abi_tag, platform_tag))
    return f"{name}-{normal_version(version)}-{tags}.whl"


def escape_name(project: str) -> str:
    """Write a project name as it stands in file names: ``sage_attention`` for ``Sage-Attention``."""
    return canonicalize_name(project).replace("-", "_")


def normal_version(version: str) -> str:
    """Return a version as tools write it. Raises :class:`WheelError` when it is none."""
    try:
        return str(Version(version))
    except InvalidVersion as error:
        raise WheelError(f"{version!r} is not a version.") from error
