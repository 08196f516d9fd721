"""Liveness, readiness, numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy.orm import Session

from server import broker_socket, checks, embedded
from server.models import State
from server.settings import Settings, get_settings
from tests import factories
from tests.disks import small_disk
from tests.stack import eventually


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


@pytest.fixture
def valkey(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    """A real broker, and the settings say so."""
    settings.data_dir.mkdir(parents=True)
    child = embedded.broker(settings.data_dir)
    monkeypatch.setenv("D3PO_BROKER_URL", broker_socket.url(settings.data_dir))
    get_settings.cache_clear()
    child.start()
    try:
        eventually(lambda: broker_socket.answers(settings.data_dir), 10)
        with Redis(unix_socket_path=str(broker_socket.socket_path(settings.data_dir))) as client:
            yield client
    finally:
        child.end()


def test_ready_with_a_real_broker(valkey: Redis, client: TestClient) -> None:
    assert client.get("/readyz").json()["checks"]["broker"]["ok"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), "used memory > 'maxmemory'"),
        (("REPLICAOF", "127.0.0.1", "1"), "read only replica"),
    ],
)
def test_not_ready_while_the_broker_takes_no_writes(
    valkey: Redis, client: TestClient, command: tuple[str, ...], reason: str
) -> None:
    valkey.execute_command(*command)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert reason in answer.json()["checks"]["broker"]["detail"]
    assert "takes no writes" in answer.json()["detail"]


def test_not_ready_while_the_disk_is_full(settings: Settings, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(settings.data_dir, "4m") as disk:
        assert "Only 0.0 GB are free" in client.get("/readyz").json()["detail"]
        monkeypatch.setattr(checks, "MIN_FREE_BYTES", 0)
        assert client.get("/readyz").status_code == 200
        disk.leave(0)
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "cannot be used (No space left on device). Make room." in answer.json()["checks"]["disk"]["detail"]


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


def test_packages_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["pillow>=11", "rich>=999", "nothing-like-this>=1", 'also-nothing>=1; extra == "dev"']
    monkeypatch.setattr(checks.metadata, "requires", lambda name: needed)
    found = checks.versions()
    assert (found.ok, found.detail) == (
        False,
        f"rich is {checks.metadata.version('rich')}, it must be >=999; nothing-like-this is missing. "
        "Run `make setup`, or install requirements.lock with pip.",
    )
