"""Does a wheel fit a target, one fact at a time.

Each function looks at one fact and answers in a sentence. What a wheel's record says is believed before what
its label says: the record holds whole values, the label short ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from sagefix.archs import Arch, join_archs, parse_arch, sort_archs
from sagefix.errors import UsageError
from sagefix.pins.model import Pin, Revision
from sagefix.targets.model import Target
from sagefix.wheels.label import UNKNOWN, commit_matches
from sagefix.wheels.model import Facts


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one fact says: whether the wheel fits as far as it goes, in words, and whether it is unknown."""

    fits: bool
    text: str
    unknown: bool = False


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of a wheel; see :func:`sagefix.wheelhouse.select.select`."""

    target: Target
    pin: Pin
    revision: Revision
    fixes: int
    allow_known_bad: bool
    allow_unknown: bool


def findings(facts: Facts, question: Question) -> Iterator[Finding]:
    """Yield what every fact of a wheel says about a question; of another project's wheel that alone."""
    if canonicalize_name(facts.project) != canonicalize_name(question.pin.project):
        yield Finding(fits=False, text=f"it is {facts.project}, not {question.pin.project}")
        return
    yield _commit(facts, question)
    yield from _fixes(facts, question)
    yield from _known_bad(facts, question)
    yield _tags(facts, question.target)
    yield from _python(facts, question.target)
    yield from _glibc(facts, question.target)
    if question.pin.build.torch or facts.requires_torch:
        yield from _torch(facts, question)
    if question.pin.device == "cuda":
        yield _cuda(facts, question.target)
        yield _archs(facts, question)


def archs_of(facts: Facts) -> tuple[Arch, ...]:
    """Return the archs whose code is in a wheel, as its record or label says; none when neither does."""
    told = (facts.record.archs if facts.record is not None else ()) or facts.label.archs
    try:
        return sort_archs(parse_arch(arch) for arch in told)
    except UsageError:
        return ()


def _commit_of(facts: Facts) -> str:
    told = (facts.record.commit if facts.record is not None else "") or facts.label.commit
    return "" if told == UNKNOWN else told


def _commit(facts: Facts, question: Question) -> Finding:
    told, wanted = _commit_of(facts), question.revision.commit
    if told:
        if commit_matches(told, wanted):
            return Finding(fits=True, text=f"it is of commit {wanted[:7]}")
        return Finding(fits=False, text=f"it is of commit {told[:7]}, not {wanted[:7]}")
    text = "nothing says which commit it was built from"
    version = facts.version.partition("+")[0]
    if version != question.pin.version:
        return Finding(
            fits=False, text=f"{text}, and it is {version}, not {question.pin.version}", unknown=True
        )
    saved = facts.record is not None and facts.record.origin == "saved"
    if saved:
        text += f"; it was saved from an installation of {version}"
    return Finding(fits=saved or question.allow_unknown, text=text, unknown=True)


def _fixes(facts: Facts, question: Question) -> Iterator[Finding]:
    has, wanted = facts.label.fix, question.fixes
    if has != wanted:
        yield Finding(fits=False, text=f"it has the pin's fixes up to level {has}, and {wanted} is wanted")
    elif has:
        yield Finding(fits=True, text=f"it has the pin's fixes up to level {has}")


def _known_bad(facts: Facts, question: Question) -> Iterator[Finding]:
    told = _commit_of(facts)
    if not told:
        return
    # A label holds a short commit; the full one is that of the question if it fits, else of the pin's list.
    full = [question.revision.commit, *(commit for known in question.pin.known for commit in known.commits)]
    commit = next((commit for commit in full if commit_matches(told, commit)), told)
    for known in question.pin.known_about(commit, question.target.archs):
        if known.status != "good":
            where = "" if "*" in known.archs else f" on {', '.join(known.archs)}"
            source = f" ({known.sources[0]})" if known.sources else ""
            text = f"commit {commit[:7]} is known to be {known.status}{where}: {known.reason.rstrip('.')}"
            yield Finding(fits=question.allow_known_bad, text=text + source)


def _tags(facts: Facts, target: Target) -> Finding:
    interpreter = target.interpreter
    takes = set(interpreter.tags)
    for tag in facts.tags:
        if tag in takes:
            return Finding(fits=True, text=f"its tag {tag} is one that Python {interpreter.version} takes")
    pythons = {tag.rsplit("-", 1)[0] for tag in facts.tags}
    platforms = {tag.rsplit("-", 1)[1] for tag in facts.tags}
    wrong = []
    if pythons.isdisjoint(tag.rsplit("-", 1)[0] for tag in takes):
        wrong.append(f"for Python {_join(pythons)}, not {interpreter.python_tag}-{interpreter.abi_tag}")
    if platforms.isdisjoint(tag.rsplit("-", 1)[1] for tag in takes):
        wrong.append(f"for the platform {_join(platforms)}, not {interpreter.platform_tag}")
    return Finding(fits=False, text=f"it is {' and '.join(wrong) or f'tagged {_join(set(facts.tags))}'}")


def _python(facts: Facts, target: Target) -> Iterator[Finding]:
    if not facts.requires_python:
        return
    version = target.interpreter.version
    if not _contains(facts.requires_python, version):
        yield Finding(
            fits=False, text=f"it requires Python {facts.requires_python}, and the target has {version}"
        )


def _glibc(facts: Facts, target: Target) -> Iterator[Finding]:
    # What asks for the symbol version GLIBC_2.32 loads with no older libc: https://peps.python.org/pep-0600/
    needs, has = (facts.record.glibc if facts.record is not None else ""), target.interpreter.glibc
    if not needs:
        if not all(tag.endswith("-any") for tag in facts.tags):
            yield Finding(fits=True, text="nothing says which glibc it needs", unknown=True)
    elif not has:
        yield Finding(fits=False, text=f"it needs glibc {needs}, and the target has none")
    else:
        fits = _numbers(needs) <= _numbers(has)
        yield Finding(fits=fits, text=f"it needs glibc {needs}, and the target has {has}")


def _torch(facts: Facts, question: Question) -> Iterator[Finding]:
    """Judge torch: compiled against libtorch's C++ ABI, a wheel is good for one minor release of it.

    Source: https://docs.pytorch.org/docs/stable/notes/libtorch_stable_abi.html
    """
    torch = question.target.interpreter.torch
    if torch is None:
        yield Finding(fits=False, text="it needs torch, and the target has none")
        return
    if facts.requires_torch and not _contains(facts.requires_torch, torch.version):
        text = f"it requires torch {facts.requires_torch}, and the target has {torch.version}"
        yield Finding(fits=False, text=text)
        return
    if not question.pin.build.torch:
        yield Finding(fits=True, text=f"it requires torch {facts.requires_torch}, as the target has")
        return
    made_for = _torch_of(facts)
    if not made_for:
        yield Finding(
            fits=question.allow_unknown, text="nothing says which torch it was built for", unknown=True
        )
    elif made_for != torch.release:
        text = f"it was built for torch {made_for}, and the target has {torch.version}"
        yield Finding(fits=False, text=text)
    else:
        yield Finding(fits=True, text=f"it was built for torch {made_for}, as the target has")
    abi = facts.record.cxx11_abi if facts.record is not None else None
    if abi is not None and torch.cxx11_abi is None:
        text = f"nobody here knows which C++ string ABI torch {torch.version} has"
        yield Finding(fits=True, text=text, unknown=True)
    elif abi is not None and abi != torch.cxx11_abi:
        old, new = "the old C++ string ABI", "the new one"
        text = "it was built for {}, and the target's torch for {}".format(
            *((new, old) if abi else (old, new))
        )
        yield Finding(fits=False, text=text)


def _torch_of(facts: Facts) -> str:
    """Return the minor release of torch a wheel was built for, empty when nothing tells."""
    told = (facts.record.torch if facts.record is not None else "") or facts.label.torch
    if not told:
        # A pin on one minor release is an answer; anything wider is a wish, not what was linked.
        try:
            clauses = [clause for clause in SpecifierSet(facts.requires_torch) if clause.operator == "=="]
        except InvalidSpecifier:
            return ""
        told = clauses[0].version.removesuffix(".*") if clauses else ""
    release = told.partition("+")[0].split(".")[:2]
    return ".".join(release) if len(release) == 2 else ""


def _cuda(facts: Facts, target: Target) -> Finding:
    """Judge CUDA: libraries of one major version are compatible with each other, those of two are not.

    Source: https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
    """
    has = target.interpreter.torch.cuda if target.interpreter.torch is not None else ""
    told = (facts.record.cuda if facts.record is not None else "") or facts.label.cuda
    if not has:
        return Finding(fits=False, text="it needs CUDA, and the target's torch is for the CPU only")
    if not told:
        return Finding(fits=True, text="nothing says which CUDA it was built with", unknown=True)
    if told.partition(".")[0] != has.partition(".")[0]:
        return Finding(fits=False, text=f"it was built with CUDA {told}, and the target's torch with {has}")
    return Finding(fits=True, text=f"it was built with CUDA {told}, and the target's torch with {has}")


def _archs(facts: Facts, question: Question) -> Finding:
    """Judge archs: code for exactly each wanted capability has to be inside.

    CUDA would run a cubin of 8.0 on 8.6, and PTX on every later GPU
    (https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#binary-compatibility). That is not used
    here: these packages choose among extensions by the exact capability, and code for ``sm_90a`` runs on 9.0
    alone. PTX that is wanted has to be there, too.
    """
    wanted, inside = sort_archs(question.target.archs), archs_of(facts)
    if not inside:
        return Finding(
            fits=question.allow_unknown, text="nothing says for which GPUs it was built", unknown=True
        )
    with_ptx = {arch.capability: arch.ptx for arch in inside}
    lacks = [
        arch
        for arch in wanted
        if arch.capability not in with_ptx or (arch.ptx and not with_ptx[arch.capability])
    ]
    if lacks:
        return Finding(
            fits=False, text=f"it holds code for {join_archs(inside)}, not for {join_archs(lacks)}"
        )
    return Finding(fits=True, text=f"it holds code for {join_archs(inside)}")


def _contains(specifier: str, version: str) -> bool:
    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidSpecifier:
        return False


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _join(words: set[str]) -> str:
    return ", ".join(sorted(words))
