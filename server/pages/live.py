"""Server-sent events for pages: about every second the parts of a page that changed, as HTML by name.

The stream holds no database session and no thread between two events, and ends when the server stops.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from server.errors import D3poError
from server.pages.visit import Visit, reading

SECONDS_BETWEEN = 1.0
# A page that takes long to draw (many votes) is drawn less often, so that watching never takes more than a fifth of a core.
REST_PER_SECOND_SPENT = 4.0
Parts = Callable[[Visit], dict[str, str]]


def stream(request: Request, parts: Parts) -> StreamingResponse:
    return StreamingResponse(_events(request, parts), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _events(request: Request, parts: Parts) -> AsyncIterator[str]:
    sent: dict[str, str] = {}
    try:
        while not await request.is_disconnected():
            started = time.monotonic()
            fresh = await run_in_threadpool(_read, request, parts)
            spent = time.monotonic() - started
            changed = {name: html for name, html in fresh.items() if sent.get(name) != html}
            yield f"event: update\ndata: {json.dumps(changed)}\n\n" if changed else ": still here\n\n"
            if request.app.state.stopping.is_set():
                return
            sent = fresh
            await asyncio.sleep(max(SECONDS_BETWEEN, REST_PER_SECOND_SPENT * spent))
    except D3poError:
        yield "event: end\ndata: {}\n\n"


def _read(request: Request, parts: Parts) -> dict[str, str]:
    with reading(request) as visit:
        return parts(visit)
