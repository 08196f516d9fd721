"""Who may run a job, on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from server import db
from server.domain import jobs
from server.domain.jobs import Claim, LostClaim
from server.models import Job, Round, State, now
from server.settings import get_settings
from tests import factories
from tests.databases import on_both_databases

pytestmark = on_both_databases


@pytest.fixture
def job(session: Session) -> Job:
    round_ = factories.round_(factories.project(), state=State.QUEUED)
    job = factories.job(round_)
    factories.commit()
    return job


def claimed(job: Job, worker: str = "here:1") -> Claim:
    with db.session_scope() as session:
        claim = jobs.claim(session, job.id, worker)
    assert claim is not None
    return claim


def swept() -> list[tuple[str, str]]:
    with db.session_scope() as session:
        return jobs.sweep(session)


def let_lease_run_out(job: Job) -> None:
    with db.session_scope() as session:
        session.get_one(Job, job.id).lease_expires_at = now() - timedelta(seconds=1)


def stored(job: Job) -> Job:
    with db.read_scope() as session:
        return session.get_one(Job, job.id)


def round_of(job: Job) -> Round:
    with db.read_scope() as session:
        return session.get_one(Round, job.round_id)


def sent(job: Job, **ago: float) -> None:
    with db.session_scope() as session:
        session.get_one(Job, job.id).sent_at = now() - timedelta(**ago)


def test_a_claim_starts_an_attempt_with_a_lease(job: Job) -> None:
    claim = claimed(job)
    assert claim == Claim(job.id, job.round_id, attempt=1)
    taken = stored(job)
    assert (taken.state, taken.worker, taken.attempt) == (State.RUNNING, "here:1", 1)
    left = taken.lease_expires_at - now()
    assert timedelta(0) < left <= timedelta(seconds=get_settings().job_lease_seconds)
    assert round_of(job).state == State.RUNNING


def test_a_redelivered_message_is_harmless(job: Job) -> None:
    claim = claimed(job)
    with db.session_scope() as session:
        assert jobs.claim(session, job.id, "there:2") is None
    with db.session_scope() as session:
        jobs.finish(session, claim)
    with db.session_scope() as session:
        assert jobs.claim(session, job.id, "there:2") is None
    assert (stored(job).state, stored(job).worker) == (State.DONE, "here:1")


def test_a_message_for_an_unknown_job_is_harmless(job: Job) -> None:
    with db.session_scope() as session:
        assert jobs.claim(session, "0" * 32, "here:1") is None


def test_of_many_workers_one_gets_the_claim(job: Job) -> None:
    start, winners = threading.Barrier(6), []

    def race(worker: str) -> None:
        start.wait()
        with db.session_scope() as session:
            if jobs.claim(session, job.id, worker):
                winners.append(worker)

    threads = [threading.Thread(target=race, args=(f"here:{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert winners == [stored(job).worker]
    assert stored(job).attempt == 1


def test_a_heartbeat_renews_the_lease_and_relays_progress(job: Job) -> None:
    claim = claimed(job)
    let_lease_run_out(job)
    with db.session_scope() as session:
        assert jobs.heartbeat(session, claim, done=3, total=20, unit="steps")
    beating = stored(job)
    assert beating.lease_expires_at > now()
    assert (beating.progress_done, beating.progress_total, beating.progress_unit) == (3, 20, "steps")
    assert swept() == []


def test_a_silent_job_is_sent_again_and_its_late_worker_changes_nothing(job: Job) -> None:
    late = claimed(job, "asleep:1")
    let_lease_run_out(job)
    assert swept() == [(job.id, "sample")]
    assert (stored(job).state, stored(job).failures) == (State.QUEUED, 1)
    second = claimed(job, "awake:2")
    before = stored(job)
    with db.session_scope() as session:
        assert not jobs.heartbeat(session, late, done=19)
    for verb in (jobs.require_claim, jobs.finish, lambda session, claim: jobs.fail(session, claim, "broke", retry=True)):
        with pytest.raises(LostClaim), db.session_scope() as session:
            verb(session, late)
    after = stored(job)
    assert (after.state, after.attempt, after.worker, after.progress_done, after.failures, after.lease_expires_at) == (
        before.state, 2, "awake:2", 0, 1, before.lease_expires_at,
    )  # fmt: skip
    with db.session_scope() as session:
        jobs.finish(session, second)
    assert round_of(job).state == State.DONE


def test_a_cancelled_job_stops_its_worker(job: Job) -> None:
    claim = claimed(job)
    with db.session_scope() as session:
        session.get_one(Job, job.id).state = State.CANCELLED
    with db.session_scope() as session:
        assert not jobs.heartbeat(session, claim)
    with pytest.raises(LostClaim), db.session_scope() as session:
        jobs.finish(session, claim)
    assert stored(job).state == State.CANCELLED


def test_a_broken_job_gets_three_attempts_and_then_says_why(job: Job) -> None:
    for attempt in (1, 2, 3):
        claim = claimed(job)
        assert claim.attempt == attempt
        with db.session_scope() as session:
            jobs.fail(session, claim, f"Attempt {attempt} broke.", retry=True)
    assert (stored(job).state, stored(job).failures, stored(job).error) == (State.FAILED, 3, "Attempt 3 broke.")
    assert round_of(job).state == State.FAILED
    assert round_of(job).message.startswith("Attempt 3 broke. 0 of 1 groups are finished and kept.")
    assert swept() == []


def test_a_hopeless_job_fails_at_once(job: Job) -> None:
    with db.session_scope() as session:
        jobs.fail(session, claimed(job), "The disk is full. Free some space.", retry=False)
    assert (stored(job).state, stored(job).error) == (State.FAILED, "The disk is full. Free some space.")
    assert round_of(job).state == State.FAILED


def test_a_job_that_kills_its_workers_is_given_up(job: Job) -> None:
    for _ in range(3):
        claimed(job)
        let_lease_run_out(job)
        swept()
    assert (stored(job).state, stored(job).error) == (State.FAILED, jobs.SILENT)
    assert round_of(job).state == State.FAILED


def test_committed_but_never_sent_is_sent(job: Job) -> None:
    assert swept() == [(job.id, "sample")]
    assert stored(job).sent_at is not None
    assert swept() == []


def test_a_lost_broker_loses_no_work(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D3PO_BROKER_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    assert swept() == [(job.id, "sample")]
    assert (stored(job).state, stored(job).sent_at) == (State.QUEUED, None)
    monkeypatch.setenv("D3PO_BROKER_URL", "memory://")
    get_settings.cache_clear()
    assert swept() == [(job.id, "sample")]
    assert stored(job).sent_at is not None


def test_a_lost_message_is_sent_again_while_no_worker_is_busy(job: Job) -> None:
    sent(job, seconds=29)
    assert swept() == []
    sent(job, seconds=31)
    assert swept() == [(job.id, "sample")]


def test_a_job_behind_a_busy_worker_is_not_sent_again_every_time(job: Job) -> None:
    busy = factories.job(factories.round_(factories.project()))
    factories.commit()
    claimed(busy)
    sent(job, seconds=200)
    assert swept() == []
    sent(job, seconds=301)
    assert swept() == [(job.id, "sample")]


def test_a_stopping_worker_hands_its_jobs_back_free_of_charge(job: Job) -> None:
    claim = claimed(job, "here:1")
    with db.session_scope() as session:
        assert jobs.hand_back(session, "there:2") == 0
    with db.session_scope() as session:
        assert jobs.hand_back(session, "here:1") == 1
    assert (stored(job).state, stored(job).failures) == (State.QUEUED, 0)
    with db.session_scope() as session:
        assert not jobs.heartbeat(session, claim)
    assert swept() == [(job.id, "sample")]
    assert claimed(job).attempt == 2


def test_cancelling_while_a_worker_records_is_no_deadlock(job: Job) -> None:
    claim, ends = claimed(job), []

    def end() -> None:
        try:
            with db.session_scope() as session:
                jobs.finish(session, claim)
        except LostClaim:
            ends.append("lost")

    worker = threading.Thread(target=end)
    with db.session_scope() as session:
        session.get_one(Round, job.round_id, with_for_update=True)
        worker.start()
        worker.join(0.3)
        session.execute(update(Job).where(Job.id == job.id).values(state=State.CANCELLED))
    worker.join()
    assert ends == ["lost"]
    assert stored(job).state == State.CANCELLED


def test_jobs_that_end_together_end_their_round(job: Job) -> None:
    other = factories.job(job.round)
    factories.commit()
    claims = [claimed(job), claimed(other)]
    start = threading.Barrier(2)

    def end(claim: Claim) -> None:
        with db.session_scope() as session:
            start.wait()
            jobs.finish(session, claim)

    threads = [threading.Thread(target=end, args=(claim,)) for claim in claims]
    if db.get_engine().dialect.name == "postgresql":
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        for claim in claims:
            with db.session_scope() as session:
                jobs.finish(session, claim)
    assert round_of(job).state == State.DONE
