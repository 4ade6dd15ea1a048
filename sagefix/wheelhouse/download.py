"""A wheel from a web server to a folder: resumed, hashed, and kept only if it is the right one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sagefix.errors import RemoteIndexError
from sagefix.files import human_size, sha256_file
from sagefix.progress import note, task
from sagefix.wheelhouse.locking import locked
from sagefix.wheelhouse.model import RemoteWheel
from sagefix.wheelhouse.shelf import store_errors
from sagefix.wheelhouse.urls import shown
from sagefix.wheelhouse.web import RangeError, TransientError, Web

if TYPE_CHECKING:
    import httpx

    from sagefix.progress import Task

_LOCK_TIMEOUT_S = 1800.0
# Ten times the largest wheel that was seen of an attention package; a server that never stops ends here.
_MAX_WHEEL = 4_000_000_000


def fetch_wheel(web: Web, wheel: RemoteWheel, folder: Path) -> Path:
    """Fetch a wheel into a folder and return its path; at once if it is there already.

    What arrived before an interruption is kept beside it under a name made from the hash, and the next call
    goes on from there if the server can (RFC 9110, range requests), else starts again.

    Raises :class:`RemoteIndexError`: unreachable, no hash offered, or not what the index said (nothing is
    kept then). :class:`DiskError`. :class:`LockError`.
    """
    if not wheel.sha256:
        raise RemoteIndexError(
            f"The index gives no sha256 for {wheel.filename}, so it was not downloaded.",
            hint="Download it yourself, look at it, and add it with `sagefix wheelhouse add`.",
        )
    target = folder / wheel.filename
    # A part of other content is never continued.
    part = folder / f".{wheel.sha256[:16]}-{wheel.filename}.part"
    with store_errors(folder, f"download {wheel.filename}"):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, f"download {wheel.filename}", timeout=_LOCK_TIMEOUT_S):
        if not (target.is_file() and sha256_file(target) == wheel.sha256):
            _fetch(web, wheel, part)
            part.replace(target)
    return target


def _fetch(web: Web, wheel: RemoteWheel, part: Path) -> None:
    """Fill ``part`` with the whole wheel, or leave nothing that is wrong behind."""
    with task(f"download {wheel.filename}", wheel.size or None, "bytes") as running:
        resumed = part.exists()
        web.persist(lambda: _continue(web, wheel, part, running))
        digest = sha256_file(part)
        if digest != wheel.sha256 and resumed:
            # The earlier part may have come from a server that has something else today.
            note(f"What was downloaded of {wheel.filename} before does not fit; starting again.")
            part.unlink()
            web.persist(lambda: _continue(web, wheel, part, running))
            digest = sha256_file(part)
    if digest != wheel.sha256:
        part.unlink()
        raise RemoteIndexError(
            f"{wheel.filename} from {shown(wheel.url)} is not the file that the index describes: "
            f"its sha256 is {digest}, not {wheel.sha256}. It was deleted.",
            hint="The server or something on the way replaced it. Do not install it from there.",
            details={"expected": wheel.sha256, "found": digest},
        )


def _continue(web: Web, wheel: RemoteWheel, part: Path, running: Task) -> None:
    """Make one request for what is missing of the wheel."""
    have = part.stat().st_size if part.exists() else 0
    if wheel.size and have > wheel.size:
        part.unlink()
        have = 0
    if wheel.size and have == wheel.size:
        return
    # Compressed answers have other offsets and lengths than the file.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with web.stream(wheel.url, headers) as response:
            start = have if _continues(response, have) else 0
            if start != have:
                note(f"The server sends {wheel.filename} from the beginning.")
            _write(response, wheel, part, start, running)
    except RangeError as error:
        if not have:
            raise
        part.unlink()
        raise TransientError(error.message) from error


def _continues(response: httpx.Response, have: int) -> bool:
    """Tell whether an answer starts at the offset that was asked for."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", response.headers.get("content-range", ""))
    return response.status_code == 206 and match is not None and int(match[1]) == have


def _write(response: httpx.Response, wheel: RemoteWheel, part: Path, start: int, running: Task) -> None:
    if response.status_code == 206 and not start:
        raise RemoteIndexError(f"{shown(wheel.url)} sent a part of the file that was not asked for.")
    limit = wheel.size or _MAX_WHEEL
    length = response.headers.get("content-length", "")
    running.update(done=start, total=wheel.size or (start + int(length) if length.isdecimal() else None))
    done = start
    with part.open("ab" if start else "wb") as sink:
        # Pieces as they come: a fixed size would lose what had come when the connection breaks.
        for block in response.iter_raw():
            done += len(block)
            if done > limit:
                break
            sink.write(block)
            running.update(done=done)
    if done > limit:
        part.unlink()
        raise RemoteIndexError(
            f"{shown(wheel.url)} sends more than {human_size(limit)}, which the index did not say."
        )
    if wheel.size and done < wheel.size:
        raise TransientError(
            f"{shown(wheel.url)} broke off after {human_size(done)} of {human_size(wheel.size)}."
        )
