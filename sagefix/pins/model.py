"""What a pin is: the types behind ``manifests/*.toml``.

A *recipe* says what one state of upstream's build files can build; a *ref* is a commit by name; *known* says
what was found out about commits on some archs. All three carry their sources, so that nobody has to trust us.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from sagefix.archs import Arch


class Capability(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a recipe builds for one compute capability.

    ``gencode`` is the number behind ``sm_`` (``"90a"``). ``extensions`` are the modules of the wheel for this
    capability, as import names. ``dispatch`` is what the package's public function calls on such a GPU; empty
    when it refuses the GPU, and ``reason`` then says so. ``min_cuda`` is the first toolkit whose build is
    right, which may be later than the first that compiles (``reason`` says so, too).
    """

    arch: str
    gencode: str
    min_cuda: str
    extensions: tuple[str, ...]
    dispatch: str
    reason: str = ""
    links: tuple[str, ...] = ()
    sources: tuple[str, ...]


class Refusal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Capabilities that a recipe cannot build, and why (``["*"]``: every one that is not named elsewhere)."""

    archs: tuple[str, ...]
    reason: str
    sources: tuple[str, ...]


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One state of upstream's build files, recognised by the git blob of its ``setup.py``.

    ``asks_torch_for_gpus``: the build ignores ``TORCH_CUDA_ARCH_LIST`` and asks ``torch.cuda``.
    ``parallel_env``: the variable that makes it compile several extensions at once (empty: it cannot).
    ``extensions`` are built whatever the archs (all there is
    for a ``cpu`` pin); ``refusal`` says which archs it cannot build.
    """

    name: str
    setup_py: tuple[str, ...]
    asks_torch_for_gpus: bool = False
    parallel_env: str = ""
    extensions: tuple[str, ...] = ()
    capability: tuple[Capability, ...] = ()
    refusal: tuple[Refusal, ...] = ()
    sources: tuple[str, ...]

    def for_arch(self, arch: Arch) -> Capability | None:
        """Return what is built for an arch, or None when this recipe does not know it."""
        return next((row for row in self.capability if row.arch == arch.capability), None)

    def refusal_of(self, arch: Arch) -> Refusal | None:
        """Return why an arch cannot be built, or None when it can or nothing is known."""
        if self.for_arch(arch) is not None:
            return None
        for wanted in (arch.capability, "*"):
            for row in self.refusal:
                if wanted in row.archs:
                    return row
        return None


class Ref(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A commit by name. ``package_tree`` is the git tree of the import package: what is installed."""

    names: tuple[str, ...] = ()
    commit: str
    tree: str
    recipe: str
    package_tree: str = ""
    date: str = ""


class Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known about commits on some archs (``["*"]``: on all)."""

    status: Literal["good", "bad", "unparsable"]
    archs: tuple[str, ...]
    commits: tuple[str, ...]
    reason: str
    sources: tuple[str, ...]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the source is and what of it a build needs.

    ``url`` is empty when ``embedded`` names a folder beside the manifest, which is turned into a repository
    whose commit is always the same. ``files`` are sparse-checkout patterns (``/setup.py``, ``/csrc/``).
    """

    url: str = ""
    embedded: str = ""
    commit: str
    tree: str
    files: tuple[str, ...]


class Build(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a build needs of its target. ``memory_gib``: peak of one compiler process, measured."""

    python: str = ">=3.9"
    torch: bool = True
    requires: tuple[str, ...] = ("setuptools", "wheel", "packaging", "ninja")
    memory_gib: float = 1.0
    import_requires: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


class Fix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change to how upstream is built that cures a fault of it and leaves its files alone.

    ``kind`` ``"link-wrap"``: ``source``, a C++ file beside the manifest, is compiled into every CUDA extension,
    and the linker sends each call of the functions in ``wraps`` to its ``__wrap_`` functions
    (https://sourceware.org/binutils/docs/ld/Options.html, ``--wrap``). ``cures`` says what goes wrong without it.
    """

    name: str
    kind: Literal["link-wrap"]
    source: str
    wraps: tuple[str, ...]
    cures: str
    sources: tuple[str, ...]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A known fault that can be read off installed source without a GPU or an import.

    ``kind`` names the check in :mod:`sagefix.proof.faults`; ``files`` are paths inside site-packages, and one
    that is not installed has no fault. ``archs`` are those it matters for (``["*"]``: all).
    """

    name: str
    kind: Literal["shadowed-custom-op", "unparsable"]
    files: tuple[str, ...]
    archs: tuple[str, ...]
    reason: str
    sources: tuple[str, ...]


class Pin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A package at a commit, and everything known about building and trusting it.

    ``name`` selects it (``--pin``); ``project`` is its name on an index; ``package`` the one to import.
    ``version`` is what upstream's metadata says. ``device``: ``"cuda"`` wheels have archs and a torch in
    their label, ``"cpu"`` wheels have neither.
    """

    schema: Literal[1]
    name: str
    project: str
    package: str
    version: str
    summary: str
    device: Literal["cuda", "cpu"]
    license: str
    source: Source
    build: Build
    recipe: tuple[Recipe, ...]
    ref: tuple[Ref, ...]
    known: tuple[Known, ...] = ()
    fault: tuple[Fault, ...] = ()
    fix_level: int = 0
    fix: tuple[Fix, ...] = ()

    def recipe_named(self, name: str) -> Recipe:
        """Return a recipe by name; loading has checked that every named one exists."""
        return next(recipe for recipe in self.recipe if recipe.name == name)

    def recipe_for(self, setup_py: str) -> Recipe | None:
        """Return the recipe that knows a ``setup.py`` by its git blob, or None."""
        return next((recipe for recipe in self.recipe if setup_py in recipe.setup_py), None)

    def ref_of(self, commit: str) -> Ref | None:
        """Return what is known of a full commit, or None."""
        return next((ref for ref in self.ref if ref.commit == commit), None)

    def known_about(self, commit: str, archs: tuple[Arch, ...]) -> tuple[Known, ...]:
        """Return every finding about a commit that touches one of the archs (all when none is given)."""
        wanted = {arch.capability for arch in archs}
        return tuple(
            known
            for known in self.known
            if commit in known.commits and (not wanted or "*" in known.archs or wanted & set(known.archs))
        )


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """The commit a command works on, after ``--ref`` was resolved.

    ``tree`` and ``recipe`` are empty until the source was fetched when the pin does not list the commit.
    """

    commit: str
    tree: str
    recipe: str
    asked: str
