"""The source room against real servers on this machine: git http-backend, and some that do not answer."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import psutil
import pytest

from sagefix.errors import SourceError
from sagefix.pins.model import Build, Pin, Source
from sagefix.progress import SilentReporter, reporting
from sagefix.source import remote
from sagefix.source.fetch import export, fetch, resolve

CLEAN = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@localhost",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@localhost",
}


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**os.environ, **CLEAN},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def has_http_backend() -> bool:
    if shutil.which("git") is None:
        return False
    where = subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip()
    return (Path(where) / "git-http-backend").is_file()


needs_http_backend = pytest.mark.skipif(not has_http_backend(), reason="needs git http-backend")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


class Handler(BaseHTTPRequestHandler):
    """Smart HTTP as git's own CGI program speaks it: https://git-scm.com/docs/git-http-backend"""

    server: Server

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        if self.server.failures > 0:
            self.server.failures -= 1
            self.send_error(503)
            return
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {
            **os.environ,
            **CLEAN,
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        if self.server.modern:
            environment["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=environment, check=False, capture_output=True
        )
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.server.sent += len(answer)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """``modern``: protocol 2, in which a server gives any object; else version 0 with its permissions."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.modern, self.failures, self.sent = root, True, 0, 0
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/upstream.git"


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    work = tmp_path / "work"
    (work / "pkg").mkdir(parents=True)
    git(work, "init", "--quiet", "--initial-branch=main")
    for number in range(3):
        (work / "setup.py").write_text(f"number = {number}\n")
        (work / "pkg" / "__init__.py").write_text("")
        (work / "big.bin").write_bytes(os.urandom(100_000))
        git(work, "add", "--all")
        git(work, "commit", "--quiet", "-m", str(number))
    git(work, "tag", "--annotate", "-m", "one", "v1", "HEAD~1")
    git(tmp_path, "clone", "--quiet", "--bare", str(work), "upstream.git")
    git(tmp_path / "upstream.git", "config", "uploadpack.allowFilter", "true")
    found = Server(tmp_path)
    with running(found):
        yield found


def pin_of(url: str, commit: str = "0" * 40) -> Pin:
    return Pin(
        schema=1,
        name="pkg",
        project="pkg",
        package="pkg",
        version="1.0",
        summary="",
        device="cpu",
        license="Apache-2.0",
        source=Source(url=url, commit=commit, tree="1" * 40, files=("/setup.py", "/pkg/")),
        build=Build(),
        recipe=(),
        ref=(),
    )


class Notes(SilentReporter):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def commit_of(server: Server, name: str) -> str:
    return git(server.root / "upstream.git", "rev-parse", name)


@needs_http_backend
def test_a_server_of_today_sends_the_selected_files_only(server: Server, tmp_path: Path) -> None:
    pin, commit = pin_of(server.url), commit_of(server, "main~2")
    assert resolve(pin, "v1") == commit_of(server, "main~1")
    assert resolve(pin, "main") == commit_of(server, "main")
    server.sent = 0
    fetched = fetch(pin, commit)
    assert 0 < fetched.received <= server.sent < 10_000
    assert export(fetched, pin, tmp_path / "out") == 2
    assert (tmp_path / "out" / "setup.py").read_text() == "number = 0\n"


@needs_http_backend
def test_a_server_that_gives_no_single_objects_away(server: Server) -> None:
    server.modern = False
    heard = Notes()
    with reporting(heard):
        # The tip is advertised: its commit may be asked for, its blobs may not.
        tip = fetch(pin_of(server.url), commit_of(server, "main"))
        assert 100_000 < tip.received < 200_000 and not heard.notes
        old = fetch(pin_of(server.url), commit_of(server, "main~2"))
    assert old.received > 300_000
    assert heard.notes == [
        f"{server.url} does not serve single commits; fetching all of its branches and tags."
    ]
    with pytest.raises(SourceError, match=f"has no commit {'1' * 40}"):
        fetch(pin_of(server.url), "1" * 40)


@needs_http_backend
def test_an_old_server_without_filters(server: Server) -> None:
    server.modern = False
    for key, value in (("allowFilter", "false"), ("allowReachableSHA1InWant", "true")):
        git(server.root / "upstream.git", "config", f"uploadpack.{key}", value)
    fetched = fetch(pin_of(server.url), commit_of(server, "main~2"))
    assert 100_000 < fetched.received < 200_000


@needs_http_backend
def test_a_server_that_is_busy_is_asked_again(server: Server) -> None:
    server.failures = 2
    assert fetch(pin_of(server.url), commit_of(server, "main")).received > 0
    server.failures = 9
    with pytest.raises(
        SourceError, match="could not be reached: The requested URL returned error: 503"
    ) as caught:
        resolve(pin_of(server.url), "main")
    assert server.failures == 6
    assert "--source" in caught.value.hint and "https_proxy" in caught.value.hint


@needs_http_backend
def test_a_repository_that_is_not_there(server: Server) -> None:
    missing = server.url.replace("upstream", "nothing").replace("http://", "http://me:secret@")
    with pytest.raises(SourceError, match=r"does not give the source: .*not found") as caught:
        fetch(pin_of(missing), "1" * 40)
    assert "secret" not in str(caught.value) + caught.value.hint
    with pytest.raises(SourceError, match="does not give the source"):
        resolve(pin_of(missing), "main")
    # An answer, not a failure of the network: asked once each time.
    assert len([path for path in server.paths if "info/refs" in path]) == 2


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
    started = time.monotonic()
    with pytest.raises(SourceError, match="could not be reached") as caught:
        fetch(pin_of(url), "1" * 40)
    assert time.monotonic() - started < 20
    assert "sagefix source bundle" in caught.value.hint


def test_a_silent_server_is_left_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PATIENCE_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x"
        started = time.monotonic()
        with pytest.raises(SourceError, match="could not be reached: no word for 1 s"):
            fetch(pin_of(url), "1" * 40)
    assert time.monotonic() - started < 20


def test_ctrl_c_leaves_no_git_behind(own_environment: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x"
        code = (
            "import msgspec, sys\n"
            "from sagefix.pins.model import Pin\n"
            "from sagefix.source.fetch import fetch\n"
            "fetch(msgspec.json.decode(sys.argv[1], type=Pin), '1' * 40)\n"
        )
        running = subprocess.Popen(
            [sys.executable, "-c", code, msgspec.json.encode(pin_of(url)).decode()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.DEVNULL,
        )
        listening.settimeout(30)
        connection, _ = listening.accept()
        with connection:
            started = psutil.Process(running.pid).children(recursive=True)
            assert started
            running.send_signal(signal.SIGINT)
            assert running.wait(20) != 0
    assert not psutil.wait_procs(started, timeout=5)[1]
    assert not any((own_environment / "source" / "pkg.scratch").iterdir())


def test_a_proxy_from_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_error(403)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    with running(proxy):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.server_address[1]}")
        with pytest.raises(SourceError, match=r"could not be reached: .*403"):
            fetch(pin_of("https://example.invalid/x"), "1" * 40)
    assert asked == ["example.invalid:443"] * 3
