"""Transactions, and messages that leave only after the commit."""

from __future__ import annotations

import contextlib
import logging

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from migrations.run import is_current
from server import db
from server.models import Base, Job, State, User
from server.settings import Settings, get_settings
from tests import factories
from tests.databases import on_both_databases

pytestmark = on_both_databases


def test_a_scope_commits_everything_or_nothing(engine: Engine) -> None:
    with db.session_scope() as session:
        session.add(User(name="Alice"))
    with contextlib.suppress(ZeroDivisionError), db.session_scope() as session:
        session.add(User(name="Bob"))
        session.flush()
        _ = 1 / 0
    with db.read_scope() as session:
        assert session.scalars(select(User.name)).all() == ["Alice"]


def test_a_read_scope_leaves_nothing(engine: Engine) -> None:
    with db.read_scope() as session:
        session.add(User(name="Alice"))
        session.flush()
    with db.read_scope() as session:
        assert session.scalars(select(User.name)).all() == []


def test_sqlite_is_durable_and_checks_keys(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        return
    with engine.connect() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_migrations_make_the_tables_of_the_models(engine: Engine, settings: Settings) -> None:
    assert is_current(engine, settings.database_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_job_is_sent_after_the_commit(session: Session) -> None:
    job = factories.job(factories.round_(factories.project()))
    factories.commit()
    with db.session_scope() as scope:
        db.send_after_commit(scope, job.id)
        assert scope.get_one(Job, job.id).sent_at is None
    session.refresh(job)
    assert job.sent_at is not None


def test_a_rolled_back_job_is_not_sent(session: Session) -> None:
    job = factories.job(factories.round_(factories.project()))
    factories.commit()
    with contextlib.suppress(ZeroDivisionError), db.session_scope() as scope:
        db.send_after_commit(scope, job.id)
        _ = 1 / 0
    session.refresh(job)
    assert job.sent_at is None


def test_without_a_broker_the_commit_stands(
    session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    round_ = factories.round_(factories.project())
    factories.commit()
    monkeypatch.setenv("D3PO_BROKER_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    with caplog.at_level(logging.WARNING), db.session_scope() as scope:
        job = Job(round_id=round_.id, kind="sample", payload={})
        scope.add(job)
        scope.flush()
        db.send_after_commit(scope, job.id)
    kept = session.get_one(Job, job.id)
    assert (kept.state, kept.sent_at) == (State.QUEUED, None)
    assert "1 job(s) are saved and will be sent later" in caplog.text
