from __future__ import annotations

import re

from sqlalchemy import select

from server.db import read_scope
from server.models import Credential, Project, User
from tests import factories
from tests.pages.conftest import Browse


def test_an_invitation_link_is_shown_once_and_works(project: Project, alice: User, browse: Browse) -> None:
    browser = browse(alice)

    page = browser.post(f"/p/{project.id}/people/invite", role="annotator").text

    path = re.search(r'value="http://testserver(/join/[\w-]+)"', page)[1]
    assert "Join Emoji" in browse(None).get(path).text
    assert path not in browser.get(f"/p/{project.id}/people").text
    with read_scope() as session:
        assert path.removeprefix("/join/") not in session.scalars(select(Credential.secret_hash)).all()


def test_people_are_listed_with_their_votes(project: Project, alice: User, bob: User, browse: Browse) -> None:
    factories.vote(factories.task(project), bob)

    page = " ".join(browse(alice).get(f"/p/{project.id}/people").text.split())

    assert "<td>Bob</td> <td>annotator</td> <td>1</td>" in page
    assert "<td>Alice</td> <td>operator</td> <td>0</td>" in page


def test_only_an_admin_takes_access_away(project: Project, alice: User, bob: User, browse: Browse) -> None:
    path = f"/p/{project.id}/people/{bob.id}/revoke"

    refused = browse(alice).post(path)
    assert refused.status_code == 403
    assert "Only an admin can take access away." in refused.text
    assert browse(factories.admin()).post(path).status_code == 303

    with read_scope() as session:
        assert session.get_one(User, bob.id).revoked_at is not None


def test_open_invitations_are_listed_and_withdrawn(project: Project, alice: User, browse: Browse) -> None:
    browser = browse(alice)
    path = re.search(r"/join/[\w-]+", browser.post(f"/p/{project.id}/people/invite", role="operator").text)[0]

    listed = " ".join(browser.get(f"/p/{project.id}/people").text.split())
    assert "<td>operator</td><td>Alice</td>" in listed
    withdraw = re.search(r'action="(/p/\w+/people/invitations/\w+/withdraw)"', listed)[1]
    assert browser.post(withdraw).status_code == 303

    assert "Open invitations" not in browser.get(f"/p/{project.id}/people").text
    assert browse(None).get(path).status_code == 410


def test_an_admin_makes_a_sign_in_link_for_whoever_lost_theirs(project: Project, bob: User, alice: User, browse: Browse) -> None:
    path = f"/p/{project.id}/people/{bob.id}/link"
    assert browse(alice).post(path).status_code == 403

    page = browse(factories.admin()).post(path).text

    link = re.search(r'value="http://testserver(/sign-in/[\w-]+)"', page)[1]
    stranger = browse(None)
    stranger.csrf_token = re.search(r'name="csrf_token" value="(\w+)"', stranger.get(link).text)[1]
    assert stranger.post(link).status_code == 303
    assert "Bob" in stranger.get("/").text
