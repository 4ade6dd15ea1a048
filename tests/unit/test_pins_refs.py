"""What people write behind ``--ref``, and the commits that are refused."""

from __future__ import annotations

import msgspec
import pytest

from sagefix.archs import Arch, parse_archs
from sagefix.errors import KnownBadError, PinError
from sagefix.pins.model import Build, Known, Pin, Recipe, Ref, Revision, Source
from sagefix.pins.refs import refuse_known_bad, resolve_ref, short

OWN = "68de379" + "0" * 33
TAGGED = "eb615cf" + "1" * 33
DIGITS = "0123456" + "7" * 33
TWIN_1 = "abcdef0" + "1" * 33
TWIN_2 = "abcdef0" + "2" * 33
ONLY_KNOWN = "c0ffee0" + "3" * 33
TREE = "f" * 40

PIN = Pin(
    schema=1,
    name="tiny",
    project="tiny-project",
    package="tiny",
    version="1.0",
    summary="For tests",
    device="cuda",
    license="MIT",
    source=Source(url="https://example.org", commit=OWN, tree=TREE, files=("/setup.py",)),
    build=Build(),
    recipe=(Recipe(name="only", setup_py=(), sources=("x",)),),
    ref=(
        Ref(commit=OWN, tree=TREE, recipe="only"),
        Ref(names=("v2.2.0", "Stable"), commit=TAGGED, tree=TREE, recipe="only"),
        Ref(names=("refs/tags/old",), commit=DIGITS, tree=TREE, recipe="only"),
        Ref(names=("deadbeef",), commit=TWIN_1, tree=TREE, recipe="only"),
        Ref(commit=TWIN_2, tree=TREE, recipe="only"),
    ),
    known=(
        Known(status="good", archs=("9.0",), commits=(OWN,), reason="Measured.", sources=("s0",)),
        Known(status="bad", archs=("9.0",), commits=(TAGGED,), reason="Noise.", sources=("s1", "s2")),
        Known(status="unparsable", archs=("*",), commits=(ONLY_KNOWN,), reason="Markers.", sources=("s3",)),
        Known(status="bad", archs=("12.0",), commits=(TAGGED,), reason="Traps.", sources=("s2", "s4")),
    ),
)


@pytest.mark.parametrize(
    ("ref", "commit"),
    [
        (None, OWN),
        ("v2.2.0", TAGGED),
        ("refs/tags/v2.2.0", TAGGED),
        ("Stable", TAGGED),
        ("old", DIGITS),
        ("refs/tags/old", DIGITS),
        (TAGGED, TAGGED),
        (TAGGED.upper(), TAGGED),
        ("eb615cf", TAGGED),
        ("EB615CF1", TAGGED),
        ("0123456", DIGITS),
        ("abcdef01", TWIN_1),
        # A name goes before a prefix and may look like one.
        ("deadbeef", TWIN_1),
    ],
)
def test_refs_that_the_pin_lists(ref: str | None, commit: str) -> None:
    asked = OWN if ref is None else ref
    assert resolve_ref(PIN, ref) == Revision(commit=commit, tree=TREE, recipe="only", asked=asked)


def test_a_commit_that_is_only_known_of_has_no_tree_and_no_recipe_yet() -> None:
    assert resolve_ref(PIN, "c0ffee0") == Revision(commit=ONLY_KNOWN, tree="", recipe="", asked="c0ffee0")
    full = "1" * 40
    assert resolve_ref(PIN, full) == Revision(commit=full, tree="", recipe="", asked=full)


@pytest.mark.parametrize(
    "ref",
    ["main", "STABLE", "v2.2", "eb615c", "eb615ce", "1234567", "feature/x", "0" * 39, "refs/heads/old", "ü"],
)
def test_refs_that_only_the_repository_knows(ref: str) -> None:
    assert resolve_ref(PIN, ref) is None


def test_a_prefix_of_two_commits_is_ambiguous() -> None:
    with pytest.raises(PinError) as caught:
        resolve_ref(PIN, "abcdef0")
    assert caught.value.message == f"'abcdef0' is ambiguous: {TWIN_1}, {TWIN_2} start with it."
    assert caught.value.details["matches"] == [TWIN_1, TWIN_2]


OPTIONS_AND_SPACES = ["", "-x", "--upload-pack=id", "a b", "a\tb", "a\n", "a\0", "a\u00a0b", "\x7f"]
REVISION_SYNTAX = [
    "a..b",
    "HEAD~1",
    "HEAD^",
    "a:b",
    "a?",
    "a*",
    "a[b",
    "a\\b",
    "@{u}",
    "a//b",
    "/a",
    "a/",
    "a.",
]


@pytest.mark.parametrize("ref", [*OPTIONS_AND_SPACES, *REVISION_SYNTAX])
def test_text_that_must_not_become_an_argument_of_git(ref: str) -> None:
    with pytest.raises(PinError) as caught:
        resolve_ref(PIN, ref)
    assert caught.value.message == f"{ref!r} is not a commit, tag or branch name."
    assert "--ref 68de379" in caught.value.hint


def revision(ref: str) -> Revision:
    found = resolve_ref(PIN, ref)
    assert found is not None
    return found


def test_a_known_bad_commit_is_refused_with_reason_sources_and_ways_round() -> None:
    with pytest.raises(KnownBadError) as caught:
        refuse_known_bad(PIN, revision("v2.2.0"), parse_archs("8.9 9.0"))
    error = caught.value
    assert error.message == "tiny-project at v2.2.0 (eb615cf) is known to be broken on 9.0: Noise."
    assert error.hint == (
        "Use the pin's own commit with --ref 68de379 or build it all the same with --allow-known-bad. "
        "Sources: s1, s2"
    )
    assert error.details == {
        "commit": TAGGED,
        "archs": ["8.9", "9.0"],
        "status": ["bad"],
        "reasons": ["Noise."],
        "sources": ["s1", "s2"],
    }


def test_several_findings_are_told_together() -> None:
    with pytest.raises(KnownBadError) as caught:
        refuse_known_bad(PIN, revision("eb615cf"), parse_archs("9.0,12.0+PTX"))
    assert caught.value.message.endswith("at eb615cf is known to be broken on 9.0 and 12.0: Noise. Traps.")
    assert caught.value.hint.endswith("Sources: s1, s2, s4")


@pytest.mark.parametrize("archs", ["8.0", "9.0", "12.1+PTX"])
def test_what_does_not_parse_is_refused_on_every_arch(archs: str) -> None:
    with pytest.raises(KnownBadError, match=r"at c0ffee0 is known to be broken on .*: Markers\.$"):
        refuse_known_bad(PIN, revision(ONLY_KNOWN), parse_archs(archs))


def test_without_archs_every_finding_counts() -> None:
    with pytest.raises(KnownBadError, match=r"is known to be broken: Noise\. Traps\.$"):
        refuse_known_bad(PIN, revision("v2.2.0"), ())


def test_findings_are_returned_when_nothing_is_bad_or_it_is_allowed() -> None:
    nine = (Arch(9, 0),)
    assert [known.reason for known in refuse_known_bad(PIN, revision(OWN), nine)] == ["Measured."]
    assert refuse_known_bad(PIN, revision(TWIN_1), nine) == ()
    assert refuse_known_bad(PIN, revision("v2.2.0"), (Arch(8, 6),)) == ()
    allowed = refuse_known_bad(PIN, revision("v2.2.0"), nine, allow=True)
    assert [(known.status, known.reason) for known in allowed] == [("bad", "Noise.")]


def test_the_pins_own_commit_is_not_recommended_when_it_is_bad_itself() -> None:
    bad = Known(status="bad", archs=("9.0",), commits=(OWN,), reason="Also.", sources=("s9",))
    pin = msgspec.structs.replace(PIN, known=(*PIN.known, bad))
    with pytest.raises(KnownBadError) as caught:
        refuse_known_bad(pin, revision("v2.2.0"), (Arch(9, 0),))
    assert caught.value.hint == "Build it all the same with --allow-known-bad. Sources: s1, s2"


def test_the_short_commit_grows_until_it_is_unique() -> None:
    assert short(PIN) == "68de379"
    twin = Ref(commit="68de379" + "0" * 2 + "1" * 31, tree=TREE, recipe="only")
    assert short(msgspec.structs.replace(PIN, ref=(*PIN.ref, twin))) == "68de379000"
