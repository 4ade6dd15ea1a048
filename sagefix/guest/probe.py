"""Asks a Python about itself. Runs inside the target interpreter, imports nothing of sagefix, not even torch.

Usage: ``python probe.py``. The answer is one JSON object between two marker lines, because a site
customisation may print to the same stream. It runs without ``-I``: user site, ``PYTHONPATH`` and ``.pth``
files count, as they do when the user starts the program that will import the wheel; only this script's own
folder is taken off ``sys.path`` (what ``-P`` does from Python 3.11 on).
"""

import os
import sys

BEGIN, END = "<<<sagefix", "sagefix>>>"


def leave_script_folder() -> None:
    """Take this script's folder off ``sys.path`` (it is not there in safe-path mode or with a ``._pth``
    file)."""
    here = os.path.dirname(os.path.realpath(__file__))
    if sys.path and os.path.realpath(sys.path[0] or os.curdir) == here:
        del sys.path[0]


leave_script_folder()

import json  # noqa: E402
import re  # noqa: E402
import sysconfig  # noqa: E402

_VERSION = re.compile(r"^Version: *(\S+)", re.MULTILINE)


def read_text(path: str, limit: int = -1) -> str:
    """Return the beginning of a file, or nothing when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(limit)
    except OSError:
        return ""


def normalise(name: str) -> str:
    """Write a project name as indexes do
    (https://packaging.python.org/en/latest/specifications/name-normalization/)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution(folder: str, entry: str) -> "tuple[str, str]":
    """Return name and version of one ``.dist-info`` or ``.egg-info``; an empty name when it is not one.

    Both stand in the folder's name, so that hundreds of METADATA files need not be parsed. A folder without
    METADATA is what a broken uninstallation left; names that begin with ``~`` are pip's own leftovers.
    """
    stem, kind = os.path.splitext(entry)
    path = os.path.join(folder, entry)
    if stem.startswith(("~", ".")):
        return "", ""
    if kind == ".dist-info":
        name, _, version = stem.rpartition("-")
        return (name, version) if os.path.exists(os.path.join(path, "METADATA")) else ("", "")
    if kind in (".egg-info", ".egg"):
        parts = re.sub(r"-py\d+(\.\d+)?(-.*)?$", "", stem).split("-", 1)
        if len(parts) == 2:
            return parts[0], parts[1]
        found = _VERSION.search(read_text(os.path.join(path, "PKG-INFO"), 4096))
        return (stem, found.group(1)) if found else ("", "")
    return "", ""


def packages() -> "dict[str, str]":
    """Return what is installed; the first on ``sys.path`` wins, as it does for an import."""
    found: "dict[str, str]" = {}
    for folder in sys.path:
        if folder.endswith(".egg"):
            name, version = distribution(os.path.dirname(folder), os.path.basename(folder))
            if name:
                found.setdefault(normalise(name), version)
        try:
            entries = os.listdir(folder or os.curdir)
        except OSError:
            continue
        for entry in entries:
            if entry.endswith(("-info", ".egg-info")):
                name, version = distribution(folder, entry)
                if name:
                    found.setdefault(normalise(name), version)
    return found


def whole_elf(path: str) -> bool:
    """Say whether a shared library is as long as its own header says (the section table stands at its end).

    Layout: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html, 64-bit and little-endian.
    """
    with open(path, "rb") as stream:
        head = stream.read(64)
    if len(head) < 64 or head[:4] != b"\x7fELF":
        return False
    if head[4:6] != b"\x02\x01":
        return True
    end = int.from_bytes(head[40:48], "little") + int.from_bytes(head[58:60], "little") * int.from_bytes(
        head[60:62], "little"
    )
    return os.path.getsize(path) >= end


def cxx11_abi(library: str) -> "bool | None":
    """Say which string type libc10 was compiled with, from the constructor of ``c10::Error``.

    The word ``__cxx11`` alone proves nothing: a library of the old ABI holds it, too (torch 2.3.1 for aarch64
    does). ``Ss`` is the old ``std::string`` in mangled names
    (https://gcc.gnu.org/onlinedocs/libstdc++/manual/using_dual_abi.html).
    """
    import mmap

    constructor = b"_ZN3c105ErrorC1ENS_14SourceLocationE"
    with open(library, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(constructor + b"NSt7__cxx11") >= 0:
            return True
        if data.find(constructor + b"Ss") >= 0:
            return False
    return None


def find_torch() -> "tuple[str, str]":
    """Return the folder that ``import torch`` would take (or nothing), and what is wrong with it."""
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec("torch", None)
        except (
            Exception
        ):  # a finder of somebody else's; the next one is asked, as the import system would not
            continue
        if spec is None:
            continue
        if spec.origin is None or spec.loader is None:
            left = list(spec.submodule_search_locations or [])
            return "", "%s has no __init__.py: it is what an uninstallation left" % (
                left[0] if left else "torch"
            )
        return os.path.dirname(os.path.abspath(spec.origin)), ""
    return "", ""


def torch() -> "tuple[dict[str, object] | None, str]":
    """Return the facts of torch, or None and what is wrong with its files."""
    folder, wrong = find_torch()
    if not folder:
        return None, wrong
    text = read_text(os.path.join(folder, "version.py"))
    values = dict(
        re.findall(r"^(__version__|cuda|hip)\s*(?::[^=\n]+)?=\s*['\"]?([^'\"\n]*)['\"]?", text, re.MULTILINE)
    )
    version = values.get("__version__", "")
    if not version:
        return None, "%s is missing or says no version" % os.path.join(folder, "version.py")
    library, abi = "", None
    for place in (os.path.join(folder, "lib"), os.path.join(sys.prefix, "lib")):
        for name in ("libc10.so", "libc10.dylib", "c10.dll"):
            path = os.path.join(place, name)
            if not library and os.path.exists(path):
                library = path
    if not library:
        return None, "%s is missing" % os.path.join(folder, "lib", "libc10.so")
    if library.endswith(".so"):
        for name in (
            "libc10.so",
            "libc10_cuda.so",
            "libtorch_cpu.so",
            "libtorch_cuda.so",
            "libtorch_python.so",
        ):
            path = os.path.join(os.path.dirname(library), name)
            if os.path.exists(path) and not whole_elf(path):
                return None, "%s is cut short or no library" % path
        abi = cxx11_abi(library)
        if abi is None:
            return None, "%s does not define c10::Error" % library
    cuda = values.get("cuda", "None").strip()
    hip = values.get("hip", "None").strip()
    return {
        "version": version,
        "cuda": "" if cuda == "None" else cuda,
        "hip": "" if hip == "None" else hip,
        "cxx11_abi": abi is not False,
        "folder": folder,
    }, ""


def libc() -> "tuple[str, str]":
    """Return the version of glibc (``2.36``), or the path of musl's loader, which knows its own version."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        if name == "glibc":
            return version, ""
    except (AttributeError, ValueError, OSError):
        pass
    loader = re.search(r"(/\S*ld-musl-\S+)", read_text("/proc/self/maps"))
    return "", loader.group(1) if loader else ""


def build_flags() -> "dict[str, str]":
    """Return what this Python gives to the compilers of extensions; its own build decided it."""
    names = ("CC", "CXX", "CFLAGS", "CPPFLAGS", "CCSHARED", "LDSHARED", "LDCXXSHARED")
    return {name: str(sysconfig.get_config_var(name) or "") for name in names}


def facts() -> "dict[str, object]":
    """Return everything that is asked."""
    paths = sysconfig.get_paths()
    include = [paths["include"], paths["platinclude"]]
    python_h = [os.path.join(folder, "Python.h") for folder in include]
    mac = ""
    if sys.platform == "darwin":
        import platform

        mac = platform.mac_ver()[0]
    glibc, musl = libc()
    torch_facts, torch_error = torch()
    in_venv = sys.prefix != sys.base_prefix
    return {
        "executable": os.path.abspath(sys.executable) if sys.executable else "",
        "version": "%d.%d.%d" % sys.version_info[:3],
        "implementation": sys.implementation.name,
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "platform": sysconfig.get_platform(),
        "machine": os.uname().machine
        if hasattr(os, "uname")
        else os.environ.get("PROCESSOR_ARCHITECTURE", ""),
        "mac_version": mac,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "sys_path": [os.path.abspath(folder) for folder in sys.path],
        "purelib": paths["purelib"],
        "platlib": paths["platlib"],
        "scripts": paths["scripts"],
        "include": include[0],
        "python_h": next((path for path in python_h if os.path.isfile(path)), ""),
        "ext_suffix": sysconfig.get_config_var("EXT_SUFFIX") or "",
        "debug": bool(sysconfig.get_config_var("Py_DEBUG")),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        # https://packaging.python.org/en/latest/specifications/externally-managed-environments/
        "externally_managed": not in_venv
        and os.path.exists(os.path.join(paths["stdlib"], "EXTERNALLY-MANAGED")),
        "glibc": glibc,
        "musl_loader": musl,
        "packages": packages(),
        "torch": torch_facts,
        "torch_error": torch_error,
        "build_flags": build_flags(),
    }


if __name__ == "__main__":
    answer = "\n%s\n%s\n%s\n" % (BEGIN, json.dumps(facts()), END)
    sys.stdout.flush()
    # The descriptor itself: sys.stdout may have been replaced by a site customisation.
    with open(1, "wb", closefd=False) as out:
        out.write(answer.encode("ascii"))
