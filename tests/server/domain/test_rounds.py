"""A round's state and progress, derived from its jobs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from server.domain import rounds
from server.models import Metric, Project, Round, State, now
from tests import factories
from tests.databases import on_both_databases

pytestmark = on_both_databases


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


def with_jobs(project: Project, *states: str, **values: object) -> Round:
    round_ = factories.round_(project, **{"state": State.QUEUED, "params": {"prompts": 3}} | values)
    for state in states:
        factories.job(round_, state=state, error="The model folder is missing." if state == "failed" else "")
    return round_


@pytest.mark.parametrize(
    ("jobs", "state"),
    [
        (["queued", "queued"], "queued"),
        (["queued", "running"], "running"),
        (["queued", "done"], "running"),
        (["failed", "running"], "running"),
        (["failed", "queued"], "queued"),
        (["done", "done"], "done"),
        (["done", "failed"], "failed"),
        (["done", "cancelled", "failed"], "cancelled"),
    ],
)
def test_the_state_follows_from_the_jobs(session: Session, project: Project, jobs: list[str], state: str) -> None:
    round_ = with_jobs(project, *jobs)
    rounds.settle(session, round_)
    assert round_.state == state
    assert (round_.started_at is not None) == (state == "running")
    assert (round_.finished_at is not None) == (state in ("done", "failed", "cancelled"))


def test_a_failed_round_says_what_happened_what_was_kept_and_what_to_do(session: Session, project: Project) -> None:
    round_ = with_jobs(project, "failed", "failed", "done")
    factories.group(project, round_id=round_.id)
    rounds.settle(session, round_)
    assert round_.message == "The model folder is missing. 1 of 3 groups are finished and kept. Retry runs the rest."


def test_retry_clears_the_message_and_gives_new_attempts(session: Session, project: Project) -> None:
    round_ = with_jobs(project, "failed", "done")
    rounds.settle(session, round_)
    round_.jobs[0].failures = round_.jobs[1].failures = 3
    session.flush()
    rounds.retry(session, factories.operator(project), round_)
    session.expire_all()
    again = {job.state: job.failures for job in round_.jobs}
    assert (round_.state, round_.message, again) == (State.RUNNING, "", {"queued": 0, "done": 3})


def test_progress_counts_groups_and_estimates_from_the_speed_so_far(session: Session, project: Project) -> None:
    round_ = factories.round_(project, state=State.RUNNING, params={"prompts": 4}, started_at=now() - timedelta(hours=1))
    prompts = {"prompts": ["a cat", "a dog"]}
    begun = now() - timedelta(seconds=30)
    factories.job(round_, state=State.DONE, payload=prompts, started_at=begun - timedelta(seconds=20), finished_at=begun)
    factories.job(round_, state=State.RUNNING, payload=prompts, started_at=begun, progress_done=5, progress_total=10)
    for _ in range(2):
        factories.group(project, round_id=round_.id)
    progress = rounds.progress(session, round_)
    assert (progress.done, progress.total, progress.unit, progress.state) == (2, 4, "groups", "running")
    assert progress.seconds_left == pytest.approx(50 / 3, abs=1)


def test_progress_of_training_is_the_steps_of_its_job(session: Session, project: Project) -> None:
    round_ = training(project, moments=[])
    progress = rounds.progress(session, round_)
    assert (progress.done, progress.total, progress.unit) == (30, 90, "steps")


@pytest.mark.parametrize(
    ("moments", "seconds_left"),
    [
        ([], None),
        ([100.0, 102.0, 104.0], None),
        ([100.0, 102.0, 104.0, 106.0], 120.0),
        ([100.0, 102.0, 104.0, 9_000.0, 9_002.0, 9_004.0], 120.0),
    ],
)
def test_time_left_of_training_is_told_from_its_steps_not_from_its_start(
    session: Session, project: Project, moments: list[float], seconds_left: float | None
) -> None:
    progress = rounds.progress(session, training(project, moments))
    assert (progress.seconds_left, progress.at_most) == (seconds_left, True)


def test_a_training_that_is_done_tells_its_own_steps_not_those_of_its_pictures(session: Session, project: Project) -> None:
    round_ = factories.round_(project, "training", state=State.DONE)
    factories.job(round_, state=State.DONE, progress_done=20, progress_total=20, progress_unit="steps of the pictures")
    factories.add(Metric(round_id=round_.id, step=60, values={"loss": 0.7}))
    progress = rounds.progress(session, round_)
    assert (progress.done, progress.total, progress.unit) == (60, 60, "steps")


def test_time_left_is_not_told_while_the_pictures_are_drawn(session: Session, project: Project) -> None:
    round_ = training(project, [100.0, 102.0, 104.0, 106.0], unit="steps of the pictures")
    assert rounds.progress(session, round_).seconds_left is None


def training(project: Project, moments: list[float], unit: str = "steps") -> Round:
    """A training round 30 steps into 90, whose latest steps ended at these moments."""
    round_ = factories.round_(project, "training", state=State.RUNNING)
    begun = now() - timedelta(hours=1)
    factories.job(round_, state=State.RUNNING, started_at=begun, progress_done=30, progress_total=90, progress_unit=unit)
    for step, at in enumerate(moments):
        factories.add(Metric(round_id=round_.id, step=step, values={"loss": 0.7, "at": at}))
    return round_


def test_nothing_is_estimated_from_nothing(session: Session, project: Project) -> None:
    assert rounds.progress(session, with_jobs(project, "queued")).seconds_left is None
    assert rounds.progress(session, with_jobs(project, "running", state=State.RUNNING)).seconds_left is None


def test_metrics_come_in_order_after_a_step(session: Session, project: Project) -> None:
    round_ = factories.round_(project, "training")
    for step in (2, 0, 1):
        factories.add(Metric(round_id=round_.id, step=step, values={"loss": step}))
    assert [row.step for row in rounds.metrics(session, round_)] == [0, 1, 2]
    assert [row.values for row in rounds.metrics(session, round_, after_step=1)] == [{"loss": 2}]
