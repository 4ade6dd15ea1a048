"""Rules that find known faults by reading source."""

from __future__ import annotations

import pytest

from sagefix.proof.faults import RULES, Finding, parse, shadowed_custom_ops, unparsable

OP = '@torch.library.custom_op("ns::f", mutates_args=())\ndef f(x):\n    return kernel(x)\n'
FAKE = '@torch.library.register_fake("ns::f")\ndef f(x):\n    return empty(x)\n'


def shadowed(source: str) -> list[Finding]:
    return shadowed_custom_ops(source.encode())


def test_an_operator_followed_by_a_fake_of_its_name_is_found() -> None:
    (finding,) = shadowed("import torch\n\n" + OP + "\n" + FAKE)
    assert finding.kind == "shadowed-custom-op"
    assert finding.name == "ns::f"
    assert finding.line == 8
    assert finding.text == (
        "the operator ns::f (line 4) is replaced by its fake implementation of the same name (line 8), "
        "so its kernel is never launched"
    )


@pytest.mark.parametrize(
    ("operator", "fake"),
    [
        ("@custom_op('ns::f')", "@register_fake('ns::f')"),
        ("@custom_op", "@register_fake"),
        ("@library.custom_op(name='ns::f')", "@library.register_fake('ns::f')"),
        ("@torch.library.custom_op('ns::f')", "@torch.library.impl_abstract('ns::f')"),
        ("@torch.library.custom_op('ns::f')", "@f.register_fake"),
        ("@cache\n@torch.library.custom_op('ns::f')", "@torch.library.register_fake('ns::f')\n@cache"),
        ("@op('ns::f')", "@fake('ns::f')"),
    ],
)
def test_every_way_of_writing_the_decorators_counts(operator: str, fake: str) -> None:
    imports = "from torch.library import custom_op as op, register_fake as fake\n"
    (finding,) = shadowed(f"{imports}{operator}\ndef f(x): ...\n{fake}\ndef f(x): ...\n")
    assert finding.name in {"ns::f", "f"}


def test_async_functions_and_blocks_belong_to_the_module() -> None:
    source = """
if torch.__version__ >= "2.4":
    @torch.library.custom_op("ns::f")
    async def f(x): ...
try:
    @torch.library.register_fake("ns::f")
    async def f(x): ...
except RuntimeError:
    pass
"""
    assert [finding.line for finding in shadowed(source)] == [7]


@pytest.mark.parametrize(
    "source",
    [
        "",
        "x = 1\n",
        OP,
        FAKE,
        FAKE + OP,
        OP + FAKE.replace("def f(", "def f_fake("),
        # The name was bound to something else afterwards; what that is cannot be told from here.
        OP + FAKE + "def f(x):\n    return torch.ops.ns.f(x)\n",
        OP + FAKE + "f = torch.ops.ns.f\n",
        OP + FAKE + "f: object = torch.ops.ns.f\n",
        OP + FAKE + "from other import f\n",
        OP + FAKE + "import other as f\n",
        OP + FAKE + "class f: ...\n",
        OP + FAKE + "del f\n",
        OP + FAKE + "for f in operators: ...\n",
        OP + "def f(x):\n    return 1\n",
        # Other scopes.
        OP + "class Namespace:\n" + "".join(f"    {line}\n" for line in FAKE.splitlines()),
        OP + "def make():\n" + "".join(f"    {line}\n" for line in FAKE.splitlines()),
        "class Namespace:\n" + "".join(f"    {line}\n" for line in (OP + FAKE).splitlines()),
        # A decorator that is neither a name nor a path.
        OP + "@registry['fake']('ns::f')\ndef f(x): ...\n",
    ],
)
def test_sources_without_the_fault(source: str) -> None:
    assert shadowed(source) == []


def test_a_name_in_a_comprehension_is_not_a_binding_of_the_module() -> None:
    assert len(shadowed(OP + FAKE + "names = [f for f in operators]\n")) == 1


def test_an_expression_deeper_than_the_stack_is_no_obstacle() -> None:
    assert len(shadowed(OP + FAKE + "total = " + " + ".join(["1"] * 1500) + "\n")) == 1


def test_several_operators_are_told_apart() -> None:
    second = (OP + FAKE).replace("def f(", "def g(").replace("ns::f", "ns::g")
    healthy = OP.replace("def f(", "def h(").replace("ns::f", "ns::h")
    assert [finding.name for finding in shadowed(OP + FAKE + second + healthy)] == ["ns::f", "ns::g"]


def test_a_file_that_does_not_parse_has_no_findings_of_the_operator_rule() -> None:
    assert shadowed("def f(:\n") == []
    assert shadowed_custom_ops(b"x = '\x00'\n") == []


def test_conflict_markers_are_named_with_their_line() -> None:
    source = b"def f():\n    pass\n<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> 0123456 (message)\n"
    (finding,) = unparsable(source)
    assert finding == Finding(
        kind="unparsable", line=3, text="conflict markers of an unfinished merge stand at line 3"
    )


def test_conflict_markers_inside_a_string_are_text() -> None:
    assert unparsable(b'DOC = """\n<<<<<<< HEAD\n=======\n>>>>>>> branch\n"""\n') == []


def test_other_errors_of_syntax_keep_their_line_and_message() -> None:
    (finding,) = unparsable(b"x = 1\ndef f(:\n    pass\n")
    assert finding.line == 2
    assert finding.text.startswith("line 2: ")


@pytest.mark.parametrize(
    "source", [b"x = '\x00'\n", b"# -*- coding: utf-8 -*-\nx = '\xff'\n", b"# coding: no-such\n", b"(" * 5000]
)
def test_bytes_that_are_no_source_do_not_parse(source: bytes) -> None:
    (finding,) = unparsable(source)
    assert finding.text


@pytest.mark.parametrize(
    "source", [b"", b"\xef\xbb\xbfx = 1\n", b"# coding: latin-1\nx = '\xff'\n", b"x = '\\d'\n"]
)
def test_encodings_and_strange_escapes_parse_without_a_warning(source: bytes) -> None:
    assert unparsable(source) == []


def test_the_grammar_is_that_of_the_target() -> None:
    source = b"match x:\n    case 1: pass\n"
    assert unparsable(source, python=(3, 10)) == []
    assert len(unparsable(source, python=(3, 9))) == 1
    assert isinstance(parse(source, python=(3, 9)), Finding)


def test_every_kind_that_a_pin_may_name_has_a_rule() -> None:
    from typing import get_args, get_type_hints

    from sagefix.pins.model import Fault

    assert set(RULES) == set(get_args(get_type_hints(Fault)["kind"]))
