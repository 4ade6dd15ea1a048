"""Ends a session when the process that started it is gone. Started by :mod:`sagefix.process`, imports nothing of it.

Usage: ``python -I -S _watchdog.py SESSION`` with a pipe on standard input.
"""

import os
import signal
import sys
import time


def members(session: int) -> list[int]:
    """Processes of the session. Linux lists them under /proc; elsewhere only the leader is known."""
    if not os.path.isdir("/proc/self"):
        return [session]
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if os.getsid(int(name)) == session:
                with open("/proc/" + name + "/stat", "rb") as stream:
                    if stream.read().rpartition(b")")[2].split()[0] != b"Z":
                        found.append(int(name))
        except OSError:
            continue
    return found


def main() -> None:
    session = int(sys.argv[1])
    # Ctrl-C is the parent's business; this process must outlive it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.read(0, 1):
        return
    for _ in range(100):
        alive = members(session)
        if not alive:
            return
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        time.sleep(0.05)


main()
