"""Part of the build shim: sccache before every compiler that torch's ninja starts."""

import atexit
import json
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from typing import Dict, Optional

# How long the server may take to start and to end (seconds).
SERVER_S = 10.0

# The path of a socket has at most 107 bytes: https://man7.org/linux/man-pages/man7/unix.7.html
LONGEST_FOLDER = 80

# How ninja's variables name the compilers, in what torch writes.
COMPILERS = ("cxx = ", "nvcc = ")


class ObjectCache:
    """A server of sccache for this build alone, and the build files that reach it.

    sccache's own way is a server that stays: its compilers would outlive a build that is ended, and count for nobody's
    memory. This one is a child of the build. Whatever goes wrong with it, the compilers work without it.
    """

    def __init__(self, program: str, variables: Dict[str, str]) -> None:
        self.program = program
        self.variables = variables
        self.folder = ""
        self.server: Optional["subprocess.Popen[bytes]"] = None
        self.lock = threading.Lock()
        self.works: Optional[bool] = None

    def ready(self) -> bool:
        """Start the server if that was not tried yet; tell whether it works."""
        with self.lock:
            if self.works is None:
                self.works = self.start()
            return self.works

    def start(self) -> bool:
        """Start the server; False, said in the log, when it does not come up."""
        folder = os.environ.get("SAGEFIX_BUILD_DIR", "")
        self.folder = tempfile.mkdtemp(
            prefix="objects-", dir=folder if 0 < len(os.fsencode(folder)) < LONGEST_FOLDER else "/tmp"
        )
        atexit.register(self.stop)
        # A client that loses the server compiles by itself.
        mine = {
            "SCCACHE_SERVER_UDS": os.path.join(self.folder, "socket"),
            "SCCACHE_IGNORE_SERVER_IO_ERROR": "1",
        }
        os.environ.update({**self.variables, **mine})
        started = {**os.environ, "SCCACHE_START_SERVER": "1", "SCCACHE_NO_DAEMON": "1"}
        try:
            self.server = subprocess.Popen(
                [self.program], env=started, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            print("sagefix: no object cache: %s" % error, flush=True)
            return False
        deadline = time.monotonic() + SERVER_S
        while not answers(mine["SCCACHE_SERVER_UDS"]):
            if self.server.poll() is not None or time.monotonic() > deadline:
                print("sagefix: no object cache: %s did not start" % self.program, flush=True)
                return False
            time.sleep(0.02)
        return True

    def stop(self) -> None:
        """End the server and write down what it counted."""
        if self.server is not None and self.server.poll() is None:
            try:
                said = self.ask("--show-stats", "--stats-format", "json")
                # It brings to an end what is being written into the cache.
                self.ask("--stop-server")
                self.server.wait(SERVER_S)
                print("sagefix objects %s" % json.dumps(json.loads(said)), flush=True)
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                print("sagefix: no word from the object cache: %s" % error, flush=True)
                self.server.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, *arguments: str) -> bytes:
        """Return what the server says."""
        command = [self.program, *arguments]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=SERVER_S, check=False
        )
        return done.stdout

    def put_before_compilers(self, folder: str) -> None:
        """Put sccache before the compilers that the build files of a folder name."""
        before = shlex.quote(self.program).replace("$", "$$") + " "
        for name in os.listdir(folder):
            if not name.endswith(".ninja"):
                continue
            path = os.path.join(folder, name)
            with open(path, encoding="utf-8") as stream:
                text = "\n" + stream.read()
            for start in COMPILERS:
                text = text.replace("\n" + start, "\n" + start + before)
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(text[1:])


def answers(address: str) -> bool:
    """Tell whether somebody listens on a socket."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(address)
        except OSError:
            return False
    return True


def use_objects(program: str, variables: Dict[str, str]) -> None:
    """Have torch's ninja compile through sccache; leave torch alone where it has no ninja."""
    from torch.utils import cpp_extension

    run_ninja = getattr(cpp_extension, "_run_ninja_build", None)
    if run_ninja is None:
        return
    cache = ObjectCache(program, variables)

    def run(build_directory: str, verbose: bool, error_prefix: str) -> None:
        if cache.ready():
            cache.put_before_compilers(build_directory)
        run_ninja(build_directory, verbose, error_prefix)

    cpp_extension._run_ninja_build = run
