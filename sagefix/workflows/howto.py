"""How to build a wheel again, in words and commands."""

from __future__ import annotations

import shlex

from sagefix.wheels.model import Record
from sagefix.workflows.provenance import Shown

_ENVIRONMENT = "rebuild-env"
# These are among the packages that are installed below.
_PACKAGED = frozenset({"torch", "setuptools", "wheel", "ninja"})


def how_to_rebuild(shown: Shown) -> tuple[str, ...]:
    """Return lines of text for people; commands are indented by four spaces."""
    record = shown.record
    if record is None:
        return (f"{shown.filename} holds no record of sagefix. Nobody can tell from it how it was built.",)
    if record.origin == "saved":
        return (
            f"{shown.filename} was saved from an installation; how it was built left no trace in the files.",
            f"Known: {_known(record.commit, record.source_url)}. Not known: {', '.join(record.unknown)}.",
            "A build of the same commit is not the same wheel, but one that can be built again:",
            f"    sagefix build --pin {record.pin}" + (f" --ref {record.commit}" if record.commit else ""),
        )
    parts = [
        f"{record.project} {record.version} is commit {record.commit} of {record.source_url} (tree {record.tree}),",
        f"built by sagefix {record.sagefix}{_for(record)}.",
        f"Its {len(record.sources)} source files, the flags of each library and the packages are in the record "
        "(sagefix wheelhouse show --json).",
        "",
        "1. The same environment. The more of it is the same, the more of the bytes are; sagefix names what differs.",
        *(f"   {name}: {version}" for name, version in record.tools.items() if name not in _PACKAGED),
    ]
    wanted = [
        f"{package.name}=={package.version}" for package in record.packages if not _of_cuda(package.name)
    ]
    parts += [
        f"    uv venv --python {record.tools.get('python', '3')} {_ENVIRONMENT}",
        f"    uv pip install --python {_ENVIRONMENT} {shlex.join(wanted)}",
    ]
    if any("+" in package for package in wanted if package.startswith("torch==")):
        parts.append(
            "   (a torch with +cu... comes from torch's own index, see https://pytorch.org/get-started)"
        )
    parts += [f"    export {name}={shlex.quote(value)}" for name, value in record.environment.items()]
    if nvcc := record.tools.get("nvcc"):
        cuda = [f"{package.name} {package.version}" for package in record.packages if _of_cuda(package.name)]
        parts.append(
            f"   The CUDA compiler was {nvcc}"
            + (
                f", from packages: {', '.join(cuda)}."
                if cuda
                else "; set CUDA_HOME to a toolkit of that version."
            )
        )
    parts += [
        "",
        f"2. The same build, with sagefix {record.sagefix}: it compares byte for byte and says what differs.",
        f"    sagefix rebuild {shlex.quote(shown.path)} --python {_ENVIRONMENT}",
        "",
        "Without sagefix one gets a wheel that does the same, but not the same bytes, label and fixes:",
        *_by_hand(shown),
    ]
    return tuple(parts)


def _for(record: Record) -> str:
    """Return what a wheel was built for, as the end of a sentence."""
    archs = f" for compute capability {', '.join(record.archs)}" if record.archs else ""
    torch = f" against torch {record.torch}" if record.torch else ""
    return archs + torch + (f", with the fixes {', '.join(record.fixes)}" if record.fixes else "")


def _of_cuda(name: str) -> bool:
    return name.startswith(("nvidia-", "cuda-"))


def _known(commit: str, url: str) -> str:
    return ", ".join(filter(None, [f"commit {commit}" if commit else "", url])) or "nothing"


def _by_hand(shown: Shown) -> list[str]:
    record = shown.record
    assert record is not None
    url = record.source_url
    get = [f"git clone {shlex.quote(url)} source", "cd source", f"git checkout {record.commit}"]
    if "://" not in url:
        get = [f"cd source   # {url}"]
    variables = [f"SOURCE_DATE_EPOCH={record.source_date_epoch}", "PYTHONHASHSEED=0"]
    if record.archs:
        variables.append(f"TORCH_CUDA_ARCH_LIST={shlex.quote(';'.join(record.archs))}")
    command = (
        f"{' '.join(variables)} ../{_ENVIRONMENT}/bin/python -m pip wheel --no-build-isolation --no-deps ."
    )
    return [f"    {line}" for line in (*get, command)]
