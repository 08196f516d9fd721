"""Liveness, readiness, numbers for Prometheus."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from server import checks
from server.models import State
from server.settings import get_settings
from tests import factories


def test_alive(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


def test_ready_when_everything_answers(client: TestClient) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"], set(answer.json()["checks"])) == (
        200,
        "ok",
        {"database", "broker", "disk"},
    )


def test_not_ready_without_a_broker(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D3PO_BROKER_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    assert "The broker does not answer" in answer.json()["detail"]
    assert answer.json()["checks"]["database"]["ok"]


def test_not_ready_with_an_empty_database(session: Session, client: TestClient) -> None:
    session.connection().exec_driver_sql("DELETE FROM alembic_version")
    session.commit()
    assert "Run `d3po migrate`" in client.get("/readyz").json()["detail"]


def test_metrics_count_requests_by_route_and_rows_by_state(client: TestClient) -> None:
    factories.round_(factories.project(), state=State.RUNNING)
    factories.commit()
    client.get("/api/v1/projects/1234")
    told = client.get("/metrics").text
    assert 'd3po_rounds{kind="sample",state="running"} 1.0' in told
    assert 'd3po_request_seconds_count{method="GET",route="/api/v1/projects/{project_id}",status="401"}' in told
    assert "d3po_votes 0.0" in told


def test_a_missing_model_folder_is_told(settings: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D3PO_BASE_MODEL", "/nowhere/stable-diffusion")
    get_settings.cache_clear()
    check = checks.model()
    assert (check.ok, "/nowhere/stable-diffusion" in check.detail) == (False, True)
