"""What is beside plain calls: hazards of streams and graphs, refusals, masks. One check each."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sagefix.checks import Check
from sagefix.proof.model import CaseResult
from sagefix.proof.numerics.judging import STRAY
from sagefix.proof.numerics.words import BAD

FIX = "Do not use it here; `sagefix install` installs the pinned commit."
_HAZARD_FIX = "`sagefix install` builds with the pin's fixes; without them, do not call it that way."
_MASK_FIX = "Do not put it in the place of torch's attention where a mask is passed."

_GROUPS = {
    "stream": ("streams", "on side streams"),
    "graph": ("graphs", "under CUDA graphs"),
    "compile": ("compile", "under torch.compile with mode reduce-overhead"),
}


def check_groups(cases: Sequence[CaseResult], broken: Collection[str]) -> list[Check]:
    """Judge what plain use never meets; ``broken`` are functions whose plain calls are wrong, which tell nothing."""
    checks = []
    for group, (title, where) in _GROUPS.items():
        mine = [case for case in cases if case.group == group]
        if mine:
            checks.append(_check_group(title, where, mine, broken))
    checks += _check_refusals(
        [case for case in cases if case.group == "refusal" and case.status != "skipped"]
    )
    checks += _check_masks([case for case in cases if case.group == "hazard" and case.status != "skipped"])
    return checks


def find_hazards(cases: Sequence[CaseResult], broken: Collection[str]) -> tuple[str, ...]:
    """Say, a sentence for each function, what goes wrong where plain use never comes."""
    silent: dict[str, list[str]] = {}
    loud: dict[str, str] = {}
    others = []
    for case in cases:
        name = _name(case)
        if case.status != "hazard" or name in broken:
            continue
        if case.group in _GROUPS and case.numbers is not None:
            where = _GROUPS[case.group][1]
            silent.setdefault(name, []).append(where)
        elif case.group in _GROUPS:
            loud.setdefault(name, f"{name}, {_GROUPS[case.group][1]}: {case.text}")
        elif case.text.startswith(STRAY):
            others.append(f"{name}: {STRAY[:1].lower()}{STRAY[1:]}.")
        elif case.group in ("hazard", "device"):
            others.append(f"{name}: {case.text}")
    told = [
        f"{name}: right when called plainly, wrong {joined(list(dict.fromkeys(places)))}: "
        "kernels on the default stream."
        for name, places in silent.items()
    ]
    return tuple(dict.fromkeys([*told, *loud.values(), *others]))


def wrong_elsewhere(hazards: Sequence[str], function: str) -> bool:
    """Tell whether hazards that :func:`find_hazards` found keep a function to the default stream."""
    places = [where for _, where in _GROUPS.values()]
    return any(
        each.startswith((f"{function}:", f"{function},")) and any(place in each for place in places)
        for each in hazards
    )


def _name(case: CaseResult) -> str:
    return case.id.partition("/")[0]


def _check_group(title: str, where: str, mine: Sequence[CaseResult], broken: Collection[str]) -> Check:
    told = [case for case in mine if case.status != "skipped" and _name(case) not in broken]
    if not told:
        why = "; ".join(dict.fromkeys(case.text for case in mine if case.status == "skipped"))
        return Check(name=title, status="skipped", found=why or "Plain calls are wrong already: see above.")
    if wrong := [case for case in told if case.status in BAD]:
        return Check(name=title, status="failure", found=f"{wrong[0].id}: {wrong[0].text}", fix=FIX)
    hazards = [case for case in told if case.status == "hazard"]
    if hazards:
        functions = joined(list(dict.fromkeys(map(_name, hazards))))
        found = f"A hazard with {functions}, right when called plainly, {where}: {hazards[0].text}"
        return Check(name=title, status="warning", found=found, fix=_HAZARD_FIX)
    return Check(name=title, status="ok", found=_count(len(told), "is right.", "are right."))


def _count(number: int, one: str, many: str) -> str:
    return f"The one case {one}" if number == 1 else f"All {number} cases {many}"


def _check_refusals(mine: Sequence[CaseResult]) -> list[Check]:
    if not mine:
        return []
    if bad := [case for case in mine if case.status in BAD]:
        told = "; ".join(f"{case.id}: {case.text}" for case in bad[:2])
        return [Check(name="refusals", status="failure", found=told, fix=FIX)]
    refused = sum(case.numbers is None for case in mine)
    more = f", {len(mine) - refused} computed rightly" if refused < len(mine) else ""
    return [Check(name="refusals", status="ok", found=f"{refused} of {len(mine)} are refused{more}.")]


def _check_masks(mine: Sequence[CaseResult]) -> list[Check]:
    if not mine:
        return []
    bad = [case for case in mine if case.status != "right"]
    if not bad:
        return [
            Check(
                name="masks", status="ok", found=_count(len(mine), "is honoured.", "are honoured or refused.")
            )
        ]
    who = joined(list(dict.fromkeys(map(_name, bad))))
    return [Check(name="masks", status="warning", found=f"A hazard with {who}: {bad[0].text}", fix=_MASK_FIX)]


def joined(words: Sequence[str]) -> str:
    """Write a list as people do: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
