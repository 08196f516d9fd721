"""Whatever is sent, known ids or not: an answer of the one shape, never a fault of the server."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from schemathesis import Case
from sqlalchemy.orm import Session

from server.domain import people
from tests import factories

EXAMPLES = 8


@pytest.fixture
def known(session: Session) -> dict[str, str]:
    """What path parameters may name."""
    project = factories.project()
    tasks = [factories.task(project) for _ in range(2)]
    vote = factories.vote(tasks[0], factories.admin())
    return {
        "project_id": project.id, "round_id": factories.round_(project).id, "checkpoint_id": factories.checkpoint(project).id,
        "task_id": tasks[1].id, "vote_id": vote.id, "image_id": tasks[1].group.images[0].id,
    }  # fmt: skip


@pytest.mark.timeout(300)
def test_no_request_makes_the_server_stumble(client: TestClient, session: Session, known: dict[str, str]) -> None:
    token = people.issue_token(session, factories.admin(), "fuzz")
    session.commit()
    schema, chance, answers = schemathesis.openapi.from_asgi("/openapi.json", client.app), random.Random(0), Counter[int]()

    @hypothesis_settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def send(case: Case) -> None:
        for name in set(known).intersection(case.path_parameters or {}):
            if chance.random() < 0.8:
                case.path_parameters[name] = known[name]
        answer = case.call(headers={"Authorization": f"Bearer {token}"})
        answers[answer.status_code] += 1
        assert answer.status_code < 500, (case.method, case.path, answer.text)
        if answer.status_code >= 400:
            assert {"error", "detail"} <= answer.json().keys(), (case.method, case.path, answer.text)

    for found in schema.get_all_operations():
        operation = found.ok()
        if not operation.path.endswith("/events"):
            given(operation.as_strategy())(send)()
    assert {200, 404, 422} <= answers.keys()
