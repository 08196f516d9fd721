"""Getting in by password or by a one-time link, and getting out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from server import auth
from server.domain import passwords, people
from server.errors import NotSignedIn, TooMany
from server.pages.visit import AtTheDoor, Visiting

router = APIRouter()


@router.get("/sign-in")
def show(door: AtTheDoor, next: str = "/") -> HTMLResponse:
    return door.page("sign_in.html", next=next, name="", problem="")


@router.post("/sign-in")
def sign_in(
    door: AtTheDoor, name: Annotated[str, Form()], password: Annotated[str, Form()], next: Annotated[str, Form()] = "/"
) -> Response:
    address = door.request.client.host if door.request.client else ""
    try:
        user_id = passwords.check(name, password, address)
    except (NotSignedIn, TooMany) as error:
        return door.page("sign_in.html", status=error.status, next=next, name=name, problem=str(error))
    return door.let_in(people.get(door.session, user_id), next)


@router.get("/sign-in/{secret}")
def show_link(door: AtTheDoor, secret: str) -> HTMLResponse:
    """Only a form: whoever merely fetches the link (a mail scanner, a preview) does not spend it."""
    return door.page("sign_in_link.html", secret=secret)


@router.post("/sign-in/{secret}")
def use_link(door: AtTheDoor, secret: str) -> Response:
    return door.let_in(people.use_sign_in_link(door.session, secret))


@router.post("/sign-out")
def sign_out(visit: Visiting) -> RedirectResponse:
    people.end_session(visit.session, visit.request.cookies.get(auth.COOKIE, ""))
    response = RedirectResponse("/sign-in", status_code=303)
    auth.sign_out(response)
    return response
