"""The probe in real virtual environments, whole and spoiled, and programs that are no usable Python."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

import msgspec
import pytest

from sagefix.errors import ProcessError, TargetError, TorchError
from sagefix.pins.model import Build, Pin, Source
from sagefix.settings import PACKAGE
from sagefix.targets.guests import ask, guest_environment
from sagefix.targets.interpreter import (
    check_packages,
    check_python,
    check_python_h,
    check_torch,
    find_python,
    probe,
    require_packages,
    require_python_h,
    require_torch,
)
from sagefix.targets.model import Interpreter

PIN = Pin(
    schema=1,
    name="demo",
    project="demo",
    package="demo",
    version="1",
    summary="",
    device="cuda",
    license="",
    source=Source(commit="c", tree="t", files=()),
    build=Build(),
    recipe=(),
    ref=(),
)

GXX = shutil.which("g++")
needs_compiler = pytest.mark.skipif(
    GXX is None or not sys.platform.startswith("linux"), reason="makes a small torch with g++"
)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A real virtual environment of the Python that runs the tests, without pip."""
    folder = tmp_path / "a venv"
    venv.create(folder, symlinks=True, with_pip=False)
    return folder


def site(folder: Path) -> Path:
    """Return the site-packages of an environment."""
    return Path(probe(find_python(str(folder))).purelib)


def at_start(folder: Path, code: str) -> None:
    """Let code run whenever the environment's Python starts.

    By a .pth file: some distributions have a sitecustomize of their own, which comes first.
    """
    where = site(folder)
    (where / "at_start.py").write_text(code, encoding="utf-8")
    (where / "at_start.pth").write_text("import at_start\n", encoding="ascii")


def distribution(where: Path, name: str, *, metadata: bool = True) -> None:
    (where / name).mkdir()
    if metadata:
        (where / name / "METADATA").write_text("", encoding="ascii")


def program(path: Path, text: str) -> Path:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def make_torch(
    where: Path,
    *,
    version: str = "2.9.1+cu128",
    cuda: str = "'12.8'",
    hip: str = "None",
    new_abi: bool = True,
) -> Path:
    """Make the parts of a torch that the probe looks at, libc10 compiled with the real compiler."""
    folder = where / "torch"
    (folder / "lib").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('torch was imported')\n", encoding="ascii")
    (folder / "version.py").write_text(
        f"from typing import Optional\n__version__ = '{version}'\ndebug = False\n"
        f"cuda: Optional[str] = {cuda}\nhip: Optional[str] = {hip}\n",
        encoding="ascii",
    )
    source = folder / "c10.cpp"
    source.write_text(
        "#include <string>\n"
        "namespace c10 { struct SourceLocation { int line; };\n"
        "struct Error { Error(SourceLocation, std::string); };\n"
        "Error::Error(SourceLocation, std::string) {} }\n"
        # A library of the old ABI holds the word __cxx11, too.
        'extern "C" const char* word() { return "__cxx11"; }\n',
        encoding="ascii",
    )
    assert GXX is not None
    subprocess.run(
        [GXX, "-shared", "-fPIC", f"-D_GLIBCXX_USE_CXX11_ABI={int(new_abi)}", str(source), "-o",
         str(folder / "lib/libc10.so")],
        check=True,
    )  # fmt: skip
    return folder


def test_what_an_environment_says_of_itself(environment: Path) -> None:
    python = find_python(str(environment))
    found = probe(python)
    assert found.executable == str(python)
    assert Path(found.executable).is_symlink()
    assert found.version.split(".")[:2] == [str(part) for part in sys.version_info[:2]]
    assert found.prefix == str(environment)
    assert Path(found.base_prefix) == Path(sys.base_prefix)
    assert found.ext_suffix == sysconfig.get_config_var("EXT_SUFFIX")
    assert found.tags[0] == f"{found.python_tag}-{found.abi_tag}-{found.platform_tag}"
    assert found.purelib in found.sys_path
    assert not any(entry.startswith(str(PACKAGE)) for entry in found.sys_path)
    assert found.torch is None
    assert found.torch_error == ""
    assert not found.externally_managed
    assert found.scripts == str(python.parent)


def test_names_and_versions_are_read_off_folders(environment: Path, tmp_path: Path) -> None:
    where = site(environment)
    distribution(where, "Typing_Extensions-4.16.0.dist-info")
    distribution(where, "local-1.0+cu130.torch2.11.dist-info")
    distribution(where, "left-1.0.dist-info", metadata=False)
    distribution(where, "~broken-1.0.dist-info")
    (where / "old_one-0.3-py3.9.egg-info").write_text("", encoding="ascii")
    (where / "develop.egg-info").mkdir()
    (where / "develop.egg-info/PKG-INFO").write_text("Name: develop\nVersion: 7.1\n", encoding="ascii")
    egg = where / "zipped.thing-2.0-py3.9-linux-x86_64.egg"
    egg.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    distribution(elsewhere, "local-9.9.dist-info")
    distribution(elsewhere, "only_here-3.dist-info")
    (where / "more.pth").write_text(f"{elsewhere}\n{egg}\n", encoding="utf-8")
    found = probe(find_python(str(environment)))
    assert {
        name: found.packages.get(name) for name in ("typing-extensions", "local", "old-one", "develop")
    } == {
        "typing-extensions": "4.16.0",
        "local": "1.0+cu130.torch2.11",
        "old-one": "0.3",
        "develop": "7.1",
    }
    assert found.packages["only-here"] == "3"
    assert found.packages["zipped-thing"] == "2.0"
    assert str(elsewhere) in found.sys_path
    assert "left" not in found.packages
    assert not any("broken" in name for name in found.packages)


def test_noise_of_a_site_customisation_is_ignored(environment: Path) -> None:
    (site(environment) / "sitecustomize.py").write_text(
        "import sys\nprint('{\"hello\": 1}')\nprint('<<<sagefix')\nsys.stdout = sys.stderr\n",
        encoding="ascii",
    )
    assert probe(find_python(str(environment))).prefix == str(environment)


def test_the_users_pythonpath_counts_and_sagefix_own_folder_does_not(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{PACKAGE.parent}{os.pathsep}{theirs}")
    found = probe(find_python(str(environment)))
    assert str(theirs) in found.sys_path
    assert str(PACKAGE.parent) not in found.sys_path
    assert "PYTHONPATH" not in guest_environment({"PYTHONPATH": str(PACKAGE.parent)})


def test_the_working_folder_and_its_modules_do_not_matter(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('wrong json')\n", encoding="ascii")
    monkeypatch.chdir(tmp_path)
    assert probe(find_python("a venv")).prefix == str(environment)


# Finding


def test_find_by_path_folder_and_name(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = environment / "bin" / "python"
    assert find_python(str(python)) == python
    assert find_python(str(environment)) == python
    monkeypatch.setenv("PATH", str(python.parent))
    assert find_python("python") == python


def test_a_windows_style_environment_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "Scripts").mkdir()
    python = program(tmp_path / "Scripts" / "python.exe", "exit 0")
    assert find_python(str(tmp_path)) == python


def test_the_active_environment_is_the_default(environment: Path, tmp_path: Path) -> None:
    python = environment / "bin" / "python"
    assert find_python(None, {"VIRTUAL_ENV": str(environment), "CONDA_PREFIX": str(tmp_path)}) == python
    assert find_python(None, {"CONDA_PREFIX": str(environment)}) == python
    assert find_python(None, {}) == Path(sys.executable).absolute()
    with pytest.raises(TargetError, match=r"VIRTUAL_ENV names .* but there is no Python in it"):
        find_python(None, {"VIRTUAL_ENV": str(tmp_path / "gone")})


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"There is no Python at .*/nope"):
        find_python(str(tmp_path / "nope"))
    with pytest.raises(TargetError, match="is neither on PATH nor a path that exists"):
        find_python("python-of-nobody")
    with pytest.raises(TargetError, match="is a folder, and there is no Python in it"):
        find_python(str(tmp_path))
    text = tmp_path / "python"
    text.write_text("", encoding="ascii")
    with pytest.raises(TargetError, match="is not executable"):
        find_python(str(text))


# Programs that are no usable Python


@pytest.mark.parametrize("text", ["echo hello", "exit 0", "exit 3"])
def test_a_program_of_another_kind(tmp_path: Path, text: str) -> None:
    with pytest.raises(TargetError, match="is not a Python"):
        probe(program(tmp_path / "tool", text))


def test_a_shell_is_asked_nothing_that_it_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageMagick's ``import os`` would take a picture of the screen and write it to a file named ``os``."""
    program(tmp_path / "import", 'touch "$1"')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    shell = tmp_path / "shell"
    shell.symlink_to("/bin/sh")
    with pytest.raises(TargetError, match="is not a Python"):
        probe(shell)
    assert not (tmp_path / "os").exists()


def test_a_program_that_only_has_the_name(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="is not a Python"):
        probe(program(tmp_path / "python", "echo hello"))


def test_a_python_that_crashes_shows_its_last_words(tmp_path: Path) -> None:
    python = program(tmp_path / "python", "echo 'Fatal Python error: init failed' >&2; exit 1")
    with pytest.raises(
        TargetError, match=r"failed with exit status 1 .*Fatal Python error: init failed"
    ) as caught:
        probe(python)
    assert "Fatal Python error" in caught.value.details["tail"]


def test_a_python_that_is_killed(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="was ended by SIGSEGV"):
        probe(program(tmp_path / "python", "kill -SEGV $$"))


def test_a_python_that_hangs_is_stopped(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(TargetError, match="did not answer within 1 s and was stopped"):
        probe(program(tmp_path / "python", "sleep 60"), timeout=1)
    assert time.monotonic() - started < 20


def test_a_python_for_another_machine(tmp_path: Path) -> None:
    python = tmp_path / "python"
    # The head of an ELF file for a machine that does not exist.
    python.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xff\xfe" + bytes(100))
    python.chmod(0o755)
    with pytest.raises(TargetError, match="could not be started"):
        probe(python)


def test_a_link_to_an_interpreter_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(tmp_path / "gone")
    with pytest.raises(TargetError, match="no Python in it"):
        find_python(str(tmp_path))


def test_an_old_python_that_answers(environment: Path) -> None:
    at_start(environment, "import sys\nsys.version_info = (3, 8, 18, 'final', 0)\n")
    with pytest.raises(TargetError, match=r"is Python 3\.8\.18; sagefix needs 3\.9 or newer"):
        probe(find_python(str(environment)))


def test_an_old_python_that_cannot_even_read_the_probe(tmp_path: Path) -> None:
    script = """case "$1" in -c) echo 'sagefix: 2.7.18';; *) echo SyntaxError >&2; exit 1;; esac"""
    with pytest.raises(TargetError, match=r"is Python 2\.7\.18; sagefix needs"):
        probe(program(tmp_path / "python2", script))


def test_another_implementation_is_refused(environment: Path) -> None:
    at_start(environment, "import sys\nsys.implementation.name = 'pypy'\n")
    with pytest.raises(TargetError, match="is pypy; only CPython is supported"):
        probe(find_python(str(environment)))


def test_a_site_customisation_that_fails_hard(environment: Path) -> None:
    at_start(environment, "import os\nos._exit(7)\n")
    with pytest.raises(TargetError, match="failed with exit status 7") as caught:
        probe(find_python(str(environment)))
    assert "sitecustomize" in caught.value.hint


def test_a_wrong_pythonhome_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    with pytest.raises(TargetError) as caught:
        probe(Path(sys.executable))
    assert f"PYTHONHOME is set to {tmp_path}" in caught.value.hint


def test_an_answer_that_makes_no_sense(tmp_path: Path) -> None:
    answer = json.dumps({"version": 3})
    script = f"printf '\\n<<<sagefix\\n%s\\nsagefix>>>\\n' {shlex.quote(answer)}"
    with pytest.raises(TargetError, match="cannot be understood"):
        probe(program(tmp_path / "python", script))


def test_an_answer_counts_although_the_exit_fails(tmp_path: Path) -> None:
    python = program(tmp_path / "python", "printf 'x\\n<<<sagefix\\n[1]\\nsagefix>>>\\n'; exit 9")
    assert ask(python, "probe.py", timeout=10) == [1]
    with pytest.raises(ProcessError, match="gave no answer"):
        ask(program(tmp_path / "python", "printf '<<<sagefix'"), "probe.py", timeout=10)


# torch


@needs_compiler
@pytest.mark.parametrize("new_abi", [True, False])
def test_torch_is_read_without_importing_it(environment: Path, new_abi: bool) -> None:
    folder = make_torch(site(environment), new_abi=new_abi)
    found = probe(find_python(str(environment)))
    torch = require_torch(found, PIN)
    assert (torch.version, torch.cuda, torch.cxx11_abi) == ("2.9.1+cu128", "12.8", new_abi)
    assert torch.folder == str(folder)
    assert torch.release == "2.9"
    assert check_torch(found, PIN).status == "ok"


@needs_compiler
def test_torch_of_an_editable_install_is_found_through_its_finder(environment: Path, tmp_path: Path) -> None:
    folder = make_torch(tmp_path / "checkout")
    at_start(
        environment,
        "import sys\nfrom importlib.util import spec_from_file_location\n"
        "class Finder:\n    @staticmethod\n    def find_spec(name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        f"            return spec_from_file_location(name, {str(folder / '__init__.py')!r})\n"
        "sys.meta_path.append(Finder)\n",
    )
    assert require_torch(probe(find_python(str(environment))), PIN).folder == str(folder)


@needs_compiler
def test_torch_without_cuda(environment: Path) -> None:
    make_torch(site(environment), version="2.9.1+cpu", cuda="None")
    found = probe(find_python(str(environment)))
    with pytest.raises(TorchError, match=r"torch 2\.9\.1\+cpu in .* is CPU-only") as caught:
        require_torch(found, PIN)
    assert "https://pytorch.org/get-started/locally/" in caught.value.hint
    assert require_torch(found, msgspec.structs.replace(PIN, device="cpu")).cuda == ""


@needs_compiler
def test_torch_for_rocm(environment: Path) -> None:
    make_torch(site(environment), version="2.9.1+rocm6.4", cuda="None", hip="'6.4.4'")
    with pytest.raises(TorchError, match=r"is for ROCm \(HIP 6\.4\.4\)"):
        require_torch(probe(find_python(str(environment))), PIN)


@needs_compiler
def test_torch_whose_metadata_says_otherwise_is_a_warning(environment: Path) -> None:
    make_torch(site(environment))
    distribution(site(environment), "torch-2.8.0.dist-info")
    check = check_torch(probe(find_python(str(environment))), PIN)
    assert check.status == "warning"
    assert "its metadata says 2.8.0" in check.found


def test_no_torch(environment: Path) -> None:
    found = probe(find_python(str(environment)))
    with pytest.raises(TorchError, match="There is no torch in") as caught:
        require_torch(found, PIN)
    assert "uv pip install --python" in caught.value.hint
    without = msgspec.structs.replace(PIN, build=Build(torch=False))
    assert check_torch(found, without).status == "skipped"


@needs_compiler
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("version", "version.py is missing or says no version"),
        ("library", "libc10.so is missing"),
        ("cut", "libc10.so is cut short or no library"),
        ("other", "libc10.so does not define c10::Error"),
        ("leftover", "has no __init__.py: it is what an uninstallation left"),
    ],
)
def test_damaged_torch(environment: Path, spoil: str, reason: str) -> None:
    folder = make_torch(site(environment))
    library = folder / "lib/libc10.so"
    if spoil == "version":
        (folder / "version.py").unlink()
    elif spoil == "library":
        library.unlink()
    elif spoil == "cut":
        library.write_bytes(library.read_bytes()[:5000])
    elif spoil == "other":
        assert GXX is not None
        subprocess.run([GXX, "-shared", "-x", "c++", os.devnull, "-o", str(library)], check=True)
    else:
        (folder / "__init__.py").unlink()
    found = probe(find_python(str(environment)))
    assert found.torch is None
    with pytest.raises(TorchError, match="is damaged") as caught:
        require_torch(found, PIN)
    assert reason in caught.value.message
    assert "--force-reinstall" in caught.value.hint


# Packages and headers


def test_missing_and_old_packages_are_named_with_the_command(environment: Path) -> None:
    where = site(environment)
    distribution(where, "setuptools-58.1.0.dist-info")
    distribution(where, "pip-23.0.dist-info")
    found = probe(find_python(str(environment)))
    with pytest.raises(TargetError, match="lacks what a build needs") as caught:
        require_packages(found, ["setuptools>=61", "wheel"], {"PATH": ""})
    assert "setuptools (58.1.0, but setuptools>=61 is needed); wheel." in caught.value.message
    command = f"{shlex.quote(found.executable)} -m pip install 'setuptools>=61' wheel"
    assert caught.value.hint == f"Run: {command}"
    assert caught.value.details["missing"] == ["setuptools>=61", "wheel"]
    require_packages(found, ["setuptools>=58"])


def test_ninja_may_be_a_program(environment: Path, tmp_path: Path) -> None:
    found = probe(find_python(str(environment)))
    with pytest.raises(TargetError, match="ninja"):
        require_packages(found, ["ninja"], {"PATH": ""})
    ninja = program(tmp_path / "ninja", "echo 1.13")
    (check,) = check_packages(found, ["ninja"], {"PATH": str(tmp_path)})
    assert (check.status, check.found) == ("ok", str(ninja))


def test_a_python_of_the_system_is_not_to_be_installed_into(environment: Path) -> None:
    found = msgspec.structs.replace(probe(find_python(str(environment))), externally_managed=True)
    with pytest.raises(TargetError) as caught:
        require_packages(found, ["no-such-thing"])
    assert "make a virtual environment first" in caught.value.hint


@pytest.mark.parametrize(
    ("release", "fix"),
    [
        ("ID=ubuntu\nID_LIKE=debian\n", "Run: apt install python3.12-dev"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "Run: dnf install python3.12-devel"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', "Run: zypper install python312-devel"),
        ("ID=alpine\n", "Run: apk add python3-dev"),
        ("ID=unheard\n", "Install your distribution's package of headers"),
        ("", "Install your distribution's package of headers"),
    ],
)
def test_missing_python_h_names_the_package(
    environment: Path, tmp_path: Path, release: str, fix: str
) -> None:
    system = without_headers(environment, "/usr")
    os_release = tmp_path / "os-release"
    if release:
        os_release.write_text(release, encoding="ascii")
    check = check_python_h(system, os_release)
    assert check.status == "failure"
    assert check.fix.startswith(fix)


def without_headers(environment: Path, prefix: str) -> Interpreter:
    return msgspec.structs.replace(
        probe(find_python(str(environment))), python_h="", base_prefix=prefix, version="3.12.1"
    )


def test_missing_python_h_of_a_python_of_ones_own(environment: Path) -> None:
    with pytest.raises(TargetError, match=r"Python\.h is not in .* of Python 3\.12\.1") as caught:
        require_python_h(without_headers(environment, "/opt/python"))
    assert "Install Python 3.12 with its headers" in caught.value.hint


def test_the_python_that_a_pin_wants(environment: Path) -> None:
    found = probe(find_python(str(environment)))
    assert check_python(found, PIN).status == "ok"
    newer = msgspec.structs.replace(PIN, build=Build(python=">=4"))
    assert check_python(found, newer).status == "failure"
    assert "demo needs Python >=4" in check_python(found, newer).found
