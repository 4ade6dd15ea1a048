"""URLs as they may be kept and shown."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def without_credentials(url: str) -> str:
    """Return a URL without user, password and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, _host(parts.netloc), parts.path, parts.query, ""))


def shown(url: str) -> str:
    """Return a URL as it may stand in a message: also without its query, which can be a signature."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, _host(parts.netloc), parts.path, "", ""))


def _host(netloc: str) -> str:
    return netloc.rpartition("@")[2]
