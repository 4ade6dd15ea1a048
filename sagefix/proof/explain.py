"""What the dynamic linker's errors mean, and what to do about them."""

from __future__ import annotations

import re

import msgspec


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What an error means (empty when nobody knows), the same with the original error, and what to do."""

    meaning: str
    text: str
    fix: str


_REBUILD = "Build it again for this target: `sagefix install --rebuild`."
_ANOTHER = "Run `sagefix install`: it takes or builds a wheel for this target."

# The first that matches decides. `{0}` is what the pattern captured.
_MEANINGS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"libcuda\.so\.1: cannot open shared object file"),
        "There is no NVIDIA driver on this machine, and this extension needs its library",
        "Verify at this level on a machine with the driver; `--level static` needs none.",
    ),
    (
        re.compile(r"undefined symbol: (_Z\w*?(?:3c10|2at|5torch)\w*)"),
        "It was built for another torch than the one installed",
        _ANOTHER,
    ),
    (
        re.compile(r"undefined symbol: (cu[A-Z]\w*)"),
        "It calls the NVIDIA driver but was not linked with it (no libcuda.so.1 in NEEDED)",
        _REBUILD,
    ),
    (
        re.compile(r"undefined symbol: ((?:_?Py)\w+)"),
        "It was built for another Python than this one",
        _ANOTHER,
    ),
    (re.compile(r"undefined symbol: (\S+)"), "No library that it names has the symbol {0}", _REBUILD),
    (
        re.compile(r"version [`'](GLIBC_[\d.]+)' not found"),
        "It was built on a system with a newer C library: {0} is not here",
        _REBUILD,
    ),
    (
        re.compile(r"version [`']((?:GLIBCXX|CXXABI)_[\d.]+)' not found"),
        "It was built with a newer C++ library: {0} is not here",
        _REBUILD,
    ),
    (
        re.compile(r"(lib(?:c10|torch)\w*\.so[\d.]*): cannot open shared object file"),
        "{0} is not there: torch is missing, was not imported first, or has no CUDA",
        "Install torch with CUDA, then run `sagefix install`.",
    ),
    (
        re.compile(r"(lib(?:cu|nv)\w+\.so\.\d+): cannot open shared object file"),
        "{0} is not there: it was built for another CUDA than the one torch brings",
        _ANOTHER,
    ),
    (
        re.compile(r"(\S+\.so[\d.]*): cannot open shared object file"),
        "The library {0} is not there",
        "Install the library, or build again on this machine.",
    ),
    (
        re.compile(r"wrong ELF class|cannot open shared object file: Exec format|ELF file OS ABI invalid"),
        "It was built for another kind of machine",
        _ANOTHER,
    ),
    (
        re.compile(r"file too short|invalid ELF header|ELF load command past end|ELF file data encoding"),
        "The file is damaged",
        _ANOTHER,
    ),
    (
        re.compile(r"does not define module export function"),
        "The file is no Python module of this name",
        _REBUILD,
    ),
    (
        re.compile(r"No module named '?([\w.]+)'?"),
        "The module {0} is not installed",
        "Install {0} in the target.",
    ),
)


def explain(kind: str, text: str) -> Explanation:
    """Translate an import error (class name and text); what nobody knows is passed on as it is."""
    original = f"{kind}: {' '.join(text.split())}" if text else kind
    for pattern, meaning, fix in _MEANINGS:
        if (match := pattern.search(text)) is not None:
            told = meaning.format(*match.groups())
            return Explanation(meaning=told, text=f"{told} ({original}).", fix=fix.format(*match.groups()))
    return Explanation(meaning="", text=f"{original.rstrip('.')}.", fix=_REBUILD)
