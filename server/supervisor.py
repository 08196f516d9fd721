"""A handful of child processes kept alive together, and ended together.

Each child leads its own process group and is on a leash (server.leash), so that nothing outlives the supervisor: not
after Ctrl-C, not after SIGTERM, not after kill -9.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from server.leash import leashed

POLL_SECONDS = 0.2
LONGEST_PAUSE = 30.0
HEALTHY_AFTER = 60.0
LOG_TAIL = 6


class ChildFailed(Exception):
    """A child ended while it was still starting; the sentence shows the end of its log."""


@dataclass
class Child:
    """One process: how to start it, where it logs, how long it may take to stop."""

    name: str
    command: list[str]
    log: Path
    grace: float = 10.0
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    due: float = 0.0

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                leashed(self.command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.started = time.monotonic()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ask_to_end(self) -> None:
        """SIGTERM to the process alone: it ends its own children in its own order."""
        if self.process is not None and self.running:
            self.process.terminate()

    def end(self) -> None:
        """Waits out the grace, then kills the whole group."""
        self.ask_to_end()
        if self.process is None:
            return
        try:
            self.process.wait(self.grace)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-LOG_TAIL:])


class Supervisor:
    """Starts children in order, restarts what dies (with a growing pause), stops all."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.children: list[Child] = []
        self.stopping = False

    def listen(self) -> None:
        """Ctrl-C, SIGTERM and a closed terminal end `run`, or interrupt the start."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop_asked)

    def start(self, child: Child) -> Child:
        self.children.append(child)
        child.start()
        return child

    def wait_for(self, child: Child, is_up: Callable[[], bool], timeout: float) -> bool:
        """True once `is_up`; False if a stop was asked for meanwhile. ChildFailed if it died or took too long."""
        deadline = time.monotonic() + timeout
        while not self.stopping:
            if is_up():
                return True
            if not child.running or time.monotonic() > deadline:
                reason = "took too long to start" if child.running else "stopped while starting"
                raise ChildFailed(f"The {child.name} {reason}. Its log, {child.log}, ends with:\n{child.last_words()}")
            time.sleep(POLL_SECONDS / 4)
        return False

    def run(self) -> None:
        """Watches over the children until a signal asks to stop."""
        while not self.stopping:
            for child in self.children:
                self._watch(child)
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Asks all to end but the first (the broker, which the others talk to), waits for them, then ends it too."""
        for child in self.children[1:]:
            child.ask_to_end()
        for child in reversed(self.children):
            child.end()

    def _watch(self, child: Child) -> None:
        moment = time.monotonic()
        if child.running:
            if moment - child.started > HEALTHY_AFTER:
                child.deaths = 0
        elif not child.due:
            pause = min(LONGEST_PAUSE, 2.0**child.deaths - 1)
            child.deaths, child.due = child.deaths + 1, moment + pause
            self.say(f"The {child.name} stopped by itself ({self._how(child)}); starting it again. Its log is {child.log}.")
        elif moment >= child.due:
            child.due = 0.0
            child.start()

    def _stop_asked(self, number: int, frame: object) -> None:
        self.stopping = True

    @staticmethod
    def _how(child: Child) -> str:
        code = child.process.returncode if child.process else 0
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
