"""The worker's parent process: its sweep must leave nothing open that a forked pool process would inherit."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy.orm import Session

from server import db
from server.models import Job, State
from tests import factories
from worker import app


@pytest.fixture
def job(session: Session) -> Job:
    job = factories.job(factories.round_(factories.project(), state=State.QUEUED))
    factories.commit()
    session.close()
    db.get_engine().dispose()
    return job


def open_databases() -> list[str]:
    found = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return [path for path in found if path.startswith(str(db.get_engine().url.database))]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="This system does not show a process's open files in /proc.")
def test_the_sweep_closes_the_database(job: Job) -> None:
    counts = []

    def look(session: Session) -> int:
        session.get_one(Job, job.id)
        counts.append(len(open_databases()))
        return 0

    app._in_transaction("Jobs sent again: %d", look)
    assert counts[0] > 0
    assert open_databases() == []


def test_nothing_forks_while_the_sweep_has_the_database_open(job: Job) -> None:
    inside, go_on, order = threading.Event(), threading.Event(), []

    def slow(session: Session) -> int:
        session.get_one(Job, job.id)
        inside.set()
        go_on.wait(10)
        order.append("swept")
        return 0

    sweep = threading.Thread(target=app._in_transaction, args=("Jobs sent again: %d", slow))
    sweep.start()
    inside.wait(10)
    threading.Timer(0.2, go_on.set).start()
    if (child := os.fork()) == 0:
        os._exit(len(open_databases()))
    order.append("forked")
    sweep.join()
    assert order == ["swept", "forked"]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nothing_else_ends_the_sweep_either(job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Like the health file of another user of this machine, which this one may not touch."""
    looks = []

    class Foreign:
        def touch(self) -> None:
            looks.append(len(looks))
            if len(looks) == 2:
                app.stopping.set()
            raise PermissionError("not yours")

    monkeypatch.setattr(app, "ALIVE", Foreign())
    monkeypatch.setattr(app, "stopping", threading.Event())
    monkeypatch.setattr(app, "get_settings", lambda: SimpleNamespace(sweep_seconds=0.01))
    monkeypatch.setattr(app.time, "sleep", lambda seconds: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        app.sweep_until_stopped()
    assert len(looks) == 3
    assert "The sweep stumbled and tries again." in caplog.text


def test_a_database_that_is_away_does_not_end_the_sweep(
    job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "ALIVE", Path("/nonexistent/never touched"))
    (Path(db.get_engine().url.database or "")).write_bytes(b"this is no database, " * 100)
    app._in_transaction("Jobs sent again: %d", lambda session: len(session.query(Job).all()))
    assert "The sweep could not reach the database and tries again" in caplog.text


def test_a_new_pool_process_lets_go_of_the_sockets_it_inherited() -> None:
    broker, held = socket.socketpair()
    child = os.fork()
    if child == 0:
        app.let_go_of_sockets()
        signal.pause()
    try:
        held.close()
        broker.settimeout(10)
        assert broker.recv(1) == b"", "nobody holds the other end any more"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        broker.close()
