"""Cookies, CSRF tokens and bearer tokens."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fastapi import Request, Response
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from server import auth
from server.domain import people
from server.models import Project, User, now
from tests import factories


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


@pytest.fixture
def alice(project: Project) -> User:
    return factories.annotator(project, name="Alice")


@pytest.fixture
def csrf(client: TestClient, session: Session, alice: User) -> str:
    """Signs Alice in by cookie; gives her CSRF token."""
    secret, csrf = people.start_session(session, alice)
    factories.commit()
    client.cookies.set(auth.COOKIE, secret)
    return csrf


def test_reading_by_cookie_needs_no_csrf_token(client: TestClient, project: Project, csrf: str) -> None:
    assert client.get(f"/api/v1/projects/{project.id}").status_code == 200


@pytest.mark.parametrize("given", [None, "", "guessed"])
def test_writing_by_cookie_needs_the_csrf_token(client: TestClient, project: Project, csrf: str, given: str | None) -> None:
    headers = {} if given is None else {"X-CSRF-Token": given}
    refused = client.post(f"/api/v1/projects/{project.id}/tasks/next", headers=headers)
    assert (refused.status_code, refused.json()["error"]) == (403, "stale_form")
    assert "nothing was changed" in refused.json()["detail"]


def test_the_csrf_token_comes_in_a_header_or_in_the_form(client: TestClient, project: Project, csrf: str) -> None:
    path = f"/api/v1/projects/{project.id}/tasks/next"
    assert client.post(path, headers={"X-CSRF-Token": csrf}).status_code == 200
    assert client.post(path, data={"csrf_token": csrf}).status_code == 200


def test_a_token_needs_no_csrf_token(client: TestClient, project: Project, alice: User) -> None:
    assert client.post(f"/api/v1/projects/{project.id}/tasks/next", headers=factories.bearer(alice)).status_code == 200


@pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer", "Basic d3po", "Bearer d3po_ä"])
def test_a_wrong_token_is_nobody(client: TestClient, project: Project, header: str) -> None:
    refused = client.get(f"/api/v1/projects/{project.id}", headers={"Authorization": header.encode()})
    assert (refused.status_code, refused.json()["error"]) == (401, "not_signed_in")
    assert refused.headers["WWW-Authenticate"] == "Bearer"


def test_a_session_that_ended_or_expired_is_nobody(
    client: TestClient, session: Session, project: Project, alice: User, csrf: str
) -> None:
    people.end_session(session, client.cookies[auth.COOKIE])
    factories.commit()
    assert client.get(f"/api/v1/projects/{project.id}").status_code == 401


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites() -> None:
    response = Response()
    auth.keep_signed_in(_request("https"), response, "secret")
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("d3po_session=secret;")
    assert all(flag in cookie for flag in ("HttpOnly", "SameSite=lax", "Secure", "Path=/"))


def test_a_form_token_belongs_to_its_cookie(settings: object) -> None:
    response = Response()
    token = auth.form_token(_request("http"), response)
    nonce = response.headers["set-cookie"].split(";")[0].split("=", 1)[1]
    auth.check_form_token(_request("http", nonce), token)
    for wrong in (_request("http"), _request("http", "other")):
        with pytest.raises(auth.StaleForm, match="out of date"):
            auth.check_form_token(wrong, token)


def _request(scheme: str, nonce: str | None = None) -> Request:
    cookies = [(b"cookie", f"{auth.FORM_COOKIE}={nonce}".encode())] if nonce else []
    return Request(
        {"type": "http", "scheme": scheme, "server": ("d3po.test", 80), "path": "/", "query_string": b"", "headers": cookies}
    )


def test_a_credential_expires(session: Session, alice: User) -> None:
    secret = people.new_sign_in_link(session, alice, timedelta(seconds=-1))
    with pytest.raises(people.Gone, match="too old"):
        people.use_sign_in_link(session, secret)
    assert now() > alice.created_at
