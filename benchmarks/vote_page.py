"""How long an annotator waits: from the key that votes to the next group painted, in a real Chromium against a real server.

The same page runs twice, side by side: as shipped, with the next groups leased and decoded ahead, and with preloading off,
where each group is asked for once the vote before it is cast. Prints both and their ratio.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from PIL import Image as Picture
from playwright.sync_api import Browser, Page, Route, sync_playwright
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy.orm import Session

from migrations.run import upgrade
from server.auth import COOKIE
from server.db import make_engine
from server.domain import people, projects
from server.models import Group, Image, Project, Round, State, Task, User
from server.storage import Storage

WARM_UP = 3
BLOCK = 10
console = Console(highlight=False)

# Runs before the page's own scripts: notes when a key came, and the first frame after it that shows another, whole group.
WATCH = """
addEventListener("keydown", (event) => {
  const shown = () => [...document.querySelectorAll(".pick")].map((pick) => pick.value).join();
  const before = shown();
  window.waited = null;
  requestAnimationFrame(function look() {
    const images = [...document.querySelectorAll(".measured .pick img")];
    const whole = images.length && images.every((image) => image.complete && image.naturalWidth);
    if (!whole || shown() === before) return requestAnimationFrame(look);
    // The frame is painted once the task after its animation callbacks runs.
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { window.waited = performance.now() - event.timeStamp; };
    port2.postMessage(null);
  });
}, true);
"""


def prepare(data_dir: Path, groups: int, images: int, side: int) -> dict[str, tuple[str, str]]:
    """A migrated database with a project of its own for each arm; gives each arm's vote path and session cookie."""
    url = f"sqlite:///{data_dir / 'd3po.db'}"
    upgrade(url)
    pictures = _pictures(Storage(data_dir), images, side)
    engine = make_engine(url)
    with Session(engine) as session, session.begin():
        user = people.create_user(session, "annotator", is_admin=True)
        arms = {arm: _project(session, user, arm, groups, pictures, side) for arm in ("preloaded", "not preloaded")}
        secret, _ = people.start_session(session, user)
        prepared = {arm: (f"/p/{project.id}/vote", secret) for arm, project in arms.items()}
    engine.dispose()
    return prepared


def _pictures(storage: Storage, images: int, side: int) -> list[str]:
    """Noise over a gradient, about as heavy as a photograph."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 160, side)[:, None, None] + np.linspace(0, 60, side)[None, :, None]
    return [
        storage.put_image(Picture.fromarray((ramp + rng.integers(0, 30, (side, side, 3))).clip(0, 255).astype(np.uint8)))
        for _ in range(4 * images)
    ]


def _project(session: Session, user: User, name: str, groups: int, pictures: list[str], side: int) -> Project:
    project = projects.create(session, user, name)
    round_ = Round(project_id=project.id, number=1, kind="sample", state=State.DONE, params={"prompts": groups})
    session.add(round_)
    session.flush()
    images = len(pictures) // 4
    for position in range(groups):
        shown = [pictures[(position * images + index) % len(pictures)] for index in range(images)]
        group = Group(project_id=project.id, round_id=round_.id, position=position, prompt=f"prompt {position}")
        group.images = [
            Image(position=index, sha256=sha256, width=side, height=side, seed=index) for index, sha256 in enumerate(shown)
        ]
        session.add(Task(project_id=project.id, group=group, mode=project.mode, votes_wanted=1))
    return project


@contextmanager
def serving(data_dir: Path) -> Iterator[str]:
    """`d3po serve` on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"D3PO_DATA_DIR": str(data_dir), "D3PO_DATABASE_URL": "", "D3PO_BROKER_URL": "memory://"}
    process = subprocess.Popen([sys.executable, "-m", "server.cli", "serve", "--port", str(port)], env=environment)
    try:
        _wait_for(f"http://127.0.0.1:{port}/healthz", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"The server ended with code {process.returncode} before it answered.")


def open_page(browser: Browser, address: str, path: str, secret: str, *, preload: bool) -> Page:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.add_cookies([{"name": COOKIE, "value": secret, "url": address}])
    page = context.new_page()
    page.add_init_script(WATCH)
    if not preload:
        page.route("**/ahead.js", _hold_one)
    page.goto(address + path)
    page.wait_for_selector(".measured .pick img")
    return page


def _hold_one(route: Route) -> None:
    """The page's own script with room for one task: the one on screen."""
    answer = route.fetch()
    changed, count = re.subn(r"const HELD = \d+;", "const HELD = 1;", answer.text())
    if count != 1:
        raise RuntimeError("ahead.js no longer says how many tasks it holds.")
    route.fulfill(response=answer, body=changed)


def vote(page: Page, look_ms: int) -> float:
    """Looks for a while, picks the first image; gives the milliseconds until the next group was painted."""
    page.wait_for_timeout(look_ms)
    while not page.evaluate("[...document.querySelectorAll('.pick img')].every((image) => image.complete)"):
        page.wait_for_timeout(20)
    page.keyboard.press("1")
    while (waited := page.evaluate("window.waited")) is None:
        page.wait_for_timeout(5)
    return float(waited)


def measure(browser: Browser, address: str, arms: dict[str, tuple[str, str]], votes: int, look_ms: int) -> dict[str, list[float]]:
    """Both arms in turns of a few votes, so that whatever else the machine does falls on both."""
    pages = {arm: open_page(browser, address, *where, preload=arm == "preloaded") for arm, where in arms.items()}
    waits: dict[str, list[float]] = {arm: [] for arm in arms}
    for page in pages.values():
        for _ in range(WARM_UP):
            vote(page, look_ms)
    for done in track(range(0, votes, BLOCK), "voting", console=Console(stderr=True)):
        for arm, page in pages.items():
            waits[arm] += [vote(page, look_ms) for _ in range(min(BLOCK, votes - done))]
    return waits


def summary(waits: list[float]) -> dict[str, float]:
    cuts = quantiles(waits, n=100, method="inclusive")
    return {"p50_ms": round(cuts[49], 1), "p95_ms": round(cuts[94], 1), "max_ms": round(max(waits), 1)}


def compare(waits: dict[str, list[float]]) -> dict[str, Any]:
    """Both arms, and how many times longer one waits without preloading."""
    ahead, without = summary(waits["preloaded"]), summary(waits["not preloaded"])
    ratios = {f"ratio_{name}": round(without[f"{name}_ms"] / ahead[f"{name}_ms"], 2) for name in ("p50", "p95")}
    return {"votes": len(waits["preloaded"]), "preloaded": ahead, "not_preloaded": without, **ratios}


def main(
    votes: Annotated[int, typer.Option(min=2, help="Votes in each arm.")] = 100,
    images: Annotated[int, typer.Option(min=2, help="Images a group.")] = 6,
    side: Annotated[int, typer.Option(min=8, help="Pixels across an image.")] = 512,
    look_ms: Annotated[int, typer.Option(help="How long the annotator looks at a group before the key.")] = 500,
    json_line: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line at the end.")] = False,
) -> None:
    """Key press to the next group painted: p50 and p95, with preloading and without."""
    chromium = os.environ.get("D3PO_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        raise typer.BadParameter("Chromium is not installed; this drives a real browser.")
    with tempfile.TemporaryDirectory(prefix="d3po-vote-page-") as folder:
        arms = prepare(Path(folder), votes + WARM_UP + 1, images, side)
        with serving(Path(folder)) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            result = compare(measure(browser, address, arms, votes, look_ms))
            browser.close()
    table = Table("key press to the next group painted", "p50", "p95", "slowest", title=f"{votes} votes, {images} x {side} px")
    for arm in ("preloaded", "not_preloaded"):
        table.add_row(arm.replace("_", " "), *(f"{result[arm][f'{name}_ms']:.1f} ms" for name in ("p50", "p95", "max")))
    table.add_row("times longer without", f"{result['ratio_p50']:.1f}", f"{result['ratio_p95']:.1f}")
    console.print(table)
    if json_line:
        print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
