"""How a request proves who sends it: a bearer token, or a session cookie and, for writes, its CSRF token."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta

from fastapi import Request, Response
from sqlalchemy.orm import Session

from server.domain import people
from server.errors import NotSignedIn, StaleForm
from server.models import User
from server.settings import get_settings

COOKIE = "d3po_session"
FORM_COOKIE = "d3po_form"
SAFE = ("GET", "HEAD", "OPTIONS")
OUT_OF_DATE = "This form is out of date, and nothing was changed. Reload the page and try again."


@dataclass(frozen=True)
class Caller:
    """Somebody who is signed in. `csrf_token` is what their forms must carry; empty for an API token."""

    user: User
    csrf_token: str = ""


def identify(session: Session, request: Request, submitted_csrf: str) -> Caller:
    """Raises NotSignedIn for strangers, StaleForm for a write by cookie without the session's CSRF token."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return Caller(people.user_of_token(session, token.strip()))
    secret = request.cookies.get(COOKIE)
    if not secret:
        raise NotSignedIn("Sign in first; with the API, send `Authorization: Bearer TOKEN`.")
    user, csrf_token = people.user_of_session(session, secret)
    if request.method not in SAFE and not same(submitted_csrf, csrf_token):
        raise StaleForm(OUT_OF_DATE)
    return Caller(user, csrf_token)


def same(given: str, expected: str) -> bool:
    """Equal and not empty, in a time that tells nothing."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


def keep_signed_in(request: Request, response: Response, secret: str) -> None:
    _set(request, response, COOKIE, secret, people.SESSION_LASTS)


def sign_out(response: Response) -> None:
    response.delete_cookie(COOKIE, httponly=True, samesite="lax")


def form_token(request: Request, response: Response) -> str:
    """The CSRF token of a form for people who are not signed in yet, tied to a cookie of its own."""
    nonce = request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(24)
    _set(request, response, FORM_COOKIE, nonce, timedelta(hours=12))
    return _signed(nonce)


def check_form_token(request: Request, submitted: str) -> None:
    nonce = request.cookies.get(FORM_COOKIE, "")
    if not nonce or not same(submitted, _signed(nonce)):
        raise StaleForm(OUT_OF_DATE)


def _signed(nonce: str) -> str:
    return hmac.new(get_settings().signing_key, nonce.encode(), hashlib.sha256).hexdigest()


def _set(request: Request, response: Response, name: str, value: str, lasts: timedelta) -> None:
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, max_age=int(lasts.total_seconds()), httponly=True, samesite="lax", secure=secure)
