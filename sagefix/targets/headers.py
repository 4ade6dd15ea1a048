"""The headers that a CUDA extension of torch includes, and whether the compilers will find them.

A slim toolkit has the compiler and the runtime, but not cuSPARSE and the other libraries whose headers
torch's own include; the compilation then fails minutes later. Which those are is read out of the target's
torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sagefix.checks import Check
from sagefix.targets.model import Interpreter, Torch
from sagefix.targets.toolkit import Toolkit

# torch's entry to CUDA (the second name is that of older versions), and a macro that is defined once
# cuda_runtime_api.h, the first header in there, was included.
_ENTRIES = ("ATen/cuda/CUDAContextLight.h", "ATen/cuda/CUDAContext.h")
_DEFINED = frozenset({"CUDART_VERSION"})
# What nvcc itself includes into every file, and CCCL's part that the toolkit's headers need.
_NVCC_HEADERS = ("cuda_runtime.h", "nv/target")
_INSTALL_GUIDE = "https://docs.nvidia.com/cuda/cuda-installation-guide-linux/#meta-packages"
_SYSTEM = ("/usr/local/include", "/usr/include")


def torch_headers(torch: Torch) -> tuple[str, ...]:
    """Return the CUDA headers that torch's own include unconditionally, as written (``cusparse.h``); empty
    if torch has none."""
    for entry in _ENTRIES:
        try:
            text = (Path(torch.folder) / "include" / entry).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        return tuple(name for name in included(text) if name.startswith("cu"))
    return ()


def included(text: str) -> list[str]:
    """Return what a header includes with ``<...>`` when no macro of the build is set.

    Conditions are read only as far as such headers use them: ``#ifdef X`` holds for X that are known to be
    defined, ``#if !defined(X)`` for all others; of anything else, neither branch is taken.
    """
    names: list[str] = []
    holding: list[bool] = []
    for line in text.splitlines():
        directive = re.match(r"\s*#\s*(\w+)\s*(.*)", line)
        if directive is None:
            continue
        word, rest = directive.groups()
        if word in {"if", "ifdef", "ifndef"}:
            holding.append(_holds(word, rest))
        elif word in {"else", "elif"} and holding:
            holding[-1] = False
        elif word == "endif" and holding:
            holding.pop()
        elif word == "include" and all(holding) and (name := re.match(r"<([^>]+)>", rest)):
            names.append(name.group(1))
    return list(dict.fromkeys(names))


def _holds(word: str, rest: str) -> bool:
    named = {*rest.split()[:1]}
    if word == "ifdef":
        return bool(named & _DEFINED)
    if word == "ifndef":
        return not named & _DEFINED
    terms = re.findall(r"(!?)\s*defined\s*\(?\s*(\w+)\s*\)?", rest)
    # A value is compared (CUDART_VERSION >= 12000): not decided here.
    if not terms or re.search(r"[<>=]", rest):
        return False
    return all((name in _DEFINED) != bool(negated) for negated, name in terms)


def header_folders(toolkit: Toolkit, env: Mapping[str, str]) -> list[Path]:
    """Return where nvcc and the host compiler look for headers, in order."""
    folders = [Path(folder) for folder in toolkit.include_folders]
    # CUDA_INC_PATH is torch's; the others are gcc's:
    # https://gcc.gnu.org/onlinedocs/cpp/Environment-Variables.html
    for variable in ("CUDA_INC_PATH", "CPATH", "CPLUS_INCLUDE_PATH"):
        folders += [Path(entry) for entry in env.get(variable, "").split(os.pathsep) if entry]
    return [*folders, *(Path(folder) for folder in _SYSTEM)]


def missing_headers(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Return the headers that stand in none of the folders."""
    return [name for name in names if not any((folder / name).is_file() for folder in folders)]


def check_headers(
    toolkit: Toolkit, interpreter: Interpreter, torch: Torch, env: Mapping[str, str] | None = None
) -> Check:
    """Say whether every header that torch and nvcc include is found."""
    environment = os.environ if env is None else env
    wanted = torch_headers(torch)
    if not wanted:
        return Check(
            name="CUDA headers",
            status="failure",
            found=f"torch's own headers are not in {torch.folder}/include",
            fix="Install torch from a wheel; some distributions leave its headers out.",
        )
    names = list(dict.fromkeys([*_NVCC_HEADERS, *wanted]))
    missing = missing_headers(names, header_folders(toolkit, environment))
    if not missing:
        return Check(
            name="CUDA headers", status="ok", found=f"{', '.join(names)} in {toolkit.include_folders[0]}"
        )
    return Check(
        name="CUDA headers",
        status="failure",
        found=f"{', '.join(missing)} not found (looked in {toolkit.home}/include and CPATH)",
        fix=_fix(toolkit, interpreter, missing),
        sources=(_INSTALL_GUIDE,),
    )


def _fix(toolkit: Toolkit, interpreter: Interpreter, missing: Sequence[str]) -> str:
    """Say where to get headers; NVIDIA's wheels, which torch depends on, bring most of them."""
    dashed = toolkit.version.replace(".", "-")
    package = (
        f"install the toolkit's development files (Debian, Ubuntu: apt install cuda-libraries-dev-{dashed}; "
        f"conda: cuda-libraries-dev), or the full toolkit {toolkit.version}"
    )
    there = pip_header_folders(interpreter, toolkit.major)
    holding = [folder for folder in there if any((folder / name).is_file() for name in missing)]
    if holding and not missing_headers(missing, holding):
        return (
            "The target has them from NVIDIA's wheels: set "
            f"CPATH={os.pathsep.join(str(folder) for folder in holding)}. Or {package}."
        )
    return package[0].upper() + package[1:] + "."


def pip_header_folders(interpreter: Interpreter, major: int) -> list[Path]:
    """Return the include folders of NVIDIA's wheels in the target: one for CUDA 13, one for each library
    before."""
    folders: list[Path] = []
    for entry in interpreter.sys_path:
        nvidia = Path(entry) / "nvidia"
        folders += [nvidia / f"cu{major}" / "include"] if major >= 13 else sorted(nvidia.glob("*/include"))
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
