"""What a migration does to rows that are there already."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import select, text

from d3po_core.demo_model import recipe
from d3po_core.params import TrainingParams
from migrations.run import config, upgrade
from server import db
from server.models import Group, Project, Round, User, Vote
from tests.databases import scratch_postgres


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'old.db'}"
    else:
        with scratch_postgres() as url:
            yield url


def test_projects_that_were_there_before_train_as_their_model_is_best_trained(empty_database: str) -> None:
    command.upgrade(config(empty_database), "0005")
    engine = db.make_engine(empty_database)
    columns = "id, name, base_model, mode, guideline, prompt_set, votes_per_task, sampling, created_at"
    values = ":base_model, :base_model, :base_model, 'best', '', 'demo', 1, '{}', '2026-01-31 12:00:00'"
    with engine.begin() as connection:
        insert = text(f"INSERT INTO projects ({columns}) VALUES ({values})")
        connection.execute(insert, [{"base_model": "demo"}, {"base_model": "sd15"}])
    upgrade(empty_database)
    with engine.connect() as connection:
        found = dict(connection.execute(select(Project.base_model, Project.training)).tuples().all())
    assert found["sd15"] == {}
    assert TrainingParams(**found["demo"]).lora_targets == recipe.TRAINING.lora_targets
    engine.dispose()


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


def test_rounds_that_were_there_before_keep_what_refers_to_them(empty_database: str) -> None:
    command.upgrade(config(empty_database), "0006")
    engine = db.make_engine(empty_database)
    project = "'Emoji', 'demo', 'best', '', 'demo', 1, '{}', '{}', '[]'"
    rows = {
        "projects (id, name, base_model, mode, guideline, prompt_set, votes_per_task, sampling, training, flags": project,
        "rounds (id, project_id, number, kind, state, params, message": "'p', 1, 'sample', 'done', '{}', ''",
        "groups (id, project_id, round_id, position, prompt": "'p', 'r', 0, 'a cat'",
    }
    with engine.begin() as connection:
        for columns, values in rows.items():
            insert = f"INSERT INTO {columns}, created_at) VALUES ('{columns[0]}', {values}, '2026-01-31 12:00:00')"
            connection.exec_driver_sql(insert)
    upgrade(empty_database)
    with engine.connect() as connection:
        kept = select(Group.id, Round.number).join(Round, Round.id == Group.round_id)
        assert connection.execute(kept).tuples().all() == [("g", 1)]
        if engine.dialect.name == "sqlite":
            assert not connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    engine.dispose()
