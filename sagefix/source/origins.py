"""What people write after ``--source``, understood: a URL, a repository, a folder or a bundle.

Only https, ssh and file URLs are taken, and http from this machine itself (a test server). Git knows more:
``ext::`` runs any command, and an option in the place of a URL does, too.
Source: https://git-scm.com/docs/git#Documentation/git.txt-GITALLOWPROTOCOL
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from sagefix.errors import SourceError
from sagefix.pins.model import Pin
from sagefix.settings import manifests_dir
from sagefix.source.model import Origin

_FORMS = (
    "Give an https://, ssh:// or file:// URL, git@host:path, a git repository, a folder with the files, or a "
    "file that `sagefix source bundle FILE` wrote."
)
# Git's own rule: host:path, no slash before the colon. A host that starts with - would be an option of ssh.
_SCP = re.compile(r"^(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9._-]*:[^:].*$")
_HELPER = re.compile(r"^[A-Za-z0-9+.-]+::")
_HOST = re.compile(r"^[A-Za-z0-9:]")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_BUNDLE_MAGIC = (b"# v2 git bundle\n", b"# v3 git bundle\n")


def find_origin(pin: Pin, text: str | None) -> Origin:
    """Understand what was given; None means the pin's own source. Raises :class:`SourceError`."""
    if text is None:
        if pin.source.embedded:
            return _embedded(pin.source.embedded)
        text = pin.source.url
    if not text or text.startswith("-") or not text.isprintable():
        raise SourceError(f"{text!r} is not a place to fetch a source from.", hint=_FORMS)
    if _HELPER.match(text):
        raise SourceError(f"{text.split('::')[0]}:: is refused: it lets a URL run any command.", hint=_FORMS)
    if "://" in text:
        return _url(text)
    if _SCP.match(text) and not os.path.lexists(text):
        return Origin(kind="url", shown=text, url=text, protocol="ssh")
    return _local(Path(os.path.expanduser(text)).absolute())  # noqa: PTH111 - an unknown user is no error here


def _embedded(name: str) -> Origin:
    folder = manifests_dir() / name
    if not folder.is_dir():
        raise SourceError(f"The embedded source {folder} is missing.", hint="Reinstall sagefix.")
    return Origin(kind="embedded", shown=f"embedded:{name}", path=folder)


def _url(text: str) -> Origin:
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        shown = _without_credentials(parts)
    except ValueError as error:
        raise SourceError(f"The URL of the source cannot be read: {error}.", hint=_FORMS) from error
    if parts.scheme == "file":
        return _file_url(parts, text)
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise SourceError(
            f"{shown} is refused: http:// is open to everyone on the way.", hint="Use https://."
        )
    if parts.scheme not in {"https", "ssh", "http"}:
        raise SourceError(f"{parts.scheme}:// is not a protocol that sagefix fetches over.", hint=_FORMS)
    # urlsplit looks behind the last @, and ssh gets what stands before it as well.
    if not _HOST.match(host) or parts.netloc.startswith("-"):
        raise SourceError(f"{shown} names no host.", hint=_FORMS)
    return Origin(kind="url", shown=shown, url=text, protocol=parts.scheme)


def _file_url(parts: SplitResult, text: str) -> Origin:
    path = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not path.is_absolute():
        raise SourceError(
            f"{text} does not name a path on this machine.", hint="Write file:///absolute/path."
        )
    found = _local(path)
    if found.kind != "repository":
        return found
    # A repository behind file:// is asked as a server would be; git itself does not decode %20 here.
    return Origin(kind="url", shown=text, url=f"file://{path}", protocol="file")


def _local(path: Path) -> Origin:
    try:
        return _look_at(path)
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read: {error.strerror}.", hint="Check its permissions."
        ) from error


def _look_at(path: Path) -> Origin:
    if path.is_dir():
        bare = (path / "HEAD").is_file() and (path / "objects").is_dir()
        is_repository = bare or (path / ".git").exists()
        return Origin(kind="repository" if is_repository else "folder", shown=str(path), path=path)
    if path.is_file():
        with path.open("rb") as stream:
            if stream.read(16) in _BUNDLE_MAGIC:
                return Origin(kind="bundle", shown=str(path), path=path)
        raise SourceError(
            f"{path} is not a git bundle.", hint="If it is an archive, unpack it and name the folder."
        )
    raise SourceError(f"There is no {path}.", hint=_FORMS)


def _without_credentials(parts: SplitResult) -> str:
    """Drop query, fragment, password and user; ssh keeps the user, who is part of the address."""
    user, _, host = parts.netloc.rpartition("@")
    if user and parts.scheme == "ssh":
        host = f"{user.split(':')[0]}@{host}"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
