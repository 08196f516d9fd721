"""What a migration does to rows that are there already."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from sqlalchemy import select, text

from migrations.run import config, upgrade
from server import db
from server.models import User, Vote


def test_people_who_were_there_before_get_name_keys_of_their_own(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    command.upgrade(config(url), "0001")
    engine = db.make_engine(url)
    insert = text("INSERT INTO users (id, name, is_admin, created_at) VALUES (:id, :name, 0, '2026-01-31 12:00:00')")
    with engine.begin() as connection:
        connection.execute(insert, [{"id": "1", "name": "Alice"}, {"id": "2", "name": "ＡＬＩＣＥ"}])
    upgrade(url)
    with engine.connect() as connection:
        assert connection.execute(select(User.name_key).order_by(User.id)).scalars().all() == ["alice", "alice 2"]
    engine.dispose()


def test_votes_that_were_there_before_took_their_slots_when_they_came(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    command.upgrade(config(url), "0002")
    engine = db.make_engine(url)
    columns = "id, task_id, user_id, outcome, ranking, flags, shown_order, criterion, is_gold, received_at, body_hash"
    values = "'v', 't', 'u', 'tie', '[]', '{}', '[]', 'overall', 0, '2026-01-31 12:00:00.000000', ''"
    with engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql(f"INSERT INTO votes ({columns}) VALUES ({values})")
    upgrade(url)
    with engine.connect() as connection:
        assert connection.scalar(select(Vote.slot_taken_at)) == datetime(2026, 1, 31, 12, tzinfo=UTC)
    engine.dispose()
