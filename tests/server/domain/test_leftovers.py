"""What lost attempts left on disk goes, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from server.domain import leftovers, rounds
from server.models import Project, Round, State, now
from server.storage import Storage
from tests import factories
from tests.databases import on_both_databases

pytestmark = on_both_databases


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


def written(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"data")
    return path


def trajectory(storage: Storage, round_: Round, name: str) -> Path:
    return written(storage.trajectory(f"{round_.id}/{name}"))


def scratch(storage: Storage, job_id: str, attempt: int = 1) -> Path:
    return written(storage.scratch(job_id, attempt) / "checkpoint.state").parent


def test_only_what_a_row_points_at_stays(session: Session, storage: Storage, project: Project) -> None:
    round_ = factories.round_(project)
    kept = trajectory(storage, round_, "00000-2.safetensors")
    factories.group(project, round_id=round_.id, trajectory_key=f"{round_.id}/00000-2.safetensors")
    lost = [trajectory(storage, round_, name) for name in ("00000-1.safetensors", "00001-1.safetensors", "00001-1.part")]
    of_another = trajectory(storage, factories.round_(project), "00000-1.safetensors")
    assert leftovers.clear(session, storage, round_.id) == 3
    assert kept.exists()
    assert of_another.exists()
    assert not any(path.exists() for path in lost)
    assert leftovers.clear(session, storage, round_.id) == 0
    assert len(list((storage.root / "trash").iterdir())) == 3
    storage.empty_trash()
    assert list((storage.root / "trash").iterdir()) == []


def test_of_two_checkpoints_that_were_trained_the_recorded_one_stays(
    session: Session, storage: Storage, project: Project
) -> None:
    round_ = factories.round_(project, "training")
    factories.checkpoint(project, round_id=round_.id, key=f"{round_.id}-2")
    lost, kept = (written(storage.checkpoint(f"{round_.id}-{attempt}") / "manifest.json").parent for attempt in (1, 2))
    assert leftovers.clear(session, storage, round_.id) == 1
    assert (lost.exists(), kept.exists()) == (False, True)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_a_round_that_is_not_over_is_left_alone(session: Session, storage: Storage, project: Project, state: State) -> None:
    round_ = factories.round_(project, state=state)
    file = trajectory(storage, round_, "00000-1.safetensors")
    assert leftovers.over_since(session, now() - timedelta(days=1)) == []
    assert leftovers.clear(session, storage, round_.id) == 0
    assert file.exists()


def test_a_cancelled_training_keeps_its_state_for_a_retry_for_a_week(
    session: Session, storage: Storage, project: Project
) -> None:
    alice = factories.operator(project)
    round_ = factories.round_(project, "training", state=State.RUNNING)
    job = factories.job(round_, state=State.RUNNING)
    folder = scratch(storage, job.id)
    rounds.cancel(session, alice, round_)
    session.refresh(job)
    assert leftovers.over_since(session, now()) == [round_.id]
    assert leftovers.clear(session, storage, round_.id) == 0
    assert folder.exists()
    job.finished_at = round_.finished_at = now() - leftovers.RETRY_GOES_ON_FOR - timedelta(minutes=1)
    session.flush()
    assert leftovers.over_since(session, now() - timedelta(minutes=10)) == [round_.id]
    assert leftovers.over_since(session, now()) == []
    assert leftovers.clear(session, storage, round_.id) == 1
    assert not folder.parent.exists()


def test_a_worker_that_woke_after_the_training_was_done_left_nothing_of_use(
    session: Session, storage: Storage, project: Project
) -> None:
    round_ = factories.round_(project, "training", finished_at=now())
    job = factories.job(round_, state=State.DONE, finished_at=now())
    folder = scratch(storage, job.id)
    assert leftovers.over_since(session, now() - timedelta(minutes=1)) == [round_.id]
    assert leftovers.clear(session, storage, round_.id) == 1
    assert not folder.parent.exists()
