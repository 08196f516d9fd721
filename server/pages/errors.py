"""Errors as pages, with the sentence that the API says."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.exc import SQLAlchemyError

from server.auth import COOKIE
from server.db import read_scope
from server.domain import people
from server.errors import D3poError, NotSignedIn
from server.pages.templating import answer, html

HEADINGS = {
    401: "You are not signed in",
    403: "You may not",
    404: "Not found",
    405: "Not this way",
    409: "Not now",
    410: "It is gone",
    413: "Too much at once",
    422: "That does not fit",
    429: "Wait a moment",
    503: "Try again soon",
}


def render_error(request: Request, error: D3poError) -> Response:
    """Whoever is not signed in and asks for a page goes to the sign-in page and from there back."""
    if isinstance(error, NotSignedIn) and request.method in ("GET", "HEAD"):
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?next={quote(here)}", status_code=303)
    heading = HEADINGS.get(error.status, "Something went wrong")
    back = came_from(request)
    label = "Go back" if back != "/" else "Projects"
    shown = {"heading": heading, "sentence": str(error), "back": back, "back_label": label}
    return answer(html("error.html", **shown | _person(request)), error.status)


def _person(request: Request) -> dict[str, Any]:
    """Whose name the head of the page shows; nobody's where that cannot be told either."""
    try:
        with read_scope() as session:
            user, csrf_token = people.user_of_session(session, request.cookies.get(COOKIE, ""))
    except (D3poError, SQLAlchemyError):
        return {}
    return {"user": user, "csrf_token": csrf_token}


def came_from(request: Request, otherwise: str = "/") -> str:
    """The page of this server that the person came from, as a path."""
    try:
        referer = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return otherwise
    return referer.path if referer.netloc == request.url.netloc and inside(referer.path) else otherwise


def inside(path: str) -> bool:
    """Whether a browser that is sent there stays on this server."""
    return path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
