"""Where a verdict changes in a history that may branch, merge, break, be repaired and break again.

Nothing is halved: every commit comes in with its own verdict, and every change between a parent and its child is
an edge. A commit that could not be judged has no verdict; a change across such commits is an edge, too, and says
so, because nobody knows at which of them it happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

Judgement = Literal["good", "bad", "unparsable"]


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A commit with its parents (full ids, first parent first) and its verdict; None: it could not be judged."""

    commit: str
    parents: tuple[str, ...]
    verdict: Judgement | None


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the verdict between a commit and the nearest judged one before it.

    ``through`` are the commits between them that could not be judged, oldest first; empty: ``parent`` is a parent
    of ``child``, and the change is that of ``child``. ``merged_from`` is the other parent of a merge that has the
    new verdict already: the change came from there and happened on that branch (empty: it happened here).
    ``main``: both ends are on the main line, which follows first parents back from the last commit.
    """

    parent: str
    child: str
    before: Judgement
    after: Judgement
    through: tuple[str, ...] = ()
    merged_from: str = ""
    main: bool = False


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Neighbours on the main line with one verdict (None: not judged), oldest first."""

    verdict: Judgement | None
    commits: tuple[str, ...]


def find_edges(nodes: Sequence[Node]) -> tuple[Edge, ...]:
    """Return every change of the verdict in a history.

    ``nodes`` come in topological order, parents first, the last one at the end. A parent that is not among them
    lies outside the history and makes no edge. The edges come in the order of their children, main line first.
    """
    known = {node.commit: node for node in nodes}
    main = set(main_line(nodes))
    edges = []
    for node in nodes:
        if node.verdict is None:
            continue
        merged_from = _brought_by(node, known)
        for parent in node.parents:
            # Of a commit that is both the first parent and skipped, what comes next on the main line counts as that.
            for before, through in _judged_before(parent, known):
                if before.verdict == node.verdict or before.verdict is None:
                    continue
                edges.append(
                    Edge(
                        parent=before.commit,
                        child=node.commit,
                        before=before.verdict,
                        after=node.verdict,
                        through=through,
                        merged_from=merged_from if merged_from != parent else "",
                        main=parent == node.parents[0] and {before.commit, node.commit, *through} <= main,
                    )
                )
    return tuple(edges)


def main_line(nodes: Sequence[Node]) -> tuple[str, ...]:
    """Return the commits that first parents lead to, back from the last one, oldest first."""
    known = {node.commit: node for node in nodes}
    line: list[str] = []
    following = nodes[-1].commit if nodes else ""
    while following in known:
        line.append(following)
        parents = known[following].parents
        following = parents[0] if parents else ""
    return tuple(reversed(line))


def find_stretches(line: Sequence[str], verdicts: Mapping[str, Judgement | None]) -> tuple[Stretch, ...]:
    """Cut a line of commits into pieces with one verdict each."""
    pieces: list[tuple[Judgement | None, list[str]]] = []
    for commit in line:
        verdict = verdicts[commit]
        if pieces and pieces[-1][0] == verdict:
            pieces[-1][1].append(commit)
        else:
            pieces.append((verdict, [commit]))
    return tuple(Stretch(verdict=verdict, commits=tuple(commits)) for verdict, commits in pieces)


def _brought_by(node: Node, known: Mapping[str, Node]) -> str:
    """Return the parent of a merge that has its verdict already; empty when there is none."""
    if len(node.parents) < 2:
        return ""
    return next(
        (
            parent
            for parent in node.parents
            if parent in known
            and any(before.verdict == node.verdict for before, _ in _judged_before(parent, known))
        ),
        "",
    )


def _judged_before(commit: str, known: Mapping[str, Node]) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """Yield the nearest judged commits at or before one, each once, with those skipped on the way."""
    waiting: list[tuple[str, tuple[str, ...]]] = [(commit, ())]
    seen: set[str] = set()
    while waiting:
        name, through = waiting.pop()
        if name in seen or name not in known:
            continue
        seen.add(name)
        node = known[name]
        if node.verdict is not None:
            yield node, through
        else:
            waiting += [(parent, (name, *through)) for parent in reversed(node.parents)]
