"""What tests share: small wheels, and a web server on this machine that behaves as it is told."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
from wheel.wheelfile import WheelFile

from sagefix.wheels.model import RECORD_NAME, Record

LABEL = "68de379.cu130.torch2.11.sm90"


def make_wheel(
    folder: Path,
    *,
    project: str = "sageattention",
    version: str = f"2.2.0+{LABEL}",
    tag: str = "py3-none-any",
    requires: Sequence[str] = ("torch==2.11.*",),
    requires_python: str = ">=3.9",
    body: str = "value = 1\n",
    record: Record | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a wheel of one module (named like the project, ``body`` inside) and of ``files``; return its path."""
    name = project.replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {project}", f"Version: {version}"]
    if requires_python:
        metadata.append(f"Requires-Python: {requires_python}")
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    python, abi, platform = tag.split("-")
    tags = [f"{p}-{a}-{m}" for p in python.split(".") for a in abi.split(".") for m in platform.split(".")]
    with WheelFile(path, "w") as archive:
        archive.writestr(f"{name}.py", body)
        for path_inside, content in (files or {}).items():
            archive.writestr(path_inside, content)
        archive.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        archive.writestr(
            f"{info}/WHEEL",
            "\n".join(
                [
                    "Wheel-Version: 1.0",
                    "Generator: tests",
                    "Root-Is-Purelib: true",
                    *(f"Tag: {t}" for t in tags),
                ]
            )
            + "\n",
        )
        if record is not None:
            archive.writestr(f"{info}/{RECORD_NAME}", msgspec.json.encode(record))
    return path


def verdict(gpu: str, capability: str, *statuses: str, **more: Any) -> dict[str, Any]:
    """Return a verdict with one case of each status on a GPU."""
    cases = [{"id": f"case {number}", "status": status} for number, status in enumerate(statuses)]
    device = {"name": gpu, "capability": capability, "driver": "580.1"}
    return {"gpus": [gpu], "numerics": {"devices": [device], "cases": cases}, **more}


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; what ``server.behaviour`` names by its path it leaves to that function."""

    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        behave = self.server.behaviour.get(self.path)
        if behave is not None:
            behave(self)
        else:
            super().do_GET()

    def answer(self, body: bytes, *, status: int = 200, **headers: str) -> None:
        """Send a whole answer; underscores in header names become dashes, and a given length is kept."""
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        headers.setdefault("Content_Type", "text/html")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """A server of a folder on a free port of this machine. ``ended`` is set when it closes."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.behaviour: dict[str, Callable[[Handler], None]] = {}
        self.ended = threading.Event()
        super().__init__(("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def paths(self) -> list[str]:
        """Return the paths that were asked for, in order."""
        return [path for path, _ in self.requests]


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve a folder while the block runs."""
    with Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()


def environment_beside(folder: Path, base: Path) -> Path:
    """Make a virtual environment that sees the packages of another one, which stays as it is.

    Linked, since copying setuptools takes longer than most tests.
    """
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (other,) = base.glob("lib/python*/site-packages")
    (site / "base.pth").write_text(f"{other}\n")
    return folder
