"""The lowest platform tag that a wheel keeps its word with, as auditwheel finds it.

``linux_x86_64`` says nothing about glibc: such a wheel installs where its glibc is too old and dies at import.
``manylinux_2_34_x86_64`` is refused there by pip and uv. auditwheel looks at the versions of the symbols a wheel needs
from glibc, libstdc++ and their like; torch, CUDA and the driver are the user's own and do not count.
Policies: https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/
"""

from __future__ import annotations

import email.parser
import email.policy
import re
from pathlib import Path

import msgspec

from sagefix.errors import WheelError

EXCLUDED = (
    "libtorch*.so*",
    "libc10*.so*",
    "libshm.so*",
    # The driver, the runtime, and NVIDIA's libraries, all of which torch loads.
    "libcu*.so*",
    "libnv*.so*",
    "libnccl*.so*",
)
"""Libraries that are not part of the question; patterns of SONAMEs as ``auditwheel repair --exclude`` takes them."""

_LINUX = re.compile(r"linux_(?P<machine>\w+)")
_TAG = re.compile(r"(?:many|musl)linux_(?P<glibc>\d+_\d+)_(?P<machine>\w+)")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What auditwheel found: ``tag`` (``manylinux_2_34_x86_64``) and the symbol versions that decided it."""

    tag: str
    symbols: dict[str, tuple[str, ...]]

    @property
    def glibc(self) -> str:
        """The oldest glibc the tag allows: ``"2.34"``."""
        match = _TAG.fullmatch(self.tag)
        assert match is not None
        return match["glibc"].replace("_", ".")


def lowest_policy(wheel: Path) -> Policy:
    """Ask auditwheel for the lowest policy of a wheel with compiled modules.

    Raises :class:`WheelError`: nothing compiled in it, or no policy fits (``details`` say what is in the way).
    """
    from auditwheel import wheel_abi
    from auditwheel.error import AuditwheelError

    # It remembers what it found under a path, and a wheel that is built again has the same.
    wheel_abi.get_wheel_elfdata.cache_clear()
    try:
        found = wheel_abi.analyze_wheel_abi(
            None, None, wheel, frozenset(EXCLUDED), disable_isa_ext_check=False, allow_graft=False
        )
    except AuditwheelError as error:
        raise WheelError(
            f"{wheel.name} can get no manylinux tag: {' '.join(error.message.split())}",
            hint="Leave --manylinux out.",
        ) from error
    tag = str(found.overall_policy.name)
    symbols = {name: tuple(sorted(versions)) for name, versions in sorted(found.versioned_symbols.items())}
    if _TAG.fullmatch(tag) is None:
        # The most permissive policy says best what is really in the way.
        newest = max((policy for policy in found.policies), key=_numbers)
        libraries = sorted(found.external_refs[newest.name].libs)
        because = (
            f"it needs {', '.join(libraries)}"
            if libraries
            else "it needs newer symbols than any policy allows"
        )
        raise WheelError(
            f"{wheel.name} can get no manylinux tag: {because}.",
            hint="Leave --manylinux out, or link those libraries statically.",
            details={"libraries": libraries, "symbols": symbols},
        )
    return Policy(tag=tag, symbols=symbols)


def _numbers(policy: object) -> tuple[int, ...]:
    match = _TAG.fullmatch(str(getattr(policy, "name", "")))
    return tuple(map(int, match["glibc"].split("_"))) if match else (0,)


def narrows(platform_tag: str, wanted: str) -> bool:
    """Tell whether ``wanted`` says the same of a machine as a plain ``linux_`` tag, and more of its C library."""
    plain, narrow = _LINUX.fullmatch(platform_tag), _TAG.fullmatch(wanted)
    return plain is not None and narrow is not None and plain["machine"] == narrow["machine"]


def retag(wheel_file: bytes, platform_tag: str) -> bytes:
    """Write the WHEEL file with another platform in each of its tags; everything else stays as it was."""
    headers = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(wheel_file)
    old = [str(line).strip() for line in headers.get_all("Tag", [])]
    new = list(dict.fromkeys(f"{tag.rpartition('-')[0]}-{platform_tag}" for tag in old))
    lines = [
        line for line in wheel_file.decode().splitlines() if line and not line.lower().startswith("tag:")
    ]
    return ("\n".join([*lines, *(f"Tag: {tag}" for tag in new)]) + "\n").encode()
