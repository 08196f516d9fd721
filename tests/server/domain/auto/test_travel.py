"""A project with an auto round in the middle of an epoch, exported, imported into an empty system, and retried there."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from server.domain import rounds
from server.models import Project, Round, State, User
from server.storage import Storage
from tests import factories
from tests.databases import on_both_databases
from tests.server.domain.auto.conftest import Stage
from tests.server.domain.exports.conftest import exported, in_file
from tests.server.domain.exports.test_everything import empty, imported


@on_both_databases
def test_it_goes_on_where_it_was(session: Session, storage: Storage, stage: Stage, engine: Engine, tmp_path: Path) -> None:
    stage.begin()
    stage.end()
    stage.epoch()
    factories.commit()
    storage.root.mkdir(parents=True, exist_ok=True)
    steps, archive = stage.steps, in_file(exported(session, storage, stage.project), tmp_path)
    session.rollback()
    session.expunge_all()
    empty(engine, storage)
    project: Project = imported(session, storage, archive)
    row = session.scalars(select(Round).where(Round.kind == "auto")).one()
    assert (row.state, row.message) == (
        State.CANCELLED,
        "It was not over when this was exported. What was finished is here; retry runs the rest.",
    )
    again = Stage(session, project, session.scalars(select(User).where(User.name == "Alice")).one())
    again.auto = row
    assert again.steps == steps
    rounds.retry(session, again.by, row)
    again.epoch((2.0, 3.0, 4.0, 5.0))
    assert row.state == State.DONE
    assert again.steps[: len(steps)] == steps
