"""Servers: what their refs stand for, and one commit with the selected files, in as few bytes as they allow.

A filter (``blob:none``) and single objects by id are extensions that not every server offers, so there are
three ways to ask, each wanting more bytes and less of the server:
https://git-scm.com/docs/gitprotocol-v2 and https://git-scm.com/docs/git-rev-list (``--filter``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from sagefix.errors import SourceError
from sagefix.progress import Task, note
from sagefix.source.failures import GitFailed, Stalled, reason
from sagefix.source.model import Origin
from sagefix.source.repository import Repository
from sagefix.source.trees import read_commit, select

_NAME = "source"
_PATIENCE_S = 60.0
_TRIES = 3
# Blob ids stand on git's command line, 41 bytes each; Linux allows 2 MiB.
_BATCH = 5000

# What git and libcurl say when trying again may help.
_TROUBLE = (
    "could not resolve host",
    "temporary failure in name resolution",
    "failed to connect",
    "couldn't connect",
    "unable to connect",
    "connection refused",
    "connection reset",
    "connection timed out",
    "operation timed out",
    "operation too slow",
    "network is unreachable",
    "no route to host",
    "early eof",
    "rpc failed",
    "unexpected disconnect",
    "the remote end hung up",
    "empty reply from server",
    "from proxy",
    "proxy connect",
    "connect tunnel failed",
    "could not resolve proxy",
    "ssl_",
    "tls connection",
    "returned error: 429",
    "returned error: 5",
)
# The first is git's own word, the second that of JGit (Gerrit).
_WITHHELD = re.compile(r"unadvertised object|want [0-9a-f]{40} not valid")
_ABSENT = re.compile(r"not our ref|bad object|couldn't find remote ref")

Scratch = Callable[[], AbstractContextManager[Repository]]


class _Trouble(Exception):  # noqa: N818
    """The network failed; trying again may help."""


class _Withheld(Exception):  # noqa: N818
    """The server does not give single objects away."""


class Server:
    """A remote, as asked by this process."""

    def __init__(self, origin: Origin, task: Task) -> None:
        self.origin = origin
        self.received = 0
        self._task = task

    def refs(self, repository: Repository, name: str) -> dict[str, str]:
        """Return the refs that a name may mean, with annotated tags peeled, most likely meaning first."""
        try:
            answer = self._ask(repository, {}, "ls-remote", _NAME, name, name + "^{}")
        except GitFailed as failure:
            raise self._refused(failure) from failure
        found = {ref: commit for commit, _, ref in (line.partition("\t") for line in answer.splitlines())}
        # The order of git's own rules: https://git-scm.com/docs/gitrevisions
        candidates = (name, f"refs/{name}", f"refs/tags/{name}", f"refs/heads/{name}")
        return {ref: found.get(ref + "^{}", found[ref]) for ref in candidates if ref in found}

    @contextmanager
    def commit(self, scratch: Scratch, commit: str, patterns: Sequence[str]) -> Iterator[Repository]:
        """Give a repository that holds the commit, its trees and the selected blobs.

        Raises :class:`SourceError` when the server cannot be reached, refuses, or has no such commit.
        """
        for way in (partial(self._blobless, patterns=patterns), self._one_commit, self._all_history):
            with scratch() as repository:
                try:
                    way(repository, commit)
                except _Withheld:
                    continue
                finally:
                    self.received += repository.pack_bytes()
                yield repository
                return
        raise self._absent(commit)

    @contextmanager
    def history(
        self,
        scratch: Scratch,
        commits: Sequence[str],
        trees: Callable[[Repository], Sequence[str]],
        patterns: Sequence[str],
    ) -> Iterator[Repository]:
        """Give a repository that holds these commits and all before them, with the selected blobs of some.

        ``trees`` is asked, once the commits are there, whose selected blobs are wanted. Raises
        :class:`SourceError` as :meth:`commit` does, and what ``trees`` raises.
        """
        for way in (partial(self._treeless, trees=trees, patterns=patterns), self._whole):
            with scratch() as repository:
                try:
                    way(repository, commits)
                except _Withheld:
                    continue
                finally:
                    self.received += repository.pack_bytes()
                yield repository
                return
        raise self._absent(commits[0])

    def _treeless(
        self,
        repository: Repository,
        commits: Sequence[str],
        trees: Callable[[Repository], Sequence[str]],
        patterns: Sequence[str],
    ) -> None:
        promise = {f"remote.{_NAME}.promisor": "true", f"remote.{_NAME}.partialclonefilter": "tree:0"}
        # One by one: the second costs nothing when the first has it, and a refusal names the right one.
        for commit in reversed(commits):
            self._fetch(repository, promise, commit, "--filter=tree:0")
        roots = list(dict.fromkeys(trees(repository)))
        # A tree that is asked for comes with all below it; a server without filters has sent everything already.
        if absent := repository.lacks(roots):
            self._fetch_objects(repository, promise, commits[-1], absent)
        blobs = {file.blob: None for root in roots for file in select(repository, root, patterns).files}
        self._fetch_objects(repository, promise, commits[-1], repository.lacks(blobs))

    def _whole(self, repository: Repository, commits: Sequence[str]) -> None:
        self._all_history(repository, commits[-1])
        if repository.lacks(commits):
            raise self._absent(commits[0])

    def _fetch_objects(
        self, repository: Repository, config: dict[str, str], commit: str, names: Sequence[str]
    ) -> None:
        for first in range(0, len(names), _BATCH):
            wanted = names[first : first + _BATCH]
            self._fetch(repository, config, commit, "--filter=blob:none", wanted=wanted)

    def _blobless(self, repository: Repository, commit: str, patterns: Sequence[str]) -> None:
        promise = {f"remote.{_NAME}.promisor": "true", f"remote.{_NAME}.partialclonefilter": "blob:none"}
        self._fetch(repository, promise, commit, "--depth=1", "--filter=blob:none")
        selection = select(repository, read_commit(repository, commit).tree, patterns)
        blobs = repository.lacks(file.blob for file in selection.files)
        self._fetch_objects(repository, promise, commit, blobs)

    def _one_commit(self, repository: Repository, commit: str) -> None:
        self._fetch(repository, {}, commit, "--depth=1")

    def _all_history(self, repository: Repository, commit: str) -> None:
        note(f"{self.origin.shown} does not serve single commits; fetching all of its branches and tags.")
        self._fetch(repository, {}, commit, wanted=["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"])
        if repository.lacks([commit]):
            raise self._absent(commit)

    def _fetch(
        self,
        repository: Repository,
        config: dict[str, str],
        commit: str,
        *options: str,
        wanted: Sequence[str] = (),
    ) -> None:
        fixed = ("--progress", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance")
        try:
            self._ask(repository, config, "fetch", *fixed, *options, _NAME, *(wanted or [commit]))
        except GitFailed as failure:
            if _WITHHELD.search(failure.said):
                raise _Withheld from failure
            if _ABSENT.search(failure.said):
                raise self._absent(commit, files=bool(wanted)) from failure
            raise self._refused(failure) from failure

    def _ask(self, repository: Repository, config: dict[str, str], *command: str) -> str:
        """Run a git command against the server, again after a failure of the network."""
        import tenacity

        settings = {f"remote.{_NAME}.url": self.origin.url, **config}
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Trouble),
            stop=tenacity.stop_after_attempt(_TRIES),
            wait=tenacity.wait_exponential(multiplier=0.5, max=4),
            reraise=True,
        )

        def once() -> str:
            try:
                return repository.talk(
                    *command,
                    protocol=self.origin.protocol,
                    config=settings,
                    on_line=_listener(self._task),
                    patience=_PATIENCE_S,
                )
            except Stalled:
                raise
            except GitFailed as failure:
                said = failure.said.lower()
                answered = _WITHHELD.search(said) or _ABSENT.search(said)
                if not answered and any(words in said for words in _TROUBLE):
                    raise _Trouble(failure.said) from failure
                raise

        try:
            return retrying(once)
        except Stalled as failure:
            # One try of a minute is enough of a silent server.
            raise self._unreachable(str(failure)) from failure
        except _Trouble as failure:
            raise self._unreachable(reason(str(failure))) from failure

    def _unreachable(self, why: str) -> SourceError:
        return SourceError(
            f"{self.origin.shown} could not be reached: {self._clean(why)}",
            hint="Check the network and, behind a proxy, https_proxy. Or give another --source: a URL, a "
            "folder, or a file that `sagefix source bundle FILE` wrote on a machine that has the source.",
        )

    def _refused(self, failure: GitFailed) -> SourceError:
        return SourceError(
            f"{self.origin.shown} does not give the source: {self._clean(reason(failure.said))}",
            hint="Check the address; a private repository needs credentials in its URL, or an SSH key.",
        )

    def _absent(self, commit: str, files: bool = False) -> SourceError:
        lacks = "lacks files of commit" if files else "has no commit"
        return SourceError(f"{self.origin.shown} {lacks} {commit}.", hint="Check --ref and --source.")

    def _clean(self, text: str) -> str:
        """Keep passwords out of messages: git repeats the URL that it was given."""
        return text.replace(self.origin.url, self.origin.shown)


def _listener(task: Task) -> Callable[[str], None]:
    """Return a listener that turns git's own progress into ours."""
    from git.util import CallableRemoteProgress, RemoteProgress

    def update(code: int, done: float | str, total: float | str | None = None, message: str = "") -> None:
        if code & RemoteProgress.RECEIVING and total:
            task.update(done=float(done), total=float(total), text=message)

    return CallableRemoteProgress(update).new_message_handler()
