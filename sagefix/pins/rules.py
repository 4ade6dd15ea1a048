"""What must hold in a pin beyond the types of its keys."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from sagefix.archs import Arch, parse_arch
from sagefix.errors import UsageError
from sagefix.pins.locate import KeyPath
from sagefix.pins.model import Capability, Pin, Recipe, Source

Problem = tuple[KeyPath, str]
"""Where something is wrong, and what."""

_OBJECT = re.compile(r"[0-9a-f]{40}")
_VERSION = re.compile(r"[0-9]+\.[0-9]+(?:\.[0-9]+)?")
_GENCODE = re.compile(r"[0-9]{2,3}[af]?")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
# Only these are allowed to git, too: others (ext::, http) run programs or can be read and changed on the way.
_SCHEMES = ("https://", "ssh://", "file://")


def problems(pin: Pin, path: Path) -> Iterator[Problem]:
    """Yield everything that is wrong with a pin read from ``path``, in the order of a reader's interest."""
    if pin.name != path.stem:
        yield ("name",), f"{pin.name!r} is not the name of the file ({path.stem!r})"
    yield from _source(pin.source, path.parent)
    if pin.build.memory_gib <= 0:
        yield ("build", "memory_gib"), "must be more than 0"
    yield from _recipes(pin)
    yield from _refs(pin)
    yield from _known(pin)
    yield from _fixes(pin, path.parent)
    for index, fault in enumerate(pin.fault):
        yield from _archs(("fault", index, "archs"), fault.archs, star=True)
        for position, file in enumerate(fault.files):
            if file.startswith("/") or ".." in file.split("/"):
                yield ("fault", index, "files", position), f"{file!r} is not a path inside site-packages"


def _fixes(pin: Pin, folder: Path) -> Iterator[Problem]:
    if bool(pin.fix) != (pin.fix_level > 0):
        yield ("fix_level",), "must be 1 or more with fixes, and 0 without"
    names = [fix.name for fix in pin.fix]
    for index in _repeated(names):
        yield ("fix", index, "name"), f"{names[index]!r} is there twice"
    for index, fix in enumerate(pin.fix):
        if fix.source.startswith("/") or ".." in fix.source.split("/") or not (folder / fix.source).is_file():
            yield ("fix", index, "source"), f"{fix.source!r} is no file beside the manifest"
        if not fix.wraps:
            yield ("fix", index, "wraps"), "must name at least one function"


def _source(source: Source, folder: Path) -> Iterator[Problem]:
    url, embedded = source.url, source.embedded
    if bool(url) == bool(embedded):
        yield ("source",), "exactly one of url and embedded must be given"
    elif url and not url.startswith(_SCHEMES):
        yield ("source", "url"), f"{url!r} does not start with one of {', '.join(_SCHEMES)}"
    elif embedded and (embedded in (".", "..") or "/" in embedded or "\\" in embedded):
        yield ("source", "embedded"), f"{embedded!r} is not the name of a folder"
    elif embedded and not (folder / embedded).is_dir():
        yield ("source", "embedded"), f"there is no folder {embedded!r} beside the manifest"
    yield from _objects(("source", "commit"), source.commit)
    yield from _objects(("source", "tree"), source.tree)
    if not source.files:
        yield ("source", "files"), "must name at least one pattern"
    for index, pattern in enumerate(source.files):
        # A pattern without a leading slash matches in every folder, and so names more than it says.
        if not pattern.startswith("/"):
            yield ("source", "files", index), f"{pattern!r} does not start with '/'"
        elif ".." in pattern.split("/"):
            yield ("source", "files", index), f"{pattern!r} contains '..'"


def _recipes(pin: Pin) -> Iterator[Problem]:
    if not pin.recipe:
        yield ("recipe",), "at least one is needed"
    names = [recipe.name for recipe in pin.recipe]
    for index in _repeated(names):
        yield ("recipe", index, "name"), f"{names[index]!r} is there twice"
    blobs = [(i, j) for i, recipe in enumerate(pin.recipe) for j in range(len(recipe.setup_py))]
    values = [pin.recipe[i].setup_py[j] for i, j in blobs]
    for place, value in zip(blobs, values, strict=True):
        yield from _objects(("recipe", place[0], "setup_py", place[1]), value)
    for repeated in _repeated(values):
        index, position = blobs[repeated]
        yield ("recipe", index, "setup_py", position), f"{values[repeated]} is there twice"
    for index, recipe in enumerate(pin.recipe):
        yield from _recipe(("recipe", index), recipe, pin)


def _recipe(at: KeyPath, recipe: Recipe, pin: Pin) -> Iterator[Problem]:
    yield from _needs_sources(at, recipe.sources)
    yield from _modules((*at, "extensions"), recipe.extensions, pin.package)
    if pin.device == "cpu" and recipe.capability:
        yield (*at, "capability"), "a pin for the CPU has none; name its extensions in the recipe"
    if pin.device == "cuda" and not recipe.capability:
        yield at, "missing key capability (the pin's device is cuda)"
    archs = [row.arch for row in recipe.capability]
    for index, row in enumerate(recipe.capability):
        yield from _capability((*at, "capability", index), row, pin.package)
    for index in _repeated(archs):
        yield (*at, "capability", index, "arch"), f"{archs[index]} is there twice"
    for index, refusal in enumerate(recipe.refusal):
        yield from _archs((*at, "refusal", index, "archs"), refusal.archs, star=True)
        yield from _needs_sources((*at, "refusal", index), refusal.sources)
        for position, arch in enumerate(refusal.archs):
            if arch in archs:
                yield (*at, "refusal", index, "archs", position), f"{arch} is among the recipe's capabilities"


def _capability(at: KeyPath, row: Capability, package: str) -> Iterator[Problem]:
    yield from _archs(at, (row.arch,), key="arch")
    if not _VERSION.fullmatch(row.min_cuda):
        yield (*at, "min_cuda"), f"{row.min_cuda!r} is not a version such as 12.4"
    if not _GENCODE.fullmatch(row.gencode):
        yield (*at, "gencode"), f"{row.gencode!r} is not a number such as 90 or 90a"
    if not row.extensions:
        yield (*at, "extensions"), "must name at least one module"
    yield from _modules((*at, "extensions"), row.extensions, package)
    if not row.dispatch and not row.reason:
        yield at, "missing key reason (dispatch is empty)"
    yield from _needs_sources(at, row.sources)


def _refs(pin: Pin) -> Iterator[Problem]:
    recipes = {recipe.name for recipe in pin.recipe}
    for index, ref in enumerate(pin.ref):
        at = ("ref", index)
        yield from _objects((*at, "commit"), ref.commit)
        yield from _objects((*at, "tree"), ref.tree)
        if ref.package_tree:
            yield from _objects((*at, "package_tree"), ref.package_tree)
        if ref.recipe not in recipes:
            yield (*at, "recipe"), f"there is no recipe named {ref.recipe!r}"
    commits = [ref.commit for ref in pin.ref]
    for index in _repeated(commits):
        yield ("ref", index, "commit"), f"{commits[index]} is there twice"
    places = [(i, j) for i, ref in enumerate(pin.ref) for j in range(len(ref.names))]
    names = [pin.ref[i].names[j] for i, j in places]
    for repeated in _repeated(names):
        index, position = places[repeated]
        yield ("ref", index, "names", position), f"{names[repeated]!r} is there twice"
    own = pin.ref_of(pin.source.commit)
    if own is None:
        yield ("source", "commit"), f"{pin.source.commit} is not among the refs"
    elif own.tree != pin.source.tree:
        yield ("source", "tree"), f"{pin.source.tree} is not the tree of its ref ({own.tree})"


def _known(pin: Pin) -> Iterator[Problem]:
    for index, known in enumerate(pin.known):
        at = ("known", index)
        yield from _archs((*at, "archs"), known.archs, star=True)
        for position, commit in enumerate(known.commits):
            yield from _objects((*at, "commits", position), commit)
        yield from _needs_sources(at, known.sources)


def _objects(at: KeyPath, value: str) -> Iterator[Problem]:
    if not _OBJECT.fullmatch(value):
        yield at, f"{value!r} is not a full git object name (40 lower-case hexadecimal digits)"


def _archs(
    at: KeyPath, values: Iterable[str], *, star: bool = False, first: int = 0, key: str = ""
) -> Iterator[Problem]:
    """Archs in a manifest are written in one way only, since they are compared as text."""
    for index, value in enumerate(values, first):
        if star and value == "*":
            continue
        place = (*at, key or index)
        try:
            arch = parse_arch(value)
        except UsageError as error:
            yield place, error.message
        else:
            if value != Arch(arch.major, arch.minor).capability:
                yield place, f"{value!r} has to be written {arch.capability!r}"


def _modules(at: KeyPath, names: Iterable[str], package: str) -> Iterator[Problem]:
    for index, name in enumerate(names):
        if not _MODULE.fullmatch(name) or not name.startswith(f"{package}."):
            yield (*at, index), f"{name!r} is not a module of {package}"


def _needs_sources(at: KeyPath, sources: tuple[str, ...]) -> Iterator[Problem]:
    if not sources:
        yield (*at, "sources"), "must name at least one"


def _repeated(values: list[str]) -> Iterator[int]:
    """Yield the index of every value that stood before."""
    seen: Counter[str] = Counter()
    for index, value in enumerate(values):
        if seen[value]:
            yield index
        seen[value] += 1
