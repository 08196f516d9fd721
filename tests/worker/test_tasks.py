"""The jobs on a real, tiny pipeline: what they leave in the database and on disk."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pictures
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from d3po_core import sampling
from d3po_core.params import DuelParams
from d3po_core.trajectory import Trajectory
from server.db import read_scope
from server.domain import checkpoints, rounds
from server.domain.jobs import Claim
from server.domain.studying import StudyParams
from server.models import Checkpoint, Project, Round, State, Task, User
from tests import factories
from tests.worker.conftest import PROMPTS, SAMPLING, ended, groups_of, jobs_of
from worker import launch, tasks, train
from worker.perform import Heartbeat
from worker.plan import storage


def rows(query: Select[Any]) -> list[Any]:
    with read_scope() as session:
        return list(session.scalars(query))


def one(query: Select[Any]) -> Any:
    [row] = rows(query)
    return row


def test_a_chunk_becomes_votable_while_the_rest_waits(sample_round: Round) -> None:
    tasks.sample(jobs_of(sample_round)[0].id)
    [group] = groups_of(sample_round)
    assert (group.position, group.prompt, ended(sample_round)[0]) == (0, PROMPTS[0], State.RUNNING)
    assert rows(select(Task.group_id)) == [group.id]
    assert [image.checkpoint_id for image in group.images] == [None, None]
    for image in group.images:
        with Pictures.open(storage().image(image.sha256)) as picture:
            assert picture.size == (image.width, image.height) == (32, 32)


def test_a_finished_round_left_all_groups_with_their_trajectories(sample_round: Round) -> None:
    for job in jobs_of(sample_round):
        tasks.sample(job.id)
    assert ended(sample_round) == (State.DONE, "")
    assert all((job.memory_bytes or 0) > 50e6 for job in jobs_of(sample_round)), "PyTorch alone takes more"
    groups = groups_of(sample_round)
    assert [(group.position, group.prompt) for group in groups] == list(enumerate(PROMPTS))
    for group in groups:
        trajectory = Trajectory.load(storage().trajectory(group.trajectory_key or ""), group.trajectory_sha256)
        assert trajectory.header.params == SAMPLING
        assert trajectory.header.seeds == tuple(image.seed for image in group.images)
    assert all(job.progress_done == job.progress_total == SAMPLING.num_inference_steps for job in jobs_of(sample_round))


def test_a_redelivered_message_draws_nothing(sample_round: Round) -> None:
    first = jobs_of(sample_round)[0]
    tasks.sample(first.id)
    before = [group.id for group in groups_of(sample_round)]
    tasks.sample(first.id)
    assert [group.id for group in groups_of(sample_round)] == before
    assert jobs_of(sample_round)[0].attempt == 1


def test_a_second_attempt_draws_only_what_is_missing(sample_round: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = jobs_of(sample_round)[1]
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "sample_groups", breaks_after_one_group())
        tasks.sample(chunk.id)
    [landed] = groups_of(sample_round)
    assert (jobs_of(sample_round)[1].state, jobs_of(sample_round)[1].failures) == (State.QUEUED, 1)
    tasks.sample(chunk.id)
    groups = groups_of(sample_round)
    assert [group.position for group in groups] == [1, 2]
    assert groups[0].id == landed.id
    assert (groups[0].trajectory_key, groups[1].trajectory_key) == (
        f"{sample_round.id}/00001-1.safetensors",
        f"{sample_round.id}/00002-2.safetensors",
    )


def breaks_after_one_group() -> Callable[..., Iterator[Any]]:
    draw = sampling.sample_groups

    def broken(*arguments: Any, **options: Any) -> Iterator[Any]:
        yield next(draw(*arguments, **options))
        raise RuntimeError("the graphics card fell off the bus")

    return broken


def test_a_duel_draws_both_policies_from_the_same_noise(
    session: Session, project: Project, alice: User, trained: Checkpoint
) -> None:
    params = DuelParams(num_inference_steps=3, guidance_scale=2.0, seeds=[1, 2])
    round_ = rounds.request_duel_round(session, alice, project, params, trained.id, checkpoints.BASE, ["a frog"])
    factories.commit()
    for job in jobs_of(round_):
        tasks.duel(job.id)
    assert ended(round_) == (State.DONE, "")
    groups = groups_of(round_)
    assert [(group.prompt, [image.seed for image in group.images]) for group in groups] == [
        ("a frog", [1, 1]),
        ("a frog", [2, 2]),
    ]
    assert [[image.checkpoint_id for image in group.images] for group in groups] == [[trained.id, None]] * 2
    assert len(rows(select(Task).where(Task.group_id.in_([group.id for group in groups])))) == 2


def test_a_study_draws_every_policy_from_the_same_noise_and_wants_its_votes(
    session: Session, project: Project, alice: User, trained: Checkpoint
) -> None:
    other = factories.checkpoint(project, key=trained.key)
    params = StudyParams(num_inference_steps=3, guidance_scale=2.0, seed=5, votes_per_item=4)
    names = [trained.id, "base", str(other.number)]
    round_ = rounds.request_study_round(session, alice, project, params, names, ["a frog", "a frog"])
    factories.commit()
    for job in jobs_of(round_):
        tasks.study(job.id)
    assert ended(round_) == (State.DONE, "")
    groups = groups_of(round_)
    assert [[image.seed for image in group.images] for group in groups] == [[5] * 3, [6] * 3]
    assert [[image.checkpoint_id for image in group.images] for group in groups] == [[trained.id, None, other.id]] * 2
    asked = rows(select(Task).where(Task.group_id.in_([group.id for group in groups])))
    assert [(task.mode, task.votes_wanted) for task in asked] == [("best", 4)] * 2


@pytest.fixture
def trained(training_round: Round, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """The training round's checkpoint, trained in this process; tests/worker/test_launch.py starts the real child."""
    monkeypatch.setattr(launch, "train", train_here)
    tasks.train(jobs_of(training_round)[0].id)
    assert ended(training_round) == (State.DONE, "")
    return one(select(Checkpoint).where(Checkpoint.round_id == training_round.id))


def train_here(claim: Claim, beat: Heartbeat, parent: Path | None) -> tuple[str, dict[str, Any]]:
    folder = storage().checkpoint(f"{claim.round_id}-{claim.attempt}")
    train.run(claim.round_id, folder, parent, io.StringIO())
    return folder.name, json.loads((folder / "manifest.json").read_text())


def test_a_trained_checkpoint_has_a_gallery_that_asks_for_no_vote(
    trained: Checkpoint, training_round: Round, sample_round: Round
) -> None:
    gallery = groups_of(training_round)
    assert len(gallery) == tasks.GALLERY_PROMPTS
    assert all([image.checkpoint_id for image in group.images] == [None, trained.id] for group in gallery)
    assert all(group.images[0].sha256 != group.images[1].sha256 for group in gallery)
    assert len(rows(select(Task))) == len(groups_of(sample_round))


@pytest.mark.parametrize("algorithm", ["ddpo", "dpok", "rwr", "sft"])
def test_every_algorithm_trains_on_peoples_votes(
    session: Session, training_round: Round, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    monkeypatch.setattr(launch, "train", train_here)
    monkeypatch.setattr(tasks, "GALLERY_PROMPTS", 1)
    training_round.params = training_round.params | {"algorithm": algorithm}
    factories.commit()
    tasks.train(jobs_of(training_round)[0].id)
    assert ended(training_round) == (State.DONE, "")
    made = one(select(Checkpoint).where(Checkpoint.round_id == training_round.id))
    assert (made.manifest["params"]["algorithm"], made.manifest["pairs"]) == (algorithm, 3)
    remembered = (storage().checkpoint(made.key) / "prompt_statistics.json").exists()
    assert remembered is (algorithm in ("ddpo", "dpok"))


def test_training_that_broke_in_the_gallery_keeps_its_checkpoint(training_round: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "train", train_here)
    [job] = jobs_of(training_round)
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "draw_pairs", lambda *_, **__: 1 / 0)
        tasks.train(job.id)
    made = one(select(Checkpoint.id))
    assert jobs_of(training_round)[0].state == State.QUEUED
    tasks.train(job.id)
    assert ended(training_round) == (State.DONE, "")
    assert one(select(Checkpoint.id)) == made


def test_the_next_sample_round_draws_with_the_checkpoint(
    session: Session, project: Project, alice: User, trained: Checkpoint
) -> None:
    round_ = rounds.request_sample_round(session, alice, project, SAMPLING, [PROMPTS[0]])
    factories.commit()
    tasks.sample(jobs_of(round_)[0].id)
    [group] = groups_of(round_)
    assert {image.checkpoint_id for image in group.images} == {trained.id}
    header = Trajectory.load(storage().trajectory(group.trajectory_key or ""), group.trajectory_sha256).header
    assert header.policy == trained.manifest["weights"]


def test_a_checkpoint_whose_files_are_lost_is_told(project: Project, alice: User, session: Session) -> None:
    lost = factories.checkpoint(project)
    round_ = rounds.request_sample_round(session, alice, project, SAMPLING, PROMPTS)
    factories.commit()
    for job in jobs_of(round_):
        tasks.sample(job.id)
    state, message = ended(round_)
    assert (state, message.startswith(f"The checkpoint {storage().checkpoint(lost.key)} has no ")) == (State.FAILED, True)


def test_a_group_whose_trajectory_is_lost_is_told(training_round: Round) -> None:
    shutil.rmtree(storage().root / "trajectories")
    tasks.train(jobs_of(training_round)[0].id)
    state, message = ended(training_round)
    assert (state, message.startswith(f"The trajectory {storage().root / 'trajectories'}/")) == (State.FAILED, True)
    assert message.endswith(" is not there. The votes are kept. Retry tries again with the same settings.")
