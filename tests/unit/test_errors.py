"""The tree of errors: one exit code and one name for each kind of failure."""

from __future__ import annotations

import re

import pytest

from sagefix import errors
from sagefix.errors import InterruptedByUser, SagefixError, UsageError, all_errors


def test_every_class_of_the_module_is_listed() -> None:
    defined = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, SagefixError) and kind is not SagefixError
    }
    assert set(all_errors()) == defined


def test_exit_codes_and_names_are_unique() -> None:
    kinds = [SagefixError, *all_errors()]
    assert len({kind.exit_code for kind in kinds}) == len(kinds)
    assert len({kind.name for kind in kinds}) == len(kinds)
    assert [kind.exit_code for kind in all_errors()] == sorted(kind.exit_code for kind in all_errors())


@pytest.mark.parametrize("kind", [SagefixError, *all_errors()])
def test_each_is_explained_and_its_code_means_nothing_else(kind: type[SagefixError]) -> None:
    assert kind.__doc__
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.name)
    # 2 is what command lines use for wrong usage, 126 to 128 and 128 + signal are the shell's
    # (https://tldp.org/LDP/abs/html/exitcodes.html); 130 is 128 + SIGINT, which this is.
    if kind is UsageError:
        assert kind.exit_code == 2
    elif kind is InterruptedByUser:
        assert kind.exit_code == 130
    else:
        assert kind.exit_code == 1 or 2 < kind.exit_code < 126


@pytest.mark.parametrize("kind", [SagefixError, *all_errors()])
def test_message_hint_and_details(kind: type[SagefixError]) -> None:
    bare = kind("It broke.")
    assert (str(bare), bare.message, bare.hint, bare.details) == ("It broke.", "It broke.", "", {})
    facts = {"path": "x"}
    error = kind("It broke.", hint="Mend it.", details=facts)
    facts["path"] = "y"
    assert (error.hint, error.details) == ("Mend it.", {"path": "x"})
    assert isinstance(error, SagefixError)
