"""The wheel tags of a target, computed here from what the target's interpreter told.

``packaging.tags`` knows the rules (PEP 425, PEP 600, PEP 656), but by itself it looks at the interpreter it
runs in, which is sagefix's; so it is given versions, ABIs and platforms explicitly. Source:
https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# The manylinux tags that had names before PEP 600 gave them numbers:
# https://peps.python.org/pep-0600/#legacy-manylinux-tags
_LEGACY = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
# The oldest glibc that has a tag: 2.5 on x86, 2.17 elsewhere (the architectures came with manylinux2014,
# PEP 599).
_OLDEST_MINOR = {"x86_64": 5, "i686": 5}
_OLDEST_MINOR_ELSEWHERE = 17
_32_BIT = {"linux_x86_64": "linux_i686", "linux_aarch64": "linux_armv8l"}


def platform_tag(platform: str, bits: int = 64) -> str:
    """Return the tag of a wheel built on a platform: ``linux-x86_64`` becomes ``linux_x86_64``.

    ``platform`` is what ``sysconfig.get_platform()`` says; a 32-bit Python on a 64-bit kernel (``bits``)
    takes 32-bit wheels.
    """
    tag = re.sub(r"[^0-9a-zA-Z]", "_", platform).lower()
    return _32_BIT.get(tag, tag) if bits == 32 else tag


def platform_tags(own: str, *, glibc: str = "", musl: str = "", mac_version: str = "") -> list[str]:
    """Return every platform tag that a machine takes, its own first.

    ``own`` is :func:`platform_tag`; ``glibc`` like ``"2.36"``, ``musl`` like ``"1.2"``, ``mac_version`` like
    ``"14.5"``, empty where they do not apply.
    """
    if own.startswith("linux_"):
        machine = own.removeprefix("linux_")
        return [own, *_manylinux(machine, glibc), *_musllinux(machine, musl)]
    if own.startswith("macosx_") and mac_version:
        from packaging.tags import mac_platforms

        major, minor = _numbers(mac_version)
        machine = "arm64" if own.endswith("arm64") else "x86_64"
        return list(dict.fromkeys([*mac_platforms((major, minor), machine)]))
    return [own]


def python_tags(version: str, *, debug: bool = False, free_threaded: bool = False) -> tuple[str, list[str]]:
    """Return a CPython's own tag and the ABIs it loads, best first: ``("cp312", ["cp312"])``.

    A debug build also loads what was made for a release build (since Python 3.8).
    """
    major, minor = _numbers(version)
    own = f"cp{major}{minor}"
    abi = own + ("t" if free_threaded else "")
    return own, [abi + "d", abi] if debug else [abi]


def wheel_tags(version: str, abis: list[str], platforms: list[str]) -> tuple[str, ...]:
    """Return all tags that a CPython takes, best first, as ``cp312-cp312-linux_x86_64``."""
    from packaging.tags import compatible_tags, cpython_tags

    numbers = _numbers(version)
    own = f"cp{numbers[0]}{numbers[1]}"
    tags = [
        *cpython_tags(numbers, abis, platforms),
        *compatible_tags(numbers, own, platforms),
    ]
    return tuple(dict.fromkeys(str(tag) for tag in tags))


def _numbers(version: str) -> tuple[int, int]:
    major, _, rest = version.partition(".")
    return int(major), int(rest.partition(".")[0] or 0)


def _manylinux(machine: str, glibc: str) -> Iterator[str]:
    if not glibc:
        return
    major, newest = _numbers(glibc)
    for minor in range(newest, _OLDEST_MINOR.get(machine, _OLDEST_MINOR_ELSEWHERE) - 1, -1):
        yield f"manylinux_{major}_{minor}_{machine}"
        if (major, minor) in _LEGACY:
            yield f"{_LEGACY[major, minor]}_{machine}"


def _musllinux(machine: str, musl: str) -> Iterator[str]:
    if not musl:
        return
    major, newest = _numbers(musl)
    for minor in range(newest, -1, -1):
        yield f"musllinux_{major}_{minor}_{machine}"
