"""One file per screen. Pages call the domain's verbs and render; they hold no rules of their own."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles

from server.pages import (
    account,
    auto,
    checkpoints,
    estimates,
    home,
    join,
    launch,
    launch_auto,
    operate,
    people,
    round,
    scored,
    sign_in,
    study,
    vote,
    win_rates,
)
from server.pages.templating import STATIC, STATIC_URL

router = APIRouter(include_in_schema=False)
SCREENS = (
    sign_in,
    join,
    home,
    vote,
    operate,
    win_rates,
    launch,
    launch_auto,
    estimates,
    round,
    scored,
    study,
    auto,
    checkpoints,
    people,
    account,
)
for screen in SCREENS:
    for route in screen.router.routes:
        # A HEAD request is a GET whose answer has no body; the web server leaves it out. A stream has no end to measure.
        if isinstance(route, APIRoute) and route.methods == {"GET"} and not route.path.endswith("/events"):
            route.methods.add("HEAD")
    router.include_router(screen.router)


def install(app: FastAPI) -> None:
    """The pages, and what they load from this server: styles and scripts."""
    app.include_router(router)
    app.mount(STATIC_URL, StaticFiles(directory=STATIC), name="static")
