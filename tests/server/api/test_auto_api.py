"""Auto rounds over HTTP: the body of a reward round, with epochs."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from server.models import Project, Round
from tests import factories
from tests.server.domain.auto.conftest import Stage

REWARDS: dict[str, Any] = {"rewards": [{"name": "colourfulness"}]}


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


@pytest.fixture
def boss(project: Project) -> dict[str, str]:
    return factories.bearer(factories.operator(project))


@pytest.fixture
def url(project: Project) -> str:
    return f"/api/v1/projects/{project.id}/reward-rounds"


def test_epochs_make_it_an_auto_round(client: TestClient, url: str, project: Project, boss: dict[str, str]) -> None:
    sampling, training = {"num_inference_steps": 7}, {"beta": 0.5}
    body = REWARDS | {"epochs": 3, "count": 5, "evaluate_every": 2, "sampling": sampling, "training": training}
    told = client.post(url, json=body, headers=boss).json()
    assert (told["kind"], told["state"], told["auto_id"], told["checkpoint_id"]) == ("auto", "queued", None, "base")
    assert told["params"] | {"epochs": 3, "count": 5, "sampling": sampling, "training": training} == told["params"]
    assert (told["progress"]["done"], told["progress"]["total"], told["progress"]["unit"]) == (0, 3, "epochs")
    first, row = client.get(f"/api/v1/projects/{project.id}/rounds", headers=boss).json()["items"]
    assert (first["kind"], first["auto_id"], row["id"]) == ("evaluation", told["id"], told["id"])
    assert client.post(f"/api/v1/rounds/{told['id']}/cancel", headers=boss).json()["state"] == "cancelled"
    assert client.post(f"/api/v1/rounds/{told['id']}/retry", headers=boss).json()["state"] == "queued"


def test_annotators_launch_none(client: TestClient, url: str, project: Project) -> None:
    annotator = factories.bearer(factories.annotator(project))
    assert client.post(url, json=REWARDS | {"epochs": 3}, headers=annotator).status_code == 403


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"epochs": 0}, "epochs must be at least 1, you sent 0."),
        ({"epochs": 2, "round_ids": ["abc"]}, "An auto round scores what it samples itself."),
        ({"count": 4, "stop_kl": 0.1}, "count, stop_kl belong to an auto round. Say how many epochs, or leave them out."),
        ({"count": 4}, "count belongs to an auto round. Say how many epochs, or leave it out."),
        ({"epochs": 2, "training": {"beta": -1}}, "training.beta must be greater than 0, you sent -1."),
        ({"epochs": 2, "prompt_set": "poems"}, "There is no prompt set called poems."),
        ({"epochs": 2, "rewards": [{"name": "beauty"}]}, "There is no reward beauty here"),
        ({"epochs": 2, "dance": 1}, "dance is not a known field."),
    ],
)
def test_what_makes_no_sense_is_told_and_launches_nothing(
    client: TestClient, session: Session, url: str, boss: dict[str, str], body: dict[str, Any], sentence: str
) -> None:
    answer = client.post(url, json=REWARDS | body, headers=boss)
    assert (answer.status_code, sentence in answer.json()["detail"]) == (422, True), answer.json()
    assert session.scalar(select(func.count()).select_from(Round)) == 0


def test_a_second_one_waits_for_the_first(client: TestClient, url: str, boss: dict[str, str]) -> None:
    body = REWARDS | {"epochs": 3}
    assert client.post(url, json=body, headers=boss).status_code == 201
    answer = client.post(url, json=body, headers=boss)
    assert (answer.status_code, "is training this project already" in answer.json()["detail"]) == (409, True)


def test_the_curve(client: TestClient, session: Session, project: Project, boss: dict[str, str]) -> None:
    stage = Stage(session, project, factories.operator(project))
    row = stage.begin()
    stage.end((10.0, 20.0, 30.0, 40.0))
    stage.epoch((12.0, 22.0, 32.0, 42.0))
    factories.commit()
    items = client.get(f"/api/v1/rounds/{row.id}/curve", headers=boss).json()["items"]
    [made] = stage.made()
    assert [(one["epoch"], one["checkpoint_id"]) for one in items] == [(0, "base"), (1, made.id)]
    assert items[1]["rewards"]["colourfulness"]["mean"] == 27.0
    assert items[1]["rewards"]["colourfulness"]["low"] == pytest.approx(27 - 12.65, abs=0.01)
    other = factories.round_(project)
    factories.commit()
    assert client.get(f"/api/v1/rounds/{other.id}/curve", headers=boss).status_code == 404
