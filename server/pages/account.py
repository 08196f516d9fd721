"""One's own password and API tokens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from server import auth
from server.db import read_scope, session_scope
from server.deps import submitted_csrf
from server.domain import passwords, people
from server.pages.visit import Visit, Visiting, let_in

router = APIRouter(prefix="/account")


@router.get("")
def show(visit: Visiting) -> HTMLResponse:
    return _page(visit)


@router.post("/password")
def set_password(request: Request, password: Annotated[str, Form()], csrf: Annotated[str, Depends(submitted_csrf)]) -> Response:
    """Hashes between two transactions. Every other browser of the person is signed out."""
    with read_scope() as session:
        user_id = auth.identify(session, request, csrf).user.id
    password_hash = passwords.hashed(password)
    with session_scope() as session:
        user = people.get(session, user_id)
        people.set_password(session, user, password_hash)
        return let_in(request, session, user, "/account")


@router.post("/tokens")
def make_token(visit: Visiting, label: Annotated[str, Form()] = "") -> HTMLResponse:
    """The page itself carries the token: nothing else ever shows it."""
    return _page(visit, token=people.issue_token(visit.session, visit.user, label.strip() or "made on a page"))


@router.post("/tokens/{token_id}/revoke")
def revoke_token(token_id: str, visit: Visiting) -> RedirectResponse:
    people.revoke_token(visit.session, visit.user, token_id)
    return RedirectResponse("/account", status_code=303)


def _page(visit: Visit, token: str = "") -> HTMLResponse:
    return visit.page("account.html", tokens=people.tokens(visit.session, visit.user), token=token)
