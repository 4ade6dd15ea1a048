"""A git server on this machine that counts what it sends: smart HTTP by git's own CGI program.

https://git-scm.com/docs/git-http-backend
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# The server's own settings: what a public host allows, and a repository that belongs to somebody else.
_SETTINGS = (
    "[safe]\n\tdirectory = *\n"
    "[uploadpack]\n\tallowFilter = true\n\tallowAnySHA1InWant = true\n"
    "[http]\n\treceivepack = false\n"
)


class Handler(BaseHTTPRequestHandler):
    """Hands each request to ``git http-backend`` and counts the bytes of the answer's body."""

    server: CountingServer

    def do_GET(self) -> None:
        """Answer."""
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(self.server.settings),
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_PROJECT_ROOT": str(self.server.repository),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=variables, check=False, capture_output=True
        )
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line)
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        with self.server.counting:
            self.server.sent += len(answer)

    do_POST = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named so in http.server
        """Say nothing."""


class CountingServer(ThreadingHTTPServer):
    """Serves one repository as ``url``; ``sent`` is how many bytes of answers went out, headers not counted."""

    daemon_threads = True

    def __init__(self, repository: Path, settings: Path) -> None:
        self.repository, self.settings = repository, settings
        self.counting = threading.Lock()
        self.sent = 0
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Where the repository is."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def taken(self) -> int:
        """Return the count and start anew."""
        with self.counting:
            sent, self.sent = self.sent, 0
        return sent


@contextmanager
def serving(repository: Path, scratch: Path) -> Iterator[CountingServer]:
    """Serve a repository (bare, or a working copy's) while the block runs."""
    settings = scratch / "server.gitconfig"
    settings.write_text(_SETTINGS, encoding="utf-8")
    inside = repository / ".git"
    with CountingServer(inside if inside.is_dir() else repository, settings) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
