"""What a console log of ComfyUI says: whether SageAttention ran, or every call fell back, and why.

A call that works prints nothing. So a log shows what was chosen at the start, each call that failed, and whether a
prompt came to its end; the verdict follows from those three.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from sagefix.comfyui.table import Line, Reason, Table

Ran = Literal["ran", "fell back", "partly", "failed", "not chosen", "not computed", "unknown"]

_LONGEST = 4000
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of one kind and one reason: how many, the first of them, and its number in the log (from 1).

    ``reason`` names a row of the table of reasons (empty: none of them), ``why`` is the text of the log.
    """

    name: str
    tells: str
    count: int
    number: int
    line: str
    says: str
    why: str = ""
    reason: str = ""
    fix: str = ""
    sources: tuple[str, ...] = ()


class Console(msgspec.Struct, frozen=True, kw_only=True):
    """What a log says about its last start of ComfyUI. ``starts`` is how many it holds.

    ``ran``: ``ran`` (it was chosen, a prompt came to its end, and no call failed), ``fell back`` (every call),
    ``partly`` (some calls), ``failed`` (a run ended because of it), ``not chosen`` (something else was), ``not
    computed`` (it was chosen, and no prompt came to its end), ``unknown`` (no line tells).
    """

    ran: Ran
    words: str
    starts: int
    lines: int
    seen: tuple[Seen, ...]

    @property
    def fixes(self) -> list[str]:
        """What to do, the most telling first."""
        return list(dict.fromkeys(each.fix for each in self.seen if each.fix))


def read_console(lines: Iterable[str], table: Table) -> Console:
    """Read a log line by line. Starts that follow without a line between them that tells more count as one."""
    patterns = [(row, re.compile(row.pattern)) for row in table.line]
    reasons = [(row, re.compile(row.pattern)) for row in table.reason]
    found: dict[tuple[str, str], Seen] = {}
    number = starts = 0
    begun = False
    for number, raw in enumerate(lines, 1):
        line = _CONTROL.sub("", raw)[:_LONGEST].strip()
        hit = next(((row, match) for row, pattern in patterns if (match := pattern.search(line))), None)
        if hit is None:
            continue
        row, match = hit
        if row.tells == "start":
            if not begun:
                found, starts, begun = {}, starts + 1, True
            continue
        begun = False
        seen = _seen(row, match, line, number, reasons)
        before = found.get((seen.name, seen.why))
        found[seen.name, seen.why] = (
            msgspec.structs.replace(before, count=before.count + 1) if before else seen
        )
    everything = tuple(found.values())
    ran, words = _judge(everything, table)
    return Console(ran=ran, words=words, starts=starts, lines=number, seen=everything)


def _seen(
    row: Line, match: re.Match[str], line: str, number: int, reasons: list[tuple[Reason, re.Pattern[str]]]
) -> Seen:
    groups = [group or "" for group in match.groups()]
    why = groups[0].strip() if groups and row.tells in ("fallback", "failed", "missing") else ""
    because = next(((each, hit) for each, pattern in reasons if why and (hit := pattern.search(why))), None)
    says, fix, sources = row.says.format(*groups), row.fix, row.sources
    if because is not None:
        reason, hit = because
        says = f"{says}: {reason.says.format(*(group or '' for group in hit.groups()))}"
        fix, sources = reason.fix, (*reason.sources, *sources)
    elif why and row.tells in ("fallback", "failed"):
        fix = fix or "`sagefix explain -` may know this error: paste it there."
    return Seen(
        name=row.name,
        tells=row.tells,
        count=1,
        number=number,
        line=line,
        says=says,
        why=why,
        reason=because[0].name if because else "",
        fix=fix,
        sources=sources,
    )


def _judge(seen: tuple[Seen, ...], table: Table) -> tuple[Ran, str]:
    told = {tells: [each for each in seen if each.tells == tells] for tells in {each.tells for each in seen}}
    extents = {row.name: row.extent for row in table.reason}
    failed = told.get("failed") or ([] if told.get("selected") else told.get("missing"))
    if failed:
        return "failed", f"{_upper(failed[0].says)}."
    if fallbacks := told.get("fallback", []):
        count = sum(each.count for each in fallbacks)
        every = [each for each in fallbacks if extents.get(each.reason) == "every"]
        said = "; ".join(dict.fromkeys(each.says for each in every or fallbacks))
        if every:
            return "fell back", f"Every call fell back ({_times(count)} in this log): {said}."
        known = (
            "" if all(each.reason for each in fallbacks) else " Whether others went through, no line says."
        )
        return "partly", f"{_times(count, 'call')} fell back: {said}.{known}"
    return _quiet(told)


def _quiet(told: dict[str, list[Seen]]) -> tuple[Ran, str]:
    """Judge a log without a call that failed."""
    if selected := told.get("selected"):
        if told.get("worked"):
            return (
                "ran",
                f"{_upper(selected[-1].says)}, a prompt was computed to its end, and no call fell back.",
            )
        return (
            "not computed",
            f"{_upper(selected[-1].says)}, and no prompt was computed to its end in this log.",
        )
    if other := told.get("other"):
        return "not chosen", (
            f"{_upper(other[-1].says)}. A node with an attention of its own (attention_mode of "
            "ComfyUI-WanVideoWrapper) prints nothing about it: `sagefix comfyui check` reads that from the workflow."
        )
    return "unknown", "Nothing in this log tells which attention ran."


def _times(count: int, what: str = "time") -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def lines_of(raw: Iterable[bytes]) -> Iterator[str]:
    """Decode the lines of a log whatever made it; PowerShell's ``>`` writes UTF-16.

    A progress bar that overwrites itself is several lines: what stands between carriage returns counts, too.
    """
    encoding = "utf-8"
    rest = b""
    for index, block in enumerate(raw):
        if index == 0 and block.startswith((b"\xff\xfe", b"\xfe\xff")):
            encoding = "utf-16"
        if encoding == "utf-16":
            rest += block
            continue
        yield from block.decode("utf-8-sig" if index == 0 else "utf-8", "replace").splitlines()
    if rest:
        yield from rest.decode("utf-16", "replace").splitlines()
