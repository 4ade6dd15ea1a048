"""The pages of somebody else's index, read with suspicion.

Parsing is pypi-simple's; what is said here is which of the files that a page offers may become candidates.
"""

from __future__ import annotations

import re
import warnings
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from sagefix.checks import LEVELS
from sagefix.errors import RemoteIndexError
from sagefix.wheelhouse.index import PRIVATE, PROOFS, PROVEN
from sagefix.wheelhouse.model import Listing, Refused, RemoteWheel
from sagefix.wheelhouse.urls import without_credentials
from sagefix.wheels.model import Proof

if TYPE_CHECKING:
    from pypi_simple import DistributionPackage

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
ACCEPT = f"{JSON_TYPE}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
"""Content types as PEP 691 negotiates them. https://peps.python.org/pep-0691/#content-types"""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SOURCE_ARCHIVES = (".tar.gz", ".zip", ".tar.bz2")


def parse_page(data: bytes, *, content_type: str, charset: str | None, url: str, project: str) -> Listing:
    """Read a project's page, HTML (PEP 503) or JSON (PEP 691), into what may be a candidate and what not.

    ``url`` is where the page came from, without credentials; links are relative to it.

    Raises :class:`RemoteIndexError`: not a page of an index, or of a version nobody here knows.
    """
    from pypi_simple import ProjectPage, UnsupportedRepoVersionError

    proven: dict[str, tuple[tuple[Proof, ...], str]]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a newer minor version of the format: compatible by definition
            if content_type == JSON_TYPE:
                import msgspec

                decoded = msgspec.json.decode(data)
                page = ProjectPage.from_json_data(decoded, base_url=url)
                packages, of = page.packages, page.project
                proven = {file["filename"]: _proven_in_json(file.get(PRIVATE)) for file in decoded["files"]}
            elif content_type in ("text/html", "application/vnd.pypi.simple.v1+html"):
                (packages, proven), of = _anchors(data, charset, url, project), project
            else:
                raise ValueError(f"its content type is {content_type or 'missing'}")
    # AssertionError and the like: an attribute of a kind that pypi-simple does not expect.
    except (ValueError, TypeError, AssertionError, RecursionError, UnsupportedRepoVersionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RemoteIndexError(
            f"{url} is not the page of a package index: {reason}.",
            hint="The URL has to be the root of a simple index (PEP 503 or 691), above the projects.",
            details={"url": url},
        ) from error
    wanted = canonicalize_name(project)
    if canonicalize_name(of) != wanted:
        raise RemoteIndexError(f"{url} is the page of {of!r}, not of {wanted}.", details={"url": url})
    wheels: list[RemoteWheel] = []
    refused: list[Refused] = []
    for package in packages:
        reason = why_not(package.filename, package.digests.get("sha256", ""), wanted)
        if not reason and content_type != JSON_TYPE:
            reason = _link_differs(package)
        if not reason and package.is_yanked:
            reason = "it was yanked" + (f": {package.yanked_reason}" if package.yanked_reason else "")
        if reason:
            refused.append(Refused(filename=package.filename, reason=reason))
        else:
            wheels.append(_wheel(package, wanted, *proven.get(package.filename, ((), ""))))
    return Listing(wheels=tuple(wheels), refused=tuple(refused))


def _anchors(
    data: bytes, charset: str | None, url: str, project: str
) -> tuple[list[DistributionPackage], dict[str, tuple[tuple[Proof, ...], str]]]:
    from pypi_simple import DistributionPackage, RepositoryPage

    links = RepositoryPage.from_html(data, base_url=url, from_encoding=charset).links
    for link in links:
        # PEP 714 wants clients to read the older name too; pypi-simple knows the newer one only.
        if older := link.attrs.get("data-dist-info-metadata"):
            link.attrs.setdefault("data-core-metadata", older)
    proven = {link.text: (_proofs(link.attrs.get(PROVEN)), _digest(link.attrs.get(PROOFS))) for link in links}
    return [DistributionPackage.from_link(link, project) for link in links], proven


def _proven_in_json(told: Any) -> tuple[tuple[Proof, ...], str]:
    if not isinstance(told, dict):
        return (), ""
    import msgspec

    digest = told.get("proofs")
    sha256 = digest.get("sha256") if isinstance(digest, dict) else ""
    return _proofs(msgspec.json.encode(told.get("proven", []))), _digest(f"sha256={sha256}")


def _proofs(told: object) -> tuple[Proof, ...]:
    """Read the lines about a wheel's proofs; what is not understood counts as unproven."""
    import msgspec

    if not isinstance(told, str | bytes):
        return ()
    try:
        lines = msgspec.json.decode(told, type=tuple[Proof, ...])
    except (msgspec.MsgspecError, UnicodeError):
        return ()
    return tuple(msgspec.structs.replace(line, verdict={}) for line in lines if line.level in LEVELS)


def _digest(told: object) -> str:
    name, _, value = str(told or "").partition("=")
    return value if name == "sha256" and _SHA256.fullmatch(value) else ""


def why_not(filename: str, sha256: str, project: str) -> str:
    """Return why a file of an index cannot be a candidate for a (normalised) project; empty if it can."""
    if "/" in filename or "\\" in filename or filename.startswith(".") or not filename.isprintable():
        return "its name is a path or holds characters that no file name should"
    if filename.endswith(_SOURCE_ARCHIVES):
        return "it is a source archive, not a wheel"
    try:
        name = parse_wheel_filename(filename)[0]
    except InvalidWheelFilename:
        return "its name is not that of a wheel"
    if name != project:
        return f"it is a wheel of {name}, not of {project}"
    if not _SHA256.fullmatch(sha256.lower()):
        return "the index gives no sha256 for it, so nobody could tell whether the right file arrived"
    return ""


def _link_differs(package: DistributionPackage) -> str:
    # PEP 503: the text of the anchor must be the last component of the URL.
    last = unquote(PurePosixPath(urlsplit(package.url).path).name)
    return "" if last == package.filename else f"its link leads to another file, {last!r}"


def _wheel(
    package: DistributionPackage, project: str, proofs: tuple[Proof, ...], proofs_sha256: str
) -> RemoteWheel:
    digest = (package.metadata_digests or {}).get("sha256", "").lower()
    return RemoteWheel(
        filename=package.filename,
        project=project,
        url=without_credentials(package.url),
        sha256=package.digests["sha256"].lower(),
        size=package.size or 0,
        requires_python=package.requires_python or "",
        has_metadata=bool(package.has_metadata),
        metadata_sha256=digest if _SHA256.fullmatch(digest) else "",
        # Without the file behind them they are words that nobody could hold against the wheel.
        proofs=proofs if proofs_sha256 else (),
        proofs_sha256=proofs_sha256,
    )
