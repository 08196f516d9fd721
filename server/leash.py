"""Run a command that cannot outlive the process that started it: `python -m server.leash PARENT_PID COMMAND...`.

A supervisor killed with SIGKILL cannot stop its children; the kernel can (Linux: PR_SET_PDEATHSIG, which survives exec).
Elsewhere the command simply runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def leashed(command: list[str]) -> list[str]:
    """The command line that runs `command` on this process's leash."""
    return [sys.executable, "-m", "server.leash", str(os.getpid()), *command]


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when `parent` dies, also if it died already."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
