"""``sagefix build --rebuild`` of one arch against upstream's plain ``pip wheel --no-build-isolation --no-deps .``.

Same interpreter, same files, same CUDA_HOME, both from nothing. sagefix's time holds all that it does besides: the
plan, the export of the (already fetched) source, the checks of the finished wheel and keeping it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks.measure import NotHereError, Part, Way, alternate, call, compare
from benchmarks.surroundings import Asked, builder, environment, given, sagefix

TARGET = 0.7

# Upstream asks torch.cuda for the GPUs of this machine. Where there is none, the plain build gets the answer from
# here, when torch.cuda is imported and not before: no process that needs no torch pays for it.
ANSWERS = """\
import sys
from importlib.machinery import PathFinder

CAPABILITIES = {capabilities!r}


class Answering:
    def find_spec(self, name, path=None, target=None):
        if name != "torch.cuda":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            module.is_available = lambda: True
            module.device_count = lambda: len(CAPABILITIES)
            module.get_device_capability = lambda device=None: CAPABILITIES[
                device if isinstance(device, int) else 0
            ]

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Answering())
"""


def compare_build(asked: Asked) -> Part:
    """Time both builds by turns."""
    from sagefix.pins.load import load_pin

    pin = load_pin(asked.pin)
    if pin.device == "cuda" and (asked.source is None or asked.python is None or asked.arch is None):
        raise NotHereError(
            "Name --source REPO, --python TARGET and --arch ARCH; CUDA_HOME says where the toolkit is."
        )
    python = asked.python or builder(asked.scratch / "builder")
    source = asked.scratch / "plain"
    variables = environment(asked.scratch)
    notes = ["sagefix's time holds the export of the source, the checks of the wheel and keeping it"]
    if asked.arch and not _has_gpu(python):
        variables["PYTHONPATH"] = str(_answers(asked.scratch, asked.arch))
        notes.append("no GPU here: a sitecustomize on PYTHONPATH answers torch.cuda for the plain build")

    def fresh() -> None:
        for folder in (source, asked.scratch / "plain-out"):
            shutil.rmtree(folder, ignore_errors=True)
        _export(asked, source)

    pip = (str(python), "-m", "pip", "wheel", "--no-build-isolation", "--no-deps")
    plain = Way(
        name="pip wheel --no-build-isolation --no-deps .",
        command=(*pip, "-w", str(asked.scratch / "plain-out"), "."),
        env=variables,
        cwd=source,
        before=fresh,
    )
    words = ["build", "--rebuild", "--object-cache", "off", "--pin", asked.pin, "--python", str(python)]
    words += given(ref=asked.ref, source=asked.source, arch=asked.arch)
    ours = Way(name="sagefix build --rebuild", command=(*sagefix(), *words), env=environment(asked.scratch))
    runs = alternate([plain, ours], runs=asked.build_runs, warmup=0)
    row = compare("build", ours.name, plain.name, runs, target=TARGET)
    return Part(name="build", rows=(row,), notes=tuple(notes))


def _export(asked: Asked, folder: Path) -> None:
    """Write the files that a build needs; the same call fills sagefix's cache before anything is timed."""
    from sagefix.pins.load import load_pin
    from sagefix.source.export import export
    from sagefix.workflows.situation import Request
    from sagefix.workflows.source import fetch_source

    before = os.environ.get("SAGEFIX_CACHE_DIR")
    os.environ["SAGEFIX_CACHE_DIR"] = str(asked.scratch / "cache")
    try:
        fetched = fetch_source(Request(pin=asked.pin, ref=asked.ref, source=asked.source))
        export(fetched, load_pin(asked.pin), folder)
    finally:
        if before is None:
            del os.environ["SAGEFIX_CACHE_DIR"]
        else:
            os.environ["SAGEFIX_CACHE_DIR"] = before


def _has_gpu(python: Path) -> bool:
    return call(python, "-c", "import torch; print(torch.cuda.is_available())").strip().endswith("True")


def _answers(scratch: Path, archs: str) -> Path:
    """Write the sitecustomize that answers for these archs; return its folder."""
    from sagefix.archs import parse_archs

    folder = scratch / "answers"
    folder.mkdir(exist_ok=True)
    capabilities = [(arch.major, arch.minor) for arch in parse_archs(archs)]
    (folder / "sitecustomize.py").write_text(ANSWERS.format(capabilities=capabilities), encoding="utf-8")
    return folder
