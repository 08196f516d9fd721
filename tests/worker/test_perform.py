"""One job from claim to finish, and what each kind of failure becomes."""

from __future__ import annotations

import errno
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from d3po_core.errors import NotFinite
from server.db import session_scope
from server.domain import jobs
from server.domain.jobs import Claim, LostClaim
from server.domain.recording import DrawnImage, record_group
from server.errors import Invalid
from server.models import Job, Round, State
from server.settings import get_settings
from server.storage import Storage
from tests.worker.conftest import ended, groups_of, jobs_of
from worker import app, gpu, tasks
from worker.perform import Broken, Heartbeat, explain, perform
from worker.plan import storage


@pytest.fixture
def job(sample_round: Round) -> Job:
    return jobs_of(sample_round)[0]


def now_stored(job: Job) -> Job:
    with session_scope() as session:
        return session.get_one(Job, job.id)


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def test_the_heartbeat_relays_progress_and_keeps_the_lease(job: Job) -> None:
    def work(claim: Claim, beat: Heartbeat) -> None:
        with session_scope() as session:
            first = session.get_one(Job, job.id).lease_expires_at
        beat.observe(2, 3)
        eventually(lambda: now_stored(job).progress_done == 2)
        stored = now_stored(job)
        assert (stored.progress_total, stored.progress_unit) == (3, "steps")
        assert first is not None
        assert stored.lease_expires_at is not None
        assert stored.lease_expires_at > first

    perform(job.id, work)
    assert now_stored(job).state == State.DONE


def test_a_cancel_stops_the_work_at_its_next_step(job: Job) -> None:
    reached = []

    def work(claim: Claim, beat: Heartbeat) -> None:
        with session_scope() as session:
            session.get_one(Job, job.id).state = State.CANCELLED
        eventually(beat._lost.is_set)
        beat.observe(1, 3)
        reached.append("further")

    perform(job.id, work)
    assert reached == []
    assert now_stored(job).state == State.CANCELLED


def test_a_worker_that_slept_past_its_lease_changes_nothing(job: Job, sample_round: Round) -> None:
    """It wakes after another worker has taken the job over, finds its claim lost while recording, and drops its work."""
    image = [DrawnImage("a" * 64, 8, 8, 1)] * 2
    stale = storage().trajectory(f"{sample_round.id}/00000-1.safetensors")

    def sleepy(claim: Claim, beat: Heartbeat) -> None:
        with session_scope() as session:
            session.get_one(Job, job.id).state = State.QUEUED
        tasks.sample(job.id)
        stale.write_bytes(b"drawn in a dream")
        with session_scope() as session:
            record_group(session, claim, position=0, prompt="stale", trajectory_key=None, trajectory_sha256=None, images=image)

    perform(job.id, sleepy)
    [group] = groups_of(sample_round)
    assert (group.prompt, group.trajectory_key) == ("a red fish", f"{sample_round.id}/00000-2.safetensors")
    assert (now_stored(job).state, now_stored(job).attempt, now_stored(job).failures) == (State.DONE, 2, 0)
    tasks.sample(jobs_of(sample_round)[1].id)
    app.clear_leftovers(app.LONG_AGO)
    assert not stale.exists()
    assert all(storage().trajectory(group.trajectory_key or "").exists() for group in groups_of(sample_round))


def test_a_failure_after_the_claim_was_lost_is_not_recorded(job: Job) -> None:
    def work(claim: Claim, beat: Heartbeat) -> None:
        with session_scope() as session:
            session.get_one(Job, job.id).attempt += 1
        raise RuntimeError("too late")

    perform(job.id, work)
    assert (now_stored(job).state, now_stored(job).error) == (State.RUNNING, "")


def test_a_full_disk_fails_the_round_with_a_sentence_and_keeps_its_groups(
    sample_round: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = jobs_of(sample_round)
    tasks.sample(first.id)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("server.storage.write_durably", full)
        tasks.sample(second.id)
    state, message = ended(sample_round)
    assert state == State.FAILED
    assert message.startswith(f"The disk that holds {get_settings().data_dir} is full. Free some space first.")
    assert "1 of 3 groups are finished and kept" in message
    assert [group.position for group in groups_of(sample_round)] == [0]
    assert now_stored(second).failures == 1


def test_a_missing_model_folder_fails_the_round_with_a_sentence(sample_round: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D3PO_BASE_MODELS", json.dumps({"tiny": "/no/such/folder"}))
    get_settings.cache_clear()
    for job in jobs_of(sample_round):
        tasks.sample(job.id)
    state, message = ended(sample_round)
    assert state == State.FAILED
    assert message.startswith("The base model /no/such/folder is not there.")
    assert message.count("/no/such/folder") == 1


def test_a_model_that_the_worker_does_not_know_fails_the_round(sample_round: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("D3PO_BASE_MODELS")
    get_settings.cache_clear()
    for job in jobs_of(sample_round):
        tasks.sample(job.id)
    assert ended(sample_round)[1].startswith("The base model 'tiny' is not registered on this worker.")


def test_a_job_that_always_breaks_ends_after_three_attempts(job: Job) -> None:
    calls = []

    def work(claim: Claim, beat: Heartbeat) -> None:
        calls.append(claim.attempt)
        raise RuntimeError("bad luck")

    for _ in range(5):
        perform(job.id, work)
    assert calls == [1, 2, 3]
    assert now_stored(job).state == State.FAILED
    assert now_stored(job).error == "The worker stumbled over RuntimeError: bad luck. The round's log tells where."
    log = Storage(get_settings().data_dir).log(job.id).read_text()
    assert [log.count(part) for part in ("attempt 2 on", "RuntimeError: bad luck", "in work")] == [1, 3, 3]


def test_a_heartbeat_survives_a_database_that_is_away_for_a_moment(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat, beats = jobs.heartbeat, threading.Semaphore(0)

    def shaky(*arguments: object) -> bool:
        beats.release()
        if shaky.calls < 3:  # type: ignore[attr-defined]
            shaky.calls += 1  # type: ignore[attr-defined]
            raise OperationalError("UPDATE jobs", {}, Exception("server closed the connection"))
        return heartbeat(*arguments)  # type: ignore[arg-type]

    shaky.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(jobs, "heartbeat", shaky)

    def work(claim: Claim, beat: Heartbeat) -> None:
        for _ in range(5):
            assert beats.acquire(timeout=5)
        beat.observe(3, 3)

    perform(job.id, work)
    assert now_stored(job).state == State.DONE


def follows_from(error: Exception, first: Exception) -> Exception:
    error.__context__ = first
    return error


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.EFBIG, "File too large"), False),
        (RuntimeError("I/O error: No space left on device (os error 28)"), False),
        (follows_from(RuntimeError("unexpected pos 704 vs 598"), OSError(errno.ENOSPC, "No space left on device")), False),
        (OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full")), False),
        (OSError(errno.EIO, "Input/output error"), True),
        (NotFinite("NaN at t=999."), False),
        (Invalid("No such model."), False),
        (Broken("It ended by itself.", retry=True), True),
        (ZeroDivisionError("division by zero"), True),
    ],
)
def test_what_is_worth_another_attempt(tiny_settings: object, error: Exception, retry: bool) -> None:
    assert explain(error)[1] is retry


def test_a_lost_claim_is_no_failure(job: Job) -> None:
    def work(claim: Claim, beat: Heartbeat) -> None:
        raise LostClaim("gone")

    perform(job.id, work)
    assert now_stored(job).error == ""


def test_a_peak_that_cannot_be_reset_breaks_no_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "CLEAR_REFS", tmp_path)  # nothing can be written to it, as in a hardened container
    gpu.forget_peak()
    assert gpu.peak_bytes() > 50e6
