"""A round's progress as server-sent events. Between two events a stream holds no session and no thread."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from server import auth
from server.api.rounds import shown
from server.api.shapes import RoundOut
from server.db import read_scope
from server.deps import CurrentUser, DbSession
from server.domain import rounds
from server.errors import D3poError

router = APIRouter(tags=["rounds"])
EVERY_SECONDS = 1.0
COMMENT_SECONDS = 15.0  # a proxy cuts a stream that stays silent
OVER = ("done", "failed", "cancelled")


@router.get(
    "/rounds/{round_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"example": 'event: progress\ndata: {"state": "running", ...}\n\n'}}}},
)
def events(round_id: str, request: Request, session: DbSession, user: CurrentUser) -> StreamingResponse:
    """`progress`: the round as GET /rounds/{id} gives it, whenever it changed. `metrics`: what training logged since the last
    event. `end`: the round is over. The stream also ends when the server stops (reconnect then) or when you may not look any
    more."""
    rounds.open_for(session, user, round_id, "operator")
    return StreamingResponse(_stream(round_id, request), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _stream(round_id: str, request: Request) -> AsyncIterator[str]:
    last, step, told = "", -1, time.monotonic()
    while not request.app.state.stopping.is_set():
        try:
            shown_round, metrics = await run_in_threadpool(_look, round_id, request, step)
        except D3poError:
            return
        if metrics or shown_round.model_dump_json() != last:
            told = time.monotonic()
        elif time.monotonic() - told > COMMENT_SECONDS:
            told = time.monotonic()
            yield ": still here\n\n"
        if metrics:
            step = metrics[-1]["step"]
            yield event("metrics", json.dumps(metrics))
        if shown_round.model_dump_json() != last:
            last = shown_round.model_dump_json()
            yield event("progress", last)
        if shown_round.state in OVER:
            yield event("end", json.dumps({"state": shown_round.state}))
            return
        await asyncio.sleep(EVERY_SECONDS)


def event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"


def _look(round_id: str, request: Request, after_step: int) -> tuple[RoundOut, list[dict[str, Any]]]:
    """What is new; who asks and what they may is checked again, because a stream outlives both."""
    with read_scope() as session:
        round_ = rounds.open_for(session, auth.identify(session, request, "").user, round_id, "operator")
        metrics = [{"step": row.step, "values": row.values} for row in rounds.metrics(session, round_, after_step)]
        return shown(session, [round_])[0], metrics
