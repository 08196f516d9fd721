"""One job from claim to finish: the heartbeat beside the work, and what each kind of failure becomes."""

from __future__ import annotations

import logging
import os
import socket
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from d3po_core.errors import CoreError
from server.db import session_scope
from server.domain import jobs
from server.domain.jobs import Claim, LostClaim
from server.errors import D3poError
from server.models import now
from server.settings import get_settings
from server.storage import DISK_FULL, Storage
from worker import gpu

log = logging.getLogger(__name__)
WORKER = f"{socket.gethostname()}:{os.getpid()}"  # of the parent process: pool processes are forked after this import
BEAT_SECONDS = 1.0


class Broken(Exception):
    """Why an attempt broke, already as a sentence; `retry`: whether trying again by itself can help; `trace`: where it broke,
    if that was in another process."""

    def __init__(self, sentence: str, retry: bool, trace: str = "") -> None:
        super().__init__(sentence)
        self.retry, self.trace = retry, trace


class Heartbeat:
    """Renews a claim's lease from a thread, relays progress, and knows when the work must stop."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.memory_bytes = 0  # of a process that works for this one
        self._progress: tuple[int | None, int | None, str | None] = (None, None, None)
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def observe(self, done: int, total: int, unit: str = "steps") -> None:
        """Take note of progress; raises LostClaim once the job was cancelled or went to another worker."""
        self._progress = (done, total, unit)
        self.check()

    def check(self) -> None:
        if self._lost.is_set():
            raise LostClaim(f"Job {self.claim.job_id} was cancelled or taken over.")

    def _run(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                with session_scope() as session:
                    held = jobs.heartbeat(session, self.claim, *self._progress)
            except SQLAlchemyError as error:  # the lease outlives a few missed beats
                log.warning("A heartbeat could not reach the database: %s", error)
                continue
            if not held:
                self._lost.set()
                return


def perform(job_id: str, work: Callable[[Claim, Heartbeat], None]) -> None:
    """Claim the job, do the work, record the end. A job that cannot be claimed is somebody else's or over."""
    with session_scope() as session:
        claim = jobs.claim(session, job_id, WORKER)
    if claim is None:
        log.info("Job %s is not waiting; nothing to do.", job_id)
        return
    try:
        gpu.forget_peak()
        with Heartbeat(claim) as beat:
            work(claim, beat)
        memory_bytes = max(beat.memory_bytes, gpu.peak_bytes())
        with session_scope() as session:
            jobs.finish(session, claim, memory_bytes)
    except LostClaim as lost:
        log.warning("%s This attempt's work is dropped.", lost)
    except Exception as error:
        log.exception("Job %s, attempt %d broke.", job_id, claim.attempt)
        _record_failure(claim, error)


def _record_failure(claim: Claim, error: Exception) -> None:
    sentence, retry = explain(error)
    _log(claim, error)
    try:
        with session_scope() as session:
            jobs.fail(session, claim, sentence, retry)
    except LostClaim as lost:
        log.warning("%s Its failure is not recorded.", lost)


def _log(claim: Claim, error: Exception) -> None:
    """Where it broke, for the round's page."""
    trace = getattr(error, "trace", "") or "".join(traceback.format_exception(error))
    path = Storage(get_settings().data_dir).log(claim.job_id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{now():%Y-%m-%d %H:%M:%S} UTC, attempt {claim.attempt} on {WORKER}\n{trace}\n")
    except OSError as full:
        log.warning("The round's log could not be written: %s", full)


def explain(error: Exception) -> tuple[str, bool]:
    """The sentence for the round's page, and whether trying again by itself can help."""
    if isinstance(error, Broken):
        return str(error), error.retry
    if isinstance(error, CoreError | D3poError):
        return str(error), False
    if full := _full_disk(error):
        return f"The disk that holds {full} is full. Free some space first.", False
    return f"The worker stumbled over {type(error).__name__}: {error}. The round's log tells where.", True


def _full_disk(error: BaseException | None) -> str:
    """What lies on the disk that is full; empty where that is not the reason.

    Some hide it: safetensors raises an error of its own that quotes the number, torch one that only follows from the write's.
    """
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number in DISK_FULL or any(f"os error {code})" in str(error) for code in DISK_FULL):
            return str(get_settings().data_dir)
        if "database or disk is full" in str(error):
            return "the database"
        error = error.__cause__ or error.__context__
    return ""
