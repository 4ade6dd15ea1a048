"""Git's name for a folder's content, computed without git.

A commit whose package folder has the same tree id holds exactly the installed Python files.
Format: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path


def tree_id(files: Mapping[str, Path]) -> str:
    """Return the id of the git tree that holds these files (relative paths with ``/``), all of them mode 644.

    An installation does not tell which files were executable in git; a package's modules are not.
    """
    blobs: dict[str, bytes] = {}
    folders: dict[str, dict[str, Path]] = {}
    for path, content in files.items():
        first, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(first, {})[rest] = content
        else:
            blobs[first] = bytes.fromhex(blob_id(content.read_bytes()))
    entries = [(name, b"100644 " + name.encode() + b"\0" + blob) for name, blob in blobs.items()]
    for name, inside in folders.items():
        # Git sorts folders as if their names ended with a slash.
        entries.append((f"{name}/", b"40000 " + name.encode() + b"\0" + bytes.fromhex(tree_id(inside))))
    return _object_id(
        "tree", b"".join(entry for _, entry in sorted(entries, key=lambda pair: pair[0].encode()))
    )


def blob_id(data: bytes) -> str:
    """Return the id that git gives to a file's content."""
    return _object_id("blob", data)


def _object_id(kind: str, data: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
