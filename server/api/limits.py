"""Requests that are too large are refused before they are read."""

from __future__ import annotations

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import TooLarge

MAX_BODY_BYTES = 32 * 2**20  # a round of 10,000 prompts of 2,000 characters fits


class BodyLimit:
    """Answers by the announced length; the framework stops a body that comes without one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = RequestBodyLimitMiddleware(app, MAX_BODY_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = Headers(scope=scope).get("content-length", "0") if scope["type"] == "http" else "0"
        if not length.isdecimal() or int(length) <= MAX_BODY_BYTES:
            return await self.app(scope, receive, send)
        detail = f"A request takes at most {MAX_BODY_BYTES // 2**20} MiB, this has {int(length) >> 20} MiB. Send it in parts."
        return await JSONResponse({"error": TooLarge.code, "detail": detail}, TooLarge.status)(scope, receive, send)
