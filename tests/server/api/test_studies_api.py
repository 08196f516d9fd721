"""Studies over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from server.models import Project
from tests import factories


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


def ask(client: TestClient, project: Project, headers: Any, **body: Any) -> Any:
    return client.post(f"/api/v1/projects/{project.id}/study-rounds", json=body, headers=headers)


def test_a_study_is_requested_voted_on_and_read(client: TestClient, session: Session, project: Project) -> None:
    made = factories.checkpoint(project)
    boss, bob = factories.bearer(factories.operator(project)), factories.bearer(factories.annotator(project))
    asked = {"checkpoints": ["base", str(made.number)], "prompts": ["a cat"], "votes_per_item": 1}
    row = ask(client, project, boss, **asked).json()
    assert (row["kind"], row["state"], row["opponent_id"]) == ("study", "queued", None)
    assert (row["params"]["checkpoints"], row["params"]["items"]) == (["base", made.id], 1)
    assert row["result"]["policies"][0] | {"checkpoint_id": "base", "votes": 0, "preferred": None} == row["result"]["policies"][0]

    group = factories.group(project, round_id=row["id"], drawn_by=[None, made.id], trajectory_key=None)
    task = factories.task(project, group, mode="pairwise", votes_wanted=1)
    factories.commit()
    [leased] = client.post(f"/api/v1/projects/{project.id}/tasks/next", headers=bob).json()
    ballot = {"vote_id": "0b8f7c0e-5d0e-4c51-9a53-3e3f1a1f7a10", "outcome": "best", "best_image_id": group.images[1].id}
    assert "checkpoint" not in str(leased)
    assert client.post(f"/api/v1/tasks/{task.id}/votes", json=ballot, headers=bob).json()["counted"] is True

    found = client.get(f"/api/v1/rounds/{row['id']}", headers=boss).json()["result"]
    assert [(one["votes"], one["preferred"], one["majority"]) for one in found["policies"]] == [(0, 0.0, 0.0), (1, 1.0, 1.0)]
    assert (found["complete"], found["waiting"]) == (1, 0)
    assert client.get(f"/api/v1/rounds/{row['id']}", headers=bob).status_code == 403


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"checkpoints": ["base", "base"]}, "A study compares 2 to 9 different checkpoints"),
        ({"checkpoints": ["base", "77777"]}, "This project has no checkpoint 77777."),
        ({"votes_per_item": 0}, "votes_per_item must be at least 1, you sent 0."),
        ({"raters": 5}, "raters is not a known field."),
    ],
)
def test_what_does_not_fit_is_a_sentence(client: TestClient, project: Project, change: Any, sentence: str) -> None:
    made = factories.checkpoint(project)
    body = {"checkpoints": ["base", made.id], "prompts": ["a cat"]} | change
    refused = ask(client, project, factories.bearer(factories.operator(project)), **body)
    assert refused.status_code in (404, 422)
    assert refused.json()["detail"].startswith(sentence)
