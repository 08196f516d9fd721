"""The real embedded stack as a user starts it: `d3po up` in a process of its own, and a client of its API."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
from sqlalchemy.orm import Session

from server.db import make_engine
from server.domain import people

T = TypeVar("T")
QUICK = {"D3PO_JOB_LEASE_SECONDS": "4", "D3PO_SWEEP_SECONDS": "0.5", "D3PO_TORCH_THREADS": "1", "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(look: Callable[[], T], seconds: float = 240, every: float = 0.1) -> T:
    """The first truthy value that `look` gives."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(every)
    return found


class Up:
    """One `d3po up`. `lines` is what it printed on standard output, `said` what it told on standard error."""

    def __init__(self, data_dir: Path, model: Path | None = None, port: int | None = None) -> None:
        self.data_dir, self.port = data_dir, port or free_port()
        command = [sys.executable, "-m", "server.cli", "up", "--data-dir", str(data_dir), "--port", str(self.port)]
        chosen = {"D3PO_BASE_MODEL": str(model)} if model else {}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **QUICK, **chosen}
        )
        self.lines: list[str] = []
        self.said: list[str] = []
        self._readers = [self._read(self.process.stdout, self.lines), self._read(self.process.stderr, self.said)]

    def _read(self, stream: Any, into: list[str]) -> threading.Thread:
        def pump() -> None:
            with stream:
                for line in stream:
                    into.append(line.rstrip("\n"))

        thread = threading.Thread(target=pump, daemon=True)
        thread.start()
        return thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self) -> Up:
        eventually(lambda: len(self.lines) >= 2 or self.process.poll() is not None)
        assert self.process.poll() is None, "\n".join(self.said)
        return self

    def wait(self, seconds: float = 60) -> int:
        code = self.process.wait(seconds)
        for thread in self._readers:
            thread.join()
        return code

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.wait()

    def family(self) -> list[psutil.Process]:
        """Every process that it started, directly or not."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def find(self, *words: str) -> psutil.Process | None:
        """The oldest of them whose command line has all these words."""
        for process in self.family():
            try:
                line = " ".join(process.cmdline())
            except psutil.NoSuchProcess:
                continue
            if all(word in line for word in words):
                return process
        return None

    def api(self) -> httpx.Client:
        """A client with the rights of the first admin."""
        engine = make_engine(f"sqlite:///{self.data_dir / 'd3po.db'}")
        with Session(engine) as session, session.begin():
            token = people.issue_token(session, people.find(session, "admin"), "test")
        engine.dispose()
        return httpx.Client(base_url=f"{self.url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=30)


@contextmanager
def running(data_dir: Path, model: Path | None = None) -> Iterator[Up]:
    """A stack that serves, and that is gone afterwards."""
    up = Up(data_dir, model)
    try:
        yield up.wait_until_ready()
    finally:
        if up.process.poll() is None:
            up.stop()


def answer(response: httpx.Response) -> Any:
    assert response.is_success, response.text
    return response.json()


def round_ended(client: httpx.Client, round_id: str, seconds: float = 240) -> dict[str, Any]:
    """The round once it is over, however it ended."""

    def over() -> dict[str, Any] | None:
        seen: dict[str, Any] = answer(client.get(f"/rounds/{round_id}"))
        return seen if seen["state"] in ("done", "failed", "cancelled") else None

    return eventually(over, seconds, every=0.3) or {}


def vote_on_everything(client: httpx.Client, project_id: str) -> int:
    """Votes for the first image shown of every task that waits; returns how many votes."""
    votes = 0
    while tasks := answer(client.post(f"/projects/{project_id}/tasks/next", params={"count": 10})):
        for task in tasks:
            shown = [image["id"] for image in task["images"]]
            ballot = {"vote_id": str(uuid.uuid4()), "outcome": "best", "best_image_id": shown[0], "shown_order": shown}
            answer(client.post(f"/tasks/{task['task_id']}/votes", json=ballot))
            votes += 1
    return votes
