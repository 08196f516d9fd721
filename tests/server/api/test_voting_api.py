"""Lease, vote, undo over HTTP: what three people may do, and that a vote is durable before it is answered."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from server.db import read_scope
from server.models import Project, Task, User, Vote
from tests import factories
from tests.databases import on_both_databases
from tests.queries import recorded_queries


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


@pytest.fixture
def task(project: Project) -> Task:
    return factories.task(project)


@pytest.fixture
def alice(project: Project) -> dict[str, str]:
    return factories.bearer(factories.annotator(project, name="Alice"))


@pytest.fixture
def bob(project: Project) -> dict[str, str]:
    return factories.bearer(factories.annotator(project, name="Bob"))


@pytest.fixture
def charlie() -> dict[str, str]:
    return factories.bearer(factories.user(name="Charlie"))


def tie(**values: Any) -> dict[str, Any]:
    return {"vote_id": str(uuid.uuid4()), "outcome": "tie"} | values


def test_from_lease_to_vote_to_undo(client: TestClient, project: Project, task: Task, alice: dict[str, str]) -> None:
    [leased] = client.post(f"/api/v1/projects/{project.id}/tasks/next?count=3", headers=alice).json()
    assert leased["task_id"] == task.id
    chosen = leased["images"][1]
    assert chosen["url"] == f"/api/v1/images/{chosen['id']}.webp"
    ballot = {
        "vote_id": str(uuid.uuid4()),
        "outcome": "best",
        "best_image_id": chosen["id"],
        "ranking": None,
        "flags": {chosen["id"]: ["distorted"]},
        "shown_order": [image["id"] for image in leased["images"]],
        "shown_at": "2026-01-31T12:00:00Z",
        "decided_at": "2026-01-31T12:00:02.5Z",
    }
    first = client.post(f"/api/v1/tasks/{task.id}/votes", json=ballot, headers=alice)
    assert (first.status_code, first.json()) == (200, {"vote_id": ballot["vote_id"], "counted": True, "surplus": False})
    assert client.post(f"/api/v1/tasks/{task.id}/votes", json=ballot, headers=alice).json() == first.json()
    undone = client.post(f"/api/v1/votes/{ballot['vote_id']}/retract", headers=alice).json()
    assert undone["task"]["images"] == leased["images"] or undone["task"]["task_id"] == task.id
    assert client.post(f"/api/v1/tasks/{task.id}/release", headers=alice).status_code == 204
    assert client.post(f"/api/v1/tasks/{task.id}/renew", headers=alice).json()["error"] == "gone"


@on_both_databases
def test_a_vote_is_committed_before_its_answer_is_sent(engine: Any, session: Session) -> None:
    """When the first byte of the answer goes out, a second connection already sees the vote."""
    from server.app import create_app

    project = factories.project()
    task = factories.task(project)
    headers = factories.bearer(factories.annotator(project))
    seen_at_answer: list[list[str]] = []

    class Witness:
        def __init__(self, app: FastAPI) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def observed(message: Any) -> None:
                if message["type"] == "http.response.start":
                    with read_scope() as other:
                        seen_at_answer.append(list(other.scalars(select(Vote.id))))
                await send(message)

            await self.app(scope, receive, observed)

    ballot = tie()
    with TestClient(Witness(create_app())) as client:  # type: ignore[arg-type]
        assert client.post(f"/api/v1/tasks/{task.id}/votes", json=ballot, headers=headers).status_code == 200
    assert seen_at_answer == [[ballot["vote_id"]]]


def test_a_failed_commit_is_no_success(client: TestClient, engine: Any, task: Task, alice: dict[str, str]) -> None:
    def broken(connection: Any) -> None:
        raise OSError("no space left on device")

    event.listen(engine, "commit", broken)
    try:
        with pytest.raises(OSError, match="no space left"):
            client.post(f"/api/v1/tasks/{task.id}/votes", json=tie(), headers=alice)
    finally:
        event.remove(engine, "commit", broken)
    with read_scope() as session:
        assert session.scalars(select(Vote.id)).all() == []


def test_strangers_are_denied_and_the_unknown_is_not_found(
    client: TestClient, project: Project, task: Task, charlie: dict[str, str], alice: dict[str, str]
) -> None:
    paths = [f"/api/v1/projects/{project.id}/tasks/next", f"/api/v1/tasks/{task.id}/release", f"/api/v1/tasks/{task.id}/renew"]
    for path in paths:
        denied = client.post(path, headers=charlie)
        assert (denied.status_code, denied.json()["error"]) == (403, "denied")
        assert client.post(path).json()["error"] == "not_signed_in"
        unknown = path.replace(project.id, "0" * 32).replace(task.id, "0" * 32)
        assert client.post(unknown, headers=alice).json()["error"] == "not_found"
    assert client.post(f"/api/v1/tasks/{task.id}/votes", json=tie(), headers=charlie).status_code == 403
    assert client.post(f"/api/v1/votes/{uuid.uuid4()}/retract", headers=alice).json()["detail"] == "There is no such vote."


def test_somebody_elses_vote_id_is_a_conflict(client: TestClient, task: Task, alice: dict[str, str], bob: dict[str, str]) -> None:
    ballot = tie()
    assert client.post(f"/api/v1/tasks/{task.id}/votes", json=ballot, headers=alice).status_code == 200
    assert client.post(f"/api/v1/tasks/{task.id}/votes", json=ballot, headers=bob).status_code == 409
    assert client.post(f"/api/v1/votes/{ballot['vote_id']}/retract", headers=bob).status_code == 403


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"vote_id": "seven"}, "vote_id must be a UUID that the client makes once for each vote."),
        ({"vote_id": None}, "vote_id should be a valid string."),
        ({"outcome": "best"}, "best_image_id belongs to the outcome best, and to no other."),
        ({"outcome": "like"}, "outcome must be 'best', 'ranking', 'rated', 'tie', 'all_bad' or 'skip', you sent like."),
        ({"shown_at": "2026-01-31T12:00:00"}, "shown_at should have timezone info."),
        ({"mood": "good"}, "mood is not a known field."),
    ],
)
def test_a_bad_ballot_gets_a_sentence(client: TestClient, task: Task, alice: dict[str, str], change: Any, sentence: str) -> None:
    refused = client.post(f"/api/v1/tasks/{task.id}/votes", json=tie(**change), headers=alice)
    assert (refused.status_code, refused.json()) == (422, {"error": "invalid", "detail": sentence})


def test_leasing_costs_the_same_however_much_is_leased(
    client: TestClient, engine: Any, project: Project, session: Session
) -> None:
    for _ in range(12):
        factories.task(project)
    counts = []
    for count in (2, 10):
        headers = factories.bearer(factories.annotator(project))
        with recorded_queries(engine) as queries:
            assert len(client.post(f"/api/v1/projects/{project.id}/tasks/next?count={count}", headers=headers).json()) == count
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_two_users_see_their_own_orders(session: Session, client: TestClient, project: Project) -> None:
    task = factories.task(project, factories.group(project, images=8), votes_wanted=6)
    people: list[User] = [factories.annotator(project) for _ in range(6)]
    orders = set()
    for headers in [factories.bearer(person) for person in people]:
        [leased] = client.post(f"/api/v1/projects/{project.id}/tasks/next", headers=headers).json()
        assert leased["task_id"] == task.id
        orders.add(tuple(image["id"] for image in leased["images"]))
    assert len(orders) > 1
