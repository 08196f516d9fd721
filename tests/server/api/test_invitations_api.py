"""Inviting by the API."""

from __future__ import annotations

from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from tests import factories


def test_invite_list_withdraw(client: TestClient, session: Session) -> None:
    project = factories.project()
    boss = factories.bearer(factories.operator(project, name="Alice"))
    path = f"/api/v1/projects/{project.id}/invitations"
    made = client.post(path, json={"role": "annotator"}, headers=boss)
    assert made.status_code == 201
    assert made.json()["link"].startswith("http://testserver/join/")
    client.post(path, json={"role": "annotator"}, headers=boss)
    page = client.get(f"{path}?limit=1", headers=boss).json()
    [one] = client.get(path, params={"after": page["next"]}, headers=boss).json()["items"]
    assert (one["role"], one["by"]) == ("annotator", "Alice")
    assert made.json()["link"].rsplit("/", 1)[1] not in str(one)
    assert client.post(f"/api/v1/invitations/{one['id']}/withdraw", headers=boss).status_code == 204
    assert client.get(path, headers=boss).json() == {"items": page["items"], "next": None}
    assert client.post(f"/api/v1/invitations/{one['id']}/withdraw", headers=boss).json()["error"] == "not_found"


def test_annotators_do_not_invite(client: TestClient, session: Session) -> None:
    project = factories.project()
    bob = factories.bearer(factories.annotator(project))
    assert client.get(f"/api/v1/projects/{project.id}/invitations", headers=bob).status_code == 403
    assert client.post(f"/api/v1/projects/{project.id}/invitations", json={}, headers=bob).status_code == 403
