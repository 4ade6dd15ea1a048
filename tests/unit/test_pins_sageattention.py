"""What the SageAttention manifest says, against what is known of the repository."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from sagefix.archs import parse_arch, parse_archs
from sagefix.errors import KnownBadError
from sagefix.pins.load import load_pin
from sagefix.pins.model import Pin
from sagefix.pins.refs import refuse_known_bad, resolve_ref

NINE = parse_archs("9.0")


@pytest.fixture(scope="module")
def pin() -> Pin:
    return load_pin("sageattention")


def full(pin: Pin, ref: str) -> str:
    found = resolve_ref(pin, ref)
    assert found is not None
    return found.commit


def test_the_pin(pin: Pin) -> None:
    revision = resolve_ref(pin, None)
    assert revision is not None
    assert revision.commit == "68de3797d163b89d28f9a38026c3b7313f6940d2"
    assert revision.tree == "2febcfa0ef4fb27b92966b24c0bd87fc796930aa"
    assert pin.build.import_requires == ("triton",)
    # Without its last slash a pattern takes the other package of the repository along.
    assert not any("/sageattention3_blackwell/".startswith(pattern) for pattern in pin.source.files)


def test_the_tag_and_head(pin: Pin) -> None:
    tag, short, head = resolve_ref(pin, "v2.2.0"), resolve_ref(pin, "eb615cf"), resolve_ref(pin, "d1a57a5")
    assert tag is not None
    assert short is not None
    assert head is not None
    assert tag.commit == short.commit == "eb615cf6cf4d221338033340ee2de1c37fbdba4a"
    assert (tag.recipe, head.recipe) == ("arch-list", "spark")
    assert full(pin, "main-2026-01-17") == head.commit == "d1a57a546c3d395b1ffcbeecc66d81db76f3b4b5"


def test_every_commit_of_the_range_is_listed(pin: Pin) -> None:
    assert len(pin.ref) == 55
    assert len({ref.package_tree for ref in pin.ref}) == 15
    assert sum(len(recipe.setup_py) for recipe in pin.recipe) == 7
    dates = [ref.date for ref in pin.ref]
    assert all(len(date) == len("2025-09-28T01:42:29+08:00") for date in dates)


def test_every_commit_is_good_bad_or_unparsable_on_hopper(pin: Pin) -> None:
    status = {ref.commit[:7]: pin.known_about(ref.commit, NINE) for ref in pin.ref}
    assert all(len(findings) == 1 for findings in status.values())
    counts = Counter(findings[0].status for findings in status.values())
    assert counts == {"bad": 42, "good": 11, "unparsable": 2}
    good = {"68de379", "e5bf6ee", "06418c2", "c9f4cd7", "5061f38", "ff71e1e", "5a6f53c", "d1a57a5"}
    good |= {"117f2f3", "35e9453", "d970424"}
    assert {commit for commit, findings in status.items() if findings[0].status == "good"} == good


@pytest.mark.parametrize("ref", ["v2.2.0", "15c0e22", "35747c3", "c03f15f", "7608f44", "795ca0c", "2fff52e"])
def test_broken_commits_are_refused_on_hopper(pin: Pin, ref: str) -> None:
    revision = resolve_ref(pin, ref)
    assert revision is not None
    with pytest.raises(KnownBadError) as caught:
        refuse_known_bad(pin, revision, NINE)
    assert "--ref 68de379" in caught.value.hint
    assert "--allow-known-bad" in caught.value.hint
    assert "https://github.com/thu-ml/SageAttention/" in caught.value.hint
    assert refuse_known_bad(pin, revision, NINE, allow=True)


def test_the_tag_is_not_refused_where_it_works(pin: Pin) -> None:
    revision = resolve_ref(pin, "v2.2.0")
    assert revision is not None
    assert refuse_known_bad(pin, revision, parse_archs("8.9")) == ()


def extensions(pin: Pin, ref: str, arch: str) -> list[str] | None:
    found = pin.ref_of(full(pin, ref))
    assert found is not None
    row = pin.recipe_named(found.recipe).for_arch(parse_arch(arch))
    return [name.removeprefix("sageattention._") for name in row.extensions] if row else None


def test_what_is_built_for_which_arch(pin: Pin) -> None:
    assert extensions(pin, "68de379", "9.0") == ["qattn_sm80", "qattn_sm90", "fused"]
    assert extensions(pin, "v2.2.0", "9.0") == ["qattn_sm80", "qattn_sm89", "qattn_sm90", "fused"]
    assert extensions(pin, "68de379", "8.6") == ["qattn_sm80", "fused"]
    assert extensions(pin, "68de379", "12.0") == ["qattn_sm80", "qattn_sm89", "fused"]
    assert extensions(pin, "68de379", "10.0") is None
    assert extensions(pin, "d1a57a5", "10.0") == ["qattn_sm80", "qattn_sm89", "fused"]
    assert extensions(pin, "d1a57a5", "12.1") == ["qattn_sm80", "qattn_sm89", "fused"]
    assert extensions(pin, "5616e54", "12.1") is None


def test_what_cannot_be_built_or_used_says_why(pin: Pin) -> None:
    own, head = pin.recipe_named("pin"), pin.recipe_named("spark")
    for arch in ("7.5", "8.7", "10.0", "10.3", "12.1"):
        refusal = own.refusal_of(parse_arch(arch))
        assert refusal is not None
        assert refusal.sources
    row = head.for_arch(parse_arch("10.0"))
    assert row is not None
    assert row.dispatch == ""
    assert "Unsupported CUDA architecture" in row.reason
    assert head.refusal_of(parse_arch("7.5")) is not None
    ada = own.for_arch(parse_arch("8.9"))
    assert ada is not None
    assert (ada.min_cuda, "12.4" in ada.reason) == ("12.8", True)


def test_hopper_asks_as_upstream_does(pin: Pin) -> None:
    for recipe in pin.recipe:
        assert recipe.parallel_env == "EXT_PARALLEL"
        row = recipe.for_arch(parse_arch("sm_90a"))
        assert row is not None
        assert (row.gencode, row.min_cuda, row.dispatch) == (
            "90a",
            "12.3",
            "sageattn_qk_int8_pv_fp8_cuda_sm90",
        )
    assert [recipe.asks_torch_for_gpus for recipe in pin.recipe] == [True, True, False, False, False]


def test_sources_are_links_or_measurements(pin: Pin) -> None:
    facts = [pin.build, *pin.recipe, *pin.known, *pin.fault]
    facts += [row for recipe in pin.recipe for row in (*recipe.capability, *recipe.refusal)]
    sources = [source for fact in facts for source in fact.sources]
    assert all(source.startswith(("https://", "measured")) for source in sources)


def test_it_loads_fast(pin: Pin) -> None:
    started = time.perf_counter()
    load_pin("sageattention")
    # 6 ms on a slow core; the limit only keeps it from growing into something that is felt.
    assert time.perf_counter() - started < 0.25


def test_the_default_stream_is_cured(pin: Pin) -> None:
    (fix,) = pin.fix
    assert (pin.fix_level, fix.name, fix.wraps) == (1, "current-stream", ("__cudaPushCallConfiguration",))
    assert all(source.startswith(("https://", "measured")) for source in fix.sources)
