"""The local version label: stable, readable, and honest about what it does not know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from sagefix.errors import WheelError
from sagefix.wheels.label import commit_matches, make_label, parse_label, short_commit, wheel_filename
from sagefix.wheels.model import Label

PIN = "68de3797d163b89d28f9a38026c3b7313f6940d2"


def test_a_full_label() -> None:
    label = Label(commit=PIN, fix=1, cuda="13.0", torch="2.11", archs=("9.0",))
    assert make_label(label) == "68de379.fix1.cu130.torch2.11.sm90"
    assert parse_label("2.2.0+" + make_label(label)) == Label(
        commit="68de379", fix=1, cuda="13.0", torch="2.11", archs=("9.0",)
    )


@pytest.mark.parametrize(
    ("label", "written"),
    [
        (Label(), "unknown"),
        (Label(commit="unknown", cuda="13"), "unknown.cu13"),
        (Label(commit=PIN), "68de379"),
        (Label(commit=PIN.upper()), "68de379"),
        (Label(commit=PIN, archs=("9.0+PTX", "8.0")), "68de379.sm80.sm90ptx"),
        (Label(commit=PIN, archs=("12.0", "9.0", "12.0")), "68de379.sm90.sm120"),
        (Label(commit=PIN, torch="2.11.0+cu130", cuda="12.8.93"), "68de379.cu128.torch2.11"),
    ],
)
def test_what_is_unknown_is_left_out(label: Label, written: str) -> None:
    assert make_label(label) == written


@pytest.mark.parametrize(
    ("commit", "short"),
    [
        (PIN, "68de379"),
        ("0123456a" + "0" * 32, "0123456a"),
        ("01234567890a" + "0" * 28, "01234567890a"),
        ("1" * 40, "g1111111"),
        ("0123456", "g0123456"),
        ("", "unknown"),
    ],
)
def test_a_commit_that_reads_as_a_number_gets_a_letter(commit: str, short: str) -> None:
    assert short_commit(commit) == short
    assert str(Version(f"1+{short}")) == f"1+{short}"
    if commit:
        assert commit_matches(short, commit)
        assert parse_label(f"1+{short}").commit == short.removeprefix("g")


@pytest.mark.parametrize("commit", ["68de3", "v2.2.0", "68de379x", "g68de379"])
def test_what_is_no_commit_is_refused(commit: str) -> None:
    with pytest.raises(WheelError, match="is not a commit"):
        make_label(Label(commit=commit))


@pytest.mark.parametrize(("field", "what"), [("cuda", "CUDA version"), ("torch", "torch version")])
def test_what_is_no_version_is_refused(field: str, what: str) -> None:
    with pytest.raises(WheelError, match=f"'newest' is not a {what}"):
        make_label(Label(**{field: "newest"}))


numbers = st.integers(min_value=0, max_value=9)
labels = st.builds(
    lambda commit, fix, cuda, torch, archs: Label(
        commit=commit, fix=fix, cuda=cuda, torch=torch, archs=tuple(archs)
    ),
    commit=st.one_of(
        st.just(""),
        st.text("0123456789abcdef", min_size=40, max_size=40),
        st.text("0123456789", min_size=40, max_size=40),
    ),
    fix=st.integers(min_value=0, max_value=99),
    cuda=st.one_of(st.just(""), st.builds("{}.{}".format, st.integers(min_value=11, max_value=15), numbers)),
    torch=st.one_of(st.just(""), st.builds("2.{}".format, st.integers(min_value=0, max_value=40))),
    archs=st.lists(
        st.sampled_from(["7.5", "8.0", "8.6+PTX", "9.0", "10.0", "12.0+PTX", "12.1"]), unique=True
    ),
)


@given(labels)
def test_labels_survive_normalisation_and_reading(label: Label) -> None:
    written = make_label(label)
    assert str(Version("1+" + written)) == "1+" + written
    read = parse_label("1+" + written)
    assert make_label(read) == written
    assert (read.fix, read.cuda, read.torch) == (label.fix, label.cuda, label.torch)
    if label.commit:
        assert commit_matches(read.commit, label.commit)


@given(st.text())
def test_reading_a_label_never_fails(version: str) -> None:
    parse_label(version)
    parse_label("1+" + version)


@pytest.mark.parametrize(
    ("version", "label"),
    [
        ("2.2.0", Label()),
        ("2.2.0+cu128torch2.8.0", Label()),
        ("2.2.0+cu128.torch2.8", Label(cuda="12.8", torch="2.8")),
        ("2.2.0+CU128-Torch2.8.1", Label(cuda="12.8", torch="2.8")),
        ("2.2.0+20251001", Label()),
        ("2.2.0+unknown.sm90", Label(commit="unknown", archs=("9.0",))),
        ("2.2.0+post1.sm90a.sm80.sm9", Label(archs=("8.0", "9.0"))),
        ("not a version", Label()),
    ],
)
def test_labels_of_others_are_read_as_far_as_they_go(version: str, label: Label) -> None:
    assert parse_label(version) == label


def test_an_unknown_commit_matches_nothing() -> None:
    assert not commit_matches("unknown", PIN)
    assert not commit_matches("", PIN)
    assert not commit_matches("68de3", PIN)
    assert not commit_matches("d1a57a5", PIN)
    assert commit_matches("68de379", PIN)
    assert commit_matches(PIN, PIN)


def test_file_names_are_normalised() -> None:
    name = wheel_filename("Sage.Attention-X", "2.2.0+68DE379.CU130", "cp312", "cp312", "linux-x86_64")
    assert name == "sage_attention_x-2.2.0+68de379.cu130-cp312-cp312-linux_x86_64.whl"
    parse_wheel_filename(name)
    many = wheel_filename("a", "1", "py2.py3", "none", "manylinux_2_24_x86_64.manylinux_2_28_x86_64")
    assert len(parse_wheel_filename(many)[3]) == 4


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(WheelError, match=r"'two\.two' is not a version"):
        wheel_filename("a", "two.two", "py3", "none", "any")
