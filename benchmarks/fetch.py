"""Bytes received by ``sagefix source fetch`` against a full ``git clone --no-checkout`` of the same source.

A repository on this machine is served over HTTP by a server that counts, so both sides speak git's protocol and
are counted the same way. sagefix's own figure (``received``) stands beside that count. From a URL there is
nothing of ours to count with: then it is the packs that arrived.
"""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.git_server import serving
from benchmarks.measure import CommandError, NotHereError, Part, call, values_row
from benchmarks.surroundings import Asked, ask_sagefix, environment

TARGET = 0.02
_OURS, _THEIRS = "sagefix source fetch", "git clone --no-checkout"


def compare_fetch(asked: Asked) -> Part:
    """Fetch and clone once each; bytes do not vary as times do."""
    if asked.source is None:
        raise NotHereError("Name a repository or its URL with --source.")
    local = Path(asked.source)
    if not local.is_dir():
        return _from_url(asked, asked.source)
    with serving(local, asked.scratch) as server:
        fetched = _fetch(asked, server.url)
        ours = server.taken()
        try:
            _clone(asked, server.url)
            theirs, how = server.taken(), "counted by the server"
        except CommandError:
            # A mirror that lacks blobs cannot be cloned; what it has is a lower bound of the whole.
            theirs, how = (
                packs(local),
                "the size of its packs: objects are missing in it, so that a clone fails",
            )
    notes = (f"sagefix says {fetched} bytes of packs, the server sent {ours} bytes in all; the clone: {how}",)
    row = values_row("fetch", _OURS, _THEIRS, [ours], [theirs], target=TARGET, unit="bytes")
    return Part(name="fetch", rows=(row,), notes=notes)


def _from_url(asked: Asked, url: str) -> Part:
    fetched = _fetch(asked, url)
    kept = packs(asked.scratch / "cache")
    folder = _clone(asked, url)
    row = values_row("fetch", _OURS, _THEIRS, [fetched], [packs(folder)], target=TARGET, unit="bytes")
    notes = (
        f"sagefix says {fetched} bytes received and keeps packs of {kept}; the clone: the size of its packs",
    )
    return Part(name="fetch", rows=(row,), notes=notes)


def _fetch(asked: Asked, url: str) -> int:
    """Fetch into an empty cache and return what sagefix says it received."""
    cache = asked.scratch / "fetch-cache"
    words = ["source", "fetch", "--pin", asked.pin, "--source", url]
    if asked.ref:
        words += ["--ref", asked.ref]
    result = ask_sagefix(*words, env=environment(asked.scratch, SAGEFIX_CACHE_DIR=str(cache)))
    if result["from_cache"]:
        raise CommandError("The commit came from the cache, so nothing was received.")
    return int(result["received"])


def _clone(asked: Asked, url: str) -> Path:
    folder = asked.scratch / "clone"
    env = environment(asked.scratch, GIT_TERMINAL_PROMPT="0", GIT_CONFIG_GLOBAL=os.devnull)
    call("git", "clone", "--quiet", "--no-checkout", url, folder, env=env)
    return folder


def packs(folder: Path) -> int:
    """Return the bytes of every pack below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*.pack"))
