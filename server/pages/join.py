"""Accepting an invitation: choose a name and a password, and start voting."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, Response

from server.domain import people, projects
from server.errors import Conflict, Invalid
from server.pages.visit import AtTheDoor, Door

router = APIRouter(prefix="/join/{secret}")


@router.get("")
def show(door: AtTheDoor, secret: str) -> HTMLResponse:
    return _form(door, secret)


@router.post("")
def join(door: AtTheDoor, secret: str, name: Annotated[str, Form()], password: Annotated[str, Form()]) -> Response:
    try:
        with door.session.begin_nested():
            user = people.accept_invitation(door.session, secret, name, password)
    except (Conflict, Invalid) as error:
        return _form(door, secret, status=error.status, name=name, problem=str(error))
    return door.let_in(user)


def _form(door: Door, secret: str, status: int = 200, name: str = "", problem: str = "") -> HTMLResponse:
    invitation = people.find_invitation(door.session, secret)
    project = projects.get(door.session, people.get_project_id(invitation))
    return door.page(
        "join.html", status=status, secret=secret, joins=project.name, role=invitation.role, name=name, problem=problem
    )
