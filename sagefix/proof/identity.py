"""Which commit an installation is of: what it says, and what its sources are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from packaging.version import InvalidVersion, Version

from sagefix.archs import Arch, join_archs
from sagefix.checks import Check, Status
from sagefix.pins.model import Known, Pin, Revision
from sagefix.proof.installed import COMPILED_SUFFIXES, Installed
from sagefix.wheels.gittree import tree_id
from sagefix.wheels.label import UNKNOWN, commit_matches

FIX = "Run `sagefix install`."


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the commit.

    ``said`` is the commit that record or label name, ``said_by`` which of them. ``tree`` is the git tree of
    the package's sources, ``of_tree`` the commits of the pin with that tree. ``commits`` is the conclusion:
    full commits where they are known, none when nothing tells; ``conflict`` says how the accounts disagree.
    """

    said: str
    said_by: str
    tree: str
    of_tree: tuple[str, ...]
    commits: tuple[str, ...]
    conflict: str = ""

    def shown(self, pin: Pin) -> str:
        """Write the commit for people, after a version; of several with this package the best known."""
        names = {ref.commit: ref.names[0] for ref in pin.ref if ref.names}
        best = pin.source.commit if pin.source.commit in self.commits else ""
        best = best or next((commit for commit in self.commits if commit in names), self.commits[0])
        text = best[:7] + (f" ({names[best]})" if best in names else "")
        if self.said:
            return f"at {text}"
        others = len(self.commits) - 1
        return f"with the Python files of {text}" + (f" and {others} more commits" if others else "")


def package_tree(package: Path) -> str:
    """Return the id that git gives to the folder, compiled modules and caches left out.

    It is the id of a tree object with every file as a plain one (mode 100644), so it equals
    ``git rev-parse COMMIT:package`` when everything in the folder is installed and none of it executable.
    """
    if not package.is_dir():
        return ""
    return tree_id(
        {
            path.relative_to(package).as_posix(): path
            for path in package.rglob("*")
            if path.is_file()
            and "__pycache__" not in path.parts
            and path.suffix not in (*COMPILED_SUFFIXES, ".pyc")
        }
    )


def same_release(version: str, other: str) -> bool:
    """Tell whether two versions are of one release, whatever their labels; False for what is no version."""
    try:
        return Version(version).release == Version(other).release
    except InvalidVersion:
        return False


def identify(pin: Pin, installed: Installed, wanted: Revision | None = None) -> Identity:
    """Put together what the record, the label and the sources say about the commit."""
    in_record, in_label = _said(installed)
    said = in_record or in_label
    full = tuple(commit for commit in _listed(pin, wanted) if said and commit_matches(said, commit))
    tree = package_tree(installed.package)
    of_tree = tuple(ref.commit for ref in pin.ref if ref.package_tree and ref.package_tree == tree)
    identity = Identity(
        said=said,
        said_by=("record" if in_record else "label") if said else "",
        tree=tree,
        of_tree=of_tree,
        commits=(full or (said,)) if said else of_tree,
    )
    return msgspec.structs.replace(identity, conflict=_conflict(pin, installed, identity))


def _said(installed: Installed) -> tuple[str, str]:
    """Return the commit in the record and that in the label; empty where it is unknown."""
    record = installed.record
    in_record = record.commit if record is not None and record.commit != UNKNOWN else ""
    return in_record, installed.label.commit if installed.label.commit != UNKNOWN else ""


def _listed(pin: Pin, wanted: Revision | None) -> Iterable[str]:
    """Every full commit the pin knows of, each once."""
    commits = [pin.source.commit, *(ref.commit for ref in pin.ref)]
    commits += [commit for known in pin.known for commit in known.commits]
    return dict.fromkeys([*commits, wanted.commit] if wanted is not None else commits)


def _conflict(pin: Pin, installed: Installed, identity: Identity) -> str:
    in_record, in_label = _said(installed)
    if in_record and in_label and not commit_matches(in_label, in_record):
        return f"its version says {in_label}, its record {in_record[:7]}"
    if not identity.said or (installed.record is not None and installed.record.patches):
        return ""
    # Only a tree that is known can contradict: an unlisted commit may have the same package as a listed one.
    refs = [ref for commit in identity.commits if (ref := pin.ref_of(commit)) is not None]
    trees = {ref.package_tree for ref in refs if ref.package_tree}
    if not trees or identity.tree in trees:
        return ""
    real = f"those of {identity.of_tree[0][:7]}" if identity.of_tree else "not those of that commit"
    return f"it says to be {identity.said[:7]}, but its Python files are {real}"


def check_version(
    pin: Pin, installed: Installed, identity: Identity, archs: tuple[Arch, ...], wanted: Revision | None
) -> Check:
    """Judge version and commit against the pin, or against the revision somebody asked for."""
    judge = _Version(pin, installed, identity, archs, wanted)
    return next(check for step in judge.steps if (check := step()) is not None)


class _Version:
    """The steps of the judgement, worst first; the first that has something to say decides."""

    def __init__(
        self,
        pin: Pin,
        installed: Installed,
        identity: Identity,
        archs: tuple[Arch, ...],
        wanted: Revision | None,
    ) -> None:
        self.pin, self.installed, self.identity, self.archs, self.wanted = (
            pin,
            installed,
            identity,
            archs,
            wanted,
        )
        self.steps: tuple[Callable[[], Check | None], ...] = (
            self.readable,
            self.generation,
            self.consistent,
            self.not_known_bad,
            self.as_wanted,
            self.known,
        )

    def check(self, status: Status, found: str, sources: tuple[str, ...] = (), fix: str = FIX) -> Check:
        return Check(
            name="version", status=status, found=found, fix="" if status == "ok" else fix, sources=sources
        )

    def readable(self) -> Check | None:
        try:
            Version(self.installed.version)
        except InvalidVersion:
            return self.check(
                "failure", f"{self.installed.info} names no valid version ({self.installed.version!r})."
            )
        return None

    def generation(self) -> Check | None:
        """Another version, and nothing that says which commit it is of."""
        if self.identity.commits or same_release(self.installed.version, self.pin.version):
            return None
        have, want = Version(self.installed.version), Version(self.pin.version)
        text = f"{self.installed.project} {have} is installed, not {want}"
        traits = []
        if have.major != want.major:
            text = f"{self.installed.project} {have} is generation {have.major}, not {want}"
            if next(self.installed.compiled(), None) is None:
                only = " (Triton only)" if "triton" in self.pin.build.import_requires else ""
                traits.append(f"it holds no compiled kernel{only}")
        if self.installed.from_index:
            traits.append(f"it came from a package index, as `pip install {self.installed.project}` does")
        return self.check("failure", f"{text}: {', and '.join(traits)}." if traits else f"{text}.")

    def consistent(self) -> Check | None:
        if not self.identity.conflict:
            return None
        return self.check(
            "failure", f"{self.installed.version} contradicts itself: {self.identity.conflict}."
        )

    def not_known_bad(self) -> Check | None:
        for known in self._about():
            if known.status != "good":
                where = on_archs(known, self.archs)
                word = "does not parse" if known.status == "unparsable" else f"is known to be broken {where}"
                return self.check("failure", f"{self._subject()} {word}: {known.reason}", known.sources)
        return None

    def as_wanted(self) -> Check | None:
        commits = self.identity.commits
        if self.wanted is None or not commits or self.wanted.commit in commits:
            return None
        return self.check(
            "failure", f"{self._subject()} is installed, {self.wanted.commit[:7]} was asked for."
        )

    def known(self) -> Check:
        commits = self.identity.commits
        if not commits:
            return self.check(
                "warning",
                f"The version {self.installed.version} does not tell the commit, and its Python files are of "
                "none that the pin knows.",
            )
        pinned = self.pin.source.commit
        if pinned in commits:
            return self.check("ok", f"{self._subject()}: the pinned commit.")
        good = [known for known in self._about() if known.status == "good"]
        if good:
            where = on_archs(good[0], self.archs)
            text = f"{self._subject()}: known to be good {where}; the pin is {pinned[:7]}."
            return self.check("ok", text, good[0].sources)
        text = f"{self._subject()}: not known to be good or bad; the pin is {pinned[:7]}."
        return self.check("warning", text)

    def _about(self) -> list[Known]:
        return [
            known for commit in self.identity.commits for known in self.pin.known_about(commit, self.archs)
        ]

    def _subject(self) -> str:
        public = self.installed.version.partition("+")[0]
        return f"{public} {self.identity.shown(self.pin)}"


def on_archs(known: Known, archs: tuple[Arch, ...]) -> str:
    """Say for which of the archs something is known: ``on 9.0``, ``on every arch``."""
    if "*" in known.archs:
        return "on every arch"
    hit = [arch for arch in archs if arch.capability in known.archs]
    return f"on {join_archs(hit) if hit else ', '.join(known.archs)}"
