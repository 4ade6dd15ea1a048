"""The one door to subprocesses.

Every program sagefix starts goes through :func:`run`. It finds the program first, logs the quoted command,
never uses a shell or standard input, can keep the whole output in a file, and when the work ends early (an
error, a timeout, Ctrl-C) it ends *everything* the program started, not only the program. ninja puts each
compiler into a process group of its own, so killing one group leaves nvcc and cicc running; they stay in one
session, though, and that is what is ended here. A watchdog does the same when sagefix itself is killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import IO

import msgspec

from sagefix.errors import ProcessError

logger = logging.getLogger(__name__)

_TAIL_LINES = 40
_GRACE_S = 3.0
_STRAGGLE_S = 1.0
_WAIT_S = 0.5
_POSIX = os.name == "posix"


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """A program that ended: its quoted command, exit status, output and how long it ran (seconds)."""

    command: str
    returncode: int
    stdout: str
    stderr: str
    seconds: float


class Stop:
    """Ends what :func:`run` has started on behalf of one piece of work, from any thread; what it starts later, too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: set[int] = set()
        self._stopped = False

    def end(self) -> None:
        """End every program of the work. It gets the :class:`ProcessError` of a program that was killed."""
        with self._lock:
            self._stopped = True
            sessions = tuple(self._sessions)
        for session in sessions:
            end_session(session)

    @contextlib.contextmanager
    def _knows(self, session: int) -> Iterator[None]:
        with self._lock:
            stopped = self._stopped
            self._sessions.add(session)
        if stopped:
            end_session(session)
        try:
            yield
        finally:
            with self._lock:
                self._sessions.discard(session)


_stop: ContextVar[Stop | None] = ContextVar("sagefix_stop", default=None)


@contextlib.contextmanager
def stoppable(stop: Stop) -> Iterator[None]:
    """Let ``stop`` end the programs that are started inside the block."""
    token = _stop.set(stop)
    try:
        yield
    finally:
        _stop.reset(token)


def find_program(name: str | Path, env: Mapping[str, str] | None = None) -> Path | None:
    """Return the absolute path of a program (links kept), or None."""
    found = shutil.which(str(name), path=(env or os.environ).get("PATH"))
    return Path(found).absolute() if found else None


def quote(command: Sequence[str | Path]) -> str:
    """Write a command as one would type it."""
    return shlex.join(str(part) for part in command)


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    check: bool = True,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    on_start: Callable[[int], None] | None = None,
    watched: bool = False,
) -> Completed:
    """Run a program to its end and return what it said.

    ``env`` is the whole environment (default: this process's). ``log`` appends the output, stdout and stderr
    as one stream in their real order, to a file; then ``Completed.stdout`` is the tail of it and ``stderr``
    is empty. ``on_line`` hears each line of that stream as it comes, ``on_start`` the number of the session
    as soon as there is one. ``watched`` adds the watchdog, for work that takes minutes. With ``check`` an exit
    status other than 0 raises.

    Raises :class:`ProcessError`: program not found, not startable, ``timeout`` seconds passed, or failed.
    """
    environment = dict(os.environ if env is None else env)
    program = find_program(command[0], environment)
    if program is None:
        raise ProcessError(
            f"{command[0]} was not found.",
            hint="Install it or put its folder on PATH.",
            details={"command": quote(command), "returncode": None, "tail": ""},
        )
    argv = [str(program), *(str(part) for part in command[1:])]
    logger.debug("$ %s", quote(argv))
    started = time.monotonic()
    merged = log is not None or on_line is not None
    try:
        child = subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=_POSIX,
        )
    except OSError as error:
        raise ProcessError(
            f"{argv[0]} could not be started: {error.strerror or error}.",
            details={"command": quote(argv), "returncode": None, "tail": ""},
        ) from error
    # From here on an interruption, wherever it comes, ends what was started.
    try:
        with (
            _known_to(_stop.get(), child.pid),
            _watchdog(child.pid) if watched else contextlib.nullcontext(),
            _no_stragglers(child),
        ):
            if on_start is not None:
                on_start(child.pid)
            if merged:
                stdout, stderr = _follow(child, log, on_line, timeout), ""
            else:
                stdout, stderr = _communicate(child, timeout)
            if child.returncode != 0:
                # A failed ninja or make may leave compilers behind that go on writing.
                end_session(child.pid)
    except subprocess.TimeoutExpired as error:
        raise ProcessError(
            f"{Path(argv[0]).name} did not end within {timeout:.0f} s and was stopped.",
            details={"command": quote(argv), "returncode": None, "tail": ""},
        ) from error
    except BaseException:
        end_session(child.pid)
        child.wait()
        raise
    finally:
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()
    completed = Completed(
        command=quote(argv),
        returncode=child.returncode,
        stdout=stdout,
        stderr=stderr,
        seconds=time.monotonic() - started,
    )
    if check and completed.returncode != 0:
        output = (completed.stderr.strip() or completed.stdout.strip()).splitlines()
        raise ProcessError(
            f"{Path(argv[0]).name} failed with exit status {completed.returncode}"
            + (f": {output[-1].strip()}" if output else "."),
            details={
                "command": completed.command,
                "returncode": completed.returncode,
                "tail": "\n".join(output[-_TAIL_LINES:]),
            },
        )
    return completed


def _known_to(stop: Stop | None, session: int) -> contextlib.AbstractContextManager[None]:
    return stop._knows(session) if stop is not None else contextlib.nullcontext()


@contextlib.contextmanager
def _no_stragglers(child: subprocess.Popen[str]) -> Iterator[None]:
    """End what a program leaves running when it ends: it would hold the output open, and us with it."""
    drained = threading.Event()

    def wait() -> None:
        child.wait()
        if not drained.wait(_STRAGGLE_S):
            end_session(child.pid)

    waiter = threading.Thread(target=wait, daemon=True)
    try:
        waiter.start()
        yield
    except BaseException:
        end_session(child.pid)
        raise
    finally:
        drained.set()
        waiter.join()


def _communicate(child: subprocess.Popen[str], timeout: float | None) -> tuple[str, str]:
    """Read to the end, in short waits: Ctrl-C that comes just before a wait does not end one without limit."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = _WAIT_S if deadline is None else max(0.0, min(_WAIT_S, deadline - time.monotonic()))
        try:
            return child.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            if deadline is not None and time.monotonic() >= deadline:
                raise


def _follow(
    child: subprocess.Popen[str],
    log: Path | None,
    on_line: Callable[[str], None] | None,
    timeout: float | None,
) -> str:
    """Read the merged stream to its end, into the log and to the listener; return its last lines."""
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        end_session(child.pid)

    timer = threading.Timer(timeout, expire) if timeout is not None else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        with _append_to(log) as sink:
            assert child.stdout is not None
            for line in child.stdout:
                if sink is not None:
                    sink.write(line)
                    sink.flush()
                tail.append(line)
                if on_line is not None:
                    on_line(line.rstrip("\n"))
        child.wait()
    finally:
        if timer:
            timer.cancel()
    if expired.is_set():
        raise subprocess.TimeoutExpired(child.args, timeout or 0)
    return "".join(tail)


@contextlib.contextmanager
def _append_to(log: Path | None) -> Iterator[IO[str] | None]:
    if log is None:
        yield None
        return
    with log.open("a", encoding="utf-8") as sink:
        yield sink


def session_members(session: int) -> list[int]:
    """Return the living processes of a session, zombies left out (POSIX; empty elsewhere)."""
    if not _POSIX:
        return []
    import psutil

    members = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                members.append(pid)
    return members


def end_session(session: int) -> None:
    """End every process of a session: SIGTERM, some seconds of grace, SIGKILL until none is left."""
    if not _POSIX:
        _end_tree(session)
        return
    deadline = time.monotonic() + _GRACE_S
    asked: set[int] = set()
    while members := session_members(session):
        late = time.monotonic() >= deadline
        for pid in members:
            # Asked once: a second SIGTERM would interrupt a sagefix in there that is ending its own programs.
            if late or pid not in asked:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
            asked.add(pid)
        time.sleep(0.05)
        if time.monotonic() > deadline + _GRACE_S:
            logger.warning("could not end processes %s", members)
            return


def _end_tree(pid: int) -> None:
    import psutil

    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in [*root.children(recursive=True), root]:
            with contextlib.suppress(psutil.Error):
                process.kill()


@contextlib.contextmanager
def _watchdog(session: int) -> Iterator[None]:
    """Let a small process end the session if this one dies without a word (kill -9, out of memory).

    It reads a pipe whose other end only this process holds: a byte means that all went well, the end of the
    file without one means that nobody is left to clean up.
    """
    if not _POSIX:
        yield
        return
    script = Path(__file__).with_name("_watchdog.py")
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", str(script), str(session)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert watcher.stdin is not None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            watcher.stdin.write(b".")
            watcher.stdin.close()
        watcher.wait()
