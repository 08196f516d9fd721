"""Accepting an invitation: as somebody new with a name and a password, or as whoever is signed in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from server.db import read_scope
from server.domain import invitations, passwords, projects
from server.errors import Conflict, Invalid, NotSignedIn, TooMany
from server.pages.visit import AtTheDoor, Door

router = APIRouter(prefix="/join/{secret}")


@router.get("")
def show(door: AtTheDoor, secret: str) -> HTMLResponse:
    return _form(door, secret)


@router.post("")
def join(door: AtTheDoor, secret: str, name: Annotated[str, Form()], password: Annotated[str, Form()]) -> Response:
    with read_scope() as session:
        invitations.find(session, secret)
    try:
        password_hash = passwords.hashed(password)
        with door.session.begin_nested():
            user = invitations.accept(door.session, secret, name, password_hash)
    except (Conflict, Invalid, TooMany) as error:
        return _form(door, secret, status=error.status, name=name, problem=str(error))
    return door.let_in(user)


@router.post("/as-myself")
def join_as_myself(door: AtTheDoor, secret: str) -> RedirectResponse:
    user = door.known()
    if user is None:
        raise NotSignedIn("You are signed out, and the invitation is still open. Sign in again and open its link.")
    project_id = invitations.join(door.session, secret, user)
    return RedirectResponse(f"/p/{project_id}/vote", status_code=303)


def _form(door: Door, secret: str, status: int = 200, name: str = "", problem: str = "") -> HTMLResponse:
    invitation = invitations.find(door.session, secret)
    project = projects.get(door.session, invitations.project_of(invitation))
    return door.page(
        "join.html", status=status, secret=secret, joins=project.name, role=invitation.role, name=name, problem=problem,
        myself=door.known(),
    )  # fmt: skip
