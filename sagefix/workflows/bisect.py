"""From two refs to the commits at which the verdict changes: every commit between them is judged, none is guessed.

The history is not halved, since it may break, be repaired and break again. What makes that cheap is that commits
with equal content have equal verdicts: each content is judged once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing

import msgspec

from sagefix import __version__
from sagefix.archs import Arch, parse_archs
from sagefix.errors import BisectError, PinError, SourceError, UsageError
from sagefix.pins.load import load_pin
from sagefix.pins.model import Pin
from sagefix.pins.refs import resolve_ref
from sagefix.progress import note, task
from sagefix.proof.edges import Judgement, Node, find_edges, find_stretches, main_line
from sagefix.proof.findings import Found, disagreements, known_entries
from sagefix.proof.reading import Judged
from sagefix.source.fetch import resolve
from sagefix.source.history import History, read_history
from sagefix.source.lines import Change
from sagefix.workflows.bisect_static import Reader
from sagefix.workflows.bisection import Asked, Bisection, How, Judge, Outcome, Row
from sagefix.workflows.situation import Request

_NOT_REACHED = Outcome(Judged(verdict=None, words="Not reached: the good end of the search is not good."))


def bisect(request: Request, asked: Asked) -> Bisection:
    """Judge the commits from ``asked.good`` to ``asked.bad`` and find every change of the verdict.

    Above ``static`` a search whose beginning is not good ends there; :func:`require_edges` says so.

    Raises :class:`UsageError`, :class:`PinError` and :class:`SourceError` for refs that make no history; above
    ``static``, what :func:`~sagefix.workflows.build.plan_build` raises when nothing can be built here.
    """
    started = time.monotonic()
    pin = load_pin(request.pin)
    archs = _archs(pin, request.arch)
    good, bad = (
        _commit(pin, ref, name, request) for ref, name in ((asked.good, "--good"), (asked.bad, "--bad"))
    )
    if good == bad:
        raise UsageError(f"--good and --bad are one commit, {good[:12]}.", hint="Name two commits.")
    files = (f"/{pin.package}/",) if asked.level == "static" else ()
    history = read_history(pin, good, bad, files=files, origin=request.source, offline=request.offline)
    changes = _walked(history, asked.first_parent)
    fetched = time.monotonic()
    with closing(_judge(request, asked, pin, archs, history, changes)) as judge:
        outcomes, contents = _judge_all(judge, changes, asked, history)
    inside = {change.commit for change in changes}
    line = main_line(_nodes(changes, {}))
    rows = tuple(
        _row(change, judge, outcomes, contents[change.commit], inside, set(line)) for change in changes
    )
    verdicts = {row.commit: row.verdict for row in rows}
    found = [
        Found(commit=row.commit, verdict=row.verdict, words=row.words, equal_to=row.equal_to)
        for row in rows
        if row.verdict is not None
    ]
    names = tuple(arch.capability for arch in archs)
    return Bisection(
        pin=pin.name,
        level=asked.level,
        archs=names,
        good=good,
        bad=bad,
        origin=history.origin,
        received=history.received,
        walked=_words(changes, history, asked.first_parent),
        rows=rows,
        edges=find_edges(_nodes(changes, verdicts)),
        stretches=find_stretches(line, verdicts),
        disagreements=disagreements(pin, found, names),
        entries=known_entries(found, names, pin.source.url, _how(asked, judge)),
        judged_by=judge.judged_by,
        compiled=sum(row.made == "built" for row in rows),
        grafted=sum(row.made == "grafted" for row in rows),
        seconds={"history": fetched - started, "judge": time.monotonic() - fetched},
    )


def require_edges(result: Bisection) -> None:
    """Raise :class:`BisectError` when the search established nothing: its beginning is not good, or nothing changes.

    A last commit that is good is no contradiction when changes lie before it: it was repaired on the way.
    """
    first, last = result.row(result.good), result.row(result.bad)
    if first.verdict is None:
        raise BisectError(
            f"--good {first.commit[:7]} cannot be judged: {first.words}",
            hint="Choose another good commit.",
            details={"kind": "not-judged", "commit": first.commit},
        )
    if first.verdict != "good":
        raise BisectError(
            f"--good {first.commit[:7]} is {first.verdict} itself at level {result.level}: {first.words}",
            hint="Choose an older commit that is good, or another --arch or --level.",
            details={"kind": "good-is-bad", "commit": first.commit},
        )
    if not result.edges:
        why = (
            f"cannot be judged: {last.words}"
            if last.verdict is None
            else f"is good at level {result.level}, too."
        )
        raise BisectError(
            f"The verdict never changes: --bad {last.commit[:7]} {why}",
            hint="Another --level or --arch may see the fault; `sagefix verify` sees what one installation has.",
            details={"kind": "never-changes", "commit": last.commit},
        )


def _archs(pin: Pin, given: str | None) -> tuple[Arch, ...]:
    archs = parse_archs(given) if given else ()
    if pin.device == "cpu" and archs:
        note(f"{pin.name} runs on the CPU: --arch changes nothing.")
        return ()
    return archs


def _commit(pin: Pin, ref: str, option: str, request: Request) -> str:
    try:
        known = resolve_ref(pin, ref)
        return known.commit if known else resolve(pin, ref, request.source, offline=request.offline)
    except (PinError, SourceError) as error:
        raise type(error)(f"{option}: {error.message}", hint=error.hint, details=error.details) from error


def _walked(history: History, first_parent: bool) -> tuple[Change, ...]:
    """Return the commits to judge; with ``first_parent`` those of the main line, each with its first parent alone."""
    if not first_parent:
        return history.changes
    line = set(main_line(_nodes(history.changes, {})))
    if history.first not in line:
        raise SourceError(
            f"{history.first[:7]} is not on the line of first parents of {history.last[:7]}.",
            hint="Leave --first-parent out, or name a good commit of that line.",
        )
    return tuple(
        msgspec.structs.replace(change, parents=change.parents[:1])
        for change in history.changes
        if change.commit in line
    )


def _nodes(changes: Iterable[Change], verdicts: Mapping[str, Judgement | None]) -> tuple[Node, ...]:
    return tuple(
        Node(commit=change.commit, parents=change.parents, verdict=verdicts.get(change.commit))
        for change in changes
    )


def _judge(
    request: Request,
    asked: Asked,
    pin: Pin,
    archs: tuple[Arch, ...],
    history: History,
    changes: tuple[Change, ...],
) -> Judge:
    if asked.level == "static":
        return Reader(pin, archs, history)
    # A build needs half of sagefix, and reading none of that.
    from sagefix.workflows.bisect_wheels import WheelJudge

    return WheelJudge(request, asked, pin, history, changes)


def _judge_all(
    judge: Judge, changes: Sequence[Change], asked: Asked, history: History
) -> tuple[dict[str, tuple[str, Outcome]], dict[str, str]]:
    """Judge every content once, the ends first; return outcomes by content, with the commit judged, and the
    content of each commit. Above ``static`` ends that contradict the search stop it.
    """
    contents = {change.commit: judge.content(change) for change in changes}
    states: dict[str, Change] = {}
    for change in changes:
        states.setdefault(contents[change.commit], change)
    waiting = list(states.values())
    outcomes: dict[str, tuple[str, Outcome]] = {}
    with task(f"Judging {len(waiting)} states of {len(changes)} commits", total=len(waiting)) as running:
        for number, change in enumerate(waiting):
            running.update(done=number, text=change.commit[:7])
            outcome = judge.judge(change, waiting[number + 1 :])
            outcomes[contents[change.commit]] = change.commit, outcome
            if asked.level == "static":
                continue
            _tell(change, outcome)
            if change.commit == history.first and outcome.judged.verdict != "good":
                break
    return outcomes, contents


def _tell(change: Change, outcome: Outcome) -> None:
    """Say what came of a commit as soon as it is known."""
    how = (
        "kept from an earlier run"
        if outcome.kept
        else f"{outcome.made or 'no wheel'}, {outcome.seconds:.0f} s"
    )
    note(
        f"{change.commit[:7]} {outcome.judged.verdict or 'cannot be judged'} ({how}): {outcome.judged.words}"
    )


def _row(
    change: Change,
    judge: Judge,
    outcomes: Mapping[str, tuple[str, Outcome]],
    content: str,
    inside: set[str],
    line: set[str],
) -> Row:
    tested, outcome = outcomes.get(content, ("", _NOT_REACHED))
    judged = outcome.judged
    here = tested == change.commit
    how: How = "skipped" if judged.verdict is None else "tested" if here else "inferred"
    inferred = how == "inferred"
    return Row(
        commit=change.commit,
        parents=tuple(parent for parent in change.parents if parent in inside),
        outside=tuple(parent for parent in change.parents if parent not in inside),
        date=change.date,
        subject=change.subject,
        main=change.commit in line,
        verdict=judged.verdict,
        how=how,
        words=judged.words,
        equal_to=tested if inferred else "",
        because=judge.equal if inferred else "",
        hazards=judged.hazards,
        made=outcome.made if here else "",
        kept=outcome.kept,
        seconds=round(outcome.seconds, 3) if here else 0.0,
    )


def _words(changes: Sequence[Change], history: History, first_parent: bool) -> str:
    """Say which history was walked."""
    inside = {change.commit for change in changes}
    text = f"{len(changes)} commits in topological order: {history.first[:7]} and "
    if first_parent:
        text += f"the first parents of {history.last[:7]} back to it"
        return f"{text}; what merges brought in is not judged by itself."
    text += f"all that {history.last[:7]} is built upon and {history.first[:7]} is not, along all parents."
    older = [
        change.commit[:7]
        for change in changes
        if {*change.parents} - inside and change.commit != history.first
    ]
    if older:
        text += (
            f" Branches that began before {history.first[:7]} are walked from their first new commit on "
            f"({', '.join(older)}); what lies before is part of {history.first[:7]} and is not judged."
        )
    return text


def _how(asked: Asked, judge: Judge) -> str:
    by = f" with {judge.judged_by}" if judge.judged_by else ""
    read = "read" if asked.level == "static" else "measured"
    return f"{read}: sagefix {__version__} bisect --level {asked.level}{by}"
