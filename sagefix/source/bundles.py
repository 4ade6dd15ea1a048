"""Git bundles: the source in one file, for machines with no network.

A bundle here holds one commit, the trees on the way to the selected files, and those files. Git's own
``git bundle create`` follows history and wants every object, so the file is put together from its parts: a
header in the documented format and a pack. The commit's parents stand in the header as prerequisites, which
is git's way to say that history is not inside. Format: https://git-scm.com/docs/gitformat-bundle
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from sagefix.errors import SourceError
from sagefix.source.cache import Cache
from sagefix.source.failures import GitFailed, reason
from sagefix.source.repository import Repository

_LONGEST_HEADER = 1 << 20
_HEAD = re.compile(r"^(?P<commit>[0-9a-f]{40}) (?P<name>\S+)$")
# Git's rule in short: no .. and none of the characters that mean something to it.
_REF = re.compile(r"^refs/(?!.*(?:\.\.|//|@\{|\.lock$))[^\s~^:?*\[\\\x00-\x1f]+$")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a bundle: names with their commits or tags, what it builds on, where its pack begins."""

    heads: dict[str, str]
    prerequisites: tuple[str, ...]
    pack_at: int

    def contents(self) -> str:
        """Write what is in the bundle, for people."""
        shown = [f"{commit[:12]} ({name})" for name, commit in self.heads.items()]
        more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
        return (", ".join(shown[:5]) + more) or "nothing"


def read_header(file: Path) -> Header:
    """Read the head of a bundle. Raises :class:`SourceError`."""
    with file.open("rb") as stream:
        start = stream.read(_LONGEST_HEADER)
    head, gap, _ = start.partition(b"\n\n")
    first, *lines = head.decode("utf-8", "replace").split("\n")
    if not gap or first not in {"# v2 git bundle", "# v3 git bundle"}:
        raise SourceError(f"{file} is not a git bundle.", hint="Write one with `sagefix source bundle FILE`.")
    heads, prerequisites = {}, []
    for line in lines:
        if line == "@object-format=sha1" or line.startswith("@filter="):
            continue
        if line.startswith("-"):
            prerequisites.append(line[1:41])
        elif match := _HEAD.match(line):
            heads[match["name"]] = match["commit"]
        else:
            raise SourceError(
                f"The bundle {file} says {line[:80]!r} in its header, which sagefix does not know."
            )
    return Header(heads=heads, prerequisites=tuple(prerequisites), pack_at=len(head) + len(gap))


@contextmanager
def opened_bundle(file: Path, cache: Cache) -> Iterator[Repository]:
    """Give a repository with the bundle's objects and refs; :class:`SourceError` for a damaged file."""
    header = read_header(file)
    with cache.scratch() as repository:
        # Unbuffered: git goes on reading where this stream stands.
        with file.open("rb", buffering=0) as stream:
            stream.seek(header.pack_at)
            try:
                repository.unpack(stream)
            except GitFailed as failure:
                why = reason(failure.said)
                if header.prerequisites and "unresolved delta" in why:
                    raise SourceError(
                        f"The bundle {file} holds only what came after {header.prerequisites[0]}.",
                        hint="Write one with `sagefix source bundle FILE`, or one of the whole history.",
                    ) from failure
                raise SourceError(
                    f"The bundle {file} is damaged: {why}", hint="Copy or write it again."
                ) from failure
        names = [(name, commit) for name, commit in header.heads.items() if _REF.match(name)]
        (repository.path / "packed-refs").write_text(
            "".join(f"{commit} {name}\n" for name, commit in sorted(names))
        )
        if "HEAD" in header.heads:
            (repository.path / "HEAD").write_text(header.heads["HEAD"] + "\n")
        yield repository


def put_bundle(
    file: Path, repository: Repository, *, name: str, parents: Iterable[str], objects: list[str]
) -> None:
    """Write a bundle of exactly these objects; the first of them is the commit that ``name`` stands for."""
    prerequisites = "".join(f"-{parent}\n" for parent in parents)
    header = f"# v2 git bundle\n{prerequisites}{objects[0]} {name}\n\n"
    file.write_bytes(header.encode() + repository.pack(objects))
