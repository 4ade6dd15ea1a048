"""GPU architectures as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagefix.archs import Arch, join_archs, parse_arch, parse_archs, sort_archs
from sagefix.errors import UsageError

ARCHS = st.builds(Arch, st.integers(1, 99), st.integers(0, 9), st.booleans())


@pytest.mark.parametrize(
    "text",
    ["9.0", "90", "9.0a", "90a", "sm_90", "sm90", "SM_90A", "compute_90", "compute_90a", " 9.0 ", "sm_9.0"],
)
def test_spellings_of_one_arch(text: str) -> None:
    assert parse_arch(text) == Arch(9, 0)


@pytest.mark.parametrize("text", ["9.0+PTX", "90+ptx", "9.0a+PTX", "sm_90+Ptx", "compute_90a+PTX"])
def test_spellings_with_ptx(text: str) -> None:
    assert parse_arch(text) == Arch(9, 0, ptx=True)


@pytest.mark.parametrize(
    ("text", "arch"),
    [
        ("12.0", Arch(12, 0)),
        ("120", Arch(12, 0)),
        ("sm_121a", Arch(12, 1)),
        ("100f", Arch(10, 0)),
        ("8.6", Arch(8, 6)),
        ("75", Arch(7, 5)),
    ],
)
def test_other_archs(text: str, arch: Arch) -> None:
    assert parse_arch(text) == arch


WORDS = ["", "H200", "hopper", "native", "all", "sm_", "sm-90", "9.0+SASS", "9.0b", "9.0+", "9.0 +PTX"]
NUMBERS = ["9", "9.", ".0", "9.00", "1234", "-9.0", "9,0", "9.0;8.6", "9.0\n8.6", "\uff19.\uff10"]


@pytest.mark.parametrize("text", [*WORDS, *NUMBERS])
def test_what_is_not_an_arch(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_arch(text)
    assert caught.value.message == f"{text!r} is not a GPU architecture."
    assert "compute capability" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    ["8.6;9.0", "9.0,8.6", "8.6 9.0", "sm_86, sm_90", "90a\t86", ";8.6;;9.0;", "9.0 8.6 9.0", " 8.6\n9.0 "],
)
def test_lists(text: str) -> None:
    assert parse_archs(text) == (Arch(8, 6), Arch(9, 0))


def test_archs_are_sorted_as_numbers_and_ptx_wins() -> None:
    assert parse_archs("12.0 9.0 9.0+PTX 8.9") == (Arch(8, 9), Arch(9, 0, ptx=True), Arch(12, 0))
    assert sort_archs(()) == ()


@pytest.mark.parametrize("text", ["", " ", ";", ", ;"])
def test_an_empty_list(text: str) -> None:
    with pytest.raises(UsageError, match="list of GPU architectures is empty"):
        parse_archs(text)


def test_one_wrong_arch_spoils_the_list_and_is_named() -> None:
    with pytest.raises(UsageError, match="'H100' is not"):
        parse_archs("9.0,H100")


def test_forms() -> None:
    arch = Arch(12, 0, ptx=True)
    assert (arch.capability, arch.number, arch.label, str(arch)) == ("12.0", "120", "sm120ptx", "12.0+PTX")
    assert Arch(9, 0).label == "sm90"
    assert join_archs((Arch(8, 6), Arch(9, 0, ptx=True))) == "8.6;9.0+PTX"


# No database: the working folder may be read-only.
@settings(database=None)
@given(ARCHS)
def test_every_form_is_read_back(arch: Arch) -> None:
    ptx = "+PTX" if arch.ptx else ""
    for text in (str(arch), arch.number + ptx, f"sm_{arch.number}{ptx}", f"{arch.capability}a{ptx}"):
        assert parse_arch(text) == arch


@settings(database=None)
@given(st.lists(ARCHS, min_size=1, max_size=6))
def test_a_joined_list_is_read_back(archs: list[Arch]) -> None:
    assert parse_archs(join_archs(archs)) == sort_archs(archs)
