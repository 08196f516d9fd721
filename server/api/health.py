"""Is it alive, can it work, and what is it doing?"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from server import checks
from server.api import traffic

router = APIRouter(tags=["health"])


@router.get("/healthz", responses={200: {"content": {"application/json": {"example": {"status": "ok"}}}}})
def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


READY = {"status": "ok", "checks": {"disk": {"name": "disk", "ok": True, "detail": "120 GB free"}}}
MISSING = {"status": "unavailable", "checks": {}, "error": "unavailable", "detail": "The database has an old schema or none."}


@router.get(
    "/readyz",
    responses={
        200: {"content": {"application/json": {"example": READY}}},
        503: {
            "description": "Something is missing; `detail` says what and how to mend it.",
            "content": {"application/json": {"example": MISSING}},
        },
    },
)
def ready() -> JSONResponse:
    """Database, broker and disk can be used."""
    found = [check() for check in checks.READY]
    missing = [check.detail for check in found if not check.ok]
    body = {"status": "unavailable" if missing else "ok", "checks": {check.name: vars(check) for check in found}}
    problem = {"error": "unavailable", "detail": " ".join(missing)} if missing else {}
    return JSONResponse(body | problem, 503 if missing else 200)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics() -> Response:
    """Prometheus text format."""
    return Response(traffic.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")
