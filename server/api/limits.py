"""Requests that are too large are refused before they are read."""

from __future__ import annotations

import re

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from server.auth import COOKIE
from server.errors import TooLarge

STRANGERS_BYTES = 64 * 2**10  # a sign-in form; nobody without a name makes the server parse much
BYTES = 2**20
PROMPTS_BYTES = 32 * 2**20  # 10,000 prompts of 2,000 characters fit, of a round or as a project's own
WITH_PROMPTS = re.compile(r".*/((sample|duel|study)-rounds|prompts)|/api/v1/projects(/[^/]+)?")


class BodyLimit:
    """Answers by the announced length; the framework stops a body that comes without one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit, length = _limit(scope["path"], headers), headers.get("content-length", "0")
        if length.isdecimal() and int(length) > limit:
            body = {"error": TooLarge.code, "detail": sentence(limit)}
            await JSONResponse(body, TooLarge.status)(scope, receive, send)
            return
        scope.setdefault("state", {})["body_limit"] = limit
        await RequestBodyLimitMiddleware(self.app, limit)(scope, receive, send)


def sentence(limit: int) -> str:
    most = f"{limit >> 20} MiB" if limit >= 2**20 else f"{limit >> 10} KiB"
    return f"This request takes at most {most}; what was sent is larger. Nothing was changed; send it in parts."


def _limit(path: str, headers: Headers) -> int:
    if "authorization" not in headers and f"{COOKIE}=" not in headers.get("cookie", ""):
        return STRANGERS_BYTES
    return PROMPTS_BYTES if WITH_PROMPTS.fullmatch(path) else BYTES
