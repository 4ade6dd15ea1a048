"""Answers from a web server that nobody here trusts: whom to ask, how long, how often, and what to refuse.

httpx does the transport. Redirects are followed here and not by httpx, because each hop has to pass the same
rules as the first address: https, or http to this machine (or anywhere with ``allow_insecure``), and never
from https to anything less.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urljoin, urlsplit

import msgspec

from sagefix import __version__
from sagefix.errors import RemoteIndexError
from sagefix.files import human_size
from sagefix.wheelhouse.urls import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from tenacity import RetryCallState

_T = TypeVar("_T")

_MAX_REDIRECTS = 5
_MAX_RETRY_AFTER_S = 30.0
# The largest project page of pypi.org is about 30 MB long; METADATA is far smaller.
_MAX_PAGE = 64_000_000
# A server that sends a byte now and then keeps every read timeout from passing.
_PAGE_DEADLINE = 8


class TransientError(RemoteIndexError):
    """A failure that may be gone at the next try. ``retry_after``: seconds the server asked for, or 0."""

    def __init__(self, message: str, *, hint: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class MissingError(RemoteIndexError):
    """The server says that there is no such page or file."""


class RangeError(RemoteIndexError):
    """The server has nothing at the offset that was asked for."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page: where it really came from, its content type in lower case, its charset if given, its body."""

    url: str
    content_type: str
    charset: str | None
    body: bytes


class Web:
    """A client of one index. ``url`` may hold a user and a password, which are sent to that server only.

    ``timeout``: seconds to connect, and between two pieces of an answer. ``attempts``: how often a request is
    made when the server is busy, broken or silent, with pauses of ``backoff`` seconds that double.
    """

    def __init__(
        self, url: str, *, timeout: float, attempts: int, backoff: float, allow_insecure: bool
    ) -> None:
        parts = urlsplit(url)
        self._origin = _origin(url)
        self._auth = (
            (unquote(parts.username or ""), unquote(parts.password or "")) if parts.username else None
        )
        self._timeout = timeout
        self._attempts = attempts
        self._backoff = backoff
        self._allow_insecure = allow_insecure
        self._client: httpx.Client | None = None

    def close(self) -> None:
        """Close the connections that are kept open."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def page(self, url: str, *, accept: str) -> Page:
        """Fetch a page with retries. Raises :class:`RemoteIndexError`."""
        return self.persist(lambda: self._page(url, accept))

    def _page(self, url: str, accept: str) -> Page:
        deadline = time.monotonic() + _PAGE_DEADLINE * self._timeout
        with self.stream(url, {"Accept": accept}) as response:
            body = bytearray()
            for block in response.iter_bytes():
                body += block
                if len(body) > _MAX_PAGE:
                    raise RemoteIndexError(f"{shown(url)} is longer than {human_size(_MAX_PAGE)}.")
                if time.monotonic() > deadline:
                    raise TransientError(
                        f"{shown(url)} did not arrive within {_PAGE_DEADLINE * self._timeout:g} s."
                    )
            content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            return Page(
                url=str(response.url),
                content_type=content_type,
                charset=response.charset_encoding,
                body=bytes(body),
            )

    def persist(self, attempt: Callable[[], _T]) -> _T:
        """Call ``attempt`` until it does not raise :class:`TransientError`, or for the last time."""
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

        def pause(state: RetryCallState) -> float:
            failure = state.outcome.exception() if state.outcome else None
            asked = failure.retry_after if isinstance(failure, TransientError) else 0.0
            return max(min(asked, _MAX_RETRY_AFTER_S), self._backoff * 2.0 ** (state.attempt_number - 1))

        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(self._attempts),
            wait=pause,
            reraise=True,
        )
        return retrying(attempt)

    @contextmanager
    def stream(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """Open one answer, after redirects, whose body the block reads; no retries.

        Raises :class:`TransientError`, :class:`MissingError`, :class:`RangeError` or
        :class:`RemoteIndexError`, also for what happens while the block reads.
        """
        import httpx

        try:
            response = self._follow(url, headers)
            try:
                yield response
            finally:
                response.close()
        except httpx.TimeoutException as error:
            raise TransientError(
                f"{shown(url)} did not answer within {self._timeout:g} s.",
                hint="Try again later, or give it more time.",
            ) from error
        except httpx.TransportError as error:
            raise TransientError(
                f"{shown(url)} cannot be reached or broke off: {error or type(error).__name__}.",
                hint="Check the address and the network; proxies are taken from HTTPS_PROXY and NO_PROXY.",
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RemoteIndexError(f"{shown(url)} cannot be fetched: {error}.") from error

    def _follow(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        here = url
        for _ in range(_MAX_REDIRECTS + 1):
            self._require_allowed(here)
            client = self._opened()
            request = client.build_request("GET", here, headers=dict(headers))
            auth = self._auth if _origin(here) == self._origin else None
            response = client.send(request, stream=True, auth=auth, follow_redirects=False)
            if not response.has_redirect_location:
                try:
                    _require_success(response, here)
                except BaseException:
                    response.close()
                    raise
                return response
            response.close()
            there = urljoin(here, response.headers["location"])
            if urlsplit(here).scheme == "https" and urlsplit(there).scheme != "https":
                raise RemoteIndexError(
                    f"{shown(here)} redirects to {shown(there)}, away from https; that was not followed.",
                    hint="Give the address behind the redirect yourself if you trust it.",
                )
            here = there
        raise RemoteIndexError(
            f"{shown(url)} redirects more than {_MAX_REDIRECTS} times, the last to {shown(here)}.",
            hint="Tell whoever runs the index, or give the address where its pages really are.",
        )

    def _require_allowed(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "https" and parts.hostname:
            return
        if parts.scheme != "http" or not parts.hostname:
            raise RemoteIndexError(
                f"{shown(url)} is not an address of a web server; only https is followed.",
                hint="An index on disk is named by a file:// URL of its own.",
            )
        if not self._allow_insecure and not _loopback(parts.hostname):
            raise RemoteIndexError(
                f"{shown(url)} is not encrypted: anybody on the way could replace the index and its hashes.",
                hint="Use https, or allow plain http for this index explicitly.",
            )

    def _opened(self) -> httpx.Client:
        import httpx

        if self._client is None:
            self._client = httpx.Client(
                timeout=self._timeout, headers={"User-Agent": f"sagefix/{__version__}"}
            )
        return self._client


def _require_success(response: httpx.Response, url: str) -> None:
    status = response.status_code
    said = f"{shown(url)} answered {status} {response.reason_phrase}".rstrip() + "."
    if status == 429 or status >= 500:
        asked = response.headers.get("retry-after", "")
        raise TransientError(
            said,
            hint="The server is busy or broken; try again later.",
            retry_after=float(asked) if asked.isdecimal() else 0.0,
        )
    if status in (404, 410):
        raise MissingError(said)
    if status in (401, 403):
        raise RemoteIndexError(
            said, hint="Put a user and password into the URL: https://USER:PASSWORD@HOST/..."
        )
    if status == 416:
        raise RangeError(said)
    if status not in (200, 206):
        raise RemoteIndexError(said)


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or default


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
