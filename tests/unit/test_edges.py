"""Edges of a verdict in histories that branch, merge, break and are repaired."""

from __future__ import annotations

from typing import Any

from sagefix.proof.edges import Node, find_edges, find_stretches, main_line

WORDS: dict[str, Any] = {"g": "good", "b": "bad", "u": "unparsable", "-": None}


def nodes(*described: str) -> tuple[Node, ...]:
    """``"c:b a d"`` is the commit c, bad, with the parents a and d."""
    made = []
    for text in described:
        name, *parents = text.split()
        commit, verdict = name.split(":")
        made.append(Node(commit=commit, parents=tuple(parents), verdict=WORDS[verdict]))
    return tuple(made)


def told(history: tuple[Node, ...]) -> list[str]:
    edges = []
    for edge in find_edges(history):
        text = f"{edge.parent}>{edge.child} {edge.before[0]}{edge.after[0]}"
        text += f" through {' '.join(edge.through)}" if edge.through else ""
        text += f" from {edge.merged_from}" if edge.merged_from else ""
        edges.append(text + (" main" if edge.main else ""))
    return edges


def test_a_line_without_a_change_has_no_edge() -> None:
    assert told(nodes("a:g", "b:g a", "c:g b")) == []
    assert told(nodes("a:g")) == []
    assert told(()) == []


def test_every_change_of_a_line_is_an_edge_however_often_it_goes_to_and_fro() -> None:
    line = nodes("a:g", "b:b a", "c:b b", "d:u c", "e:u d", "f:g e", "h:b f", "i:g h")
    assert told(line) == ["a>b gb main", "c>d bu main", "e>f ug main", "f>h gb main", "h>i bg main"]


def test_a_change_across_commits_that_cannot_be_judged_names_them() -> None:
    assert told(nodes("a:g", "b:- a", "c:- b", "d:b c")) == ["a>d gb through b c main"]
    assert told(nodes("a:g", "b:- a", "c:g b")) == []
    # Nothing is known of what comes before the first verdict, or after the last.
    assert told(nodes("a:-", "b:b a", "c:- b")) == []


def test_a_merge_that_brings_the_fault_points_at_the_branch_where_it_happened() -> None:
    history = nodes("a:g", "x:g a", "y:b x", "m:b a y", "n:b m")
    assert told(history) == ["x>y gb", "a>m gb from y main"]


def test_a_merge_into_a_bad_line_is_no_change_of_that_line() -> None:
    assert told(nodes("a:g", "b:b a", "x:g a", "m:b b x")) == ["a>b gb main", "x>m gb from b"]


def test_a_fault_that_is_born_in_a_merge_has_edges_from_all_parents_and_no_origin() -> None:
    assert told(nodes("a:g", "x:g a", "b:g a", "m:b b x")) == ["b>m gb main", "x>m gb"]


def test_skipped_commits_of_a_branch_are_looked_through() -> None:
    history = nodes("a:g", "x:b a", "y:- x", "m:b a y")
    assert told(history) == ["a>x gb", "a>m gb from y main"]
    # Both sides of a skipped merge count.
    assert told(nodes("a:g", "b:g a", "x:b a", "m:- b x", "n:b m")) == ["a>x gb", "b>n gb through m main"]


def test_parents_outside_of_the_history_make_no_edge() -> None:
    assert told(nodes("a:g old", "x:b older", "m:b a x")) == ["a>m gb from x main"]


def test_the_main_line_follows_first_parents() -> None:
    history = nodes("a:g", "x:g a", "b:g a", "m:g b x", "n:g m")
    assert main_line(history) == ("a", "b", "m", "n")
    assert main_line(()) == ()


def test_stretches_cut_a_line_where_the_verdict_changes() -> None:
    verdicts = {"a": "good", "b": "bad", "c": "bad", "d": None, "e": "good"}
    found = find_stretches("abcde", verdicts)  # type: ignore[arg-type]
    assert [(piece.verdict, "".join(piece.commits)) for piece in found] == [
        ("good", "a"),
        ("bad", "bc"),
        (None, "d"),
        ("good", "e"),
    ]
