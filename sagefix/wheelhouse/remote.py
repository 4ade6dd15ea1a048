"""Somebody else's wheels: a simple index on the web or on a disk, as a source of candidates.

PEP 503 pages and PEP 691 ones are understood. METADATA is read beside the wheels (PEP 658), so that what a
wheel wants of torch is known before anything large is downloaded.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name, parse_wheel_filename

from sagefix.errors import RemoteIndexError, WheelError
from sagefix.files import aside, sha256_bytes, sha256_file, write_bytes
from sagefix.progress import warn
from sagefix.wheelhouse.download import fetch_wheel
from sagefix.wheelhouse.links import ACCEPT, parse_page
from sagefix.wheelhouse.model import METADATA_SUFFIX, PROOFS_SUFFIX, Listing, RemoteWheel
from sagefix.wheelhouse.proving import proof_of
from sagefix.wheelhouse.shelf import project_of, store_errors
from sagefix.wheelhouse.urls import shown, without_credentials
from sagefix.wheelhouse.web import MissingError, Page, Web
from sagefix.wheels.model import Facts

_AT_ONCE = 8
_TIMEOUT_S = 15.0
_ADDRESS_HINT = "The URL has to be the root of a simple index: https://HOST/simple/ or file:///FOLDER/."


class RemoteIndex:
    """A simple index (PEP 503, 691) by the URL of its root: https, file, or http on this machine.

    ``timeout``: seconds until a silent server counts as failed. ``attempts`` and ``backoff`` (seconds,
    doubling): how often and how fast a failed request is repeated. ``allow_insecure``: plain http to other
    machines. A user and password in the URL go to that server alone and stand in no message and no result.

    Pages are fetched once per object. Use it in a ``with`` statement, or :meth:`close` it.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = _TIMEOUT_S,
        attempts: int = 4,
        backoff: float = 0.5,
        allow_insecure: bool = False,
    ) -> None:
        try:
            scheme, _ = urlsplit(url).scheme, urlsplit(url).port
        except ValueError as error:
            raise RemoteIndexError(
                f"The address of the index is not a URL: {error}.", hint=_ADDRESS_HINT
            ) from error
        if scheme not in ("https", "http", "file"):
            raise RemoteIndexError(f"{shown(url)} is not the address of an index.", hint=_ADDRESS_HINT)
        self._root = without_credentials(url).rstrip("/") + "/"
        self._web = Web(
            url, timeout=timeout, attempts=attempts, backoff=backoff, allow_insecure=allow_insecure
        )
        self._listings: dict[str, Listing] = {}

    @property
    def url(self) -> str:
        """The root of the index, without credentials."""
        return shown(self._root)

    def __enter__(self) -> RemoteIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._web.close()

    def listing(self, project: str) -> Listing:
        """Return what the index offers of a project: wheels, and what cannot be a candidate, with reasons.

        Raises :class:`RemoteIndexError`: unreachable, no such project, or not an index.
        """
        project = canonicalize_name(project)
        if project not in self._listings:
            page = self._page(f"{self._root}{project}/", project)
            self._listings[project] = parse_page(
                page.body,
                content_type=page.content_type,
                charset=page.charset,
                url=without_credentials(page.url),
                project=project,
            )
        return self._listings[project]

    def candidates(self, project: str, *, tags: Collection[str] | None = None) -> list[Facts]:
        """Return the wheels of a project as far as they are known without downloading them.

        ``where`` is a URL for people. ``tags``: METADATA is fetched only of wheels with one of these, since
        the others cannot be chosen anyway (None: of all).

        Raises what :meth:`listing` raises, and :class:`RemoteIndexError` for METADATA with another hash than
        the index says.
        """
        from concurrent.futures import ThreadPoolExecutor

        wheels = self.listing(project).wheels
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            return list(pool.map(lambda wheel: self._facts(wheel, tags), wheels))

    def offers(self, wheel: Facts) -> bool:
        """Tell whether what was read of the index so far has just this wheel, and at the same place."""
        return any(
            (known.filename, known.sha256, shown(known.url)) == (wheel.filename, wheel.sha256, wheel.where)
            for listing in self._listings.values()
            for known in listing.wheels
        )

    def download(self, filename: str, folder: Path) -> Path:
        """Fetch a wheel of the index into a folder, check its hash, and return its path.

        An interrupted download goes on where it stopped if the server can do that. Its proofs, if the index has
        any, come to lie beside it; those that do not arrive as the index describes them are told and left out.

        Raises :class:`RemoteIndexError`: not offered, refused (with the reason), unreachable, or not what the
        index said. :class:`WheelhouseError`: not the name of a wheel. :class:`DiskError`. :class:`LockError`.
        """
        listing = self.listing(project_of(filename))
        for refused in listing.refused:
            if refused.filename == filename:
                raise RemoteIndexError(
                    f"{filename} of {self.url} was refused: {refused.reason}.",
                    hint="Look at it yourself; `sagefix wheelhouse add` takes wheels from a path.",
                )
        for wheel in listing.wheels:
            if wheel.filename == filename:
                path = (
                    self._copy(wheel, folder) if _local(wheel.url) else fetch_wheel(self._web, wheel, folder)
                )
                self._fetch_proofs(wheel, path)
                return path
        raise RemoteIndexError(f"{self.url} does not offer {filename}.")

    def _page(self, url: str, project: str) -> Page:
        try:
            if not _local(url):
                return self._web.page(url, accept=ACCEPT)
            path = _path(url) / "index.html"
            return Page(url=path.as_uri(), content_type="text/html", charset="utf-8", body=_read(path))
        except MissingError as error:
            raise RemoteIndexError(
                f"The index {self.url} has no {project}: {error.message}",
                hint=_ADDRESS_HINT,
            ) from error

    def _facts(self, wheel: RemoteWheel, tags: Collection[str] | None) -> Facts:
        from sagefix.wheels.label import parse_label

        _, version, _, offered = parse_wheel_filename(wheel.filename)
        names = tuple(sorted(str(tag) for tag in offered))
        requires_torch = ""
        if wheel.has_metadata and (tags is None or not set(tags).isdisjoint(names)):
            requires_torch = self._requires_torch(wheel)
        return Facts(
            filename=wheel.filename,
            project=wheel.project,
            version=str(version),
            label=parse_label(str(version)),
            tags=names,
            sha256=wheel.sha256,
            size=wheel.size,
            where=shown(wheel.url),
            requires_torch=requires_torch,
            requires_python=wheel.requires_python,
            proof=proof_of(wheel.proofs),
            proofs=wheel.proofs,
        )

    def _fetch_proofs(self, wheel: RemoteWheel, path: Path) -> None:
        beside = path.with_name(path.name + PROOFS_SUFFIX)
        beside.unlink(missing_ok=True)
        if not wheel.proofs_sha256:
            return
        from sagefix.wheelhouse.evidence import require_about

        url = shown(wheel.url) + PROOFS_SUFFIX
        try:
            data = self._read(wheel, url)
            if sha256_bytes(data) != wheel.proofs_sha256:
                raise RemoteIndexError(f"{url} is not what the index describes.")
            require_about(data, url, wheel.filename, wheel.sha256)
        except (RemoteIndexError, WheelError) as error:
            warn(f"The proofs of {wheel.filename} were left out: {error}")
            return
        write_bytes(beside, data)

    def _requires_torch(self, wheel: RemoteWheel) -> str:
        from packaging.metadata import InvalidMetadata, Metadata

        from sagefix.wheels.archive import required_torch

        url = shown(wheel.url) + METADATA_SUFFIX
        try:
            data = self._read(wheel, url)
        except MissingError:
            return ""
        if wheel.metadata_sha256 and sha256_bytes(data) != wheel.metadata_sha256:
            raise RemoteIndexError(
                f"{url} is not the METADATA that the index describes: its sha256 is {sha256_bytes(data)}, "
                f"not {wheel.metadata_sha256}.",
                hint="The index is out of date or was tampered with. Do not install from it.",
            )
        try:
            return required_torch(Metadata.from_email(data, validate=False))
        except (InvalidMetadata, ValueError) as error:
            raise RemoteIndexError(f"{url} is not METADATA: {error}.") from error

    def _read(self, wheel: RemoteWheel, url: str) -> bytes:
        if _local(wheel.url):
            self._require_local_index(wheel)
            return _read(_path(url))
        return self._web.page(url, accept="*/*").body

    def _copy(self, wheel: RemoteWheel, folder: Path) -> Path:
        self._require_local_index(wheel)
        source, target = _path(wheel.url), folder / wheel.filename
        with store_errors(folder, f"copy {wheel.filename}"), aside(target) as staged:
            staged.write_bytes(_read(source))
            digest = sha256_file(staged)
            if digest != wheel.sha256:
                raise RemoteIndexError(
                    f"{source} is not the file that its index describes: its sha256 is {digest}, "
                    f"not {wheel.sha256}.",
                    hint="If it is a wheelhouse, `sagefix wheelhouse check` tells more.",
                )
        return target

    def _require_local_index(self, wheel: RemoteWheel) -> None:
        if not _local(self._root):
            raise RemoteIndexError(
                f"{self.url} offers {wheel.filename} by a link to a file of this machine; "
                "that was not followed."
            )


_asked: dict[str, RemoteIndex] = {}
"""The indexes this process asked, latest answers: they know credentials and whole URLs of their wheels."""


def _ask(url: str, timeout: float) -> RemoteIndex:
    _asked[url] = RemoteIndex(url, timeout=timeout)
    return _asked[url]


def candidates(
    url: str, project: str, *, tags: Collection[str] | None = None, timeout: float = _TIMEOUT_S
) -> list[Facts]:
    """Return what an index offers of a project as candidates; see :meth:`RemoteIndex.candidates`."""
    with _ask(url, timeout) as index:
        return index.candidates(project, tags=tags)


def download(wheel: Facts, folder: Path) -> Path:
    """Fetch a wheel that :func:`candidates` returned; see :meth:`RemoteIndex.download`.

    Raises also :class:`RemoteIndexError` when no index that was asked in this process offers just this wheel.
    """
    for index in _asked.values():
        if index.offers(wheel):
            with index:
                return index.download(wheel.filename, folder)
    raise RemoteIndexError(
        f"No index that was asked offers {wheel.filename} with the sha256 {wheel.sha256 or '(none)'}."
    )


def _local(url: str) -> bool:
    return urlsplit(url).scheme == "file"


def _path(url: str) -> Path:
    from urllib.request import url2pathname  # brings http.client along, and most indexes are on the web

    return Path(url2pathname(urlsplit(url).path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError(f"{path} does not exist.") from error
    except OSError as error:
        raise RemoteIndexError(f"{path} cannot be read: {error.strerror}.") from error
