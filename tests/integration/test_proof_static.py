"""Level `static`: installations laid out file by file, each with one thing wrong."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from sagefix import proof
from sagefix.archs import Arch
from sagefix.checks import LEVELS, Check
from sagefix.errors import TargetError
from sagefix.pins.model import Build, Capability, Fault, Known, Pin, Recipe, Ref, Refusal, Revision, Source
from sagefix.proof.extensions import Modules, check_gpu_code, check_modules, promise
from sagefix.proof.identity import identify, package_tree
from sagefix.proof.installed import Installed, find_copies, read_installed
from sagefix.proof.model import Verdict
from sagefix.proof.verify import verdict_json, verdict_schema, verify
from sagefix.targets.model import Gpu, Interpreter, Target, Torch
from sagefix.wheels.model import Extension, Label, Record

HOPPER, ADA, AMPERE = Arch(9, 0), Arch(8, 9), Arch(8, 0)
PINNED, BROKEN, OTHER, NEWER = ("a1" * 20, "b2" * 20, "c3" * 20, "d4" * 20)
SOURCES = {
    "attn/__init__.py": "from .core import attention\n",
    "attn/core.py": "def attention(q):\n    return q\n",
    "attn/triton/__init__.py": "",
}
OPERATOR = '@torch.library.custom_op("attn::f")\ndef f(x):\n    return 1\n'
FAKE = '@torch.library.register_fake("attn::f")\ndef f(x):\n    return 0\n'
TORCH = Torch(version="2.11.0+cu130", cuda="13.0", cxx11_abi=True, folder="")


def interpreter(*folders: Path, torch: Torch | None = TORCH, **more: object) -> Interpreter:
    """An interpreter that imports from the folders given."""
    facts: dict[str, object] = {
        "executable": sys.executable,
        "version": "3.10.4",
        "implementation": "cpython",
        "machine": "x86_64",
        "prefix": "",
        "base_prefix": "",
        "platform_tag": "linux_x86_64",
        "python_tag": "cp310",
        "abi_tag": "cp310",
        "tags": ("cp310-cp310-linux_x86_64", "py3-none-any"),
        "glibc": "2.36",
        "ext_suffix": ".cpython-310-x86_64-linux-gnu.so",
        "purelib": "",
        "platlib": "",
        "sys_path": tuple(map(str, folders)),
        "python_h": "",
        "externally_managed": False,
        "packages": {},
        "torch": torch,
    }
    return Interpreter(**{**facts, **more})  # type: ignore[arg-type]


def target(*folders: Path, archs: tuple[Arch, ...] = (HOPPER,), **more: object) -> Target:
    return Target(interpreter=interpreter(*folders, **more), archs=archs, archs_from="--arch")  # type: ignore[arg-type]


def known(status: str, commit: str, *archs: str) -> Known:
    return Known(
        status=status,  # type: ignore[arg-type]
        archs=archs,
        commits=(commit,),
        reason="The kernel is never launched.",
        sources=("https://example.org/report",),
    )


def pin(device: str = "cpu", tree: str = "", modules: tuple[str, ...] = (), **more: object) -> Pin:
    """A pin of a small package: `PINNED` is good on 9.0, `BROKEN` is not, of `OTHER` nothing is known."""
    facts: dict[str, object] = {
        "schema": 1,
        "name": "attn",
        "project": "attn",
        "package": "attn",
        "version": "2.0.0",
        "summary": "",
        "device": device,
        "license": "",
        "source": Source(url="https://example.org/attn", commit=PINNED, tree="0" * 40, files=("/setup.py",)),
        "build": Build(torch=device == "cuda"),
        "recipe": (Recipe(name="only", setup_py=(), extensions=modules, sources=("https://example.org",)),),
        "ref": (
            Ref(names=("v2",), commit=PINNED, tree="0" * 40, recipe="only", package_tree=tree),
            Ref(commit=BROKEN, tree="0" * 40, recipe="only"),
            Ref(commit=NEWER, tree="0" * 40, recipe="only"),
        ),
        "known": (
            known("good", PINNED, "9.0"),
            known("good", NEWER, "9.0"),
            known("bad", BROKEN, "9.0"),
        ),
    }
    return Pin(**{**facts, **more})  # type: ignore[arg-type]


def install(
    site: Path, version: str = "2.0.0", files: dict[str, str] | None = None, metadata: str = ""
) -> Path:
    """Lay out an installation as an installer would; return its `.dist-info`."""
    info = site / f"attn-{version}.dist-info"
    contents = dict(SOURCES if files is None else files)
    contents[f"{info.name}/METADATA"] = f"Metadata-Version: 2.1\nName: attn\nVersion: {version}\n{metadata}\n"
    contents[f"{info.name}/INSTALLER"] = "uv\n"
    rows = []
    for name, text in contents.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        rows.append(f"{name},sha256={digest},{len(text.encode())}")
    rows += [f"{info.name}/RECORD,,", "attn/__pycache__/core.cpython-310.pyc,,", ""]
    (info / "RECORD").write_text("\n".join(rows))
    return info


def record(**changes: object) -> Record:
    """The record of a wheel that fits `interpreter()`."""
    facts: dict[str, object] = {
        "origin": "built",
        "pin": "attn",
        "project": "attn",
        "version": "2.0.0",
        "commit": PINNED,
        "tree": "",
        "recipe": "only",
        "archs": ("9.0",),
        "extensions": (),
        "python_tag": "cp310",
        "abi_tag": "cp310",
        "platform_tag": "linux_x86_64",
        "glibc": "2.32",
        "torch": "2.11.0",
        "cuda": "13.0",
        "cxx11_abi": True,
        "key": "",
        "tools": {},
        "environment": {},
        "source_url": "",
        "source_date_epoch": 0,
        "sagefix": "0.1.0",
    }
    return Record(**{**facts, **changes})  # type: ignore[arg-type]


def check(verdict: Verdict, name: str) -> Check:
    (found,) = [row for row in verdict.checks if row.name == name]
    return found


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    return folder


def judge(site: Path, name: str, a_pin: Pin | None = None, **more: object) -> Check:
    """The one check of a name, on what is installed in `site`."""
    options = {key: more.pop(key) for key in ("revision",) if key in more}
    verdict = verify(a_pin or pin(), target(site, **more), level="static", **options)  # type: ignore[arg-type]
    return check(verdict, name)


# One copy


def test_a_sound_installation_passes(site: Path) -> None:
    install(site)
    tree = package_tree(site / "attn")
    verdict = verify(pin(tree=tree), target(site), level="static", wheel_sha256="ab")
    assert verdict.passed
    assert {row.name: row.status for row in verdict.checks} == {
        "one copy": "ok",
        "files": "ok",
        "version": "ok",
        "record": "warning",
        "source parses": "ok",
        "extensions": "ok",
        "symbols": "skipped",
    }
    assert verdict.subject == "attn 2.0.0"
    assert verdict.wheel_sha256 == "ab"
    assert verdict.torch == "2.11.0+cu130"
    assert msgspec.json.decode(verdict_json(verdict), type=Verdict) == verdict
    assert verdict_schema()["$defs"]["Verdict"]["properties"]["schema"]["enum"] == [1]


def test_the_gpus_of_the_target_are_named(site: Path) -> None:
    install(site)
    gpu = Gpu(index=0, name="NVIDIA H200", capability="9.0")
    here = msgspec.structs.replace(target(site), gpus=(gpu,))
    assert verify(pin(), here, level="static").gpus == ("NVIDIA H200",)


def test_nothing_installed_ends_the_verification(site: Path) -> None:
    for level in LEVELS:
        verdict = verify(pin(), target(site), level=level)
        (only,) = verdict.checks
        assert (only.status, only.found) == ("failure", f"attn is not installed in {sys.executable}.")
        assert "sagefix install" in only.fix
        assert verdict.subject == ""


def test_two_distributions_are_both_named(site: Path, tmp_path: Path) -> None:
    user = tmp_path / "user-site"
    user.mkdir()
    for folder in (user, site):
        install(folder)
    found = check(verify(pin(), target(user, site), level="static"), "one copy")
    assert found.status == "failure"
    for folder in (user, site):
        assert str(folder / "attn-2.0.0.dist-info") in found.found
        assert str(folder / "attn") in found.found
    assert found.found.index(str(user / "attn")) < found.found.index(str(site / "attn"))


def test_what_a_broken_upgrade_left_is_found_in_one_folder(site: Path) -> None:
    install(site, "1.0.0")
    install(site)
    found = judge(site, "one copy")
    assert found.found.startswith("attn is there more than once: 2 distributions (")


def test_a_stray_folder_that_shadows_the_package_is_named(site: Path, tmp_path: Path) -> None:
    install(site)
    stray = tmp_path / "checkout"
    (stray / "attn").mkdir(parents=True)
    (stray / "attn" / "__init__.py").write_text("")
    verdict = verify(pin(), target(stray, site), level="static")
    found = check(verdict, "one copy")
    assert found.status == "failure"
    assert f"2 packages, of which the first is imported ({stray / 'attn'}, {site / 'attn'})" in found.found


def test_a_folder_without_init_shadows_nothing(site: Path, tmp_path: Path) -> None:
    install(site)
    (tmp_path / "work" / "attn").mkdir(parents=True)
    verdict = verify(pin(), target(tmp_path / "work", site), level="static")
    assert check(verdict, "one copy").status == "ok"


def test_a_link_to_the_import_folder_is_no_second_copy(site: Path, tmp_path: Path) -> None:
    install(site)
    (tmp_path / "lib64").symlink_to(site, target_is_directory=True)
    verdict = verify(pin(), target(tmp_path / "gone", site, tmp_path / "lib64"), level="static")
    assert check(verdict, "one copy").status == "ok"


def test_a_package_without_metadata_is_named(site: Path) -> None:
    shutil.rmtree(install(site))
    found = judge(site, "one copy")
    assert found.found == f"{site / 'attn'} can be imported, but no distribution named attn is installed."


def test_metadata_without_a_package_is_named(site: Path) -> None:
    install(site)
    shutil.rmtree(site / "attn")
    assert judge(site, "one copy").found.endswith("but there is no package attn.")


def test_metadata_of_another_folder_does_not_belong_to_the_package(site: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.rmtree(install(other))
    install(site)
    shutil.rmtree(site / "attn")
    found = check(verify(pin(), target(other, site), level="static"), "one copy")
    assert found.found.startswith(f"{other / 'attn'} is imported, and ")


@pytest.mark.parametrize("link", ["direct_url.json", "__editable__.attn-2.0.0.pth", "attn.egg-link"])
def test_an_editable_installation_is_named_with_its_source(site: Path, link: str) -> None:
    info = install(site)
    if link == "direct_url.json":
        told = {"url": "file:///src/attn", "dir_info": {"editable": True}}
        (info / link).write_bytes(msgspec.json.encode(told))
    else:
        (site / link).write_text("/src/attn\n")
    found = judge(site, "one copy")
    assert found.status == "failure"
    assert ("file:///src/attn" if link == "direct_url.json" else str(site / link)) in found.found
    assert "pip uninstall attn" in found.fix


def test_an_egg_on_the_import_path_is_found(site: Path, tmp_path: Path) -> None:
    egg = tmp_path / "attn-1.0-py3.10.egg"
    (egg / "EGG-INFO").mkdir(parents=True)
    (egg / "EGG-INFO" / "PKG-INFO").write_text("Name: attn\nVersion: 1.0\n")
    (egg / "attn").mkdir()
    (egg / "attn" / "__init__.py").write_text("")
    install(site)
    found = check(verify(pin(), target(egg, site), level="static"), "one copy")
    assert str(egg / "EGG-INFO") in found.found


# Files


def test_changed_missing_and_added_files_are_listed(site: Path) -> None:
    install(site)
    (site / "attn" / "core.py").write_text("def attention(k):\n    return k\n")
    (site / "attn" / "triton" / "__init__.py").unlink()
    (site / "attn" / "extra.py").write_text("")
    found = judge(site, "files")
    assert found.status == "failure"
    assert found.found == (
        "Changed: attn/core.py; missing: attn/triton/__init__.py; not in RECORD: attn/extra.py."
    )


def test_a_file_of_another_size_is_changed(site: Path) -> None:
    install(site)
    with (site / "attn" / "core.py").open("a") as stream:
        stream.write("\n")
    assert judge(site, "files").found == "Changed: attn/core.py."


def test_a_module_for_another_python_is_only_a_leftover(site: Path) -> None:
    install(site)
    (site / "attn" / "_k.cpython-38-x86_64-linux-gnu.so").write_bytes(b"")
    found = judge(site, "files")
    assert found.status == "warning"
    assert "_k.cpython-38" in found.found
    (site / "attn" / "_k.cpython-310-x86_64-linux-gnu.so").write_bytes(b"")
    assert judge(site, "files").status == "failure"


def test_many_changed_files_are_counted(site: Path) -> None:
    install(site, files={**SOURCES, **{f"attn/m{n}.py": "" for n in range(6)}})
    for number in range(6):
        (site / "attn" / f"m{number}.py").write_text("x = 1\n")
    assert judge(site, "files").found.endswith("attn/m3.py and 2 more.")


def test_no_record_is_a_failure(site: Path) -> None:
    (install(site) / "RECORD").unlink()
    found = judge(site, "files")
    assert found.status == "failure"
    assert "has no RECORD" in found.found


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("attn/core.py,sha256=x", "expected 3 elements"),
        ("attn/core.py,plain,1", "does not follow the required format"),
        ("attn/core.py,sha256=x,many", "cannot be non-integer"),
        ("attn/core.py,md5=abc,30", "md5 is not allowed in RECORD"),
        ("attn/core.py,shake_128=abc,30", "shake_128 is not allowed in RECORD"),
    ],
)
def test_a_damaged_record_is_a_failure(site: Path, row: str, said: str) -> None:
    (install(site) / "RECORD").write_text(row + "\n")
    found = judge(site, "files")
    assert found.status == "failure"
    assert said in found.found


def test_links_that_lead_nowhere_are_not_read(site: Path) -> None:
    install(site)
    tree = package_tree(site / "attn")
    (site / "attn" / "gone.py").symlink_to(site / "nothing.py")
    (site / "attn" / "gone.so").symlink_to(site / "nothing.so")
    assert verify(pin(tree=tree), target(site), level="static").passed


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read_are_an_error(site: Path) -> None:
    install(site)
    (site / "attn" / "core.py").chmod(0)
    with pytest.raises(TargetError, match=r"core\.py cannot be read: Permission denied") as caught:
        verify(pin(), target(site), level="static")
    assert "user who owns" in caught.value.hint


# Version and commit


def test_git_and_package_tree_agree(tmp_path: Path) -> None:
    install(tmp_path, files={**SOURCES, "attn/a.b/x.py": "1\n", "attn/a/x.py": "2\n", "attn/ab.py": "3\n"})
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), *arguments]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    git("add", "attn")
    written = git("write-tree", "--prefix=attn/")
    (tmp_path / "attn" / "__pycache__").mkdir()
    (tmp_path / "attn" / "__pycache__" / "core.cpython-310.pyc").write_bytes(b"")
    (tmp_path / "attn" / "_kernel.so").write_bytes(b"")
    (tmp_path / "attn" / "empty").mkdir()
    assert package_tree(tmp_path / "attn") == written


def test_sources_tell_the_commit_that_the_version_does_not(site: Path) -> None:
    install(site)
    tree = package_tree(site / "attn")
    found = judge(site, "version", pin(tree=tree))
    assert (found.status, found.found) == (
        "ok",
        "2.0.0 with the Python files of a1a1a1a (v2): the pinned commit.",
    )


def test_unknown_sources_are_a_warning(site: Path) -> None:
    install(site)
    found = judge(site, "version", pin(tree="f" * 40))
    assert found.status == "warning"
    assert "does not tell the commit" in found.found


def test_a_label_names_the_commit(site: Path) -> None:
    install(site, f"2.0.0+{PINNED[:7]}.sm90")
    assert judge(site, "version").found == "2.0.0 at a1a1a1a (v2): the pinned commit."


def test_another_good_commit_is_fine_unless_the_pinned_one_was_asked_for(site: Path) -> None:
    install(site, f"2.0.0+{NEWER[:7]}.sm90")
    found = judge(site, "version")
    assert (found.status, found.found) == (
        "ok",
        "2.0.0 at d4d4d4d: known to be good on 9.0; the pin is a1a1a1a.",
    )
    asked = Revision(commit=PINNED, tree="", recipe="only", asked="")
    assert (
        judge(site, "version", revision=asked).found
        == "2.0.0 at d4d4d4d is installed, a1a1a1a was asked for."
    )


def test_a_commit_nobody_knows_is_a_warning_and_can_be_asked_for(site: Path) -> None:
    install(site, f"2.0.0+{OTHER[:7]}.sm90")
    assert judge(site, "version").status == "warning"
    asked = Revision(commit=OTHER, tree="", recipe="only", asked="main")
    assert judge(site, "version", revision=asked).status == "warning"


@pytest.mark.parametrize(("archs", "status"), [((HOPPER,), "failure"), ((), "failure"), ((ADA,), "warning")])
def test_a_known_bad_commit_fails_where_it_is_bad(site: Path, archs: tuple[Arch, ...], status: str) -> None:
    install(site, f"2.0.0+{BROKEN[:7]}")
    found = judge(site, "version", archs=archs)
    assert found.status == status
    if status == "failure":
        assert found.found == "2.0.0 at b2b2b2b is known to be broken on 9.0: The kernel is never launched."
        assert found.sources == ("https://example.org/report",)


def test_a_commit_that_does_not_parse_fails_everywhere(site: Path) -> None:
    install(site, f"2.0.0+{OTHER[:7]}")
    found = judge(site, "version", pin(known=(known("unparsable", OTHER, "*"),)), archs=(ADA,))
    assert found.found.startswith("2.0.0 at c3c3c3c does not parse: ")


def test_another_generation_is_named_as_what_it_is(site: Path) -> None:
    install(site, "1.0.6")
    found = judge(site, "version", pin(build=Build(torch=False, import_requires=("triton",))))
    assert found.status == "failure"
    assert found.found == (
        "attn 1.0.6 is generation 1, not 2.0.0: it holds no compiled kernel (Triton only), and it came from "
        "a package index, as `pip install attn` does."
    )


def test_another_release_of_the_same_generation(site: Path) -> None:
    info = install(site, "2.1.1")
    (info / "direct_url.json").write_text("{}")
    assert judge(site, "version").found == "attn 2.1.1 is installed, not 2.0.0."


def test_a_version_that_is_none(site: Path) -> None:
    install(site, "latest")
    assert "names no valid version ('latest')" in judge(site, "version").found


def test_label_and_record_that_disagree(site: Path) -> None:
    info = install(site, f"2.0.0+{PINNED[:7]}")
    (info / "sagefix.json").write_bytes(msgspec.json.encode(record(commit=NEWER)))
    found = judge(site, "version")
    assert found.status == "failure"
    assert "its version says a1a1a1a, its record d4d4d4d" in found.found


def test_a_label_that_its_sources_contradict(site: Path) -> None:
    install(site, f"2.0.0+{PINNED[:7]}")
    found = judge(site, "version", pin(tree="f" * 40))
    assert "its Python files are not those of that commit" in found.found
    tree = package_tree(site / "attn")
    refs = (
        Ref(commit=PINNED, tree="0" * 40, recipe="only", package_tree="f" * 40),
        Ref(commit=NEWER, tree="0" * 40, recipe="only", package_tree=tree),
    )
    found = judge(site, "version", pin(ref=refs))
    assert "it says to be a1a1a1a, but its Python files are those of d4d4d4d" in found.found


def test_patched_sources_may_differ(site: Path) -> None:
    info = install(site, f"2.0.0+{PINNED[:7]}")
    (info / "sagefix.json").write_bytes(msgspec.json.encode(record(patches=("speed",))))
    assert judge(site, "version", pin(tree="f" * 40)).status == "ok"


# Record and torch


def test_a_record_that_fits(site: Path) -> None:
    info = install(site)
    (info / "sagefix.json").write_bytes(msgspec.json.encode(record()))
    found = judge(site, "record")
    assert (found.status, found.found) == ("ok", "Built by sagefix 0.1.0 for 9.0.")
    (info / "sagefix.json").write_bytes(msgspec.json.encode(record(origin="saved", unknown=("key",))))
    assert (
        judge(site, "record").found == "Saved from an installation by sagefix 0.1.0 for 9.0 (unknown: key)."
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2}', '{"schema": 1}'])
def test_a_record_that_cannot_be_read(site: Path, text: str) -> None:
    (install(site) / "sagefix.json").write_text(text)
    found = judge(site, "record")
    assert found.status == "failure"
    assert found.found.startswith("sagefix.json cannot be read: ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"project": "other"}, "The record is of other, the metadata of attn"),
        ({"version": "2.0.1"}, "The record is of version 2.0.1, the metadata of 2.0.0"),
        (
            {"python_tag": "cp312", "abi_tag": "cp312"},
            "It was built for cp312-cp312-linux_x86_64, this interpreter is cp310-cp310-linux_x86_64",
        ),
        ({"glibc": "2.39"}, "It needs glibc 2.39, here is 2.36"),
        ({"archs": ("8.9",)}, "It was built for 8.9, and the target is 9.0"),
        ({"archs": ("9.0", "nonsense")}, ""),
        ({"archs": ("8.9+PTX",)}, ""),
        ({"archs": ("12.0+PTX",)}, "It was built for 12.0+PTX, and the target is 9.0"),
    ],
)
def test_a_record_of_something_else(site: Path, changes: dict[str, object], said: str) -> None:
    info = install(site)
    (info / "sagefix.json").write_bytes(msgspec.json.encode(record(**changes)))
    found = judge(site, "record")
    assert (found.status, found.found) == (("failure", f"{said}.") if said else ("ok", found.found))


@pytest.mark.parametrize("told_by", ["its record", "its version", "its metadata"])
def test_a_torch_that_was_changed_is_named_with_both_versions(site: Path, told_by: str) -> None:
    label = "+torch2.10" if told_by == "its version" else ""
    wants = "Requires-Dist: torch==2.10.*\n" if told_by == "its metadata" else ""
    info = install(site, f"2.0.0{label}", metadata=wants)
    if told_by == "its record":
        (info / "sagefix.json").write_bytes(msgspec.json.encode(record(torch="2.10.1")))
    found = judge(site, "torch", pin("cuda"))
    assert found.status == "failure"
    assert found.found == f"Built for torch 2.10, as {told_by} says, and 2.11.0+cu130 is installed."
    assert "sagefix install" in found.fix


@pytest.mark.parametrize(
    ("changes", "here", "said"),
    [
        ({"cuda": "12.8"}, TORCH, "built with CUDA 12.8, and torch 2.11.0+cu130 here is for CUDA 13.0."),
        ({}, msgspec.structs.replace(TORCH, cuda=""), "is for the CPU only."),
        ({"cxx11_abi": False}, TORCH, "the other of the two C++ string ABIs"),
        ({}, None, f"torch is not installed in {sys.executable}."),
    ],
)
def test_a_torch_of_another_kind(
    site: Path, changes: dict[str, object], here: Torch | None, said: str
) -> None:
    info = install(site)
    (info / "sagefix.json").write_bytes(msgspec.json.encode(record(**changes)))
    found = judge(site, "torch", pin("cuda"), torch=here)
    assert found.status == "failure"
    assert said in found.found


def test_a_torch_that_the_metadata_refuses(site: Path) -> None:
    lines = "Requires-Dist: torch>=2.12\nRequires-Dist: (nonsense\nRequires-Dist: torch<2; extra == 'old'\n"
    install(site, metadata=lines)
    assert (
        judge(site, "torch", pin("cuda")).found == "It requires torch>=2.12, and 2.11.0+cu130 is installed."
    )


def test_torch_unknown_and_torch_right(site: Path) -> None:
    info = install(site)
    assert judge(site, "torch", pin("cuda")).status == "skipped"
    (info / "sagefix.json").write_bytes(msgspec.json.encode(record(torch="2.11.3")))
    assert judge(site, "torch", pin("cuda")).status == "ok"


# Source


def test_a_file_that_does_not_parse(site: Path) -> None:
    broken = "".join(f"{mark * 7} x\n" for mark in "<=>")
    install(site, files={**SOURCES, "attn/late.py": broken})
    found = judge(site, "source parses")
    assert found.status == "failure"
    assert found.found == (
        "Does not parse: attn/late.py: conflict markers of an unfinished merge stand at line 1."
    )


def test_a_grammar_newer_than_our_own_is_not_judged(site: Path) -> None:
    install(site, files={**SOURCES, "attn/late.py": "x = (yield from\n"})
    found = judge(site, "source parses", version="3.99.0")
    assert found.status == "warning"
    assert "cannot judge files for Python 3.99" in found.found


def fault(kind: str = "shadowed-custom-op", *archs: str) -> Fault:
    return Fault(
        name="shadow",
        kind=kind,  # type: ignore[arg-type]
        files=("attn/sm90.py", "attn/gone.py"),
        archs=archs or ("9.0",),
        reason="The kernel is never launched.",
        sources=("https://example.org/report",),
    )


@pytest.mark.parametrize(
    ("archs", "built", "status"),
    [
        ((HOPPER,), "sm90", "failure"),
        ((HOPPER,), "", "failure"),
        ((), "sm90", "failure"),
        ((), "", "failure"),
        ((), "sm89", "warning"),
        ((ADA,), "sm90", "warning"),
        ((ADA, HOPPER), "sm89", "failure"),
    ],
)
def test_a_known_fault_counts_where_it_matters(
    site: Path, archs: tuple[Arch, ...], built: str, status: str
) -> None:
    install(site, f"2.0.0+abcdef1.{built}".rstrip("."), files={**SOURCES, "attn/sm90.py": OPERATOR + FAKE})
    found = judge(site, "fault: shadow", pin(fault=(fault(),)), archs=archs)
    assert found.status == status
    assert "attn/sm90.py: the operator attn::f (line 2) is replaced" in found.found
    assert ("It matters on 9.0" in found.found) is (status == "warning")
    assert found.sources == ("https://example.org/report",)


def test_a_known_fault_that_is_not_there(site: Path) -> None:
    install(site, files={**SOURCES, "attn/sm90.py": OPERATOR})
    assert judge(site, "fault: shadow", pin(fault=(fault(),))).status == "ok"


def test_a_file_that_does_not_parse_hides_other_faults_and_is_one(site: Path) -> None:
    install(site, files={**SOURCES, "attn/sm90.py": "def f(:\n"})
    assert judge(site, "fault: shadow", pin(fault=(fault(),))).status == "skipped"
    assert (
        judge(site, "fault: shadow", pin(fault=(fault("unparsable", "*"),)), archs=(ADA,)).status == "failure"
    )


# Extensions


def module(name: str, *cubins: str, ptx: tuple[str, ...] = (), machine: str = "x86_64") -> Extension:
    return Extension(
        path=f"attn/{name}.cpython-310-x86_64-linux-gnu.so",
        module=f"attn.{name}",
        machine=machine,
        soname="",
        needed=(),
        rpath=(),
        undefined=(),
        glibc="",
        cubins=cubins,
        ptx=ptx,
    )


def recipe(name: str, hopper: tuple[str, ...]) -> Recipe:
    rows = [("8.0", ("attn._a",)), ("9.0", hopper)]
    return Recipe(
        name=name,
        setup_py=(),
        capability=tuple(
            Capability(arch=arch, gencode="", min_cuda="12.0", extensions=modules, dispatch="f", sources=())
            for arch, modules in rows
        ),
        refusal=(Refusal(archs=("*",), reason="Nobody wrote a kernel.", sources=()),),
        sources=(),
    )


def installed_at(commit: str) -> Installed:
    return Installed(
        info=Path("attn.dist-info"),
        root=Path(),
        package=Path("attn"),
        project="attn",
        version="2.0.0",
        requires=(),
        label=Label(commit=commit),
        record=None,
        record_error="",
        installer="",
        from_index=False,
    )


def promised(*archs: Arch, commit: str = PINNED) -> proof.extensions.Promise:
    a_pin = pin("cuda", recipe=(recipe("only", ("attn._a", "attn._b")),))
    installed = installed_at(commit)
    return promise(a_pin, installed, identify(a_pin, installed), archs)


def test_every_promised_module_must_be_there() -> None:
    there = Modules(usable=(module("_a", "9.0a"),), foreign=("attn/_b.cpython-38-x86_64-linux-gnu.so",))
    found = check_modules(there, promised(HOPPER), interpreter())
    assert found.status == "failure"
    assert found.found == "attn._b is missing (attn/_b.cpython-38-x86_64-linux-gnu.so is for another Python)."
    assert check_modules(there, promised(AMPERE), interpreter()).status == "ok"


def test_an_arch_that_the_commit_cannot_build_is_told_with_its_reason() -> None:
    found = check_modules(Modules(), promised(Arch(10, 0)), interpreter())
    assert found.found == "10.0 cannot be built at this commit: Nobody wrote a kernel."


def test_a_module_for_another_machine() -> None:
    there = Modules(usable=(module("_a", machine="aarch64"),))
    found = check_modules(there, promised(AMPERE), interpreter())
    assert found.found == "attn._a is for aarch64, this machine is x86_64."


def test_an_unknown_commit_promises_nothing() -> None:
    there = Modules(usable=(module("_a"),))
    assert check_modules(there, promised(HOPPER, commit=OTHER), interpreter()).status == "skipped"


def test_commits_with_the_same_sources_promise_what_all_of_them_build() -> None:
    refs = tuple(
        Ref(commit=commit, tree="", recipe=name, package_tree="f" * 40)
        for commit, name in ((PINNED, "old"), (NEWER, "new"))
    )
    recipes = (recipe("old", ("attn._a", "attn._b")), recipe("new", ("attn._a", "attn._c")))
    a_pin = pin("cuda", recipe=recipes, ref=refs)
    identity = msgspec.structs.replace(identify(a_pin, installed_at("")), commits=(PINNED, NEWER))
    assert promise(a_pin, installed_at(""), identity, (HOPPER,)).all() == ["attn._a"]


@pytest.mark.parametrize(
    ("modules", "archs", "status", "said"),
    [
        ((module("_a", "9.0a"), module("_b", "9.0a")), (HOPPER,), "ok", "machine code for 9.0."),
        ((module("_a", "9.0"), module("_b", "9.0a")), (HOPPER,), "ok", "machine code for 9.0."),
        ((module("_a", "8.0"), module("_b", "9.0a")), (AMPERE, HOPPER), "failure", "attn._a (8.0) for 9.0"),
        ((module("_a", "8.0"),), (AMPERE,), "ok", ""),
        ((module("_a"), module("_b", "9.0a")), (HOPPER,), "failure", "attn._a (none at all) for 9.0"),
        ((module("_a"),), (Arch(12, 0),), "failure", "No module holds any GPU code."),
        ((module("_a", ptx=("8.0",)), module("_b", "9.0a")), (HOPPER,), "warning", "(PTX 8.0) for 9.0"),
        ((module("_a", ptx=("9.0a",)), module("_b", "9.0a")), (HOPPER,), "warning", "(PTX 9.0a) for 9.0"),
        ((module("_a", ptx=("8.9a",)), module("_b", "9.0a")), (HOPPER,), "failure", "(PTX 8.9a) for 9.0"),
        ((module("_a", ptx=("12.0",)), module("_b", "9.0a")), (HOPPER,), "failure", "(PTX 12.0) for 9.0"),
        ((module("_a", "9.0a"),), (), "skipped", "--arch"),
    ],
)
def test_gpu_code(modules: tuple[Extension, ...], archs: tuple[Arch, ...], status: str, said: str) -> None:
    found = check_gpu_code(Modules(usable=modules), promised(*archs), archs)
    assert found.status == status
    assert said in found.found


def test_a_damaged_module_is_a_failure(site: Path) -> None:
    install(site)
    (site / "attn" / "_k.cpython-310-x86_64-linux-gnu.so").write_bytes(b"\x7fELF damaged")
    found = judge(site, "extensions")
    assert found.status == "failure"
    assert "attn/_k.cpython-310-x86_64-linux-gnu.so" in found.found


def test_installed_files_are_read_once_each(site: Path) -> None:
    install(site, metadata="Requires-Dist: torch==2.11.*\n")
    copies = find_copies(pin(), interpreter(site))
    read = read_installed(copies.infos[0], copies.packages[0], pin())
    assert read.requires == ("torch==2.11.*",)
    assert [read.relative(path) for path in read.sources()] == sorted(SOURCES)
    assert read.installer == "uv"
