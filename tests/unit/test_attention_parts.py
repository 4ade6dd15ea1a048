"""The parts of ``sagefix.attention`` that need no torch, and what it may use: Python 3.9 and nothing else."""

from __future__ import annotations

import ast
import gc
import json
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from sagefix.attention import facts, reasons
from sagefix.attention.counting import Counter
from sagefix.errors import PinError
from sagefix.pins.load import load_pin
from sagefix.proof.benchmark.known import ANY, NAME, load_attention_table
from sagefix.proof.numerics.groups import wrong_elsewhere
from sagefix.settings import PACKAGE
from sagefix.wheels.archive import read_wheel
from sagefix.wheels.attention import write_attention_wheel

FACTS = facts.Facts(
    call="sageattention:sageattn",
    project="sageattention",
    version="2.2.0+68de379",
    fingerprint="f" * 64,
    devices=(
        facts.Device(
            type="cuda",
            name="NVIDIA H200",
            capability="9.0",
            proof="numerics on NVIDIA H200 (9.0)",
            torch="2.11.0+cu130",
            any_stream=True,
            longest=262144,
            crossovers=(facts.Crossover("bfloat16", 128, False, 9520, 40, "measured"),),
        ),
        facts.Device(type="cuda", name="*", capability="9.0"),
    ),
)
# What runs in a target may import: the standard library of 3.9, torch, and of sagefix nothing but itself.
GUEST = {"torch", "triton", "setuptools", "distutils", "numpy", "objects"}


def imported(file: Path) -> set[str]:
    """Return the modules that a file imports, wherever in it; relative ones begin with a dot."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


@pytest.mark.parametrize("file", sorted((PACKAGE / "attention").glob("*.py")), ids=lambda file: file.name)
def test_it_runs_in_any_target(file: Path) -> None:
    for module in imported(file):
        top = module.partition(".")[0]
        alone = module == "sagefix.attention" or module.startswith("sagefix.attention.")
        assert alone or top == "torch" or top in sys.stdlib_module_names, module


@pytest.mark.parametrize("file", sorted((PACKAGE / "guest").glob("*.py")), ids=lambda file: file.name)
def test_a_guest_knows_nothing_of_its_host(file: Path) -> None:
    neighbours = {each.stem for each in (PACKAGE / "guest").glob("*.py")}
    for module in imported(file):
        top = module.partition(".")[0]
        assert top != "sagefix", module
        assert top in sys.stdlib_module_names | neighbours | GUEST or top == "", module


def test_it_is_imported_without_torch_and_without_sagefix() -> None:
    code = (
        "import sys; import sagefix.attention; from sagefix.attention import deciding, counting, facts, reasons\n"
        "mine = [name for name in sys.modules if name.startswith('sagefix.')]\n"
        "print(all(name.startswith('sagefix.attention') for name in mine), {'torch', 'msgspec'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("True set()", "")


def test_every_reason_is_explained() -> None:
    words = {
        value
        for name, value in vars(reasons).items()
        if name.isupper() and isinstance(value, str) and name != "ROUTED"
    }
    assert words == set(reasons.WORDS)


# Facts


def test_facts_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert facts.decode(facts.encode(FACTS), "x") == FACTS
    path = tmp_path / "facts.json"
    path.write_bytes(facts.encode(FACTS))
    assert facts.find(str(path)) == FACTS
    monkeypatch.setenv("SAGEFIX_ATTENTION_FACTS", str(path))
    assert facts.find() == FACTS
    monkeypatch.delenv("SAGEFIX_ATTENTION_FACTS")
    assert facts.find() is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read (JSONDecodeError"),
        ("[]", "cannot be read (TypeError"),
        ('{"schema": 2}', "has the schema 2"),
        ('{"schema": 1}', "cannot be read (TypeError"),
        (facts.encode(FACTS).decode().replace('"tokens"', '"frob"'), "frob"),
    ],
)
def test_a_file_that_is_no_facts_says_so(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "facts.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(facts.FactsError) as caught:
        facts.find(str(path))
    assert words in str(caught.value)
    assert "sagefix attention install" in str(caught.value)
    with pytest.raises(facts.FactsError, match="No such file"):
        facts.find(str(tmp_path / "none.json"))


def test_a_device_is_known_by_name_before_its_capability() -> None:
    by_name = FACTS.device("cuda", "NVIDIA H200", "9.0")
    other = FACTS.device("cuda", "NVIDIA GH200 480GB", "9.0")
    assert by_name is not None
    assert other is not None
    assert (by_name.longest, other.longest) == (262144, 0)
    assert FACTS.device("cuda", "NVIDIA H200", "8.0") is None
    assert FACTS.device("cpu", "NVIDIA H200", "9.0") is None


def test_two_installations_of_one_wheel_have_one_fingerprint() -> None:
    by_pip = (
        "sageattention/core.py,sha256=a,1\nsageattention/__pycache__/core.cpython-312.pyc,,\n"
        "sageattention-2.2.0.dist-info/INSTALLER,sha256=b,4\n"
    )
    by_uv = "sageattention-2.2.0.dist-info/INSTALLER,sha256=c,2\nsageattention/core.py,sha256=a,1\n"
    assert facts.fingerprint(by_pip) == facts.fingerprint(by_uv) != ""
    assert facts.fingerprint(by_uv.replace("=a", "=d")) != facts.fingerprint(by_uv)
    assert facts.fingerprint("") == ""


# Counting


def test_no_count_is_lost_among_threads() -> None:
    counter = Counter()
    together = threading.Barrier(8)

    def count() -> None:
        together.wait()
        for _ in range(5000):
            counter.add("short")
            counter.add("")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    counter.read()
    for thread in threads:
        thread.join()
    assert counter.read() == {"": 40000, "short": 40000}
    del threads, thread
    gc.collect()
    # Threads that are gone still count, and are folded into one sum by the next that begins.
    later = threading.Thread(target=counter.add, args=("mask",))
    later.start()
    later.join()
    assert counter.read() == {"": 40000, "mask": 1, "short": 40000}


def test_a_reset_begins_at_nothing() -> None:
    counter = Counter()
    counter.add("mask")
    counter.reset()
    assert counter.read() == {}
    counter.add("mask")
    assert counter.read() == {"mask": 1}


# The table of what is known, and the wheel


def test_what_is_known_of_a_gpu_goes_before_what_is_known_of_its_kind() -> None:
    table = load_attention_table()
    h200 = {
        (each.dtypes, each.tokens) for each in table.crossovers("NVIDIA H200", "9.0") if each.head_dim == 128
    }
    others = {each.tokens for each in table.crossovers("NVIDIA H100 80GB HBM3", "9.0")}
    assert h200 == {(("bfloat16",), 9520), (("float16",), 8877)}
    # Nobody measured those, so it is a good deal more.
    assert others == {16384}
    assert table.crossovers("NVIDIA GeForce RTX 4090", "8.9") == ()
    assert (table.longest_on("9.0"), table.longest_on("8.9")) == (262144, 0)
    assert all(each.sources for each in table.crossover)


def test_the_table_is_what_was_measured() -> None:
    """The figures of the H200 are those of the recorded benchmark."""
    folder = PACKAGE.parent / "docs" / "results" / "h200-2026-11-20"
    first, second = (
        json.loads((folder / name).read_text(encoding="utf-8"))["crossovers"]
        for name in ("bench.json", "bench-two-head-dims.json")
    )
    told = {
        (dtype, each.head_dim, each.causal, each.tokens, each.sequences)
        for each in load_attention_table().crossover
        if ANY not in each.gpus
        for dtype in each.dtypes
    }
    seen = {
        (each["dtype"], each["size"][2], each["causal"], each["tokens"], each["size"][0] * each["size"][1])
        # The second run measured head_dim 128 once more.
        for each in (*first, *(each for each in second if each["size"][2] == 64))
    }
    assert seen <= told


def test_a_wrong_table_is_refused_with_its_line(tmp_path: Path) -> None:
    text = (PACKAGE.parent / "manifests" / NAME).read_text(encoding="utf-8")
    (tmp_path / NAME).write_text(text.replace("tokens = 9520", "tokens = 0"), encoding="utf-8")
    with pytest.raises(PinError, match=r"crossover\[0\].tokens: must be above 0"):
        load_attention_table(tmp_path)


@pytest.mark.parametrize("code", [True, False])
def test_the_wheel_is_whole_and_the_same_each_time(tmp_path: Path, code: bool) -> None:
    one, other = (write_attention_wheel(tmp_path / name, FACTS, code=code) for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()
    assert read_wheel(one).project == "sagefix-attention"
    with zipfile.ZipFile(one) as archive:
        names = archive.namelist()
        (where,) = (name for name in names if name.endswith("/facts.json"))
        assert facts.decode(archive.read(where), where) == FACTS
    inside = {name for name in names if name.startswith("sagefix/")}
    # A namespace package: sagefix/__init__.py belongs to sagefix alone.
    expected = {f"sagefix/attention/{file.name}" for file in (PACKAGE / "attention").glob("*.py")}
    assert inside == (expected if code else set())


def test_hazards_of_streams_are_told_from_others() -> None:
    silent = "sageattn: right when called plainly, wrong on side streams: kernels on the default stream."
    assert wrong_elsewhere((silent,), "sageattn")
    assert not wrong_elsewhere((silent,), "sageattn_varlen")
    ignored = "sageattn: attn_mask is ignored in silence: the output is that of a call without it."
    assert not wrong_elsewhere((ignored,), "sageattn")
    hazards = json.loads(
        (PACKAGE.parent / "docs/results/h200-2026-11-20/verify-full-68de379-plain.json").read_text()
    )["result"]["hazards"]
    assert wrong_elsewhere(hazards, "sageattn")
    fixed = json.loads(
        (PACKAGE.parent / "docs/results/h200-2026-11-20/verify-full-68de379-fix1.json").read_text()
    )["result"]["hazards"]
    assert not wrong_elsewhere(fixed, "sageattn")
    assert load_pin("sageattention").fix
