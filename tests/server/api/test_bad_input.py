"""What no database stores, and a database that is busy: a sentence, never a stack trace, never half a change."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from server.db import read_scope
from server.models import Project, Task, Vote
from tests import factories
from tests.databases import on_both_databases

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


@pytest.fixture
def root(project: Project) -> dict[str, str]:
    return factories.bearer(factories.admin())


@on_both_databases
@pytest.mark.parametrize("strange", ["\\u0000", "\\ud800"])
def test_characters_that_cannot_be_stored(client: TestClient, project: Project, root: dict[str, str], strange: str) -> None:
    bodies = {
        "/projects": f'{{"name": "a{strange}"}}',
        f"/projects/{project.id}/sample-rounds": f'{{"prompts": ["a cat"], "checkpoint_id": "{strange}"}}',
        f"/projects/{project.id}/training-rounds": f'{{"votes": {{"round_ids": ["{strange}"]}}}}',
    }
    for path, body in bodies.items():
        assert client.post(f"/api/v1{path}", content=body, headers=root | JSON).status_code in (201, 404, 422), path
    assert client.get("/api/v1/projects/%00", headers=root).status_code in (404, 422)


@on_both_databases
@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_impossible_dates(client: TestClient, project: Project, root: dict[str, str], when: str) -> None:
    task: Task = factories.task(project)
    factories.commit()
    ballot: dict[str, Any] = {"vote_id": str(uuid.uuid4()), "outcome": "tie", "shown_at": when}
    refused = client.post(f"/api/v1/tasks/{task.id}/votes", json=ballot, headers=root)
    assert (refused.status_code, refused.json()["error"]) == (422, "invalid")


def test_a_busy_database_asks_to_try_again(client: TestClient, engine: Engine, project: Project, root: dict[str, str]) -> None:
    task: Task = factories.task(project)
    factories.commit()
    ballot = {"vote_id": str(uuid.uuid4()), "outcome": "tie"}
    with engine.begin():
        refused = client.post(f"/api/v1/tasks/{task.id}/votes", json=ballot, headers=root)
    assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")
    assert client.post(f"/api/v1/tasks/{task.id}/votes", json=ballot, headers=root).json()["counted"]
    with read_scope() as reader:
        assert reader.scalars(select(Vote.id)).all() == [ballot["vote_id"]]
