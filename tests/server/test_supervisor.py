"""Child processes that are kept alive together and end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from server.supervisor import Child, ChildFailed, Supervisor

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(said: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(said.append)
    yield supervisor
    supervisor.stop()


def child(tmp_path: Path, script: str, **options: float) -> Child:
    return Child("helper", [sys.executable, "-c", script], tmp_path / "logs" / "helper.log", **options)


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def pid(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


def test_a_child_that_dies_is_started_again_with_a_sentence(supervisor: Supervisor, tmp_path: Path, said: list[str]) -> None:
    helper = supervisor.start(child(tmp_path, SLEEP))
    first = pid(helper)
    watching = threading.Thread(target=supervisor.run)
    watching.start()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: helper.running and pid(helper) != first)
    supervisor.stopping = True
    watching.join()
    log = tmp_path / "logs" / "helper.log"
    assert said == [f"The helper stopped by itself (signal SIGKILL); starting it again. Its log is {log}."]


def test_a_child_that_dies_again_and_again_is_given_longer_pauses(supervisor: Supervisor, tmp_path: Path) -> None:
    helper = supervisor.start(child(tmp_path, "raise SystemExit(3)"))
    pauses = []
    for _ in range(4):
        eventually(lambda: not helper.running)
        supervisor._watch(helper)
        pauses.append(round(helper.due - time.monotonic()))
        helper.due = time.monotonic()
        supervisor._watch(helper)
    assert pauses == [0, 1, 3, 7]


def test_stopping_kills_what_does_not_listen(supervisor: Supervisor, tmp_path: Path) -> None:
    helper = supervisor.start(child(tmp_path, STUBBORN, grace=0.2))
    eventually(lambda: "deaf" in helper.last_words())
    supervisor.stop()
    assert not helper.running
    assert not psutil.pid_exists(pid(helper))


def test_a_child_that_fails_to_start_shows_the_end_of_its_log(supervisor: Supervisor, tmp_path: Path) -> None:
    helper = supervisor.start(child(tmp_path, "print('no such model'); raise SystemExit(1)"))
    with pytest.raises(ChildFailed, match="The helper stopped while starting") as failed:
        supervisor.wait_for(helper, lambda: False, timeout=30)
    assert str(failed.value).endswith("no such model")


def test_a_child_that_takes_too_long_is_told_so(supervisor: Supervisor, tmp_path: Path) -> None:
    helper = supervisor.start(child(tmp_path, SLEEP))
    with pytest.raises(ChildFailed, match="The helper took too long to start"):
        supervisor.wait_for(helper, lambda: False, timeout=0.1)


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from server.supervisor import Child, Supervisor\n"
        f"Supervisor(print).start(Child('helper', [sys.executable, '-c', {STUBBORN!r}], Path({str(tmp_path / 'log')!r})))\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        eventually(lambda: (tmp_path / "log").exists() and "deaf" in (tmp_path / "log").read_text())
        [orphan] = psutil.Process(parent.pid).children()
        parent.kill()
    eventually(lambda: not orphan.is_running())
