"""What an endpoint may ask for. One request is one transaction, committed before the answer is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPBearer
from sqlalchemy.orm import Session

from server import auth
from server.auth import Caller
from server.db import read_scope, session_scope
from server.models import User
from server.settings import Settings, get_settings
from server.storage import Storage

bearer = HTTPBearer(auto_error=False, description="An API token; `d3po user add NAME` prints one.")
cookie = APIKeyCookie(name=auth.COOKIE, auto_error=False, description="A browser session; writes also need X-CSRF-Token.")


def get_session(request: Request) -> Iterator[Session]:
    """A session that only reads for GET, and one that commits for everything else."""
    with read_scope() if request.method in auth.SAFE else session_scope() as session:
        yield session


# scope="function": the commit happens when the endpoint returns, not after the response has left.
DbSession = Annotated[Session, Depends(get_session, scope="function")]


async def submitted_csrf(request: Request) -> str:
    """The CSRF token that came with a write: the header X-CSRF-Token, or the form field csrf_token."""
    header = request.headers.get("X-CSRF-Token")
    if header is not None or request.method in auth.SAFE:
        return header or ""
    if not request.headers.get("Content-Type", "").startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
        return ""
    return str((await request.form()).get("csrf_token", ""))


def get_caller(request: Request, session: DbSession, csrf: Annotated[str, Depends(submitted_csrf)]) -> Caller:
    return auth.identify(session, request, csrf)


def get_user(caller: Annotated[Caller, Depends(get_caller)]) -> User:
    return caller.user


def get_storage(settings: Annotated[Settings, Depends(get_settings)]) -> Storage:
    return Storage(settings.data_dir)


SignedIn = Annotated[Caller, Depends(get_caller)]
CurrentUser = Annotated[User, Depends(get_user)]
Files = Annotated[Storage, Depends(get_storage)]
