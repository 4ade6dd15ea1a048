"""The beginning of every workflow: what was asked for, resolved into a pin, a commit and a target."""

from __future__ import annotations

from pathlib import Path

import msgspec

from sagefix.errors import GpuError, PinError, UsageError
from sagefix.pins.load import load_pin
from sagefix.pins.model import Known, Pin, Recipe, Revision
from sagefix.pins.refs import refuse_known_bad, resolve_ref
from sagefix.progress import warn
from sagefix.settings import default_wheelhouse
from sagefix.source.model import Fetched
from sagefix.targets.choice import choose_archs
from sagefix.targets.cross.described import described_platform, make_described
from sagefix.targets.environments import make_environment, read_spec
from sagefix.targets.gpus import find_gpus
from sagefix.targets.interpreter import find_python, probe
from sagefix.targets.model import Gpus, Interpreter, Target
from sagefix.targets.needs import require_torch
from sagefix.targets.pythons import is_version
from sagefix.wheelhouse.store import Wheelhouse


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for, as text; empty or None means: decide.

    ``cuda`` is ``auto``, ``system``, ``pypi`` or the folder of a toolkit. ``torch`` is a version, and
    ``python`` then one too: the target is made (see :mod:`sagefix.targets.environments`). ``object_cache`` is
    ``auto``, ``off`` or the path of an sccache. ``platform`` is that of the target (``linux_aarch64``); one that is
    not this machine's is described (see :mod:`sagefix.targets.cross.described`).
    """

    pin: str = "sageattention"
    ref: str | None = None
    source: str | None = None
    python: str | None = None
    arch: str | None = None
    wheelhouse: str | None = None
    index: tuple[str, ...] = ()
    offline: bool = False
    allow_known_bad: bool = False
    fixes: bool = True
    cuda: str = "auto"
    torch: str | None = None
    manylinux: bool = False
    object_cache: str = "auto"
    platform: str | None = None


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What the request means here. ``fetched`` is there when the commit had to be looked at to know its recipe."""

    pin: Pin
    revision: Revision
    target: Target
    findings: tuple[Known, ...] = ()
    fetched: Fetched | None = None
    fixes: bool = True
    cuda: str = "auto"
    offline: bool = False
    manylinux: bool = False
    object_cache: str = "auto"

    @property
    def recipe(self) -> Recipe:
        """The recipe of the revision."""
        return self.pin.recipe_named(self.revision.recipe)

    @property
    def fix_level(self) -> int:
        """The level of fixes that a wheel has to have: the pin's, or 0 without fixes."""
        return self.pin.fix_level if self.fixes else 0


def survey(request: Request) -> Situation:
    """Resolve a request. Nothing is built, and the source is fetched only if the pin does not know the commit.

    Raises what the rooms raise: :class:`PinError`, :class:`KnownBadError`, :class:`TargetError`,
    :class:`TorchError`, :class:`GpuError`, :class:`SourceError`.
    """
    pin = load_pin(request.pin)
    platform = described_platform(request.platform)
    if platform is not None and pin.device == "cuda" and request.arch is None:
        # Before gigabytes are fetched for it.
        raise _no_gpu_to_ask(platform.name)
    interpreter = find_interpreter(pin, request)
    revision, fetched = find_revision(pin, request)
    if pin.build.torch:
        require_torch(interpreter, pin)
    target = find_target(pin, pin.recipe_named(revision.recipe), interpreter, request.arch)
    findings = refuse_known_bad(pin, revision, target.archs, request.allow_known_bad)
    for finding in findings:
        if finding.status != "good":
            warn(
                f"{revision.commit[:7]} is known to be {finding.status} on {', '.join(finding.archs)}: {finding.reason}"
            )
    return Situation(
        pin=pin,
        revision=revision,
        target=target,
        findings=findings,
        fetched=fetched,
        fixes=request.fixes,
        cuda=request.cuda,
        offline=request.offline,
        manylinux=request.manylinux,
        object_cache=request.object_cache,
    )


def find_interpreter(pin: Pin, request: Request) -> Interpreter:
    """Return the target's interpreter: the one that is named, or that of a build environment, made if need be.

    A pin that needs no torch gets an environment for a version of Python alone. Of another platform than this
    machine's, the interpreter is a description.
    """
    platform = described_platform(request.platform)
    if platform is not None and not is_version(request.python):
        raise UsageError(
            f"A Python of {platform.name} is not here, so --python has to be a version"
            + (f", not {request.python}." if request.python else "."),
            hint="Write for example --python 3.12" + (" --torch 2.11." if pin.build.torch else "."),
        )
    if request.torch is not None or (is_version(request.python) and not pin.build.torch):
        spec = read_spec(request.python, request.torch, pin.build.requires)
        if platform is not None:
            return make_described(platform, spec, cuda=pin.device == "cuda", offline=request.offline)
        return make_environment(spec, offline=request.offline)
    if is_version(request.python):
        raise UsageError(
            f"--python {request.python} is a version, and {pin.name} is built against torch: which one?",
            hint=f"Write for example --python {request.python} --torch 2.11, or give --python a path.",
        )
    return probe(find_python(request.python))


def find_revision(pin: Pin, request: Request) -> tuple[Revision, Fetched | None]:
    """Return the commit with its tree and recipe, from the pin if it knows the ref, else from the source."""
    known = resolve_ref(pin, request.ref)
    # A plain folder has no commit; what it holds has to be looked at to know whether it is the one asked for.
    folder = request.source is not None and Path(request.source).is_dir()
    if known is not None and known.recipe and known.tree and not folder:
        return known, None
    # Git and its locks, which no wheel at hand needs.
    from sagefix.source.fetch import fetch, resolve

    commit = (
        known.commit if known else resolve(pin, request.ref or "", request.source, offline=request.offline)
    )
    listed = pin.ref_of(commit)
    if listed is not None and not folder:
        return _revision(listed.commit, listed.tree, listed.recipe, request), None
    fetched = fetch(
        pin, commit, tree=listed.tree if listed else "", origin=request.source, offline=request.offline
    )
    return _revision(fetched.commit, fetched.tree, recipe_of(pin, fetched).name, request), fetched


def _revision(commit: str, tree: str, recipe: str, request: Request) -> Revision:
    return Revision(commit=commit, tree=tree, recipe=recipe, asked=request.ref or "")


def recipe_of(pin: Pin, fetched: Fetched) -> Recipe:
    """Return the recipe of a commit that the pin does not list, by its ``setup.py``.

    An unknown ``setup.py`` gets the newest recipe and a warning: what comes out is checked against it anyway.
    """
    if (recipe := pin.recipe_for(fetched.setup_py)) is not None:
        return recipe
    if not fetched.setup_py:
        raise PinError(
            f"{fetched.commit[:12]} has no setup.py, so it is nothing that the pin {pin.name} can build.",
            hint="Check --ref and --source.",
        )
    newest = pin.recipe[-1]
    warn(
        f"The setup.py of {fetched.commit[:7]} is not one the pin knows; going on as for {newest.name!r} "
        "and checking what comes out."
    )
    return newest


def find_target(pin: Pin, recipe: Recipe, interpreter: Interpreter, arch: str | None) -> Target:
    """Return the target; GPUs are looked for only when ``arch`` does not say what to build for."""
    seen: list[Gpus] = []

    def look() -> Gpus:
        if interpreter.built_by is not None:
            raise _no_gpu_to_ask(interpreter.platform_tag)
        seen.append(find_gpus(interpreter))
        return seen[-1]

    archs, archs_from = choose_archs(pin, recipe, arch, look)
    return Target(
        interpreter=interpreter, archs=archs, archs_from=archs_from, gpus=seen[-1].gpus if seen else ()
    )


def _no_gpu_to_ask(platform: str) -> GpuError:
    return GpuError(
        f"A machine of {platform} is described, not present: its GPU cannot be asked.",
        hint="Give its compute capability with --arch: 9.0 for H100, H200 and GH200.",
    )


def wheelhouse_path(given: str | None) -> Path:
    """Return the folder of the wheelhouse that was named, else of the default one."""
    if given is not None and not given.strip():
        raise UsageError("--wheelhouse is empty.", hint="Leave it out for the default one, or give a folder.")
    return Path(given).expanduser().absolute() if given else default_wheelhouse()


def open_wheelhouse(given: str | None, *, create: bool) -> Wheelhouse:
    """Open the wheelhouse that was named, else the default one."""
    return Wheelhouse.open(wheelhouse_path(given), create=create)
