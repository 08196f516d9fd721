from __future__ import annotations

import re
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from server.db import read_scope
from server.domain import people
from server.models import Membership, Project, User
from tests.pages.conftest import Browse, Browser

PASSWORD = "correct horse battery"


def open_form(browser: Browser, path: str) -> str:
    """Opens a page for strangers and takes over the token of its form."""
    page = browser.get(path).text
    browser.csrf_token = re.search(r'name="csrf_token" value="(\w+)"', page)[1]
    return page


def test_a_password_signs_in_and_leads_back(project: Project, bob: User, browse: Browse, session: Session) -> None:
    people.set_password(session, bob, PASSWORD)
    browser = browse(None)
    open_form(browser, f"/sign-in?next=/p/{project.id}/vote")

    answer = browser.post("/sign-in", name="Bob", password=PASSWORD, next=f"/p/{project.id}/vote")

    assert (answer.status_code, answer.headers["location"]) == (303, f"/p/{project.id}/vote")
    assert "Bob" in browser.get("/").text


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_signing_in_never_leads_elsewhere(target: str, bob: User, browse: Browse, session: Session) -> None:
    people.set_password(session, bob, PASSWORD)
    browser = browse(None)
    open_form(browser, "/sign-in")

    assert browser.post("/sign-in", name="Bob", password=PASSWORD, next=target).headers["location"] == "/"


def test_a_wrong_password_is_a_sentence_on_the_form(bob: User, browse: Browse) -> None:
    browser = browse(None)
    open_form(browser, "/sign-in")

    answer = browser.post("/sign-in", name="Bob", password="wrong", next="/")

    assert answer.status_code == 401
    assert "That name and password do not belong together." in answer.text
    assert 'value="Bob"' in answer.text


def test_a_form_from_elsewhere_does_not_sign_in(bob: User, browse: Browse, session: Session) -> None:
    people.set_password(session, bob, PASSWORD)

    assert browse(None).post("/sign-in", name="Bob", password=PASSWORD, next="/").status_code == 403


def test_a_link_signs_in_once_and_is_not_spent_by_fetching(bob: User, browse: Browse, session: Session) -> None:
    secret = people.new_sign_in_link(session, bob)
    browser, second = browse(None), browse(None)
    open_form(browser, f"/sign-in/{secret}")
    open_form(second, f"/sign-in/{secret}")

    assert browser.post(f"/sign-in/{secret}").headers["location"] == "/"
    assert "Bob" in browser.get("/").text
    again = second.post(f"/sign-in/{secret}")
    assert again.status_code == 410
    assert "was used already or is too old" in again.text


def test_an_old_link_is_refused(bob: User, browse: Browse, session: Session) -> None:
    secret = people.new_sign_in_link(session, bob, lasts=timedelta(seconds=-1))
    browser = browse(None)
    open_form(browser, f"/sign-in/{secret}")

    assert browser.post(f"/sign-in/{secret}").status_code == 410


def test_signing_out_ends_the_session(bob: User, browse: Browse) -> None:
    browser = browse(bob)
    cookie = dict(browser.client.cookies)

    assert browser.post("/sign-out").headers["location"] == "/sign-in"
    browser.client.cookies.update(cookie)
    assert browser.get("/").headers["location"] == "/sign-in?next=/"


def test_an_invitation_makes_a_member(project: Project, alice: User, browse: Browse, session: Session) -> None:
    secret = people.invite(session, alice, project, "annotator")
    browser = browse(None)
    assert "Join Emoji" in open_form(browser, f"/join/{secret}")

    answer = browser.post(f"/join/{secret}", name="Dora", password=PASSWORD)

    assert answer.headers["location"] == "/"
    assert browser.get(f"/p/{project.id}/vote").status_code == 200
    with read_scope() as reading:
        dora = reading.scalars(select(User).where(User.name == "Dora")).one()
        assert reading.get_one(Membership, (project.id, dora.id)).role == "annotator"
    late = browse(None).get(f"/join/{secret}")
    assert (late.status_code, "This invitation was used already" in late.text) == (410, True)


@pytest.mark.parametrize(
    ("name", "password", "sentence"),
    [("Bob", PASSWORD, "There is already somebody called Bob"), ("Dora", "short", "A password needs 10 to 200 characters")],
)
def test_a_refused_name_or_password_leaves_the_invitation_open(
    name: str, password: str, sentence: str, project: Project, alice: User, bob: User, browse: Browse, session: Session
) -> None:
    secret = people.invite(session, alice, project, "annotator")
    browser = browse(None)
    open_form(browser, f"/join/{secret}")

    answer = browser.post(f"/join/{secret}", name=name, password=password)

    assert answer.status_code in (409, 422)
    assert sentence in answer.text
    open_form(browser, f"/join/{secret}")
    assert browser.post(f"/join/{secret}", name="Dora", password=PASSWORD).headers["location"] == "/"
