"""A git repository, driven by GitPython.

Whatever is read is hashed again: a damaged pack or a repository that lies is found out here and not in a
compiler's error message.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from sagefix.errors import SourceError
from sagefix.process import end_session, find_program
from sagefix.source.environment import environment, leaking
from sagefix.source.failures import Damaged, GitFailed, Missing, Stalled, failure_of, reason

if TYPE_CHECKING:
    from git.cmd import Git

# The first version that reads GIT_CONFIG_GLOBAL; an older one would listen to the user's configuration.
# https://github.com/git/git/blob/v2.32.0/Documentation/RelNotes/2.32.0.txt
_MINIMUM_GIT = (2, 32)


@functools.cache
def _driver(program: str) -> type[Git]:
    """Return GitPython's command class with a clean environment; late, since its import takes 0.2 s."""
    set_before = os.environ.get("GIT_PYTHON_REFRESH")
    os.environ["GIT_PYTHON_REFRESH"] = "quiet"
    try:
        from git.cmd import Git
    except ImportError as error:
        raise SourceError(
            f"git cannot be used: {error}.", hint="Check that `git --version` works."
        ) from error
    finally:
        if set_before is None:
            del os.environ["GIT_PYTHON_REFRESH"]
        else:
            os.environ["GIT_PYTHON_REFRESH"] = set_before

    class CleanGit(Git):
        """GitPython copies the whole environment; what must not reach git is dropped on the way."""

        def execute(self, command: Any, *args: Any, **kwargs: Any) -> Any:
            names = leaking({**self.environment(), **(kwargs.get("env") or {})})
            if names:
                command = ["env", *(part for name in names for part in ("-u", name)), *command]
            # A session of its own: what git starts (ssh, remote-https) can be ended with it.
            kwargs.setdefault("start_new_session", os.name == "posix")
            return super().execute(command, *args, **kwargs)

    version = CleanGit(Path(program).parent).version_info
    if version[:2] < _MINIMUM_GIT:
        raise SourceError(
            f"git {'.'.join(map(str, version))} is too old to be kept apart from the user's configuration.",
            hint=f"Install git {'.'.join(map(str, _MINIMUM_GIT))} or newer.",
        )
    return CleanGit


def git_program() -> str:
    """Return the path of git, or raise :class:`SourceError`."""
    program = find_program("git")
    if program is None:
        raise SourceError(
            "git was not found, and the source is fetched and checked with it.",
            hint="Install git (Debian: `apt install git`), or put its folder on PATH.",
        )
    return str(program)


class Repository:
    """A git directory. A context manager: leaving it ends the process that reads objects."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._program = git_program()
        self._git = _driver(self._program)(path)
        self._git.update_environment(**environment())
        self._git.set_persistent_git_options(git_dir=str(path))
        self._options = [f"--git-dir={path}"]

    @classmethod
    def create(cls, path: Path) -> Repository:
        """Make an empty bare repository, without the user's template and its hooks."""
        path.mkdir(parents=True)
        repository = cls(path)
        repository.run(
            "init", "--quiet", "--bare", "--template=", "-bmain", "--object-format=sha1", str(path)
        )
        return repository

    @classmethod
    def find(cls, path: Path) -> Repository:
        """Open the repository of a folder: bare, with a work tree, or linked to one elsewhere."""
        looking = cls(path)
        # Not the repository of a folder further up.
        looking._git.update_environment(GIT_CEILING_DIRECTORIES=str(path.parent))
        looking._options = []
        try:
            found = (
                looking.run("rev-parse", "--absolute-git-dir").decode(errors="surrogateescape").rstrip("\n")
            )
        except GitFailed as failure:
            raise SourceError(f"git cannot read the repository {path}: {reason(failure.said)}") from failure
        return cls(Path(found))

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self._git.clear_cache()

    def run(self, *arguments: str, stdin: BinaryIO | None = None) -> bytes:
        """Run a git command that speaks to nobody; return its standard output. Raises :class:`GitFailed`.

        When the wait for it is interrupted, it ends, too.
        """
        process: Any = self._git.execute(
            [self._program, *self._options, *arguments], istream=stdin, as_process=True
        )
        try:
            stdout, stderr = process.proc.communicate()
        except BaseException:
            end_session(process.proc.pid)
            raise
        if process.proc.returncode != 0:
            raise failure_of(stderr.decode(errors="replace"))
        return bytes(stdout)

    def feed(self, *arguments: str, data: bytes) -> bytes:
        """Like :meth:`run`, with standard input."""
        with tempfile.TemporaryFile() as stream:
            stream.write(data)
            stream.flush()
            stream.seek(0)
            return self.run(*arguments, stdin=stream)

    def talk(
        self,
        *arguments: str,
        protocol: str,
        config: Mapping[str, str],
        on_line: Callable[[str], None],
        patience: float,
    ) -> str:
        """Run a git command that speaks to a remote; return its standard output.

        ``on_line`` hears standard error, progress included. After ``patience`` seconds of silence it is
        :class:`Stalled`. However this ends, nothing that git started goes on.
        """
        from git.cmd import handle_process_output

        process: Any = self._git.execute(
            [self._program, *self._options, *arguments],
            as_process=True,
            universal_newlines=True,
            errors="replace",
            env=environment(protocol, config),
        )
        said: list[str] = []
        answer: list[str] = []
        ended, silent = threading.Event(), threading.Event()
        last_word = time.monotonic()

        def hear(line: str) -> None:
            nonlocal last_word
            last_word = time.monotonic()
            said.append(line)
            on_line(line)

        def watch() -> None:
            while not ended.wait(min(0.5, patience)):
                if time.monotonic() - last_word > patience:
                    silent.set()
                    end_session(process.proc.pid)

        try:
            threading.Thread(target=watch, daemon=True).start()
            handle_process_output(process, answer.append, hear, decode_streams=False)
            status = process.proc.wait()
        except BaseException:
            end_session(process.proc.pid)
            raise
        finally:
            ended.set()
        if silent.is_set():
            raise Stalled(f"no word for {patience:.0f} s")
        if status != 0:
            raise failure_of("".join(said))
        return "".join(answer)

    def read(self, name: str) -> tuple[str, bytes]:
        """Return kind and content of an object. Raises :class:`Missing` or :class:`Damaged`."""
        try:
            answer: Any = self._git.get_object_data(name)
        except (ValueError, OSError) as error:
            if str(error).endswith("missing'"):
                raise Missing(name) from error
            self._git.clear_cache()
            raise Damaged(name) from error
        # GitPython's annotations say text for the kind; the pipe is a binary one.
        kind, data = answer[1].decode(), answer[3]
        header = f"{kind} {len(data)}\0".encode()
        if hashlib.sha1(header + data, usedforsecurity=False).hexdigest() != name:
            raise Damaged(name)
        return kind, data

    def lacks(self, names: Iterable[str]) -> list[str]:
        """Return those objects that are not in the repository, each once."""
        absent: dict[str, None] = {}
        for name in names:
            try:
                self._git.get_object_header(name)
            except (ValueError, OSError) as error:
                absent[name] = None
                if not str(error).endswith("missing'"):
                    self._git.clear_cache()
        return list(absent)

    def rev_parse(self, name: str) -> str:
        """Return the commit that a name or short hash stands for, or an empty string."""
        try:
            return self.run("rev-parse", "--verify", "--quiet", name + "^{commit}").decode().strip()
        except GitFailed:
            return ""

    def pack(self, names: Iterable[str]) -> bytes:
        """Return a pack of exactly these objects, self-contained.

        Nothing of existing packs is used again, so the same objects make the same pack wherever they lie.
        """
        options = ("--no-reuse-delta", "--no-reuse-object", "--window=250", "--depth=250")
        listing = "".join(f"{name}\n" for name in names).encode()
        return self.feed(
            "-c", "pack.compression=9", "pack-objects", "--quiet", "--stdout", *options, data=listing
        )

    def unpack(self, pack: BinaryIO) -> None:
        """Add the objects of a pack, read from where the stream stands; git computes their hashes anew."""
        self.run("index-pack", "--stdin", "--fix-thin", stdin=pack)

    def unpack_bytes(self, pack: bytes) -> None:
        """Like :meth:`unpack`."""
        self.feed("index-pack", "--stdin", data=pack)

    def pack_bytes(self) -> int:
        """Return the size of all packs."""
        return sum(pack.stat().st_size for pack in (self.path / "objects" / "pack").glob("*.pack"))
