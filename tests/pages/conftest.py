"""Three personas for every page: Alice operates, Bob annotates, Charlie is a member of nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from server.app import create_app
from server.auth import COOKIE
from server.domain import people
from server.models import Project, User
from tests import factories


@dataclass
class Browser:
    """What a person's browser does: asks for pages, sends forms with the token that the page carried."""

    client: TestClient
    csrf_token: str = ""

    def get(self, path: str) -> Response:
        return self.client.get(path, headers={"Accept": "text/html"})

    def post(self, path: str, **fields: str | list[str]) -> Response:
        return self.client.post(path, data={"csrf_token": self.csrf_token, **fields}, headers={"Accept": "text/html"})


@pytest.fixture
def app(engine: Engine) -> FastAPI:
    return create_app()


@pytest.fixture
def browse(app: FastAPI, session: Session) -> Iterator[Callable[[User | None], Browser]]:
    """A browser in which this person is signed in, or nobody; commits what the test has arranged so far."""
    opened: list[TestClient] = []

    def open_for(person: User | None) -> Browser:
        client = TestClient(app, follow_redirects=False)
        opened.append(client)
        if person is None:
            session.commit()
            return Browser(client)
        secret, csrf_token = people.start_session(session, person)
        session.commit()
        client.cookies.set(COOKIE, secret)
        return Browser(client, csrf_token)

    yield open_for
    for client in opened:
        client.close()


Browse = Callable[[User | None], Browser]


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project(name="Emoji")


@pytest.fixture
def alice(project: Project) -> User:
    return factories.operator(project, name="Alice")


@pytest.fixture
def bob(project: Project) -> User:
    return factories.annotator(project, name="Bob")


@pytest.fixture
def charlie(session: Session) -> User:
    return factories.user(name="Charlie")
