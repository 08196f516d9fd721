"""People with a role, and what they need to sign in."""

from __future__ import annotations

from typing import Any

from server.domain import people
from server.models import Membership, Project, User
from tests.factories.base import add, commit, count, session


def user(**values: Any) -> User:
    return add(User(**{"name": f"person {next(count)}"} | values))


def admin(**values: Any) -> User:
    return user(is_admin=True, **values)


def operator(project: Project, **values: Any) -> User:
    return _member(project, "operator", values)


def annotator(project: Project, **values: Any) -> User:
    return _member(project, "annotator", values)


def _member(project: Project, role: str, values: dict[str, Any]) -> User:
    person = user(**values)
    add(Membership(project_id=project.id, user_id=person.id, role=role))
    return person


def bearer(person: User) -> dict[str, str]:
    """Headers of an API request by this person; commits what the test has arranged so far."""
    secret = people.issue_token(session(), person, "test")
    commit()
    return {"Authorization": f"Bearer {secret}"}
