"""The evaluation job on a real, tiny pipeline: held-out images, drawn and scored, that nobody votes on."""

from __future__ import annotations

import pytest
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from d3po_core.params import DuelParams
from d3po_core.rewards import ChosenReward, RewardParams
from server.db import read_scope
from server.domain import evaluating
from server.models import Image, Project, Round, Score, State, Task, User
from tests import factories
from tests.worker.conftest import ended, groups_of, jobs_of
from worker import evaluate, tasks
from worker.perform import Broken

REWARD = RewardParams(rewards=[ChosenReward(name="colourfulness"), ChosenReward(name="compressibility")])


@pytest.fixture
def evaluation(session: Session, project: Project, alice: User) -> Round:
    return requested(session, project, alice)


def requested(session: Session, project: Project, by: User) -> Round:
    params, items = DuelParams(num_inference_steps=2), evaluating.items(project, count=10, seed=5)
    round_ = evaluating.request_evaluation_round(session, by, project, params, REWARD, items, None)
    factories.commit()
    return round_


def count(query: Select[tuple[str]]) -> int:
    with read_scope() as session:
        return session.scalar(select(func.count()).select_from(query.subquery())) or 0


def test_every_image_is_drawn_once_and_has_a_score_of_each_reward(evaluation: Round) -> None:
    [job] = jobs_of(evaluation)
    tasks.evaluate(job.id)
    assert ended(evaluation) == (State.DONE, "")
    groups = groups_of(evaluation)
    assert [[group.prompt, group.images[0].seed] for group in groups] == job.payload["items"]
    assert [image.seed for group in groups for image in group.images] == list(range(5, 15))
    assert {group.trajectory_key for group in groups} == {None}
    assert count(select(Task.id)) == 0
    for reward in ("colourfulness", "compressibility"):
        assert count(select(Score.image_id).where(Score.reward == reward)) == 10


def test_the_same_policy_gets_the_same_scores(evaluation: Round, session: Session, project: Project, alice: User) -> None:
    again = requested(session, project, alice)
    for round_ in (evaluation, again):
        tasks.evaluate(jobs_of(round_)[0].id)
    with read_scope() as reading:
        query = select(Image.sha256).order_by(Image.seed)
        one, other = (
            reading.scalars(query.where(Image.group_id.in_([group.id for group in groups_of(round_)]))).all()
            for round_ in (evaluation, again)
        )
    assert one == other


def test_a_second_attempt_draws_and_scores_only_what_is_missing(evaluation: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    [job] = jobs_of(evaluation)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "score", breaks)
        tasks.evaluate(job.id)
    drawn = [group.id for group in groups_of(evaluation)]
    assert (len(drawn), count(select(Score.image_id)), jobs_of(evaluation)[0].state) == (10, 0, State.QUEUED)
    tasks.evaluate(job.id)
    assert [group.id for group in groups_of(evaluation)] == drawn
    assert (count(select(Score.image_id)), ended(evaluation)[0]) == (20, State.DONE)


def breaks(*_: object) -> None:
    raise Broken("The scorer fell asleep.", retry=True)
