"""What a search found out, as entries for the pin's list of known commits, and against that list."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import msgspec

from sagefix.pins.model import Known, Pin
from sagefix.proof.edges import Judgement

_RANK = {"unparsable": 0, "bad": 1, "good": 2}


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A commit with its verdict in words. ``equal_to``: the judged commit with the same content (empty: itself)."""

    commit: str
    verdict: Judgement
    words: str
    equal_to: str = ""


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """A commit of which the manifest says something else than was found."""

    commit: str
    found: Judgement
    known: str
    reason: str
    sources: tuple[str, ...]


def disagreements(pin: Pin, found: Iterable[Found], archs: Sequence[str]) -> tuple[Disagreement, ...]:
    """Compare with what the pin says of the commits on these archs; on those it is silent about nothing is said."""
    return tuple(
        Disagreement(
            commit=each.commit,
            found=each.verdict,
            known=known.status,
            reason=known.reason,
            sources=known.sources,
        )
        for each in found
        for known in pin.known
        if each.commit in known.commits and _meets(known, archs) and known.status != each.verdict
    )


def _meets(known: Known, archs: Sequence[str]) -> bool:
    return not archs or "*" in known.archs or bool(set(archs) & set(known.archs))


def known_entries(found: Iterable[Found], archs: Sequence[str], url: str, how: str) -> str:
    """Write ``[[known]]`` tables for a manifest (:class:`~sagefix.pins.model.Known`), one for each finding.

    ``url`` is where the commits can be looked at (empty: nowhere), ``how`` says in words what judged them.
    """
    groups: dict[tuple[str, str], list[Found]] = {}
    for each in found:
        groups.setdefault((each.verdict, each.words), []).append(each)
    tables = [
        _table(verdict, words, group, archs, url, how)
        for (verdict, words), group in sorted(groups.items(), key=lambda item: _RANK[item[0][0]])
    ]
    return "\n".join(tables)


def _table(verdict: str, words: str, group: Sequence[Found], archs: Sequence[str], url: str, how: str) -> str:
    judged = [each for each in group if not each.equal_to]
    rest = [each for each in group if each.equal_to]
    reason = words
    if rest:
        reason += f" Judged: {', '.join(each.commit[:7] for each in judged)}; what is judged of the others is equal."
    sources = [f"{url}/commit/{each.commit}" for each in judged] if url.startswith("https://") else []
    lines = [
        "[[known]]",
        f"status = {_text(verdict)}",
        f"archs = [{', '.join(_text(arch) for arch in (['*'] if verdict == 'unparsable' else archs or ['*']))}]",
        "commits = [",
        *(f"    {_text(each.commit)}," for each in group),
        "]",
        f"reason = {_text(reason)}",
        "sources = [",
        *(f"    {_text(source)}," for source in [*sources, how]),
        "]",
        "",
    ]
    return "\n".join(lines)


def _text(value: str) -> str:
    # The escapes of JSON are among those of TOML's basic strings, except for DEL: https://toml.io/en/v1.0.0#string
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
