"""A disk that fills up in the middle of a round, from the write that fails to the retry that succeeds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select

from d3po_core.trajectory import Trajectory
from server.db import read_scope, session_scope
from server.domain import pairs, rounds
from server.models import Checkpoint, Group, Project, Round, State, Task, User
from server.settings import Settings
from server.storage import Storage
from tests import factories
from tests.disks import Disk, small_disk
from tests.worker.conftest import ended, groups_of, jobs_of
from worker import tasks


@pytest.fixture
def disk(settings: Settings) -> Iterator[Disk]:
    """The data folder on a disk of its own; the database is elsewhere."""
    with small_disk(settings.data_dir, "32m") as disk:
        yield disk


def retry(round_: Round, by: User) -> None:
    with session_scope() as session:
        rounds.retry(session, session.get_one(User, by.id), session.get_one(Round, round_.id))


def assert_whole(storage: Storage, group: Group) -> None:
    Trajectory.load(storage.trajectory(group.trajectory_key or ""), group.trajectory_sha256)
    assert all(storage.image(image.sha256).is_file() for image in group.images)


def test_a_sample_round(disk: Disk, sample_round: Round, alice: User, storage: Storage, settings: Settings) -> None:
    first, second = jobs_of(sample_round)
    tasks.sample(first.id)
    disk.leave(4096)
    tasks.sample(second.id)
    state, message = ended(sample_round)
    assert (state, message) == (
        State.FAILED,
        f"The disk that holds {settings.data_dir} is full. Free some space first. "
        "1 of 3 groups are finished and kept. Retry runs the rest.",
    )
    [kept] = groups_of(sample_round)
    assert_whole(storage, kept)
    assert not list(storage.root.rglob("*.part")) + list(storage.root.rglob("*.tmp"))
    with session_scope() as session:
        factories.bind(session)
        factories.vote(session.scalars(select(Task).where(Task.group_id == kept.id)).one(), alice)

    disk.free()
    retry(sample_round, alice)
    tasks.sample(second.id)
    assert ended(sample_round) == (State.DONE, "")
    assert [group.position for group in groups_of(sample_round)] == [0, 1, 2]
    for group in groups_of(sample_round):
        assert_whole(storage, group)


@pytest.mark.heavy
def test_a_training_round(
    disk: Disk, training_round: Round, alice: User, project: Project, storage: Storage, settings: Settings
) -> None:
    [job] = jobs_of(training_round)
    disk.leave(0)
    tasks.train(job.id)
    state, message = ended(training_round)
    assert (state, message) == (
        State.FAILED,
        f"The disk that holds {settings.data_dir} is full. Free some space first. "
        "The votes are kept. Retry tries again with the same settings.",
    )
    with read_scope() as session:
        assert session.scalars(select(Checkpoint)).all() == []
        assert pairs.usable_pairs(session, project).votes == 3

    disk.free()
    retry(training_round, alice)
    tasks.train(job.id)
    assert ended(training_round) == (State.DONE, "")
    with read_scope() as session:
        [made] = session.scalars(select(Checkpoint))
        assert (storage.checkpoint(made.key) / "manifest.json").is_file()
