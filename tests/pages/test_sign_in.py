from __future__ import annotations

import re
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from server.db import read_scope, session_scope
from server.domain import invitations, passwords, people
from server.models import Membership, Project, User
from tests.pages.conftest import Browse, Browser

PASSWORD = "correct horse battery"


class BusyHasher:
    """Meets a writer while it works, as a hash that takes long does."""

    def hash(self, password: str) -> str:
        with session_scope() as session:
            session.add(User(name=f"written while {password} was hashed"))
        return "hash"

    def verify(self, known: str, password: str) -> None:
        self.hash(password)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "throttle", passwords.Throttle())


def open_form(browser: Browser, path: str) -> str:
    """Opens a page for strangers and takes over the token of its form."""
    page = browser.get(path).text
    browser.csrf_token = re.search(r'name="csrf_token" value="(\w+)"', page)[1]
    return page


def test_a_password_signs_in_and_leads_back(project: Project, bob: User, browse: Browse, session: Session) -> None:
    people.set_password(session, bob, passwords.hashed(PASSWORD))
    browser = browse(None)
    open_form(browser, f"/sign-in?next=/p/{project.id}/vote")

    answer = browser.post("/sign-in", name="Bob", password=PASSWORD, next=f"/p/{project.id}/vote")

    assert (answer.status_code, answer.headers["location"]) == (303, f"/p/{project.id}/vote")
    assert "Bob" in browser.get("/").text


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "//[", "/\t/evil.example", "/a\\b"],
)
def test_signing_in_never_leads_elsewhere(target: str, bob: User, browse: Browse, session: Session) -> None:
    people.set_password(session, bob, passwords.hashed(PASSWORD))
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


def test_guessing_is_slowed_down_with_a_sentence(bob: User, browse: Browse, session: Session) -> None:
    browser = browse(None)
    open_form(browser, "/sign-in")
    wrong = [browser.post("/sign-in", name="Bob", password="wrong", next="/").status_code for _ in range(6)]

    answer = browser.post("/sign-in", name="Bob", password=PASSWORD, next="/")

    assert (wrong, answer.status_code) == ([401] * 5 + [429], 429)
    assert "Too many wrong passwords." in answer.text


def test_nobody_waits_for_a_hash(
    project: Project, alice: User, browse: Browse, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite has one writer: a sign-in, a new member and a new password must not be it while they hash."""
    people.set_password(session, alice, "hash")
    secret = invitations.invite(session, alice, project, "annotator")
    stranger, guest, member = browse(None), browse(None), browse(alice)
    monkeypatch.setattr(passwords, "_argon2", BusyHasher())
    open_form(stranger, "/sign-in")
    open_form(guest, f"/join/{secret}")

    answers = [
        stranger.post("/sign-in", name="Alice", password="of a sign-in", next="/"),
        guest.post(f"/join/{secret}", name="Dora", password="of a new member"),
        member.post("/account/password", password="of a new password"),
    ]

    assert [answer.status_code for answer in answers] == [303, 303, 303]


def test_a_form_from_elsewhere_does_not_sign_in(bob: User, browse: Browse, session: Session) -> None:
    people.set_password(session, bob, passwords.hashed(PASSWORD))

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
    secret = invitations.invite(session, alice, project, "annotator")
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


def test_whoever_is_signed_in_joins_as_themselves(
    project: Project, alice: User, charlie: User, browse: Browse, session: Session
) -> None:
    secret = invitations.invite(session, alice, project, "annotator")
    browser = browse(charlie)
    assert "Join as Charlie" in open_form(browser, f"/join/{secret}")

    answer = browser.post(f"/join/{secret}/as-myself")

    assert answer.headers["location"] == f"/p/{project.id}/vote"
    assert browser.get(f"/p/{project.id}/vote").status_code == 200
    assert browse(None).get(f"/join/{secret}").status_code == 410


@pytest.mark.parametrize(
    ("name", "password", "sentence"),
    [("Bob", PASSWORD, "There is already somebody called Bob"), ("Dora", "short", "A password needs 10 to 200 characters")],
)
def test_a_refused_name_or_password_leaves_the_invitation_open(
    name: str, password: str, sentence: str, project: Project, alice: User, bob: User, browse: Browse, session: Session
) -> None:
    secret = invitations.invite(session, alice, project, "annotator")
    browser = browse(None)
    open_form(browser, f"/join/{secret}")

    answer = browser.post(f"/join/{secret}", name=name, password=password)

    assert answer.status_code in (409, 422)
    assert sentence in answer.text
    open_form(browser, f"/join/{secret}")
    assert browser.post(f"/join/{secret}", name="Dora", password=PASSWORD).headers["location"] == "/"
