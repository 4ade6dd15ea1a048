"""The one door to subprocesses, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sagefix.errors import ProcessError
from sagefix.process import Stop, end_session, find_program, run, session_members, stoppable

# Two children in process groups of their own, as ninja starts compilers; their numbers go to the file named first.
_PARENT = """
import os, subprocess, sys, time
sleeper = "import os, time; os.setpgid(0, 0); time.sleep(300)"
children = [subprocess.Popen([sys.executable, "-c", sleeper]) for _ in range(2)]
with open(sys.argv[1], "w") as stream:
    stream.write(" ".join(str(child.pid) for child in children) + " ready")
if sys.argv[2] == "fail":
    sys.exit(1)
time.sleep(300)
"""


def _pids(path: Path) -> list[int]:
    """Wait for the parent to have written its children's numbers."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not (path.is_file() and path.read_text().endswith("ready")):
        time.sleep(0.05)
    return [int(word) for word in path.read_text().split()[:-1]]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _gone(pids: list[int], within: float = 10) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not any(_alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_output_and_status_come_back() -> None:
    done = run([sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr)"])
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 0)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProcessError, match="no-such-program was not found"):
        run(["no-such-program"])
    assert find_program("no-such-program") is None


def test_a_failure_carries_command_status_and_tail() -> None:
    with pytest.raises(ProcessError, match="exit status 3: last words") as raised:
        run([sys.executable, "-c", "import sys; print('first'); print('last words'); sys.exit(3)"])
    assert raised.value.details["returncode"] == 3
    assert raised.value.details["tail"] == "first\nlast words"
    assert "last words" in raised.value.details["command"]


def test_the_log_holds_everything_in_order(tmp_path: Path) -> None:
    heard: list[str] = []
    log = tmp_path / "log.txt"
    script = "import sys\nfor i in range(100):\n print(i, flush=True); print(-i, file=sys.stderr, flush=True)"
    run([sys.executable, "-c", script], log=log, on_line=heard.append)
    expected = [text for i in range(100) for text in (str(i), str(-i))]
    assert heard == expected
    assert log.read_text().split() == expected


def test_standard_input_is_empty() -> None:
    assert run([sys.executable, "-c", "import sys; print(repr(sys.stdin.read()))"]).stdout == "''\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("merged", [True, False])
def test_a_timeout_ends_grandchildren_too(tmp_path: Path, merged: bool) -> None:
    with pytest.raises(ProcessError, match="did not end within 2 s"):
        run(
            [sys.executable, "-c", _PARENT, tmp_path / "pids", "stay"],
            timeout=2,
            log=tmp_path / "log" if merged else None,
        )
    pids = _pids(tmp_path / "pids")
    assert len(pids) == 2
    assert _gone(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_sagefix(tmp_path: Path, number: int) -> None:
    """Ctrl-C is cleaned up by sagefix itself, kill -9 by the watchdog."""
    script = (
        "import sys, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path; from sagefix.process import run\n"
        f"run([sys.executable, '-c', {_PARENT!r}, sys.argv[1], 'stay'], log=Path(sys.argv[1] + '.log'), watched=True)"
    )
    sagefix = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "pids")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.DEVNULL,
    )
    pids = _pids(tmp_path / "pids")
    assert len(pids) == 2 and all(_alive(pid) for pid in pids)
    sagefix.send_signal(number)
    sagefix.wait(20)
    assert _gone(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_failed_program_leaves_nothing_behind(tmp_path: Path) -> None:
    sessions: list[int] = []
    with pytest.raises(ProcessError):
        run(
            [sys.executable, "-c", _PARENT, tmp_path / "pids", "fail"],
            log=tmp_path / "log",
            on_start=sessions.append,
        )
    assert len(_pids(tmp_path / "pids")) == 2
    assert session_members(sessions[0]) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_who_ends_a_session_asks_each_program_once(tmp_path: Path) -> None:
    """A second SIGTERM would interrupt a program that is just ending what it started itself."""
    asked = tmp_path / "asked"
    script = (
        "import signal, sys, time\n"
        "def hear(number, frame):\n"
        "    open(sys.argv[1], 'a').write('asked ')\n"
        "signal.signal(signal.SIGTERM, hear)\n"
        "open(sys.argv[1], 'a').write('ready ')\n"
        "until = time.monotonic() + 20\n"
        "while 'asked' not in open(sys.argv[1]).read() and time.monotonic() < until:\n"
        "    time.sleep(0.01)\n"
        "time.sleep(0.5)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(asked)], start_new_session=True)
    while not asked.exists() or "ready" not in asked.read_text():
        time.sleep(0.01)
    waiter = threading.Thread(target=child.wait)
    waiter.start()
    end_session(child.pid)
    waiter.join()
    assert asked.read_text() == "ready asked "
    assert child.returncode == 0


def test_what_another_thread_began_can_be_ended_and_begins_no_more(tmp_path: Path) -> None:
    stop, noted, ended = Stop(), tmp_path / "pids", threading.Event()

    def work() -> None:
        with stoppable(stop):
            for name in (noted, tmp_path / "later"):
                with pytest.raises(ProcessError):
                    run([sys.executable, "-c", _PARENT, str(name), "stay"])
            ended.set()

    beside = threading.Thread(target=work)
    beside.start()
    pids = _pids(noted)
    assert pids and all(map(_alive, pids))
    stop.end()
    beside.join(20)
    assert ended.is_set() and _gone(pids)
    # A program that is not part of the work goes on.
    assert run([sys.executable, "-c", "print(1)"]).stdout == "1\n"
