"""The web application: the JSON API, the pages, and one way to tell people what went wrong."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import DataError, IntegrityError, OperationalError, StatementError
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException

from server import api, pages
from server.api import health
from server.api.limits import BodyLimit, sentence
from server.api.nosniff import NoSniff
from server.api.traffic import Traffic
from server.errors import Conflict, D3poError, Gone, Invalid, MethodNotAllowed, NotFound, TooLarge, Unavailable, describe
from server.pages.errors import render_error

log = logging.getLogger(__name__)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.stopping.set()


def create_app() -> FastAPI:
    app = FastAPI(
        title="d3po",
        version="0.1.0",
        description="Pick the better image; the picks train a better diffusion model with D3PO.",
        lifespan=_lifespan,
        # The framework's own pages load scripts from elsewhere; /openapi.json is what they show.
        docs_url=None,
        redoc_url=None,
    )
    # Event streams end when this is set; `d3po serve` sets it before the web server waits for open connections.
    app.state.stopping = threading.Event()
    app.add_middleware(BodyLimit)
    app.add_middleware(Traffic)
    app.add_middleware(NoSniff)
    app.include_router(api.router, prefix="/api/v1")
    app.include_router(health.router)
    pages.install(app)
    for kind in (D3poError, RequestValidationError, HTTPException, StatementError, StaleDataError, UnicodeEncodeError, Exception):
        app.add_exception_handler(kind, _answer)
    return app


def _answer(request: Request, error: Exception) -> Response:
    told = _as_sentence(request, error)
    if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("Accept", ""):
        headers = {"WWW-Authenticate": "Bearer"} if told.status == 401 else None
        return JSONResponse({"error": told.code, "detail": str(told)}, told.status, headers=headers)
    return render_error(request, told)


def _as_sentence(request: Request, error: Exception) -> D3poError:
    if isinstance(error, D3poError):
        return error
    if isinstance(error, RequestValidationError):
        return Invalid(describe(error.errors()))
    if isinstance(error, HTTPException) and error.status_code == TooLarge.status:
        return TooLarge(sentence(request.state.body_limit))
    if isinstance(error, HTTPException):
        return _of_status(error)
    if isinstance(error, IntegrityError | StaleDataError):
        return Conflict("Somebody changed the same thing at the same moment. Nothing was changed here; try again.")
    if isinstance(error, OperationalError) and "disk is full" in str(error):
        log.warning("The database has no room: %s", error)
        return Unavailable("The server's disk is full. Nothing was changed; try again once somebody has made room.")
    if isinstance(error, OperationalError):
        log.warning("The database did not answer: %s", error)
        return Unavailable("The database is busy or does not answer. Nothing was changed; try again in a moment.")
    if isinstance(error, DataError | UnicodeEncodeError) or type(error) is StatementError:
        return Invalid(
            "Something that was sent cannot be stored, such as a NUL character or an impossible date. Nothing was changed."
        )
    log.error("An unexpected error.", exc_info=error)
    return D3poError("Something unexpected went wrong, and nothing was changed. The server's log has the details.")


def _of_status(error: HTTPException) -> D3poError:
    """What the framework itself refuses, in our words."""
    sentences = {
        404: "There is nothing at this address.",
        405: "This address does not take that method.",
        400: "The request could not be read.",
    }
    kinds = {404: NotFound, 405: MethodNotAllowed, 410: Gone}
    return kinds.get(error.status_code, Invalid)(sentences.get(error.status_code, str(error.detail)))
