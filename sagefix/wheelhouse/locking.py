"""One lock for one folder, among processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sagefix.errors import LockError
from sagefix.wheelhouse.model import LOCK_NAME
from sagefix.wheelhouse.shelf import store_errors

# The lock is for everybody who can write the folder, not only for who came first (the umask still applies).
_MODE = 0o666


@contextmanager
def locked(folder: Path, doing: str, *, timeout: float) -> Iterator[None]:
    """Hold the lock of a folder that exists; ``doing`` completes "cannot ..." in messages.

    What the system refuses inside the block is told as :func:`store_errors` does. Raises :class:`LockError`
    when another process holds the lock for more than ``timeout`` seconds.
    """
    from filelock import FileLock, Timeout

    with store_errors(folder, doing):
        lock = FileLock(folder / LOCK_NAME, timeout=timeout, mode=_MODE)
        try:
            lock.acquire()
        except Timeout as error:
            raise LockError(
                f"Cannot {doing}: another process has held {lock.lock_file} for {timeout:.0f} s.",
                hint="Wait for the other sagefix to end, or end it.",
            ) from error
        try:
            yield
        finally:
            lock.release()
