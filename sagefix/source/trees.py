"""Commits and trees, read and checked, and the files that a pin's patterns select of them."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Sequence

from sagefix.errors import PinError, SourceError
from sagefix.source.failures import Damaged
from sagefix.source.model import Commit, File, Selection
from sagefix.source.repository import Repository

_PATTERN = re.compile(r"^/[^*?\[\]\\!#]+$")
# A tree may name one subtree many times over, so that a small repository unfolds into any number of files.
_MOST_FILES = 100_000
_SUBMODULE = 0o160000


def is_full_commit(text: str) -> bool:
    """True for 40 lower-case hexadecimal digits."""
    return re.fullmatch(r"[0-9a-f]{40}", text) is not None


def read_commit(repository: Repository, name: str) -> Commit:
    """Read a commit. Raises :class:`Missing`, :class:`Damaged`, or :class:`SourceError` for another kind."""
    kind, data = repository.read(name)
    if kind != "commit":
        raise SourceError(f"{name} is a {kind}, not a commit.", hint="Give the commit that it belongs to.")
    tree, time, parents = "", 0, []
    for line in data.partition(b"\n\n")[0].decode("utf-8", "replace").splitlines():
        word, _, rest = line.partition(" ")
        if word == "tree":
            tree = rest
        elif word == "parent":
            parents.append(rest)
        elif word == "committer":
            time = int(rest.split()[-2])
    return Commit(tree=tree, parents=tuple(parents), time=time)


class Patterns:
    """A pin's patterns, counted from the root: ``/name`` selects a file or folder, ``/name/`` a folder.

    This is the part of git's sparse-checkout patterns that has one meaning only:
    https://git-scm.com/docs/git-sparse-checkout
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._wanted: list[tuple[tuple[str, ...], bool]] = []
        for text in patterns:
            parts = tuple(text.strip("/").split("/"))
            if not _PATTERN.match(text) or {"", ".", ".."} & set(parts):
                raise PinError(
                    f"{text!r} is not a pattern that sagefix understands.",
                    hint="Write /file or /folder/, counted from the root of the repository.",
                )
            self._wanted.append((parts, text.endswith("/")))

    def selects(self, path: tuple[str, ...], is_folder: bool) -> bool:
        """True for a path that a pattern names; what lies in a selected folder is selected with it."""
        return any(path == parts and (is_folder or not folder) for parts, folder in self._wanted)

    def selects_file(self, path: tuple[str, ...]) -> bool:
        """True for a file that is named, or lies in a folder that is."""
        return self.selects(path, False) or any(self.selects(path[:end], True) for end in range(1, len(path)))

    def lies_below(self, path: tuple[str, ...]) -> bool:
        """True for a folder on the way to something that a pattern names."""
        return any(len(path) < len(parts) and parts[: len(path)] == path for parts, _ in self._wanted)


def select(repository: Repository, tree: str, patterns: Sequence[str]) -> Selection:
    """Walk a tree and return what the patterns select. Blobs are not looked at.

    Raises :class:`Missing` and :class:`Damaged` for tree objects, :class:`PinError` for a pattern.
    """
    wanted = Patterns(patterns)
    files: list[File] = []
    submodules: list[str] = []
    trees: dict[str, None] = {}
    waiting: list[tuple[str, tuple[str, ...], bool]] = [(tree, (), False)]
    while waiting:
        name, above, whole = waiting.pop()
        trees[name] = None
        for blob, mode, entry in _entries(repository, name):
            path = (*above, entry)
            folder = stat.S_ISDIR(mode)
            inside = whole or wanted.selects(path, folder)
            if folder:
                if inside or wanted.lies_below(path):
                    waiting.append((blob, path, inside))
            elif inside and mode == _SUBMODULE:
                submodules.append("/".join(path))
            elif inside:
                files.append(File(path="/".join(path), mode=mode, blob=blob))
        if len(files) + len(waiting) > _MOST_FILES:
            raise SourceError(
                f"The tree {tree} holds more than {_MOST_FILES} files of the kind that the pin wants."
            )
    return Selection(
        files=tuple(sorted(files, key=lambda file: file.path)),
        trees=tuple(trees),
        submodules=tuple(sorted(submodules)),
    )


def _entries(repository: Repository, name: str) -> Iterator[tuple[str, int, str]]:
    from git.objects.fun import tree_entries_from_data

    kind, data = repository.read(name)
    if kind != "tree":
        raise Damaged(name)
    seen: set[str] = set()
    try:
        entries = tree_entries_from_data(data)
    except ValueError as error:
        raise SourceError(f"The tree {name} is not one that git writes: {error}.") from error
    for binary, mode, entry in entries:
        # Such a tree can be made by hand, to write outside the folder it is unpacked into.
        if entry in {"", ".", ".."} or entry.lower() == ".git" or "/" in entry or entry in seen:
            raise SourceError(f"The tree {name} holds the name {entry!r}, which no honest repository does.")
        seen.add(entry)
        yield binary.hex(), mode, entry


def check_blobs(repository: Repository, selection: Selection) -> None:
    """Read every selected blob. Raises :class:`Missing` or :class:`Damaged` with its id."""
    for file in selection.files:
        if repository.read(file.blob)[0] != "blob":
            raise Damaged(file.blob)
