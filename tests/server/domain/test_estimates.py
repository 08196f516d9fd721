"""What a launch will cost, judged by what the last round of its kind cost."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from server.domain.estimates import Estimate, estimate, planned
from server.models import Project, Round, State, now
from server.storage import Storage
from tests import factories

SAMPLE = {"prompts": 4, "images_per_prompt": 3, "num_inference_steps": 20}


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


def measured(project: Project, kind: str = "sample", seconds: float = 40, **values: object) -> Round:
    """A round that is done, whose one job took so long."""
    end = now()
    times = {"started_at": end - timedelta(seconds=seconds), "finished_at": end}
    round_ = factories.round_(project, kind, **{"params": SAMPLE, **times} | values)
    factories.job(round_, state=State.DONE, **times)
    return round_


def test_nothing_is_told_before_the_first_round_is_done(session: Session, project: Project, storage: Storage) -> None:
    measured(project, state=State.RUNNING)
    measured(factories.project())
    assert estimate(session, storage, project, "sample", SAMPLE) is None


def test_time_and_disk_grow_with_the_work(session: Session, project: Project, storage: Storage) -> None:
    row = measured(project)
    for position in range(2):
        group = factories.group(project, round_id=row.id, position=position, trajectory_key=f"{row.id}/{position}")
        path = storage.trajectory(str(group.trajectory_key))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0" * 1000)
    twice = SAMPLE | {"prompts": 8}
    assert estimate(session, storage, project, "sample", SAMPLE) == Estimate(40, 2000, None, row.number)
    assert estimate(session, storage, project, "sample", twice) == Estimate(80, 4000, None, row.number)


def test_a_night_between_cancel_and_retry_is_not_work(session: Session, project: Project, storage: Storage) -> None:
    measured(project, started_at=now() - timedelta(hours=9))
    found = estimate(session, storage, project, "sample", SAMPLE)
    assert found is not None
    assert found.seconds == pytest.approx(40)


def test_training_takes_longer_with_more_groups_and_fills_one_checkpoint(
    session: Session, project: Project, storage: Storage
) -> None:
    row = measured(project, "training", seconds=30, params={"groups": 10, "epochs": 1})
    made = factories.checkpoint(project, round_id=row.id)
    storage.checkpoint(made.key).mkdir(parents=True)
    (storage.checkpoint(made.key) / "weights").write_bytes(b"0" * 500)
    assert estimate(session, storage, project, "training", {"groups": 20, "epochs": 1}) == Estimate(60, 500, None, row.number)


def test_a_study_takes_longer_with_more_policies(session: Session, project: Project, storage: Storage) -> None:
    size = {"items": 10, "policies": 2, "num_inference_steps": 20}
    measured(project, "study", seconds=30, params=size)
    found = estimate(session, storage, project, "study", size | {"policies": 3})
    assert found is not None
    assert found.seconds == pytest.approx(45)


def test_memory_is_that_of_the_hungriest_job(session: Session, project: Project, storage: Storage) -> None:
    row = measured(project)
    for memory_bytes in (2_000, 3_000):
        factories.job(row, state=State.DONE, memory_bytes=memory_bytes)
    for prompts in (4, 8):
        found = estimate(session, storage, project, "sample", SAMPLE | {"prompts": prompts})
        assert found is not None
        assert found.memory_bytes == 3_000


def test_what_is_not_asked_for_is_the_projects_own(session: Session) -> None:
    project = factories.project(sampling={"num_inference_steps": 7, "images_per_prompt": 3}, training={"epochs": 4})
    assert planned(session, project, "sample", {}) == {"prompts": 12, "images_per_prompt": 3, "num_inference_steps": 7}
    assert planned(session, project, "duel", {}) == {"items": 24, "num_inference_steps": 7}
    assert planned(session, project, "study", {}) == {"items": 100, "policies": 2, "num_inference_steps": 7}
    assert planned(session, project, "study", {"count": 9, "policies": 3})["policies"] == 3
    assert planned(session, project, "training", {})["epochs"] == 4
    assert planned(session, project, "training", {"epochs": 2})["epochs"] == 2
