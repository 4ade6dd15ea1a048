"""What decides whether a known failure is the one at hand: versions and places, as a log tells them or as they are now.

sagefix writes what a build was made with into the first line of its log; other people's logs tell some of it by the
commands, paths and messages in them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator

import msgspec

from sagefix.building.plan import Plan

HEADER = "sagefix: "
"""Begins each line of a log that sagefix wrote itself; the rest of it is a JSON object of :class:`Facts`."""


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything is unknown until something says it (None or empty).

    ``torch_cuda`` is the CUDA torch was built with, ``""`` for a build without CUDA. ``toolkit`` says whether there
    is a CUDA compiler, ``nvcc`` is its version. ``compiler`` is the C++ compiler (``"gcc 12.2.0"``, or ``"gcc 12"``).
    ``built_on`` is the kind of machine that builds for another one, which ``machine`` then is.
    ``system`` is ``linux`` or ``windows``. ``memory_gib`` is all there is, not what is free. ``exit_status`` is as
    Python's subprocess gives it: below 0 for a signal. ``key`` is the plan's.
    """

    python: str = ""
    torch: str = ""
    torch_cuda: str | None = None
    torch_folder: str = ""
    toolkit: bool | None = None
    cuda_home: str = ""
    nvcc: str = ""
    compiler: str = ""
    machine: str = ""
    built_on: str = ""
    system: str = ""
    archs: tuple[str, ...] = ()
    memory_gib: float | None = None
    exit_status: int | None = None
    key: str = ""
    wheel: str = ""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a log says otherwise than what is found now."""

    what: str
    log: str
    now: str


def header(facts: Facts) -> str:
    """Write facts as a line of a log."""
    return HEADER + msgspec.json.encode(facts).decode() + "\n"


def facts_of_plan(plan: Plan) -> Facts:
    """Return what a plan says of the build it stands for."""
    identity = plan.identity
    system, _, machine = identity.platform_tag.partition("_")
    tag = re.fullmatch(r"[a-z]+(\d)(\d*)", identity.python_tag)
    return Facts(
        python=".".join(filter(None, tag.groups())) if tag else "",
        torch=identity.torch,
        torch_cuda=identity.cuda if identity.torch else None,
        toolkit=bool(plan.toolkit),
        cuda_home=plan.toolkit,
        nvcc=identity.nvcc,
        compiler=identity.host_compiler,
        machine=machine,
        built_on=plan.cross.built_on if plan.cross else "",
        system="windows" if system.startswith("win") else system,
        archs=identity.archs,
        key=plan.key,
        wheel=plan.wheel,
    )


def merged(first: Facts, second: Facts) -> Facts:
    """Return what ``first`` says, and of what it does not say what ``second`` does."""
    said = {
        name: value
        for name, value in msgspec.structs.asdict(first).items()
        if value is not None and value != () and (value != "" or name == "torch_cuda")
    }
    return msgspec.structs.replace(second, **said)


# The first that matches decides. Each group is the value of the fact.
_SAYS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("cuda_home", re.compile(r"using CUDA_HOME='([^']+)'")),
    ("cuda_home", re.compile(r"^(?:\[\d+/\d+\] )?(/\S+)/bin/nvcc ", re.MULTILINE)),
    ("cuda_home", re.compile(r"^(?:\[\d+/\d+\] )?\"?([A-Z]:\\.+?)\\bin\\nvcc(?:\.exe)?\"? ", re.MULTILINE)),
    ("nvcc", re.compile(r"Cuda compilation tools, release [\d.]+, V([\d.]+)")),
    ("nvcc", re.compile(r"detected CUDA version \(([\d.]+)\)")),
    ("nvcc", re.compile(r"CUDA versions\.', '([\d.]+)', '")),
    ("nvcc", re.compile(r"/cuda-([\d.]+)/bin/nvcc|CUDA\\v([\d.]+)\\bin")),
    ("torch", re.compile(r"torch\.__version__\s*=+\s*'?(\d[\w.+]*)")),
    ("torch", re.compile(r"(?im)^(?:pytorch version:\s*|torch(?:==|\s+))(\d+\.\d+[\w.+]*)")),
    ("torch_cuda", re.compile(r"compile\s*PyTorch \(([\d.]+)\)")),
    ("torch_cuda", re.compile(r"CUDA versions\.', '[\d.]+', '([\d.]+)'")),
    ("torch_folder", re.compile(r"((?:/|[A-Z]:[\\/])[^\s'\"=;:]*?(?:site|dist)-packages[\\/]torch)[\\/](?:i|l|u)")),
    ("compiler", re.compile(r"\b(gcc|clang)(?: version|\s*\([^)\n]*\)) (\d+\.\d+\.\d+)")),
    ("compiler", re.compile(r"/(?:lib(?:exec)?/(gcc)/[\w-]+|include/c\+\+)/(\d+(?:\.\d+)*)/")),
    ("machine", re.compile(r"\b(?:linux|win|manylinux\w*?)[-_](x86_64|aarch64|amd64)\b")),
)  # fmt: skip
_PYTHON = re.compile(r"cpython-(\d)(\d+)|[\\/]python(\d)\.(\d+)[\\/]|-cp(\d)(\d+)-")
_CODE = re.compile(r"code=sm_(\d+[af]?)|--gpu-name=sm_(\d+[af]?)")
_EXIT = re.compile(
    r"exit(?:ed with)? (?:code|status):? (137|-9)\b|returned non-zero exit status (137|-9)\b|SIGKILL: 9"
)
_WINDOWS = re.compile(r"(?m)(?:^|[\s'\"(=])[A-Z]:[\\/]|\\site-packages\\|\bwin[-_]amd64\b|\berror C\d{4}\b")
_CPU_TORCH = re.compile(r"\+cpu\b")


def facts_of_log(text: str) -> Facts:
    """Read what a log tells: sagefix's own lines first, then commands, paths and messages."""
    found: dict[str, object] = {}
    for name, pattern in _SAYS:
        if name not in found and (match := pattern.search(text)) is not None:
            groups = [group for group in match.groups() if group]
            found[name] = _joined(name, groups)
    # pip's own Python may be another one than that of the build.
    own = "\n".join(line for line in text.splitlines() if "/pip/_vendor/" not in line.replace("\\", "/"))
    if pythons := Counter(".".join(filter(None, match.groups())) for match in _PYTHON.finditer(own)):
        found["python"] = pythons.most_common(1)[0][0]
    if codes := {code for match in _CODE.finditer(text) for code in match.groups() if code}:
        found["archs"] = tuple(sorted(codes))
    if _EXIT.search(text) is not None:
        found["exit_status"] = -9
    if _WINDOWS.search(text):
        found["system"] = "windows"
    elif "/site-packages/" in text or "linux" in text or ".so" in text:
        found["system"] = "linux"
    if "cuda_home" in found and "nvcc" in found:
        found["toolkit"] = True
    if _CPU_TORCH.search(str(found.get("torch", ""))):
        found["torch_cuda"] = ""
    told = Facts(**found)  # type: ignore[arg-type]
    for written in _own_lines(text):
        told = merged(written, told)
    return told


def _joined(name: str, groups: list[str]) -> str:
    if name == "compiler":
        return " ".join(groups) if len(groups) == 2 else f"gcc {groups[0]}"
    return groups[0].rstrip("\\/") if groups else ""


def _own_lines(text: str) -> Iterator[Facts]:
    for line in text.splitlines():
        if line.startswith(HEADER + "{"):
            try:
                yield msgspec.json.decode(line[len(HEADER) :], type=Facts)
            except msgspec.MsgspecError:
                continue


# What is compared, and how it is called.
_COMPARED = (
    ("python", "Python"),
    ("torch", "torch"),
    ("torch_cuda", "CUDA of torch"),
    ("torch_folder", "folder of torch"),
    ("cuda_home", "CUDA_HOME"),
    ("nvcc", "nvcc"),
    ("compiler", "C++ compiler"),
    ("machine", "machine"),
    ("system", "system"),
)


def differences(log: Facts, now: Facts) -> tuple[Difference, ...]:
    """Return what the log says otherwise than what is found now; what either does not know is left out.

    A version that is less exact than the other one is the same if it is the beginning of it.
    """
    found = []
    for name, what in _COMPARED:
        then, today = (_shown(name, _compared(facts, name)) for facts in (log, now))
        same = _same_place if name in ("torch_folder", "cuda_home") else _same
        if then and today and not same(then, today):
            found.append(Difference(what=what, log=then, now=today))
    return tuple(found)


def _compared(facts: Facts, name: str) -> str | None:
    """Return a fact; of machines it is the one that builds."""
    value: str | None = getattr(facts, name)
    return facts.built_on or value if name == "machine" else value


def _shown(name: str, value: str | None) -> str:
    return "none" if name == "torch_cuda" and value == "" else value or ""


def _same_place(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _same(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    return shorter == longer or (
        longer.startswith(shorter) and longer[len(shorter)] in ".+" and shorter[-1].isdigit()
    )
