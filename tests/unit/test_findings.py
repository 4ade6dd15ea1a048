"""Entries for a pin's list of known commits, and the comparison with it."""

from __future__ import annotations

import sys

from sagefix.archs import parse_archs
from sagefix.pins.load import load_pin
from sagefix.proof.findings import Found, disagreements, known_entries
from sagefix.proof.reading import judge_sources

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

A, B, C = "a" * 40, "b" * 40, "c" * 40
SHADOWED = b"""
@torch.library.custom_op("p::f", mutates_args=())
def f(x): ...
@torch.library.register_fake("p::f")
def f(x): ...
"""


def test_entries_are_toml_of_the_manifest_and_say_what_was_judged() -> None:
    found = [
        Found(commit=A, verdict="good", words="Fine."),
        Found(commit=B, verdict="bad", words='Says "no"\\ \x7f.'),
        Found(commit=C, verdict="bad", words='Says "no"\\ \x7f.', equal_to=B),
    ]
    text = known_entries(found, ("9.0",), "https://example.invalid/p", "read: here")
    tables = tomllib.loads(text)["known"]
    assert [(table["status"], table["commits"], table["archs"]) for table in tables] == [
        ("bad", [B, C], ["9.0"]),
        ("good", [A], ["9.0"]),
    ]
    assert tables[0]["reason"] == 'Says "no"\\ \x7f. Judged: bbbbbbb; what is judged of the others is equal.'
    assert tables[0]["sources"] == [f"https://example.invalid/p/commit/{B}", "read: here"]


def test_what_does_not_parse_does_so_on_every_arch() -> None:
    found = [Found(commit=A, verdict="unparsable", words="No.")]
    table = tomllib.loads(known_entries(found, ("9.0",), "", "read"))["known"][0]
    assert table["archs"] == ["*"] and table["sources"] == ["read"]


def test_the_manifest_is_contradicted_where_it_says_something_else_on_these_archs() -> None:
    pin = load_pin("sageattention")
    good = pin.source.commit
    first_bad = next(known for known in pin.known if known.status == "bad").commits[0]
    found = [Found(commit=good, verdict="bad", words=""), Found(commit=first_bad, verdict="good", words="")]
    assert [(each.commit, each.known) for each in disagreements(pin, found, ("9.0",))] == [
        (good, "good"),
        (first_bad, "bad"),
    ]
    assert disagreements(pin, found, ("8.0",)) == ()
    assert disagreements(pin, [Found(commit=A, verdict="bad", words="")], ()) == ()


def test_sources_are_judged_by_what_can_be_read() -> None:
    pin = load_pin("sageattention")
    file = "sageattention/sm90_compile.py"
    judged = judge_sources(pin, {file: SHADOWED}, parse_archs("9.0"))
    assert judged.verdict == "bad" and "p::f" in judged.words
    # The same fault is dormant elsewhere, and counts where no arch is named.
    assert judge_sources(pin, {file: SHADOWED}, parse_archs("8.6")).verdict == "good"
    assert judge_sources(pin, {file: SHADOWED}, ()).verdict == "bad"
    judged = judge_sources(pin, {file: SHADOWED, "sageattention/new.py": b"<<<<<<< HEAD\n"}, ())
    assert judged.verdict == "unparsable" and "sageattention/new.py: conflict markers" in judged.words
    assert judge_sources(pin, {}, ()).verdict is None
