"""What a page is made with: who asks, the database session of the request, and the template to answer with."""

from __future__ import annotations

import csv as csv_format
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from server import auth
from server.auth import Caller
from server.db import read_scope, session_scope
from server.deps import DbSession, SignedIn, submitted_csrf
from server.domain import people
from server.errors import NotSignedIn
from server.models import Project, User
from server.pages.errors import came_from, inside
from server.pages.templating import answer, html


class Visit:
    """A request by somebody who is signed in."""

    def __init__(self, request: Request, session: Session, caller: Caller) -> None:
        self.request, self.session, self.caller, self.user = request, session, caller, caller.user

    def html(self, template: str, project: Project | None = None, **context: Any) -> str:
        runs = project is not None and people.role_in(self.session, self.user, project) in ("operator", "admin")
        known = {"user": self.user, "csrf_token": self.caller.csrf_token, "project": project, "runs_project": runs}
        return html(template, **known | context)

    def page(self, template: str, project: Project | None = None, status: int = 200, **context: Any) -> HTMLResponse:
        return answer(self.html(template, project, **context), status)

    def back(self, otherwise: str) -> RedirectResponse:
        """To the page that the form was on."""
        return RedirectResponse(came_from(self.request, otherwise), status_code=303)


def get_visit(request: Request, session: DbSession, caller: SignedIn) -> Visit:
    return Visit(request, session, caller)


def get_leasing_visit(request: Request) -> Iterator[Visit]:
    with session_scope() as session:
        yield Visit(request, session, auth.identify(session, request, ""))


# Reads for GET; for POST the form's CSRF token was checked and the end of the endpoint commits.
Visiting = Annotated[Visit, Depends(get_visit)]
# For the one page that writes on GET, because opening it takes a lease.
Leasing = Annotated[Visit, Depends(get_leasing_visit, scope="function")]


@contextmanager
def reading(request: Request) -> Iterator[Visit]:
    """A visit of its own short session, for streams."""
    with read_scope() as session:
        yield Visit(request, session, auth.identify(session, request, ""))


class Door:
    """A request by somebody who is not signed in yet. Its session takes no lock before the endpoint asks it for something."""

    def __init__(self, request: Request, session: DbSession, csrf: Annotated[str, Depends(submitted_csrf)]) -> None:
        self.request, self.session = request, session
        if request.method not in auth.SAFE:
            auth.check_form_token(request, csrf)

    def page(self, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        cookie = Response()
        response = answer(html(template, csrf_token=auth.form_token(self.request, cookie), **context), status)
        response.headers["Set-Cookie"] = cookie.headers["Set-Cookie"]
        return response

    def let_in(self, user: User, then: str = "/") -> Response:
        return let_in(self.request, self.session, user, then)

    def known(self) -> User | None:
        """Who is signed in here all the same."""
        secret = self.request.cookies.get(auth.COOKIE)
        try:
            return people.user_of_session(self.session, secret)[0] if secret else None
        except NotSignedIn:
            return None


def let_in(request: Request, session: Session, user: User, then: str = "/") -> Response:
    """Signs the person in and goes on to a page of this server, wherever the form says."""
    secret, _ = people.start_session(session, user)
    response = RedirectResponse(then if inside(then) else "/", status_code=303)
    auth.keep_signed_in(request, response, secret)
    return response


AtTheDoor = Annotated[Door, Depends(Door)]


async def form_fields(request: Request) -> dict[str, str]:
    """The form's fields that were filled in, without the CSRF token."""
    filled = {name: value for name, value in (await request.form()).items() if isinstance(value, str) and value.strip()}
    return {name: value for name, value in filled.items() if name != "csrf_token"}


Fields = Annotated[dict[str, str], Depends(form_fields)]


def _cell(value: object) -> object:
    """No spreadsheet takes text for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def csv(name: str, columns: list[str], rows: Iterable[Iterable[object]]) -> Response:
    text = io.StringIO()
    csv_format.writer(text).writerows([_cell(value) for value in row] for row in [columns, *rows])
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(text.getvalue(), media_type="text/csv", headers=headers)
