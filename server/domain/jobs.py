"""Who may run a job: claims by compare-and-set, leases, heartbeats, and the sweep that picks up what went silent.

A claim is an UPDATE whose row count says who won. Whatever a worker writes later repeats the claim in the same
transaction, so a worker that slept past its lease changes nothing. The broker only delivers: everything here is true
without it. Locks are taken in one order, the round before its jobs, by whoever needs both.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.orm import Session, aliased

from server.db import send_after_commit
from server.domain import rounds
from server.models import Job, Round, State, now
from server.settings import get_settings

MAX_ATTEMPTS = 3
RESEND_WHEN_IDLE = timedelta(seconds=30)
RESEND_ALWAYS = timedelta(minutes=5)
SILENT = f"The worker went silent {MAX_ATTEMPTS} times in this job; out of memory is the usual reason, its log tells."


class LostClaim(Exception):
    """The job belongs to another attempt now, or was cancelled. Nothing was changed; drop the work."""


@dataclass(frozen=True)
class Claim:
    """The right to record results of one attempt at one job."""

    job_id: str
    round_id: str
    attempt: int


def claim(session: Session, job_id: str, worker: str) -> Claim | None:
    """Take a waiting job. None: another worker has it, or it is over; a redelivered message ends here."""
    _hold(session, Job.id == job_id)
    taken = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.state == State.QUEUED)
        .values(
            state=State.RUNNING, attempt=Job.attempt + 1, worker=worker, lease_expires_at=_lease_end(),
            started_at=now(), finished_at=None, progress_done=0, error="",
        )
        .returning(Job.round_id, Job.attempt)
    ).one_or_none()  # fmt: skip
    if taken is None:
        return None
    _settle(session, taken.round_id)
    return Claim(job_id, taken.round_id, taken.attempt)


def heartbeat(session: Session, claim: Claim, done: int | None = None, total: int | None = None, unit: str | None = None) -> bool:
    """Renew the lease and relay progress. False: the claim is lost or cancelled, so stop."""
    progress = {"progress_done": done, "progress_total": total, "progress_unit": unit}
    known = {column: value for column, value in progress.items() if value is not None}
    return _update(session, claim, lease_expires_at=_lease_end(), **known)


def require_claim(session: Session, claim: Claim) -> None:
    """Repeat the claim inside the caller's transaction and hold its row; raises LostClaim."""
    _update_or_lose(session, claim, lease_expires_at=_lease_end())


def finish(session: Session, claim: Claim, memory_bytes: int | None = None) -> None:
    """The job is done, and took so much memory."""
    done = {"state": State.DONE, "finished_at": now(), "lease_expires_at": None, "progress_done": Job.progress_total}
    _update_or_lose(session, claim, **done, memory_bytes=memory_bytes)
    _settle(session, claim.round_id)


def fail(session: Session, claim: Claim, sentence: str, retry: bool) -> None:
    """Record why an attempt broke. With `retry` the job waits again, until MAX_ATTEMPTS attempts broke."""
    require_claim(session, claim)
    job = session.get_one(Job, claim.job_id, populate_existing=True)
    _count_failure(session, job, sentence, sentence if retry else None)


def hand_back(session: Session, worker: str) -> int:
    """Put a stopping worker's running jobs back into the queue, at no cost to their attempts; returns how many."""
    held = (Job.worker == worker, Job.state == State.RUNNING)
    _hold(session, *held)
    back = update(Job).where(*held).values(state=State.QUEUED, sent_at=None, lease_expires_at=None).returning(Job.round_id)
    round_ids = session.scalars(back).all()
    for round_id in set(round_ids):
        _settle(session, round_id)
    return len(round_ids)


def sweep(session: Session) -> list[tuple[str, str]]:
    """Requeue what went silent and send again what the broker may not have; returns (job id, kind) of what is sent."""
    _requeue_silent(session)
    undelivered = select(Job.id, Job.kind).where(Job.state == State.QUEUED, _undelivered(now())).order_by(Job.id)
    waiting = list(session.execute(undelivered).tuples())
    for job_id, _ in waiting:
        send_after_commit(session, job_id)
    return waiting


def _requeue_silent(session: Session) -> None:
    silent = (Job.state == State.RUNNING, Job.lease_expires_at < now())
    _hold(session, *silent)
    for job in session.scalars(select(Job).where(*silent).with_for_update()).all():
        _count_failure(session, job, SILENT, "The worker went silent.")


def _count_failure(session: Session, job: Job, last_words: str, retry_words: str | None) -> None:
    """Back into the queue with `retry_words` while attempts are left, else failed with `last_words`."""
    job.failures += 1
    if retry_words is not None and job.failures < MAX_ATTEMPTS:
        job.state, job.error, job.sent_at = State.QUEUED, retry_words, None
    else:
        job.state, job.error, job.finished_at = State.FAILED, last_words, now()
    job.lease_expires_at = None
    _settle(session, job.round_id)


def _undelivered(moment: datetime) -> ColumnElement[bool]:
    """Never sent; or sent long ago; or sent a little ago while no worker is busy, which means the message is lost."""
    other = aliased(Job)
    idle = ~exists().where(other.state == State.RUNNING)
    return or_(
        Job.sent_at.is_(None),
        Job.sent_at < moment - RESEND_ALWAYS,
        and_(Job.sent_at < moment - RESEND_WHEN_IDLE, idle),
    )


def _update(session: Session, claim: Claim, **values: Any) -> bool:
    still_held = (Job.id == claim.job_id, Job.attempt == claim.attempt, Job.state == State.RUNNING)
    result = session.execute(update(Job).where(*still_held).values(**values).returning(Job.id))
    return result.one_or_none() is not None


def _update_or_lose(session: Session, claim: Claim, **values: Any) -> None:
    _hold(session, Job.id == claim.job_id)
    if not _update(session, claim, **values):
        raise LostClaim(f"Attempt {claim.attempt} no longer holds job {claim.job_id}.")


def _lease_end() -> datetime:
    return now() + timedelta(seconds=get_settings().job_lease_seconds)


def _hold(session: Session, *of_jobs: ColumnElement[bool]) -> None:
    """Lock the rounds of these jobs: cancelling does so too before it touches jobs, and a group's row shares that lock."""
    rounds_of = select(Job.round_id).where(*of_jobs)
    session.execute(select(Round.id).where(Round.id.in_(rounds_of)).order_by(Round.id).with_for_update())


def _settle(session: Session, round_id: str) -> None:
    rounds.settle(session, session.get_one(Round, round_id))
