"""The plan: what decides a wheel is in its key, and nothing else; what a build hears of the user's shell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from sagefix.archs import parse_archs
from sagefix.building import plan as planning
from sagefix.building.backend import build_environment
from sagefix.building.plan import Identity, Plan, extensions_of, gencodes_of, make_plan
from sagefix.errors import GpuError
from sagefix.pins.load import load_pin
from sagefix.pins.model import Pin, Revision
from sagefix.pins.refs import resolve_ref
from sagefix.targets.compilers import Compiler
from sagefix.targets.host import Jobs
from sagefix.targets.model import Gpu, Interpreter, Target, Torch
from sagefix.targets.toolkit import Toolkit

PIN = load_pin("sageattention")
TORCH = Torch(version="2.11.0+cu130", cuda="13.0", cxx11_abi=True, folder="/env/torch")
PYTHON = Interpreter(
    executable="/env/bin/python",
    version="3.12.8",
    implementation="cpython",
    machine="x86_64",
    prefix="/env",
    base_prefix="/usr",
    platform_tag="linux_x86_64",
    python_tag="cp312",
    abi_tag="cp312",
    tags=("cp312-cp312-linux_x86_64",),
    glibc="2.36",
    ext_suffix=".cpython-312-x86_64-linux-gnu.so",
    purelib="/env/lib",
    platlib="/env/lib",
    sys_path=("/env/lib",),
    python_h="/usr/include/Python.h",
    externally_managed=False,
    packages={"setuptools": "80.9.0", "ninja": "1.13"},
    torch=TORCH,
)
TOOLKIT = Toolkit(
    home="/usr/local/cuda",
    nvcc="/usr/local/cuda/bin/nvcc",
    version="13.0",
    full_version="13.0.88",
    found_in="PATH",
    include_folders=("/usr/local/cuda/include",),
    lib_folders=("/usr/local/cuda/lib64",),
    stub_folders=("/usr/local/cuda/lib64/stubs",),
)
COMPILER = Compiler(path="/usr/bin/g++", kind="gcc", version="12.2.0", command=("g++",))
JOBS = Jobs(count=3, limited_by="memory")
replace = msgspec.structs.replace


def revision(ref: str | None = None, pin: Pin = PIN) -> Revision:
    found = resolve_ref(pin, ref)
    assert found is not None
    return found


def target(archs: str = "9.0", interpreter: Interpreter = PYTHON) -> Target:
    return Target(interpreter=interpreter, archs=parse_archs(archs) if archs else (), archs_from="--arch")


def plan(**given: Any) -> Plan:
    words: dict[str, Any] = {
        "pin": PIN,
        "revision": revision(),
        "target": target(),
        "toolkit": TOOLKIT,
        "compiler": COMPILER,
        "environment": {},
        **given,
    }
    return make_plan(words.pop("pin"), words.pop("revision"), words.pop("target"), **words)


def python(**changed: Any) -> dict[str, Any]:
    return {"target": target(interpreter=replace(PYTHON, **changed))}


def torch(**changed: Any) -> dict[str, Any]:
    return python(torch=replace(TORCH, **changed))


def test_names_agree_and_say_what_they_have_to() -> None:
    made = plan()
    assert made.label == "68de379.fix1.cu130.torch2.11.sm90"
    assert made.identity.version == "2.2.0+68de379.fix1.cu130.torch2.11.sm90"
    assert made.wheel == "sageattention-2.2.0+68de379.fix1.cu130.torch2.11.sm90-cp312-cp312-linux_x86_64.whl"
    name, version, _, tags = parse_wheel_filename(made.wheel)
    assert (name, str(version)) == (made.project, made.identity.version)
    assert str(Version(made.identity.version)) == made.identity.version
    assert [str(tag) for tag in tags] == ["cp312-cp312-linux_x86_64"]
    assert made.requires == ("torch==2.11.*",)
    assert re.fullmatch(r"[0-9a-f]{20}", made.key)
    assert (made.python, made.toolkit, made.stubs) == ("/env/bin/python", TOOLKIT.home, TOOLKIT.stub_folders)
    assert made.notes == ()


@pytest.mark.parametrize(
    ("torch_version", "cuda", "label"),
    [
        ("2.9.1+cu128", "12.8", "68de379.fix1.cu128.torch2.9.sm90"),
        ("2.12.0a0+git1234567", "13.2", "68de379.fix1.cu132.torch2.12.sm90"),
        ("2.10.0", "12.6", "68de379.fix1.cu126.torch2.10.sm90"),
    ],
)
def test_torch_in_the_label(torch_version: str, cuda: str, label: str) -> None:
    made = plan(**torch(version=torch_version, cuda=cuda))
    assert made.label == label
    assert made.requires == (f"torch=={'.'.join(torch_version.split('.')[:2])}.*",)


def test_a_pin_for_the_cpu_has_neither_torch_nor_archs() -> None:
    demo = load_pin("demo")
    made = plan(pin=demo, revision=revision(None, demo), target=target(""), toolkit=None)
    assert made.label == demo.source.commit[:7]
    assert made.wheel == f"demoattention-1.0.0+{made.label}-cp312-cp312-linux_x86_64.whl"
    identity = made.identity
    assert (identity.torch, identity.cuda, identity.cxx11_abi, identity.archs) == ("", "", None, ())
    assert (identity.nvcc, identity.gencodes, made.requires, made.stubs) == ("", {}, (), ())
    assert identity.extensions == ("demoattention._attention",)
    assert (
        made.key
        == plan(
            pin=demo,
            revision=revision(None, demo),
            target=target("", replace(PYTHON, torch=None)),
            toolkit=None,
        ).key
    )


# What is in the key

OTHER_COMMIT = {"revision": replace(revision(), commit="a" * 40)}
DECIDES: dict[str, tuple[set[str], Callable[[], dict[str, Any]]]] = {
    "another pin": ({"pin"}, lambda: {"pin": replace(PIN, name="other")}),
    "another commit": ({"commit", "version"}, lambda: OTHER_COMMIT),
    "another tree": ({"tree"}, lambda: {"revision": replace(revision(), tree="b" * 40)}),
    "another base version": ({"version"}, lambda: {"pin": replace(PIN, version="2.2.1")}),
    "another arch": (
        {"archs", "archs_of", "gencodes", "extensions", "version"},
        lambda: {"target": target("8.0")},
    ),
    "one more arch": ({"archs", "archs_of", "gencodes", "version"}, lambda: {"target": target("8.0 9.0")}),
    "PTX": ({"archs", "archs_of", "version"}, lambda: {"target": target("9.0+PTX")}),
    "another Python": ({"python_tag", "abi_tag"}, lambda: python(python_tag="cp313", abi_tag="cp313")),
    "no GIL": ({"abi_tag"}, lambda: python(abi_tag="cp312t")),
    "another machine": ({"platform_tag"}, lambda: python(platform_tag="linux_aarch64")),
    "another patch of torch": ({"torch"}, lambda: torch(version="2.11.1+cu130")),
    "another build of torch": ({"torch"}, lambda: torch(version="2.11.0")),
    "another CUDA": ({"cuda", "version"}, lambda: torch(cuda="13.1")),
    "the old C++ ABI": ({"cxx11_abi"}, lambda: torch(cxx11_abi=False)),
    "another nvcc": ({"nvcc", "tools"}, lambda: {"toolkit": replace(TOOLKIT, full_version="13.0.48")}),
    "another compiler": (
        {"host_compiler", "tools"},
        lambda: {"compiler": replace(COMPILER, version="13.1.0")},
    ),
    "a compiler of another kind": (
        {"host_compiler", "tools"},
        lambda: {"compiler": replace(COMPILER, kind="clang")},
    ),
    "another setuptools": ({"setuptools", "tools"}, lambda: python(packages={"setuptools": "77.0.1"})),
    "another patch of Python": ({"tools"}, lambda: python(version="3.12.9")),
    "another glibc": ({"tools"}, lambda: python(glibc="2.41")),
    "upstream as it is": ({"fixes", "version"}, lambda: {"fixes": False}),
    "a tag of manylinux": ({"manylinux"}, lambda: {"manylinux": True}),
    **{
        variable: ({"environment"}, lambda variable=variable: {"environment": {variable: "-O1"}})
        for variable in planning.COMPILER_VARIABLES
    },
}
IRRELEVANT: dict[str, Callable[[], dict[str, Any]]] = {
    "where Python lies": lambda: python(executable="/x/python", prefix="/x", purelib="/x/lib", sys_path=()),
    "other packages": lambda: python(packages={**PYTHON.packages, "numpy": "2.0"}),
    "where torch lies": lambda: torch(folder="/x/torch"),
    "where the toolkit lies": lambda: {"toolkit": replace(TOOLKIT, home="/opt/cuda", stub_folders=())},
    "who named the arch": lambda: {"target": replace(target(), archs_from="nvml")},
    "the GPUs": lambda: {"target": replace(target(), gpus=(Gpu(index=0, name="H200", capability="9.0"),))},
    "how the commit was called": lambda: {"revision": revision("68de379")},
    "other variables": lambda: {
        "environment": {"HOME": "/x", "MAX_JOBS": "1", "TORCH_CUDA_ARCH_LIST": "7.0"}
    },
    "empty variables": lambda: {"environment": {"CFLAGS": "", "CC": ""}},
}


@pytest.mark.parametrize("what", DECIDES)
def test_what_decides_the_bytes_is_in_the_key(what: str) -> None:
    changed, given = DECIDES[what]
    before, after = plan(), plan(**given())
    assert after.key != before.key
    fields = [field.name for field in msgspec.structs.fields(Identity)]
    assert {
        name for name in fields if getattr(before.identity, name) != getattr(after.identity, name)
    } == changed


@pytest.mark.parametrize("what", IRRELEVANT)
def test_what_does_not_decide_the_bytes_is_not(what: str) -> None:
    before, after = plan(), plan(**IRRELEVANT[what]())
    assert after.identity == before.identity
    assert (after.key, after.wheel) == (before.key, before.wheel)


def test_every_field_of_the_identity_is_tried_here() -> None:
    tried = set().union(*(fields for fields, _ in DECIDES.values()))
    untried = {field.name for field in msgspec.structs.fields(Identity)} - tried
    # The version of the shim is tried below; packages need a real environment (test_distributions.py).
    assert untried <= {"shim", "patches", "packages"}


def test_the_shim_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan()
    monkeypatch.setattr(planning, "shim_version", lambda: before.identity.shim + 1)
    assert plan().key != before.key
    assert before.identity.shim >= 1


def test_a_key_is_the_same_in_every_process() -> None:
    """The order of keys and variables does not matter: both are sorted before they are hashed."""
    one = plan(environment={"CC": "gcc", "CXX": "g++"}, target=target("8.0 8.9"))
    other = plan(environment={"CXX": "g++", "CC": "gcc"}, target=target("8.9;8.0"))
    assert one.key == other.key
    assert one.identity.archs == ("8.0", "8.9")


# What a recipe makes of archs


@pytest.mark.parametrize(
    ("ref", "archs", "extensions", "gencodes"),
    [
        (None, "9.0", ["_fused", "_qattn_sm80", "_qattn_sm90"], {"9.0": "90a"}),
        (None, "8.0", ["_fused", "_qattn_sm80"], {"8.0": "80"}),
        (None, "8.9", ["_fused", "_qattn_sm80", "_qattn_sm89"], {"8.9": "89"}),
        (None, "8.0 8.9", ["_fused", "_qattn_sm80", "_qattn_sm89"], {"8.0": "80", "8.9": "89"}),
        ("d1a57a5", "9.0", ["_fused", "_qattn_sm80", "_qattn_sm89", "_qattn_sm90"], {"9.0": "90a"}),
        ("d1a57a5", "12.1", ["_fused", "_qattn_sm80", "_qattn_sm89"], {"12.1": "121a"}),
    ],
)
def test_extensions_and_machine_code(
    ref: str | None, archs: str, extensions: list[str], gencodes: dict[str, str]
) -> None:
    recipe = PIN.recipe_named(revision(ref).recipe)
    assert [name.partition(".")[2] for name in extensions_of(recipe, target(archs))] == extensions
    assert gencodes_of(recipe, target(archs)) == gencodes
    made = plan(revision=revision(ref), target=target(archs))
    assert list(made.identity.extensions) == [f"sageattention.{name}" for name in extensions]
    # 68de379 asks torch which GPUs there are, and HEAD reads the list of archs.
    assert (made.fake_gpus, made.parallel_env) == (ref is None, "EXT_PARALLEL")
    assert made.label.startswith("68de379" if ref is None else "d1a57a5")


def test_an_arch_that_the_recipe_does_not_know() -> None:
    with pytest.raises(GpuError, match=r"cannot be built for 7\.5") as raised:
        plan(target=target("7.5"))
    assert "9.0" in raised.value.hint


def test_ptx_of_an_arch_specific_target_is_told_to_be_of_no_use() -> None:
    (note,) = plan(target=target("9.0+PTX")).notes
    assert "compute_90a" in note
    assert "9.0 alone" in note
    assert plan(target=target("8.0+PTX")).notes == ()


def test_an_arch_that_is_built_and_not_used_is_told() -> None:
    unused = [
        row for recipe in PIN.recipe for row in recipe.capability if row.extensions and not row.dispatch
    ]
    for row in unused:
        ref = next(ref for ref in PIN.ref if row in PIN.recipe_named(ref.recipe).capability)
        assert row.reason in " ".join(plan(revision=revision(ref.commit), target=target(row.arch)).notes)


# The environment of a build

LEAKING = {
    "TORCH_CUDA_ARCH_LIST": "7.0;8.6",
    "CUDA_HOME": "/elsewhere",
    "CUDA_PATH": "/elsewhere",
    "MAX_JOBS": "64",
    "EXT_PARALLEL": "8",
    "DIST_EXTRA_CONFIG": "/home/me/distutils.cfg",
    "PYTHONHOME": "/elsewhere",
    "PYTHONSTARTUP": "/home/me/.pythonrc",
    "MAKEFLAGS": "-j64",
    "SETUPTOOLS_SCM_PRETEND_VERSION": "9",
    "SAGEATTN_SKIP_CUDA_BUILD": "TRUE",
}


def environment(made: Plan, **base: str) -> dict[str, str]:
    root = Path("/cache/builds/key")
    shell = {"PATH": "/usr/bin", "HOME": "/home/me", **base}
    return build_environment(made, JOBS, root / "distutils.cfg", root, 1_759_000_000, shell)


def test_what_leaks_in_is_scrubbed_and_what_is_planned_is_set() -> None:
    found = environment(plan(), **LEAKING)
    assert found["TORCH_CUDA_ARCH_LIST"] == "9.0"
    assert found["CUDA_HOME"] == TOOLKIT.home
    assert found["MAX_JOBS"] == "3"
    assert found["EXT_PARALLEL"] == "3"
    assert found["DIST_EXTRA_CONFIG"] == "/cache/builds/key/distutils.cfg"
    assert found["SOURCE_DATE_EPOCH"] == "1759000000"
    assert found["PYTHONHASHSEED"] == "0"
    assert found["TMPDIR"].startswith("/cache/builds/key/")
    for name in ("CUDA_PATH", "PYTHONHOME", "PYTHONSTARTUP", "MAKEFLAGS", "SETUPTOOLS_SCM_PRETEND_VERSION"):
        assert name not in found
    assert "SAGEATTN_SKIP_CUDA_BUILD" not in found
    assert (found["HOME"], found["PATH"]) == ("/home/me", "/env/bin:/usr/bin")
    assert found == environment(plan())


def test_the_users_compilers_stay() -> None:
    assert environment(plan(), CC="gcc-12", CFLAGS="-g")["CC"] == "gcc-12"


def test_the_shim_is_told_the_archs() -> None:
    facts = json.loads(environment(plan())["SAGEFIX_SHIM"])
    (fix,) = facts.pop("fixes")
    assert Path(fix["file"]).is_file()
    assert fix["wraps"] == ["__cudaPushCallConfiguration"]
    hopper = [["9.0", "90a", False]]
    assert facts == {
        "archs": ["9.0"],
        "fake_gpus": True,
        "torch": True,
        "extensions": 3,
        "threads": 1,
        "objects": None,
        "cross": None,
        "code": {f"sageattention.{name}": hopper for name in ("_fused", "_qattn_sm80", "_qattn_sm90")},
    }
    head = plan(revision=revision("d1a57a5"), target=target("8.0;8.9"), fixes=False)
    told = json.loads(environment(head)["SAGEFIX_SHIM"])
    assert (told["archs"], told["fake_gpus"], told["fixes"]) == (["8.0", "8.9"], False, [])


def test_each_extension_gets_the_archs_that_need_it() -> None:
    code = json.loads(environment(plan(target=target("8.0;8.9;9.0")))["SAGEFIX_SHIM"])["code"]
    numbers = {name.partition(".")[2]: [number for _, number, _ in rows] for name, rows in code.items()}
    assert numbers == {
        "_fused": ["80", "89", "90a"],
        "_qattn_sm80": ["80", "89", "90a"],
        "_qattn_sm89": ["89"],
        "_qattn_sm90": ["90a"],
    }


def test_several_archs_are_separated_as_torch_and_upstream_read_them() -> None:
    assert environment(plan(target=target("8.0, 8.9+PTX")))["TORCH_CUDA_ARCH_LIST"] == "8.0;8.9+PTX"


def test_the_stub_of_the_driver_is_for_the_linker_alone() -> None:
    found = environment(plan(), LIBRARY_PATH="/mine")
    assert found["LIBRARY_PATH"] == f"{TOOLKIT.stub_folders[0]}:/mine"
    assert "LD_LIBRARY_PATH" not in found
    assert not any("stubs" in value for name, value in found.items() if name != "LIBRARY_PATH")
    without = environment(plan(toolkit=replace(TOOLKIT, stub_folders=())))
    assert "LIBRARY_PATH" not in without


def test_a_build_without_cuda_hears_nothing_of_it() -> None:
    demo = load_pin("demo")
    made = plan(pin=demo, revision=revision(None, demo), target=target(""), toolkit=None)
    found = environment(made, **LEAKING)
    assert not {"TORCH_CUDA_ARCH_LIST", "CUDA_HOME", "EXT_PARALLEL", "LIBRARY_PATH"} & found.keys()
    assert json.loads(found["SAGEFIX_SHIM"]) == {
        "archs": [],
        "fake_gpus": False,
        "torch": False,
        "extensions": 1,
        "threads": 1,
        "code": {"demoattention._attention": []},
        "fixes": [],
        "objects": None,
        "cross": None,
    }


def test_commits_that_are_compiled_alike_share_a_place() -> None:
    pinned = plan()
    for alike in (plan(revision=revision("d1a57a5")), plan(fixes=False)):
        assert alike.key != pinned.key
        assert alike.place == pinned.place
    for other in (plan(target=target("8.9")), plan(environment={"CFLAGS": "-O1"})):
        assert other.place != pinned.place
