"""`d3po up`, everything in one data folder, and `d3po worker`, one worker alone. cli.py registers both."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from migrations.run import upgrade
from server import broker_socket, checks, db, embedded
from server.errors import D3poError
from server.settings import get_settings
from server.supervisor import ChildFailed, Supervisor

START_SECONDS = 300.0
NO_TORCH = "This installation has no PyTorch, so it cannot run models. Install the worker's packages: pip install 'd3po[worker]'."
progress = Console(stderr=True)


def up(
    data_dir: Annotated[Path, typer.Option(help="Everything is kept here.")] = Path("data"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
) -> None:
    """Start everything: database, broker, worker, web server, and on the first start a demo project. Ctrl-C stops it."""
    folder = data_dir.expanduser().resolve()
    supervisor = Supervisor(say)
    supervisor.listen()
    try:
        _require_torch()
        _require_model()
        with embedded.hold(folder):
            embedded.check_port(host, port)
            _run(supervisor, folder, host, port)
    except (D3poError, ChildFailed, OSError) as error:
        say(str(error))
        raise typer.Exit(1) from None


def worker() -> None:
    """Start one worker for this machine's device. Settings come from the environment: docs/settings.md."""
    try:
        _require_torch()
    except D3poError as error:
        say(str(error))
        raise typer.Exit(1) from None
    os.execv(sys.executable, [sys.executable, "-m", "worker"])


def say(sentence: str) -> None:
    progress.print(sentence, highlight=False, markup=False, soft_wrap=True)


def _run(supervisor: Supervisor, folder: Path, host: str, port: int) -> None:
    try:
        with progress.status("Starting") as status:
            started = _start(supervisor, folder, host, port, lambda text: status.update(text))
        if started:
            _announce(folder, host, port)
            supervisor.run()
    finally:
        with progress.status("Stopping; unfinished work goes on at the next start"):
            supervisor.stop()
        say(f"Stopped. Everything is kept in {folder}.")


def _start(supervisor: Supervisor, folder: Path, host: str, port: int, show: Callable[[str], None]) -> bool:
    """True once people can be served; False if a stop was asked for meanwhile."""
    os.environ.update(embedded.environment(folder))
    get_settings.cache_clear()
    db.forget_engine()
    show("Starting the broker")
    broker = supervisor.start(embedded.broker(folder))
    show("Bringing the database up to date")
    upgrade(get_settings().database_url)
    if not supervisor.wait_for(broker, lambda: broker_socket.answers(folder), START_SECONDS):
        return False
    with db.session_scope() as session:
        is_first = embedded.first_start(session)
    worker = supervisor.start(embedded.worker(folder))
    web = supervisor.start(embedded.web(folder, host, port))
    show("Waiting for the web server")
    serves = supervisor.wait_for(web, lambda: embedded.web_is_up(host, port), START_SECONDS)
    if serves and is_first:
        say("First start: made the demo project and began its first images.")
        show("Waiting for the worker to load its libraries, so that the first images come soon")
        return supervisor.wait_for(worker, _first_round_began, START_SECONDS)
    return serves


def _first_round_began() -> bool:
    with db.read_scope() as session:
        return embedded.first_round_began(session)


def _announce(folder: Path, host: str, port: int) -> None:
    with db.session_scope() as session:
        link = embedded.sign_in_link(session, embedded.url(host, port))
    print(f"ready http://{host}:{port}", flush=True)
    print(f"sign in: {link}", flush=True)
    say(f"Data, logs and models made here are in {folder}. Ctrl-C stops everything.")


def _require_model() -> None:
    """Before anything is made: a new project keeps the model that it began with."""
    found = checks.model()
    if not found.ok:
        raise D3poError(f"{found.detail} Nothing was started.")


def _require_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise D3poError(NO_TORCH)
