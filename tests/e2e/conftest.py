"""A real Chromium and a real web server. Without Chromium the tests are skipped, or fail where everything is required."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from server.app import create_app
from server.auth import COOKIE
from server.db import session_scope
from server.domain import people
from server.models import Project, Task, User
from server.storage import Storage
from tests import factories
from tests.databases import missing

COLOURS = ["red", "green", "blue", "orange", "purple", "teal"]
ALL_PAINTED = "[...document.querySelectorAll('.pick img')].every((image) => image.complete && image.naturalWidth)"
expect.set_options(timeout=10_000)


# Not for the whole run: while it lives, nothing else in this thread can run an event loop.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = os.environ.get("D3PO_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
    if not path:
        missing("Chromium is not installed; these tests drive a real browser.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def address(engine: Engine) -> Iterator[str]:
    """A web server of this test's own, on a free port."""
    app = create_app()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    app.state.stopping.set()
    server.should_exit = True
    thread.join()


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project(name="Emoji", guideline="Pick what shows the prompt best.")


@pytest.fixture
def bob(project: Project) -> User:
    return factories.annotator(project, name="Bob")


def make_task(storage: Storage, project: Project, prompt: str, images: int = 3, side: int = 64) -> Task:
    """A votable group whose images are really there, each of its own colour."""
    group = factories.group(project, images=images, prompt=prompt)
    for position, image in enumerate(group.images):
        image.sha256 = factories.stored_image(storage, COLOURS[position], side, side)
        image.width = image.height = side
    return factories.task(project, group)


class Visitor:
    """A person at a browser of their own."""

    def __init__(self, context: BrowserContext, address: str, person: User) -> None:
        self.context, self.address, self.person = context, address, person
        self.page = context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def sign_in(self) -> None:
        """A new session in this browser; pages that are open do not know of it."""
        with session_scope() as session:
            secret, _ = people.start_session(session, self.person)
        self.context.add_cookies([{"name": COOKIE, "value": secret, "url": self.address}])

    def open(self, path: str) -> Page:
        self.page.goto(self.address + path)
        return self.page


@pytest.fixture
def visitor(chromium: Browser, address: str, session: Session) -> Iterator[Any]:
    """`visitor(person, **options)`: the person's browser, signed in. Fails a test whose page had a script error."""
    opened: list[Visitor] = []

    def enter(person: User, **options: Any) -> Visitor:
        session.commit()
        opened.append(Visitor(chromium.new_context(**options), address, person))
        opened[-1].sign_in()
        return opened[-1]

    yield enter
    for each in opened:
        each.context.close()
    assert [fault for each in opened for fault in each.faults] == []


def until(page: Page, condition: str) -> None:
    """Waits for a JavaScript condition. (The browser's own waiting needs eval, which the pages forbid.)"""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"The page never came to {condition}.")


def intercept(page: Page, pattern: str | re.Pattern[str], handler: Callable[[Route], object]) -> None:
    """`page.route` of a page that is open already: right after that alone, a request may still go past it."""
    page.route("**/api/is-intercepted", lambda route: route.fulfill(body="yes"))
    until(page, "fetch('/api/is-intercepted').then((answer) => answer.text()).then((text) => text === 'yes')")
    page.route(pattern, handler)
