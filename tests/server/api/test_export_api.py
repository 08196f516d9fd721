"""Exports over HTTP."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from server.domain import exports
from server.models import Project
from tests import factories


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project(name="Emoji & Co")


def path(project: Project, format: str) -> str:
    return f"/api/v1/projects/{project.id}/export?format={format}"


@pytest.mark.parametrize("format", list(exports.FORMATS))
def test_operators_export_and_nobody_else(client: TestClient, project: Project, format: str) -> None:
    operator, annotator = factories.operator(project), factories.annotator(project)
    stranger = factories.operator(factories.project())
    people = [factories.bearer(person) for person in (operator, annotator, stranger)] + [{}]
    assert [client.get(path(project, format), headers=headers).status_code for headers in people] == [200, 403, 403, 401]


def test_everything_is_an_archive_named_after_the_project(client: TestClient, project: Project) -> None:
    answer = client.get(path(project, "everything"), headers=factories.bearer(factories.operator(project)))
    assert answer.headers["content-disposition"] == 'attachment; filename="emoji-co-everything.zip"'
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("application/zip", "no-store")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read("manifest.json"))["rows"]["projects"]["count"] == 1


def test_votes_are_lines(client: TestClient, project: Project) -> None:
    vote = factories.vote(factories.task(project), factories.annotator(project))
    answer = client.get(path(project, "votes"), headers=factories.bearer(factories.operator(project)))
    assert [json.loads(line)["vote_id"] for line in answer.text.splitlines()] == [vote.id]


def test_an_unknown_format_is_told(client: TestClient, project: Project) -> None:
    answer = client.get(path(project, "xml"), headers=factories.bearer(factories.operator(project)))
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "There is no export format called xml. Known: everything, votes.",
    )
