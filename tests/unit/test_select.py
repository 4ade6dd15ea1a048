"""Which wheels a target takes, in which order, and what is said about each."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sagefix.archs import parse_archs
from sagefix.pins.model import Build, Known, Pin, Recipe, Ref, Revision, Source
from sagefix.targets.model import Interpreter, Target, Torch
from sagefix.wheelhouse.model import Decision
from sagefix.wheelhouse.proving import proof_of
from sagefix.wheelhouse.select import select
from sagefix.wheels.label import parse_label
from sagefix.wheels.model import Facts, Proof, Record

COMMIT = "68de3797d163b89d28f9a38026c3b7313f6940d2"
BROKEN = "eb615cf0" + "1" * 32
TREE = "f" * 40
SOURCES = ("https://example.org/report",)

PIN = Pin(
    schema=1,
    name="sageattention",
    project="sageattention",
    package="sageattention",
    version="2.2.0",
    summary="For tests",
    device="cuda",
    license="MIT",
    source=Source(url="https://example.org", commit=COMMIT, tree=TREE, files=("/setup.py",)),
    build=Build(),
    recipe=(Recipe(name="only", setup_py=(), sources=SOURCES),),
    ref=(Ref(commit=COMMIT, tree=TREE, recipe="only"), Ref(commit=BROKEN, tree=TREE, recipe="only")),
    known=(
        Known(status="good", archs=("9.0",), commits=(COMMIT,), reason="Measured.", sources=SOURCES),
        Known(
            status="bad", archs=("9.0",), commits=(BROKEN,), reason="The kernel never runs.", sources=SOURCES
        ),
    ),
)
CPU_PIN = msgspec.structs.replace(PIN, name="demo", project="demo", device="cpu", build=Build(torch=False))
REVISION = Revision(commit=COMMIT, tree=TREE, recipe="only", asked="")
TORCH = Torch(version="2.11.0+cu130", cuda="13.0", cxx11_abi=True, folder="/t/torch")
INTERPRETER = Interpreter(
    executable="/t/bin/python",
    version="3.12.3",
    implementation="cpython",
    machine="x86_64",
    prefix="/t",
    base_prefix="/usr",
    platform_tag="linux_x86_64",
    python_tag="cp312",
    abi_tag="cp312",
    tags=("cp312-cp312-linux_x86_64", "cp312-cp312-manylinux_2_17_x86_64", "py3-none-any"),
    glibc="2.36",
    ext_suffix=".so",
    purelib="/t/lib",
    platlib="/t/lib",
    sys_path=(),
    python_h="",
    externally_managed=False,
    packages={},
    torch=TORCH,
)
TARGET = Target(interpreter=INTERPRETER, archs=parse_archs("9.0"), archs_from="--arch")
RECORD = Record(
    origin="built",
    pin="sageattention",
    project="sageattention",
    version="",
    commit=COMMIT,
    tree=TREE,
    recipe="only",
    archs=("9.0",),
    extensions=(),
    python_tag="cp312",
    abi_tag="cp312",
    platform_tag="linux_x86_64",
    glibc="2.32",
    torch="2.11.0+cu130",
    cuda="13.0",
    cxx11_abi=True,
    key="k",
    tools={},
    environment={},
    source_url="",
    source_date_epoch=0,
    sagefix="0",
)


def wheel(
    local: str = "68de379.cu130.torch2.11.sm90",
    *,
    tag: str = "cp312-cp312-linux_x86_64",
    project: str = "sageattention",
    version: str = "2.2.0",
    record: dict[str, Any] | None = {},  # noqa: B006 - read only
    requires_torch: str = "==2.11.*",
    requires_python: str = "",
    proof: str = "",
) -> Facts:
    """Return a wheel as sagefix builds it but for what is given; ``record`` changes fields of its."""
    whole = f"{version}+{local}" if local else version
    return Facts(
        filename=f"{project}-{whole}-{tag}.whl",
        project=project,
        version=whole,
        label=parse_label(whole),
        tags=(tag,),
        sha256="0" * 64,
        size=1,
        where="",
        requires_torch=requires_torch,
        requires_python=requires_python,
        record=None if record is None else msgspec.structs.replace(RECORD, **record),
        proof=proof,
    )


SAVED_UNKNOWN = {"origin": "saved", "commit": "unknown", "unknown": ("commit",)}


def judge(facts: Facts, target: Target = TARGET, pin: Pin = PIN, **options: Any) -> Decision:
    (decision,) = select([facts], target, pin, REVISION, **options)
    return decision


def changed(**interpreter: Any) -> Target:
    return msgspec.structs.replace(TARGET, interpreter=msgspec.structs.replace(INTERPRETER, **interpreter))


def test_a_wheel_that_fits_tells_every_fact() -> None:
    decision = judge(wheel(proof="import"))
    assert decision.accepted
    assert decision.reasons == (
        "it is of commit 68de379",
        "its tag cp312-cp312-linux_x86_64 is one that Python 3.12.3 takes",
        "it needs glibc 2.32, and the target has 2.36",
        "it was built for torch 2.11, as the target has",
        "it was built with CUDA 13.0, and the target's torch with 13.0",
        "it holds code for 9.0",
        "it passed the import check",
    )


REFUSALS: list[tuple[Facts, Target, str]] = [
    (wheel(project="other"), TARGET, "it is other, not sageattention"),
    (wheel("d1a57a5.cu130.torch2.11.sm90", record=None), TARGET, "it is of commit d1a57a5, not 68de379"),
    (wheel(record={"commit": BROKEN}), TARGET, "it is of commit eb615cf, not 68de379"),
    (wheel(record=None, local="", requires_torch=""), TARGET, "nothing says which commit it was built from"),
    (
        wheel("unknown.cu130.torch2.11.sm90", version="1.0.6", record=SAVED_UNKNOWN),
        TARGET,
        "nothing says which commit it was built from, and it is 1.0.6, not 2.2.0",
    ),
    (
        wheel("68de379.fix1.cu130.torch2.11.sm90"),
        TARGET,
        "it has the pin's fixes up to level 1, and 0 is wanted",
    ),
    (wheel(tag="cp311-cp311-linux_x86_64"), TARGET, "it is for Python cp311-cp311, not cp312-cp312"),
    (
        wheel(tag="cp312-cp312-linux_aarch64"),
        TARGET,
        "it is for the platform linux_aarch64, not linux_x86_64",
    ),
    (
        wheel(tag="cp39-cp39-win_amd64"),
        TARGET,
        "it is for Python cp39-cp39, not cp312-cp312 and for the platform win_amd64, not linux_x86_64",
    ),
    (wheel(requires_python=">=3.13"), TARGET, "it requires Python >=3.13, and the target has 3.12.3"),
    (wheel(record={"glibc": "2.38"}), TARGET, "it needs glibc 2.38, and the target has 2.36"),
    (wheel(record={"glibc": "2.4"}), changed(glibc=""), "it needs glibc 2.4, and the target has none"),
    (
        wheel("68de379.cu130.torch2.10.sm90", record=None, requires_torch=""),
        TARGET,
        "it was built for torch 2.10, and the target has 2.11.0+cu130",
    ),
    (wheel(requires_torch="==2.10.*"), TARGET, "it requires torch ==2.10.*, and the target has 2.11.0+cu130"),
    (wheel(requires_torch="=2"), TARGET, "it requires torch =2, and the target has 2.11.0+cu130"),
    (wheel(), changed(torch=None), "it needs torch, and the target has none"),
    (
        wheel("68de379.cu130.sm90", record=None, requires_torch=">=2.5"),
        TARGET,
        "nothing says which torch it was built for",
    ),
    (
        wheel(record={"cxx11_abi": False}),
        TARGET,
        "it was built for the old C++ string ABI, and the target's torch for the new one",
    ),
    (
        wheel("68de379.cu128.torch2.11.sm90", record=None),
        TARGET,
        "it was built with CUDA 12.8, and the target's torch with 13.0",
    ),
    (
        wheel(),
        changed(torch=msgspec.structs.replace(TORCH, version="2.11.0+cpu", cuda="")),
        "it needs CUDA, and the target's torch is for the CPU only",
    ),
    (wheel("68de379.cu130.torch2.11", record=None), TARGET, "nothing says for which GPUs it was built"),
    (
        wheel("68de379.cu130.torch2.11.sm86.sm89", record=None),
        TARGET,
        "it holds code for 8.6;8.9, not for 9.0",
    ),
    (
        wheel("68de379.cu130.torch2.11.sm80", record=None),
        msgspec.structs.replace(TARGET, archs=parse_archs("8.6")),
        "it holds code for 8.0, not for 8.6",
    ),
    (
        wheel("68de379.cu130.torch2.11.sm80ptx", record=None),
        msgspec.structs.replace(TARGET, archs=parse_archs("8.6")),
        "it holds code for 8.0+PTX, not for 8.6",
    ),
    (
        wheel("68de379.cu130.torch2.11.sm90", record=None),
        msgspec.structs.replace(TARGET, archs=parse_archs("9.0+PTX")),
        "it holds code for 9.0, not for 9.0+PTX",
    ),
    (
        wheel("68de379.cu130.torch2.11.sm86", record=None),
        msgspec.structs.replace(TARGET, archs=parse_archs("8.6 12.0")),
        "it holds code for 8.6, not for 12.0",
    ),
    (wheel(proof="failed:import"), TARGET, "it failed the import check"),
]


@pytest.mark.parametrize(("facts", "target", "reason"), REFUSALS, ids=[row[2] for row in REFUSALS])
def test_refused_with_the_reason(facts: Facts, target: Target, reason: str) -> None:
    decision = judge(facts, target)
    assert not decision.accepted
    assert reason in decision.reasons


def test_all_that_speaks_against_a_wheel_is_told() -> None:
    decision = judge(wheel("d1a57a5.cu128.torch2.10.sm86", record=None, proof="failed:static"))
    assert decision.reasons == (
        "it is of commit d1a57a5, not 68de379",
        "it was built for torch 2.10, and the target has 2.11.0+cu130",
        "it was built with CUDA 12.8, and the target's torch with 13.0",
        "it holds code for 8.6, not for 9.0",
        "it failed the static check",
    )


@pytest.mark.parametrize(
    "facts",
    [
        wheel(record=None),
        wheel(tag="cp312-cp312-manylinux_2_17_x86_64"),
        wheel("68de379.cu132.torch2.11.sm90", record=None),
        wheel("68de379.cu130.torch2.11.sm86.sm90", record=None),
        wheel("68de379.cu130.sm90", record=None, requires_torch="==2.11.0"),
        wheel("g68de379.cu130.torch2.11.sm90ptx", record=None),
        wheel(requires_python=">=3.9"),
        wheel(record={"cxx11_abi": None}),
    ],
)
def test_accepted(facts: Facts) -> None:
    assert judge(facts).accepted, judge(facts).reasons


def test_a_torch_whose_abi_nobody_knows_refuses_no_wheel_for_it() -> None:
    unknown = changed(torch=msgspec.structs.replace(TORCH, cxx11_abi=None))
    for abi in (True, False):
        decision = judge(wheel(record={"cxx11_abi": abi}), unknown)
        assert decision.accepted
        assert "nobody here knows which C++ string ABI torch 2.11.0+cu130 has" in decision.reasons


def test_known_bad_is_refused_for_the_arch_it_is_bad_on() -> None:
    facts = wheel("eb615cf.cu130.torch2.11.sm86.sm90", record=None)
    asked = msgspec.structs.replace(REVISION, commit=BROKEN)
    (decision,) = select([facts], TARGET, PIN, asked)
    reason = "commit eb615cf is known to be bad on 9.0: The kernel never runs (https://example.org/report)"
    assert decision.reasons == (reason,)
    (decision,) = select([facts], TARGET, PIN, asked, allow_known_bad=True)
    assert decision.accepted
    assert reason in decision.reasons
    (decision,) = select([facts], msgspec.structs.replace(TARGET, archs=parse_archs("8.6")), PIN, asked)
    assert decision.accepted
    # Another commit was asked for: that it is broken is worth knowing all the same.
    assert judge(facts).reasons == ("it is of commit eb615cf, not 68de379", reason)


def test_unknown_facts() -> None:
    saved = wheel("unknown.cu130.torch2.11.sm90", record=SAVED_UNKNOWN)
    decision = judge(saved)
    assert decision.accepted
    assert decision.reasons[0] == (
        "nothing says which commit it was built from; it was saved from an installation of 2.2.0"
    )
    foreign = wheel("", record=None, requires_torch="")
    decision = judge(foreign)
    assert decision.reasons == (
        "nothing says which commit it was built from",
        "nothing says which torch it was built for",
        "nothing says for which GPUs it was built",
    )
    decision = judge(foreign, allow_unknown=True)
    assert decision.accepted
    assert "nothing says which glibc it needs" in decision.reasons
    assert "nothing says which CUDA it was built with" in decision.reasons


def test_unproven_is_told_and_can_be_refused() -> None:
    unproven = "it is unproven: no verification of it has passed yet"
    assert judge(wheel()).reasons[-1] == unproven
    # A level that computes nothing proves no numbers, and one of a wheel nobody can show a proof of neither.
    for proof in ("", "static", "numerics"):
        assert judge(wheel(proof=proof), require_proof=True).reasons == ("its numbers are not proven on 9.0",)


def proven(*kinds: str, passed: bool = True) -> Facts:
    """Return a wheel with code for 8.0 and 9.0 that was computed with on some GPUs."""
    names = {"8.0": "NVIDIA A100", "9.0": "NVIDIA H200"}
    proofs = tuple(
        Proof(level="numerics", passed=passed, when="", gpu=names[kind], capability=kind) for kind in kinds
    )
    two = wheel("68de379.cu130.torch2.11.sm80.sm90", record={"archs": ("8.0", "9.0")})
    return msgspec.structs.replace(two, proofs=proofs, proof=proof_of(proofs))


def test_a_proof_counts_on_its_kind_of_gpu_alone() -> None:
    ampere = msgspec.structs.replace(TARGET, archs=parse_archs("8.0"))
    both = msgspec.structs.replace(TARGET, archs=parse_archs("8.0 9.0"))
    hopper = proven("9.0")
    assert (
        judge(hopper, require_proof=True).reasons[-1] == "it passed the numerics check on NVIDIA H200 (9.0)"
    )
    assert judge(hopper, ampere).reasons[-1] == "it passed the import check"
    for target, kinds in ((ampere, "8.0"), (both, "8.0 and 9.0")):
        assert judge(hopper, target, require_proof=True).reasons == (
            f"its numbers are not proven on {kinds}, only numerics on NVIDIA H200 (9.0)",
        )
    assert judge(proven("8.0", "9.0"), both, require_proof=True).accepted
    wrong = proven("8.0", passed=False)
    assert judge(wrong, ampere).reasons == ("it failed the numerics check on NVIDIA A100 (8.0)",)
    assert judge(wrong, both).reasons == ("it failed the numerics check on NVIDIA A100 (8.0)",)
    assert judge(wrong).accepted
    # What is proven here comes before what is proven elsewhere.
    decisions = select([proven("8.0"), hopper], TARGET, PIN, REVISION)
    assert [each.facts for each in decisions] == [hopper, proven("8.0")]


def test_a_proof_of_a_package_without_gpu_code_is_one_on_the_processor() -> None:
    target = msgspec.structs.replace(changed(torch=None), archs=())
    proofs = (Proof(level="full", passed=True, when="", gpu="x86_64", capability="cpu"),)
    facts = msgspec.structs.replace(
        wheel("68de379", project="demo", record=None, requires_torch=""), proofs=proofs, proof="full"
    )
    assert judge(facts, target, CPU_PIN, require_proof=True).accepted
    gone = msgspec.structs.replace(facts, proofs=(), proof="import")
    assert judge(gone, target, CPU_PIN, require_proof=True).reasons == ("its numbers are not proven on cpu",)


def test_fixes_that_are_wanted() -> None:
    assert judge(wheel("68de379.fix1.cu130.torch2.11.sm90"), fixes=1).accepted
    assert judge(wheel(), fixes=1).reasons == ("it has the pin's fixes up to level 0, and 1 is wanted",)


def test_a_cpu_pin_has_no_torch_cuda_or_archs() -> None:
    target = msgspec.structs.replace(changed(torch=None), archs=())
    facts = wheel("68de379", project="demo", record=None, requires_torch="")
    decision = judge(facts, target, CPU_PIN)
    assert decision.accepted
    assert not [
        reason for reason in decision.reasons if "torch" in reason or "CUDA" in reason or "code" in reason
    ]
    needs = wheel("68de379", project="demo", record=None, requires_torch=">=2")
    assert judge(needs, target, CPU_PIN).reasons == ("it needs torch, and the target has none",)
    assert judge(needs, TARGET, CPU_PIN).accepted


def test_best_first() -> None:
    one = "68de379.cu130.torch2.11.sm90"
    fat = "68de379.cu130.torch2.11.sm86.sm90"
    best_first = [
        wheel(one, proof="numerics"),
        wheel(fat, record={"archs": ("8.6", "9.0")}, proof="import"),
        wheel(one, proof="static"),
        wheel(one),
        wheel(one, tag="py3-none-any"),  # as good, but given later
        wheel(fat, record={"archs": ("8.6", "9.0")}),
        wheel(one, record={"origin": "saved"}),
        wheel(one, record={"glibc": ""}),
        wheel("unknown.cu130.torch2.11.sm90", record={**SAVED_UNKNOWN, "glibc": ""}, proof="import"),
    ]
    given = [*reversed(best_first)]
    given[4], given[5] = given[5], given[4]
    nearest = wheel(proof="failed:import")
    far = wheel("d1a57a5.cu128.torch2.10.sm86", record=None)
    decisions = select([far, *given, nearest], TARGET, PIN, REVISION)
    assert [decision.facts for decision in decisions] == [*best_first, nearest, far]
    assert [decision.accepted for decision in decisions] == [True] * len(best_first) + [False] * 2


def test_nothing_to_choose_from() -> None:
    assert select([], TARGET, PIN, REVISION) == []
