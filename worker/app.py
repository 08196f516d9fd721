"""The Celery application of a worker: its settings, its sweep thread and what a fresh pool process needs.

Messages are acknowledged late and delivered again freely; that is harmless because the claim is in the database.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Sized
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from celery import Celery, bootsteps
from celery.signals import worker_process_init, worker_shutting_down
from celery.worker.state import reserved_requests
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from server import db
from server.domain import jobs, leftovers
from server.leash import die_with_parent
from server.models import now
from server.queue import celery_config
from server.settings import get_settings
from worker import gpu
from worker.perform import WORKER
from worker.plan import storage

log = logging.getLogger(__name__)
ALIVE = Path(tempfile.gettempdir()) / f"d3po-worker-alive-{os.getuid()}"  # for a container's health check
HAND_BACK_SECONDS = 0.5
CLEAR_SECONDS = 600.0
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
T = TypeVar("T")
stopping = threading.Event()
# A pool process that is forked while SQLite is open here inherits locks that nobody will ever release (sqlite.org/howtocorrupt).
_not_while_forking = threading.Lock()
os.register_at_fork(
    before=_not_while_forking.acquire, after_in_parent=_not_while_forking.release, after_in_child=_not_while_forking.release
)


def create_app() -> Celery:
    app = Celery("d3po", include=["worker.tasks"])
    app.conf.update(
        celery_config(get_settings().broker_url),
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,  # one pipeline a worker; a second GPU gets a second worker
        worker_enable_remote_control=False,
        worker_proc_alive_timeout=120.0,  # a pool process imports torch before it reports for work
        worker_hijack_root_logger=True,
        broker_connection_max_retries=None,
        broker_transport_options={"visibility_timeout": 3600, "socket_keepalive": True},
    )
    app.steps["worker"].add(Sweeper)
    return app


class Sweeper(bootsteps.StartStopStep):
    """Sweeps from the worker's parent process, so that a busy or dead pool process does not stop it."""

    requires = {"celery.worker.components:Pool"}

    def start(self, worker: Any) -> None:
        def listen_again() -> None:
            if not reserved_requests:
                worker.hub.call_soon(lose_the_connection)

        threading.Thread(target=sweep_until_stopped, args=(listen_again,), name="sweep", daemon=True).start()
        threading.Thread(target=clear_until_stopped, name="clear", daemon=True).start()


def lose_the_connection() -> None:
    """Called by the worker's event loop, which then connects to the broker afresh."""
    raise ConnectionError("Jobs were sent and none arrived; connecting to the broker again.")


def sweep_until_stopped(listen_again: Callable[[], None] = lambda: None) -> None:
    """Sweep every few seconds; once the worker stops, hand back whatever its pool process still holds.

    `listen_again` follows when jobs had to be sent again: a broker that goes away at the moment of an acknowledgement
    leaves an idle worker that waits on a closed connection for ever.
    """
    while not stopping.wait(get_settings().sweep_seconds):
        if _in_transaction("Jobs sent again: %d", jobs.sweep):
            listen_again()
    while True:
        _in_transaction("Jobs handed back: %d", lambda session: jobs.hand_back(session, WORKER))
        time.sleep(HAND_BACK_SECONDS)


def clear_until_stopped() -> None:
    """At the start for all rounds, then every few minutes for those that ended since."""
    since = LONG_AGO
    while not stopping.is_set():
        began = now()
        clear_leftovers(since)
        since = began - timedelta(seconds=CLEAR_SECONDS)
        stopping.wait(CLEAR_SECONDS)


def clear_leftovers(since: datetime) -> None:
    """Removes what lost attempts left on disk: one round a transaction, and the work of removing after it."""
    for round_id in _in_transaction("Ended rounds looked through: %d", partial(leftovers.over_since, since=since)) or []:
        _in_transaction(
            "Left behind by lost attempts, removed: %d", partial(leftovers.clear, storage=storage(), round_id=round_id)
        )
        storage().empty_trash()
        if stopping.is_set():
            return


def _in_transaction(report: str, verb: Callable[[Session], T]) -> T | None:
    result = None
    try:
        with _not_while_forking:
            result = _run(verb)
        ALIVE.touch()
    except SQLAlchemyError as error:
        log.warning("The sweep could not reach the database and tries again: %s", error)
    except Exception:
        log.exception("The sweep stumbled and tries again.")
    else:
        if result:
            log.info(report, len(result) if isinstance(result, Sized) else result)
    return result


def _run(verb: Callable[[Session], T]) -> T:
    """One transaction on connections of its own, all closed afterwards."""
    try:
        with db.session_scope() as session:
            return verb(session)
    finally:
        db.get_engine().dispose()


@worker_shutting_down.connect
def _stop(**_: Any) -> None:
    stopping.set()


@worker_process_init.connect
def _prepare_pool_process(**_: Any) -> None:
    die_with_parent(os.getppid())
    let_go_of_sockets()
    db.forget_engine()
    gpu.warm_up()


def let_go_of_sockets() -> None:
    """Put nothing in the place of every socket that was open when this process was forked.

    A pool process that replaces a killed one would keep the broker's connection open after the parent closed it; the
    parent's event loop would hear of that dead connection for ever and take no job again.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in map(int, os.listdir("/dev/fd")):
        try:
            is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        except OSError:  # the listing itself was open, and is closed by now
            continue
        if is_socket:
            os.dup2(nothing, descriptor)
    os.close(nothing)
