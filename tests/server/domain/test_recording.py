"""Results become rows only for the attempt that holds the claim."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from server import db
from server.domain import checkpoints, jobs, recording, rounds
from server.domain.jobs import Claim, LostClaim
from server.domain.recording import DrawnImage
from server.models import Checkpoint, Group, Image, Job, Metric, Project, Round, State, Task
from tests import factories
from tests.databases import on_both_databases

pytestmark = on_both_databases
IMAGES = [DrawnImage("a" * 64, 64, 48, seed=7), DrawnImage("b" * 64, 64, 48, seed=8)]


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project(mode="best", votes_per_task=2)


def claim_on(project: Project, kind: str, **values: Any) -> Claim:
    job = factories.job(factories.round_(project, kind, state=State.QUEUED, **values))
    factories.commit()
    with db.session_scope() as session:
        claim = jobs.claim(session, job.id, "here:1")
    assert claim is not None
    return claim


def lose(claim: Claim) -> None:
    with db.session_scope() as session:
        session.get_one(Job, claim.job_id).attempt += 1


def add_group(claim: Claim, position: int = 0, **values: object) -> Group:
    defaults = {"prompt": "a fish", "trajectory_key": "r/0", "trajectory_sha256": "c" * 64, "images": IMAGES}
    with db.session_scope() as session:
        return recording.record_group(session, claim, position=position, **{**defaults, **values})


def count(model: type) -> int:
    with db.read_scope() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def test_a_group_lands_whole_and_votable(project: Project) -> None:
    claim = claim_on(project, "sample")
    group = add_group(claim, position=4)
    with db.read_scope() as session:
        stored = session.get_one(Group, group.id)
        assert (stored.project_id, stored.round_id, stored.position, stored.prompt) == (project.id, claim.round_id, 4, "a fish")
        assert (stored.trajectory_key, stored.trajectory_sha256) == ("r/0", "c" * 64)
        drawn = [(image.position, image.sha256, image.width, image.height, image.seed) for image in stored.images]
        assert drawn == [(0, "a" * 64, 64, 48, 7), (1, "b" * 64, 64, 48, 8)]
        task = session.scalars(select(Task)).one()
        assert (task.group_id, task.mode, task.votes_wanted, task.closed_at) == (group.id, "best", 2, None)


def test_the_ids_of_a_duels_images_do_not_tell_which_side_they_are(project: Project) -> None:
    claim = claim_on(project, "duel")
    groups = [add_group(claim, position, trajectory_key=None, trajectory_sha256=None) for position in range(24)]
    with db.read_scope() as session:
        orders = {tuple(sorted(image.id for image in session.get_one(Group, group.id).images)) ==
                  tuple(image.id for image in session.get_one(Group, group.id).images) for group in groups}  # fmt: skip
    assert orders == {True, False}


def test_a_group_is_recorded_once(project: Project) -> None:
    claim = claim_on(project, "sample")
    first = add_group(claim)
    assert add_group(claim, prompt="another").id == first.id
    assert (count(Group), count(Image), count(Task)) == (1, 2, 1)
    with db.read_scope() as session:
        assert recording.recorded_positions(session, claim.round_id) == {0}


def test_a_gallery_group_asks_for_no_vote(project: Project) -> None:
    add_group(claim_on(project, "training"), task=False)
    assert (count(Group), count(Task)) == (1, 0)


def test_a_lost_claim_records_nothing(project: Project) -> None:
    claim = claim_on(project, "training")
    lose(claim)
    with pytest.raises(LostClaim):
        add_group(claim)
    with pytest.raises(LostClaim), db.session_scope() as session:
        recording.record_metrics(session, claim, {1: {"loss": 0.5}})
    with pytest.raises(LostClaim), db.session_scope() as session:
        recording.record_checkpoint(session, claim, "key", {})
    assert (count(Group), count(Image), count(Task), count(Metric), count(Checkpoint)) == (0, 0, 0, 0, 0)


def test_a_repeated_step_keeps_the_later_metrics(project: Project) -> None:
    claim = claim_on(project, "training")
    for rows in ({1: {"loss": 0.7}, 2: {"loss": 0.6}}, {2: {"loss": 0.5}}):
        with db.session_scope() as session:
            recording.record_metrics(session, claim, rows)
    with db.read_scope() as session:
        stored = session.execute(select(Metric.step, Metric.values).order_by(Metric.step)).tuples().all()
    assert stored == [(1, {"loss": 0.7}), (2, {"loss": 0.5})]


def test_a_checkpoint_is_numbered_and_recorded_once(project: Project) -> None:
    parent = factories.checkpoint(project, number=3)
    claim = claim_on(project, "training")
    with db.session_scope() as session:
        made = recording.record_checkpoint(session, claim, "r/1", {"beta": 0.1})
    with db.session_scope() as session:
        again = recording.record_checkpoint(session, claim, "r/2", {})
    assert again.id == made.id
    assert (made.number, made.key, made.manifest, made.parent_id) == (parent.number + 1, "r/1", {"beta": 0.1}, None)
    assert made.promoted_at is None


def test_a_checkpoint_comes_into_use_when_its_round_is_done(project: Project) -> None:
    parent = factories.checkpoint(project)
    claim = claim_on(project, "training", checkpoint_id=parent.id)
    with db.session_scope() as session:
        made = recording.record_checkpoint(session, claim, "r/1", {})
        assert checkpoints.current(session, project).id == parent.id
    with db.session_scope() as session:
        jobs.finish(session, claim)
    with db.read_scope() as session:
        assert checkpoints.current(session, project).id == made.id


def test_a_checkpoint_whose_parent_was_replaced_meanwhile_is_kept_unused_and_told(project: Project) -> None:
    parent = factories.checkpoint(project)
    claim = claim_on(project, "training", checkpoint_id=parent.id)
    promoted = factories.checkpoint(project)
    factories.commit()
    with db.session_scope() as session:
        made = recording.record_checkpoint(session, claim, "r/1", {})
    with db.session_scope() as session:
        jobs.finish(session, claim)
    with db.read_scope() as session:
        assert checkpoints.current(session, project).id == promoted.id
        round_ = session.get_one(Round, claim.round_id)
        told = f"Checkpoint {made.number} was kept but not put into use: by then its parent was not the policy in use any more. "
        assert (round_.state, round_.message) == (State.DONE, f"{told}It can be promoted.")


def test_a_round_that_broke_after_its_training_leaves_the_checkpoint_unused(project: Project) -> None:
    claim = claim_on(project, "training")
    with db.session_scope() as session:
        made = recording.record_checkpoint(session, claim, "r/1", {})
    with db.session_scope() as session:
        jobs.fail(session, claim, "The gallery could not be drawn.", retry=False)
    with db.read_scope() as session:
        assert checkpoints.current(session, project) is None
        assert session.get_one(Round, claim.round_id).message == (
            f"The gallery could not be drawn. Checkpoint {made.number} is kept but not in use, and so are the votes. "
            "Retry tries again with the same settings."
        )


def test_a_round_that_was_cancelled_after_its_training_leaves_the_checkpoint_unused(project: Project) -> None:
    boss = factories.operator(project, name="Alice")
    claim = claim_on(project, "training")
    with db.session_scope() as session:
        made = recording.record_checkpoint(session, claim, "r/1", {})
    with db.session_scope() as session:
        rounds.cancel(session, boss, session.get_one(Round, claim.round_id))
    with pytest.raises(LostClaim), db.session_scope() as session:
        jobs.finish(session, claim)
    with db.read_scope() as session:
        assert checkpoints.current(session, project) is None
        assert session.get_one(Round, claim.round_id).message == (
            f"Cancelled by Alice. Checkpoint {made.number} is kept but not in use, and so are the votes. Retry runs the rest."
        )
