"""The libraries that CUDA extensions are linked with, and whether the linker will find them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sagefix.archs import Arch
from sagefix.checks import Check
from sagefix.errors import ProcessError
from sagefix.pins.model import Recipe
from sagefix.process import run
from sagefix.targets.compilers import Compiler
from sagefix.targets.model import Interpreter
from sagefix.targets.toolkit import Toolkit

DRIVER = "cuda"
_DRIVER_SONAME = "libcuda.so.1"
# In every version of the driver's interface; a stub without it defines nothing.
_DRIVER_SYMBOL = "cuInit"
_STUBS = "https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/#libcuda-stub-library"
_TIMEOUT_S = 60.0


def find_library(
    name: str, compiler: Compiler, folders: Iterable[str | Path] = (), env: Mapping[str, str] | None = None
) -> Path | None:
    """Return the file that ``-l<name>`` finds, or None: the linker itself is asked, by linking nothing else.

    ``folders`` are given with ``-L``; ``LIBRARY_PATH`` and the compiler's own folders count as they do in a
    build.
    """
    with tempfile.TemporaryDirectory(prefix="sagefix-link-") as scratch:
        command = [
            *compiler.command, "-shared", "-nostdlib", "-Wl,--trace", *(f"-L{folder}" for folder in folders),
            f"-l{name}", "-o", str(Path(scratch) / "nothing.so"),
        ]  # fmt: skip
        try:
            done = run(command, env=env, timeout=_TIMEOUT_S, check=False)
        except ProcessError:
            return None
    if done.returncode != 0:
        return None
    traced = [Path(line.strip()) for line in done.stdout.splitlines()]
    return next((path for path in traced if path.name.startswith(f"lib{name}.")), None)


def driver_problem(path: Path) -> str:
    """Say why a libcuda.so must not be linked with, or nothing.

    An empty stub links, too, but is then dropped from the extension's NEEDED, and the wheel dies on the GPU
    machine with an undefined symbol; one with another SONAME is not found there.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with path.open("rb") as stream:
            elf: Any = ELFFile(stream)
            dynamic = elf.get_section_by_name(".dynamic")
            symbols = elf.get_section_by_name(".dynsym")
            names = [tag.soname for tag in dynamic.iter_tags("DT_SONAME")] if dynamic else []
            found = symbols.get_symbol_by_name(_DRIVER_SYMBOL) if symbols else None
            if names != [_DRIVER_SONAME]:
                return (
                    f"{path} has {f'the SONAME {names[0]}' if names else 'no SONAME'}, not {_DRIVER_SONAME}"
                )
            if not found or all(symbol["st_shndx"] == "SHN_UNDEF" for symbol in found):
                return f"{path} is an empty stub: it does not define {_DRIVER_SYMBOL}"
    except (OSError, ELFError) as error:
        return f"{path} cannot be read: {error}"
    return ""


def check_libraries(
    toolkit: Toolkit,
    recipe: Recipe,
    archs: Iterable[Arch],
    compiler: Compiler,
    env: Mapping[str, str] | None = None,
) -> Check:
    """Say whether the CUDA runtime, and what the archs link beside it, are found by the linker.

    The toolkit's stub folders count as if they were on ``LIBRARY_PATH``: a build puts them there.
    """
    environment = os.environ if env is None else env
    folders = [*toolkit.lib_folders, *toolkit.stub_folders]
    rows = [row for arch in archs if (row := recipe.for_arch(arch))]
    names = list(dict.fromkeys(["cudart", *(name for row in rows for name in row.links)]))
    found = {name: find_library(name, compiler, folders, environment) for name in names}
    missing = [name for name, path in found.items() if path is None]
    driver = found.get(DRIVER)
    problem = driver_problem(driver) if driver else ""
    if not missing and not problem:
        return Check(
            name="CUDA libraries", status="ok", found=", ".join(str(path) for path in found.values() if path)
        )
    fixes = []
    if DRIVER in missing or problem:
        fixes.append(
            "Install NVIDIA's driver, or the toolkit's stub (Debian, Ubuntu: apt install cuda-driver-dev-"
            f"{toolkit.version.replace('.', '-')}), or put the folder of a libcuda.so with the SONAME "
            f"{_DRIVER_SONAME} on LIBRARY_PATH."
        )
    if any(name != DRIVER for name in missing):
        fixes.append(
            f"The toolkit in {toolkit.home} lacks libraries. If it is made of NVIDIA's wheels, "
            f"libcudart.so.{toolkit.major} needs a link named libcudart.so in lib64."
        )
    lost = ", ".join(f"-l{name}" for name in missing)
    return Check(
        name="CUDA libraries",
        status="failure",
        found="; ".join(
            part for part in (f"the linker does not find {lost}" if lost else "", problem) if part
        ),
        fix=" ".join(fixes),
        sources=(_STUBS,),
    )


def library_folders(
    interpreter: Interpreter, toolkit: Toolkit | None = None, env: Mapping[str, str] | None = None
) -> tuple[Path, ...]:
    """Return the folders, beside the system's, of the libraries that an extension of the target is linked
    with.

    torch's own, those of NVIDIA's wheels (which torch loads itself, so that no search path names them), the
    toolkit's with its stubs, ``LIBRARY_PATH`` of ``env`` (default: this process's; ``{}`` where nothing is being
    linked), and the system's own of an interpreter that brings its system along.
    """
    environment = os.environ if env is None else env
    folders = [Path(interpreter.torch.folder) / "lib"] if interpreter.torch else []
    for entry in interpreter.sys_path:
        folders += sorted((Path(entry) / "nvidia").glob("*/lib"))
    if toolkit is not None:
        folders += [Path(folder) for folder in (*toolkit.lib_folders, *toolkit.stub_folders)]
    folders += [Path(entry) for entry in environment.get("LIBRARY_PATH", "").split(os.pathsep) if entry]
    if interpreter.sysroot:
        triplet = f"{interpreter.machine}-linux-gnu"
        folders += [
            Path(interpreter.sysroot) / name for name in (f"lib/{triplet}", f"usr/lib/{triplet}", "lib")
        ]
    return tuple(folder for folder in dict.fromkeys(folders) if folder.is_dir())
