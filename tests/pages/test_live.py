"""Streams of what changed on a page."""

from __future__ import annotations

import json
from typing import Any

import anyio
from fastapi import FastAPI
from sqlalchemy.orm import Session
from starlette.requests import Request

from server.auth import COOKIE
from server.domain import people
from server.models import User
from server.pages import live
from server.pages.visit import Visit


def request_by(person: User, app: FastAPI, session: Session) -> Request:
    secret, _ = people.start_session(session, person)
    session.commit()
    headers = [(b"cookie", f"{COOKIE}={secret}".encode())]

    async def silent() -> dict[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError("slept enough")

    return Request({"type": "http", "method": "GET", "headers": headers, "app": app}, silent)


def read_all(request: Request, parts: live.Parts) -> list[str]:
    async def collect() -> list[str]:
        return [str(event) async for event in live.stream(request, parts).body_iterator]

    return anyio.run(collect)


def test_only_parts_that_changed_are_sent(app: FastAPI, bob: User, session: Session) -> None:
    versions = iter([{"loop": "a", "rounds": "x"}, {"loop": "a", "rounds": "x"}, {"loop": "b", "rounds": "x"}])

    def parts(visit: Visit) -> dict[str, str]:
        found = next(versions)
        if found["loop"] == "b":
            app.state.stopping.set()
        return found

    events = read_all(request_by(bob, app, session), parts)

    assert [
        json.loads(event.splitlines()[1].removeprefix("data: ")) for event in events if event.startswith("event: update")
    ] == [
        {"loop": "a", "rounds": "x"},
        {"loop": "b"},
    ]


def test_a_person_who_lost_access_is_told_to_stop_listening(app: FastAPI, bob: User, session: Session) -> None:
    request = request_by(bob, app, session)
    people.revoke(session, people.create_user(session, "Root", is_admin=True), bob)
    session.commit()

    events = read_all(request, lambda visit: {"loop": "secret"})

    assert events == ["event: end\ndata: {}\n\n"]
