"""From what people write behind ``--ref`` to a commit, and what is known against it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sagefix.archs import Arch
from sagefix.errors import KnownBadError, PinError
from sagefix.pins.model import Known, Pin, Revision

# https://git-scm.com/docs/git-check-ref-format, and a leading dash, which git would read as an option.
_INVALID = re.compile(r"^-|\.\.|@\{|//|[\x00-\x20\x7f~^:?*\[\\]|\s|/$|^/|\.$")
_HEX = re.compile(r"[0-9a-fA-F]+")
_FULL = 40
_SHORTEST = 7
_TAGS = "refs/tags/"


def resolve_ref(pin: Pin, ref: str | None) -> Revision | None:
    """Return the commit that a ref means, or None when only the repository can say.

    ``None`` means the pin's own commit. Otherwise, in this order: a name that the pin lists (with or without
    ``refs/tags/``), a full commit, at least 7 digits of a commit that the pin knows.

    Raises :class:`PinError`: the text cannot be a ref, or several known commits start with it.
    """
    if ref is None:
        return _revision(pin, pin.source.commit, pin.source.commit)
    if not ref or _INVALID.search(ref):
        raise PinError(
            f"{ref!r} is not a commit, tag or branch name.",
            hint=f"Write a full commit, at least {_SHORTEST} digits of one, or a tag: --ref {short(pin)}.",
        )
    name = ref.removeprefix(_TAGS)
    for each in pin.ref:
        if name in (known.removeprefix(_TAGS) for known in each.names):
            return _revision(pin, each.commit, ref)
    if not _HEX.fullmatch(ref):
        return None
    digits = ref.lower()
    if len(digits) == _FULL:
        return _revision(pin, digits, ref)
    if len(digits) < _SHORTEST:
        return None
    matches = sorted({commit for commit in _commits(pin) if commit.startswith(digits)})
    if len(matches) > 1:
        raise PinError(
            f"{ref!r} is ambiguous: {', '.join(matches)} start with it.",
            hint="Write more digits.",
            details={"ref": ref, "matches": matches},
        )
    return _revision(pin, matches[0], ref) if matches else None


def refuse_known_bad(
    pin: Pin, revision: Revision, archs: Sequence[Arch], allow: bool = False
) -> tuple[Known, ...]:
    """Return what is known about a revision on these archs (on any, when none is given), good and bad.

    Raises :class:`KnownBadError` when it is known to be broken or not to parse there, unless ``allow``.
    """
    findings = pin.known_about(revision.commit, tuple(archs))
    bad = [known for known in findings if known.status != "good"]
    if not bad or allow:
        return findings
    commit = revision.commit[:_SHORTEST]
    asked = commit if revision.commit.startswith(revision.asked.lower()) else f"{revision.asked} ({commit})"
    hit = [arch for arch in archs if any(known in bad for known in pin.known_about(revision.commit, (arch,)))]
    where = f" on {' and '.join(arch.capability for arch in hit)}" if hit else ""
    reasons = dict.fromkeys(known.reason for known in bad)
    sources = list(dict.fromkeys(source for known in bad for source in known.sources))
    ways = ["build it all the same with --allow-known-bad"]
    if not any(known.status != "good" for known in pin.known_about(pin.source.commit, tuple(archs))):
        ways.insert(0, f"use the pin's own commit with --ref {short(pin)}")
    hint = " or ".join(ways)
    raise KnownBadError(
        f"{pin.project} at {asked} is known to be broken{where}: {' '.join(reasons)}",
        hint=f"{hint[0].upper()}{hint[1:]}. Sources: {', '.join(sources)}",
        details={
            "commit": revision.commit,
            "archs": [str(arch) for arch in archs],
            "status": [known.status for known in bad],
            "reasons": list(reasons),
            "sources": sources,
        },
    )


def short(pin: Pin) -> str:
    """Return the pin's own commit, as short as it can be typed."""
    commit = pin.source.commit
    length = _SHORTEST
    while sum(known.startswith(commit[:length]) for known in _commits(pin)) > 1:
        length += 1
    return commit[:length]


def _commits(pin: Pin) -> set[str]:
    return {ref.commit for ref in pin.ref} | {commit for known in pin.known for commit in known.commits}


def _revision(pin: Pin, commit: str, asked: str) -> Revision:
    known = pin.ref_of(commit)
    return Revision(
        commit=commit, tree=known.tree if known else "", recipe=known.recipe if known else "", asked=asked
    )
