"""What a pin needs of its target's interpreter: Python, torch, packages to build with, Python.h.

Each question has a ``check_`` that answers it (``doctor`` shows them all) and, where work cannot go on
without, a ``require_`` that raises with the same words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sagefix.checks import Check, failures
from sagefix.errors import TargetError, TorchError
from sagefix.pins.model import Pin
from sagefix.process import find_program, quote
from sagefix.targets.model import Interpreter, Torch

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_TORCH_HELP = "https://pytorch.org/get-started/locally/"
_CXX_EXTENSION_HELP = "https://pytorch.org/docs/stable/cpp_extension.html"

# The package that brings Python.h, by the ID or ID_LIKE of os-release
# (https://www.freedesktop.org/software/systemd/man/latest/os-release.html), with where the name was read.
_PYTHON_H_PACKAGES = {
    "debian": ("apt install python{version}-dev", "https://packages.debian.org/search?keywords=python3-dev"),
    "fedora": ("dnf install python{version}-devel", "https://packages.fedoraproject.org/pkgs/python3.12/"),
    "suse": ("zypper install python{digits}-devel", "https://software.opensuse.org/package/python312-devel"),
    "alpine": ("apk add python3-dev", "https://pkgs.alpinelinux.org/packages?name=python3-dev"),
}


def install_command(interpreter: Interpreter, packages: Sequence[str]) -> str:
    """Return the command that installs packages into the target, as one would type it."""
    if "pip" in interpreter.packages:
        return quote([interpreter.executable, "-m", "pip", "install", *packages])
    return quote(["uv", "pip", "install", "--python", interpreter.executable, *packages])


def check_python(interpreter: Interpreter, pin: Pin) -> Check:
    """Say whether the pin can be built for this Python."""
    from packaging.specifiers import SpecifierSet

    found = f"{interpreter.implementation} {interpreter.version} at {interpreter.executable}"
    if SpecifierSet(pin.build.python).contains(interpreter.version, prereleases=True):
        return Check(name="Python", status="ok", found=found)
    return Check(
        name="Python",
        status="failure",
        found=f"{found}; {pin.name} needs Python {pin.build.python}",
        fix="Give --python another interpreter.",
        sources=pin.build.sources,
    )


def check_torch(interpreter: Interpreter, pin: Pin) -> Check:
    """Say whether the target's torch can be built against: there, whole, and with CUDA if the pin needs
    it."""
    torch, where = interpreter.torch, interpreter.executable
    if not pin.build.torch:
        return Check(name="torch", status="skipped", found=f"{pin.name} needs no torch")
    if interpreter.torch_error:
        return _torch_failure(
            f"The torch of {where} is damaged: {interpreter.torch_error}",
            f"Install it anew: `{install_command(interpreter, ['--force-reinstall', 'torch'])}` "
            f"(the command for your CUDA: {_TORCH_HELP}).",
        )
    if torch is None:
        return _torch_failure(
            f"There is no torch in {where}",
            "If your program has one, give --python that program's interpreter; else install one with CUDA "
            f"first: `{install_command(interpreter, ['torch'])}`, or as {_TORCH_HELP} says.",
        )
    if pin.device == "cuda" and not torch.cuda:
        kind = f"for ROCm (HIP {torch.hip})" if torch.hip else "CPU-only"
        return _torch_failure(
            f"torch {torch.version} in {where} is {kind}, and {pin.name} runs on NVIDIA GPUs",
            f"Install a torch with CUDA: choose Linux, Pip and a CUDA version at {_TORCH_HELP}.",
        )
    abi = "new" if torch.cxx11_abi else "old"
    found = f"{torch.version}, CUDA {torch.cuda or 'none'}, {abi} C++ string ABI"
    installed = interpreter.packages.get("torch", "")
    if installed and _release(installed) != _release(torch.version):
        return Check(
            name="torch",
            status="warning",
            found=f"{found}; its metadata says {installed}, so two versions may be mixed in {torch.folder}",
            fix=f"If imports fail, run `{install_command(interpreter, ['--force-reinstall', 'torch'])}`.",
        )
    return Check(name="torch", status="ok", found=found)


def _release(version: str) -> str:
    """Return the numbers of a version; builds from source call one commit ``2.9.0a0+git123`` and
    ``2.9.0``."""
    found = re.match(r"\d+(\.\d+)*", version)
    return found.group() if found else version


def _torch_failure(found: str, fix: str) -> Check:
    return Check(name="torch", status="failure", found=found, fix=fix, sources=(_TORCH_HELP,))


def require_torch(interpreter: Interpreter, pin: Pin) -> Torch:
    """Return the target's torch; for pins that need one. Raises :class:`TorchError`."""
    check = check_torch(interpreter, pin)
    if check.status == "failure" or interpreter.torch is None:
        raise TorchError(f"{check.found}.", hint=check.fix, details={"python": interpreter.executable})
    return interpreter.torch


def check_packages(
    interpreter: Interpreter, requires: Sequence[str], env: Mapping[str, str] | None = None
) -> tuple[Check, ...]:
    """Say for every requirement (``setuptools>=61``) whether the target has it.

    A build without isolation uses the target's own. ninja may also be a program on ``PATH``, where torch
    looks for it.
    """
    from packaging.requirements import Requirement

    return tuple(_check_package(interpreter, Requirement(text), env) for text in requires)


def _check_package(interpreter: Interpreter, wanted: Requirement, env: Mapping[str, str] | None) -> Check:
    from packaging.utils import canonicalize_name

    name = canonicalize_name(wanted.name)
    version = interpreter.packages.get(name, "")
    if not version and name == "ninja" and (program := find_program("ninja", env)):
        return Check(name=name, status="ok", found=str(program))
    fix = f"Install it: `{install_command(interpreter, [str(wanted)])}`."
    if not version:
        return Check(
            name=name, status="failure", found=f"not installed in {interpreter.executable}", fix=fix,
            sources=(_CXX_EXTENSION_HELP,) if name == "ninja" else (),
        )  # fmt: skip
    if not wanted.specifier.contains(version, prereleases=True):
        return Check(name=name, status="failure", found=f"{version}, but {wanted} is needed", fix=fix)
    return Check(name=name, status="ok", found=version)


def require_packages(
    interpreter: Interpreter, requires: Sequence[str], env: Mapping[str, str] | None = None
) -> None:
    """Raise :class:`TargetError` that names every missing or too old package and the command that installs
    them."""
    checks = check_packages(interpreter, requires, env)
    bad = failures(checks)
    if not bad:
        return
    wanted = [text for text, check in zip(requires, checks, strict=True) if check.status == "failure"]
    managed = (
        " It is managed by the operating system: make a virtual environment first "
        "(https://packaging.python.org/en/latest/specifications/externally-managed-environments/)."
        if interpreter.externally_managed
        else ""
    )
    raise TargetError(
        f"{interpreter.executable} lacks what a build needs: "
        + "; ".join(
            f"{check.name} ({check.found})" if check.found[0].isdigit() else check.name for check in bad
        )
        + ".",
        hint=f"Run: {install_command(interpreter, wanted)}{managed}",
        details={"missing": wanted},
    )


def check_python_h(interpreter: Interpreter, os_release: Path = Path("/etc/os-release")) -> Check:
    """Say whether the header is there that every extension includes, and that Triton needs at run time.

    ``os_release`` tells whose package brings it.
    """
    if interpreter.python_h:
        return Check(name="Python.h", status="ok", found=interpreter.python_h)
    command, source = _header_package(interpreter, os_release)
    return Check(
        name="Python.h",
        status="failure",
        found=f"not in {interpreter.include or 'any include folder'} of Python {interpreter.version}",
        fix=command,
        sources=(source,) if source else (),
    )


def distributions(os_release: Path = Path("/etc/os-release")) -> list[str]:
    """Return what distribution this is and which it is like, as tables of packages name them, the closest first."""
    try:
        text = os_release.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    ids = " ".join(re.findall(r"^ID(?:_LIKE)?=\"?([^\"\n]*)\"?$", text, re.MULTILINE)).split()
    return ["fedora" if name in {"rhel", "centos"} else "suse" if "suse" in name else name for name in ids]


def require_present(interpreter: Interpreter, what: str) -> None:
    """Raise :class:`TargetError` for a described target: nothing of it runs here, and nothing is installed into it.

    ``what`` is the work that needs it, as the beginning of a sentence: ``"An installation"``.
    """
    if interpreter.built_by is not None:
        raise TargetError(
            f"{what} needs a Python that runs here, and {interpreter.executable} is described, not present.",
            hint=f"Do it on a machine of that kind ({interpreter.machine}).",
        )


def _header_package(interpreter: Interpreter, os_release: Path) -> tuple[str, str]:
    version = ".".join(interpreter.version.split(".")[:2])
    if not interpreter.base_prefix.startswith("/usr") or interpreter.base_prefix.startswith("/usr/local"):
        return f"Install Python {version} with its headers, or use an environment of one that has them.", ""
    for name in distributions(os_release):
        if name in _PYTHON_H_PACKAGES:
            command, source = _PYTHON_H_PACKAGES[name]
            return f"Run: {command.format(version=version, digits=version.replace('.', ''))}", source
    names = (
        f"python{version}-dev (Debian, Ubuntu), python{version}-devel (Fedora, RHEL), python3-dev (Alpine)"
    )
    return f"Install your distribution's package of headers: {names}.", ""


def require_python_h(interpreter: Interpreter) -> None:
    """Raise :class:`TargetError` when Python.h is not there."""
    check = check_python_h(interpreter)
    if check.status == "failure":
        raise TargetError(f"Python.h is {check.found}.", hint=check.fix)
