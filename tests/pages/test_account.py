from __future__ import annotations

import re

from sqlalchemy.orm import Session

from server.domain import passwords
from server.models import User
from tests.pages.conftest import Browse


def test_a_password_is_set_and_other_browsers_are_signed_out(bob: User, browse: Browse, session: Session) -> None:
    browser, other = browse(bob), browse(bob)
    assert "You have no password yet" in browser.get("/").text

    answer = browser.post("/account/password", password="correct horse battery")

    assert answer.headers["location"] == "/account"
    assert "Change the password" in browser.get("/account").text
    assert "You have no password yet" not in browser.get("/").text
    assert other.get("/").headers["location"] == "/sign-in?next=/"
    assert passwords.check("Bob", "correct horse battery", "here") == bob.id


def test_a_short_password_and_a_strange_form_change_nothing(bob: User, browse: Browse) -> None:
    browser = browse(bob)
    assert browser.post("/account/password", password="short").status_code == 422
    browser.csrf_token = "guessed"
    assert browser.post("/account/password", password="correct horse battery").status_code == 403
    assert browse(None).post("/account/password", password="correct horse battery").status_code == 401
    assert "Set a password" in browser.get("/account").text


def test_tokens_are_made_shown_once_and_revoked(bob: User, browse: Browse) -> None:
    browser = browse(bob)

    page = browser.post("/account/tokens", label="laptop").text

    token = re.search(r'value="(d3po_[\w-]+)"', page)[1]
    headers = {"Authorization": f"Bearer {token}"}
    assert browser.client.get("/api/v1/projects", headers=headers).status_code == 200
    listed = browser.get("/account").text
    assert "<td>laptop</td>" in listed
    assert token not in listed
    browser.post(re.search(r'action="(/account/tokens/\w+/revoke)"', listed)[1])
    assert browser.client.get("/api/v1/projects", headers=headers).status_code == 401
