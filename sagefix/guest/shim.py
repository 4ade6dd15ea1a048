"""The build shim: runs a build backend's hook in the target as ``python shim.py HOOK_SCRIPT ARGS...``.

What has to differ from a build by hand is done here, in the process of the build alone, so that upstream's
files stay as they are. Facts arrive as JSON in ``SAGEFIX_SHIM``:

``archs``: capabilities such as ``["9.0", "8.6+PTX"]``. When ``fake_gpus`` is true, ``torch.cuda`` answers with
one GPU per capability, because some builds ask for the GPUs of this machine instead of reading
``TORCH_CUDA_ARCH_LIST`` (https://github.com/thu-ml/SageAttention/blob/68de379/setup.py#L75).

``code``: for each extension the archs of its code, ``{"pkg._ext": [["9.0", "90a", false]]}`` (capability, the number
behind ``sm_``, PTX beside it). One list of flags for all extensions does not compile where one needs instructions
that the others' archs lack. ``threads``: what nvcc may compile at once for one file. ``fixes``: C++ files to compile
into every CUDA extension, with the functions that the linker wraps.

``objects``: an sccache that stands before every compiler, as ``program`` and ``variables``.

``cross``: the build is for another platform than this process's. ``torch`` in it names the folders of the torch that
is imported here and of the one to build against.

``extensions``: how many extensions are compiled at once. torch starts one ninja for each
(https://github.com/pytorch/pytorch/blob/v2.11.0/torch/utils/cpp_extension.py, ``_run_ninja_build``), and their
job limits multiply. Here they wait for each other and become one ninja with one limit and one counter.
"""

import json
import os
import runpy
import sys
import tempfile
import threading
import time
from typing import Callable, Dict, List, Optional, Sequence, Union

# Part of every build's key: raise it when the wheels that come out can differ.
VERSION = 1

# How long an extension waits for its siblings to reach their compile step (seconds).
GATHER_S = 20.0


def answer_gpus(archs: Sequence[str]) -> None:
    """Make ``torch.cuda`` show one GPU per capability; ``"9.0+PTX"`` is what the build makes of (9, "0+PTX")."""
    import torch

    capabilities: List[tuple[int, Union[int, str]]] = []
    for arch in archs:
        major, minor = arch.split(".")
        capabilities.append((int(major), int(minor) if minor.isdigit() else minor))

    def get_device_capability(device: object = None) -> tuple[int, Union[int, str]]:
        index = getattr(device, "index", device)
        return capabilities[index if isinstance(index, int) else 0]

    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: len(capabilities)
    torch.cuda.get_device_capability = get_device_capability


def size_of_source(edge: str) -> int:
    """Size of the file that a line ``build OBJECT: RULE SOURCE`` compiles; 0 when it cannot be told."""
    source = edge.rpartition(" ")[2].replace("$:", ":").replace("$$", "$")
    try:
        return os.path.getsize(source)
    except OSError:
        return 0


def edges_of(path: str) -> List[tuple[int, str]]:
    """Split a build file into one text for each edge, with everything that the edge relies on, and its size.

    torch writes an edge as one line. A file with anything else in an edge comes back whole.
    """
    with open(path, encoding="utf-8") as stream:
        lines = stream.read().split("\n")
    edges = [line for line in lines if line.startswith("build ")]
    shared = [line for line in lines if not line.startswith(("build ", "default "))]
    split_up = any(
        line.startswith("build ") and (line.endswith("$") or after.startswith(" "))
        for line, after in zip(lines, lines[1:])
    )
    if split_up:
        return [(0, "\n".join(line for line in lines if not line.startswith("default ")))]
    return [(size_of_source(edge), "\n".join([*shared, edge, ""])) for edge in edges]


def arch_flags(code: Sequence[Sequence[object]]) -> List[str]:
    """Return nvcc's flags for the code of one extension."""
    flags: List[str] = []
    for _, number, ptx in code:
        flags += ["-gencode", "arch=compute_%s,code=sm_%s" % (number, number)]
        if ptx:
            flags += ["-gencode", "arch=compute_%s,code=compute_%s" % (number, number)]
    return flags


def without_archs(flags: Sequence[str]) -> List[str]:
    """Return nvcc's flags less those that name an arch or a number of threads, however they are written."""
    kept: List[str] = []
    skip = False
    for flag in flags:
        if skip:
            skip = False
        elif flag in ("-gencode", "--generate-code", "-arch", "--gpu-architecture", "-t", "--threads"):
            skip = True
        elif not flag.startswith(
            ("-gencode=", "--generate-code=", "-arch=", "--gpu-architecture=", "--threads=", "-t=")
        ):
            kept.append(flag)
    return kept


def adjust_extensions(
    code: Dict[str, List[List[object]]], threads: int, fixes: Sequence[Dict[str, object]]
) -> None:
    """Give every CUDA extension the flags of its own archs, and the fixes.

    The build file calls torch's ``CUDAExtension``; what that returns is changed before setuptools sees it.
    """
    from torch.utils import cpp_extension

    make = cpp_extension.CUDAExtension

    def cuda_extension(name: str, sources: List[str], *args: object, **kwargs: object) -> object:
        extension = make(name, list(sources), *args, **kwargs)
        given = extension.extra_compile_args
        # The lists may be one object shared by all extensions.
        flags = (
            {key: list(value) for key, value in given.items()}
            if isinstance(given, dict)
            else {"nvcc": list(given)}
        )
        if not isinstance(given, dict):
            flags["cxx"] = list(given)
        if name in code:
            own = without_archs(flags.get("nvcc", []))
            flags["nvcc"] = [*own, "--threads=%d" % threads, *arch_flags(code[name])]
        extension.extra_compile_args = flags
        extension.extra_link_args = list(extension.extra_link_args or [])
        for fix in fixes:
            extension.sources.append(str(fix["file"]))
            wraps = fix["wraps"]
            assert isinstance(wraps, list)
            extension.extra_link_args += ["-Wl,--wrap=%s" % symbol for symbol in wraps]
        return extension

    cpp_extension.CUDAExtension = cuda_extension


# Flags of the linker that tie a library's calls of its own functions at link time.
SYMBOLIC = ("-Wl,-Bsymbolic-functions", "-Wl,-Bsymbolic")


def bind_at_run_time() -> None:
    """Link as everywhere else where Python's own flags, as in Debian and Ubuntu, tie calls at link time.

    The calls that a fix sends to its function then leave no trace in the library, and nobody could check that they do
    (https://sourceware.org/binutils/docs/ld/Options.html, ``-Bsymbolic-functions``).
    """
    import sysconfig

    variables = sysconfig.get_config_vars()
    for name in ("LDFLAGS", "LDSHARED", "LDCXXSHARED", "BLDSHARED"):
        for place in (variables, os.environ):
            if isinstance(place.get(name), str):
                place[name] = " ".join(word for word in place[name].split(" ") if word not in SYMBOLIC)


class Gathering:
    """Collects the build folders of extensions that compile at the same time and runs ninja once for all."""

    def __init__(self, expected: int, run_ninja: Callable[[str, bool, str], None]) -> None:
        self.expected = expected
        self.run_ninja = run_ninja
        self.changed = threading.Condition()
        self.waiting: List[str] = []
        self.seen = 0
        self.outcomes: Dict[str, Optional[BaseException]] = {}

    def __call__(self, build_directory: str, verbose: bool, error_prefix: str) -> None:
        with self.changed:
            self.waiting.append(build_directory)
            self.seen += 1
            self.changed.notify_all()
            deadline = time.monotonic() + GATHER_S
            while build_directory in self.waiting and self.seen < self.expected:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self.changed.wait(left)
            leads = build_directory in self.waiting
            batch: List[str] = []
            if leads:
                batch, self.waiting = self.waiting, []
        if leads:
            outcome = self.run_batch(batch, verbose, error_prefix)
            with self.changed:
                for directory in batch:
                    self.outcomes[directory] = outcome
                self.changed.notify_all()
        else:
            with self.changed:
                while build_directory not in self.outcomes:
                    self.changed.wait()
                outcome = self.outcomes[build_directory]
        if outcome is not None:
            raise outcome

    def run_batch(self, batch: List[str], verbose: bool, error_prefix: str) -> Optional[BaseException]:
        """Run one ninja over every folder of the batch; return the exception it ended with, or None."""
        try:
            if len(batch) == 1:
                self.run_ninja(batch[0], verbose, error_prefix)
                return None
            folder = tempfile.mkdtemp(prefix="ninja-", dir=os.environ.get("SAGEFIX_BUILD_DIR"))
            # ninja starts what is ready in the order it reads it. A compile of minutes that starts last leaves every
            # other core idle, and the size of a source tells well enough which one that is.
            edges = []
            for directory in sorted(batch):
                edges += edges_of(os.path.join(directory, "build.ninja"))
            edges.sort(key=lambda edge: edge[0], reverse=True)
            names = ["%d.ninja" % number for number in range(len(edges))]
            for name, (_, text) in zip(names, edges):
                with open(os.path.join(folder, name), "w", encoding="utf-8") as stream:
                    stream.write(text)
            with open(os.path.join(folder, "build.ninja"), "w", encoding="utf-8") as stream:
                # A file read by subninja has rules and variables of its own.
                stream.write("".join("subninja %s\n" % name for name in names))
            self.run_ninja(folder, verbose, error_prefix)
        except BaseException as error:
            return error
        return None


def gather_ninja(expected: int) -> None:
    """Replace torch's ninja call by one that serves all extensions; leave torch alone where it has none."""
    from torch.utils import cpp_extension

    run_ninja = getattr(cpp_extension, "_run_ninja_build", None)
    if run_ninja is not None and expected > 1:
        cpp_extension._run_ninja_build = Gathering(expected, run_ninja)


def main() -> None:
    facts = json.loads(os.environ.pop("SAGEFIX_SHIM", "{}"))
    if facts.get("cross"):
        from crossing import cross_compile

        cross_compile(facts["cross"].get("torch", ()))
    if facts.get("fake_gpus"):
        answer_gpus(facts["archs"])
    if facts.get("torch"):
        if facts.get("fixes"):
            bind_at_run_time()
        adjust_extensions(facts.get("code", {}), int(facts.get("threads", 1)), facts.get("fixes", []))
        if facts.get("objects"):
            from objects import use_objects

            use_objects(facts["objects"]["program"], facts["objects"]["variables"])
        gather_ninja(int(facts.get("extensions", 1)))
    sys.argv = sys.argv[1:]
    # As if Python had been started with the hook script itself.
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
