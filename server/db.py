"""The engine, the session scopes, and messages that leave only after the commit."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, select, update
from sqlalchemy.orm import Session

from server import queue
from server.models import Job, now
from server.settings import get_settings

log = logging.getLogger(__name__)
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON")


def make_engine(url: str) -> Engine:
    """An engine whose SQLite writers queue up (BEGIN IMMEDIATE) instead of failing half-way."""
    if not make_url(url).drivername.startswith("sqlite"):
        return create_engine(url, pool_size=20, max_overflow=20, pool_pre_ping=True)
    engine = create_engine(url, pool_size=20, max_overflow=20)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN would come too late and deferred
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('sqlite_begin', 'IMMEDIATE')}")


@lru_cache
def get_engine() -> Engine:
    """The engine of the settings' database, which only a migration creates."""
    engine = make_engine(get_settings().database_url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "do_connect", _require_file)
    return engine


def _require_file(_dialect: Any, _record: Any, arguments: list[str], _options: Any) -> None:
    if not Path(arguments[0]).exists():
        raise sqlite3.OperationalError(f"there is no {arguments[0]}")


def forget_engine() -> None:
    """For a child process or a changed setting: the next use opens connections of its own."""
    if get_engine.cache_info().currsize:
        get_engine().dispose(close=False)
    get_engine.cache_clear()


@contextmanager
def session_scope() -> Iterator[Session]:
    """One transaction that writes. Commits at the end, then sends the jobs it queued."""
    with Session(get_engine(), expire_on_commit=False) as session:
        with session.begin():
            yield session
        deliver(session.info.pop("job_ids", []))


@contextmanager
def read_scope() -> Iterator[Session]:
    """One consistent view; whatever is written in it is rolled back."""
    with Session(get_engine().execution_options(sqlite_begin="DEFERRED"), expire_on_commit=False) as session:
        yield session


def send_after_commit(session: Session, job_id: str) -> None:
    session.info.setdefault("job_ids", []).append(job_id)


def deliver(job_ids: list[str]) -> None:
    """Sends committed jobs to the broker. If it is down they stay unsent in the database, and the sweep sends them later."""
    if not job_ids:
        return
    with read_scope() as session:
        kinds = dict(session.execute(select(Job.id, Job.kind).where(Job.id.in_(job_ids))).tuples().all())
    sent = []
    try:
        for job_id in job_ids:
            queue.send(job_id, kinds[job_id])
            sent.append(job_id)
    except queue.BrokerDown as error:
        log.warning("The broker is down (%s); %d job(s) are saved and will be sent later.", error, len(job_ids) - len(sent))
    if sent:
        with session_scope() as session:
            session.execute(update(Job).where(Job.id.in_(sent)).values(sent_at=now()))
