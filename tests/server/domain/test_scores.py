"""What a reward round found: means with their intervals, groups without a pair."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from d3po_core.rewards import ChosenReward, RewardParams
from server.domain import rounds, scores
from server.models import Group, Outcome, Project, Round, Score, Task, User
from tests import factories
from tests.databases import on_both_databases
from tests.queries import recorded_queries

pytestmark = on_both_databases
COLOUR = RewardParams(rewards=[ChosenReward(name="colourfulness")])


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


def drawn(session: Session, project: Project, of: Round, *values: float | None) -> Group:
    """A group with a task whose images have these scores, as far as they are scored."""
    group = factories.group(project, round_id=of.id, images=len(values))
    factories.task(project, group)
    for image, value in zip(group.images, values, strict=True):
        if value is not None:
            session.add(Score(image_id=image.id, reward="colourfulness", value=value))
    session.flush()
    return group


def test_means_come_with_an_interval_over_groups_round_by_round(session: Session, project: Project) -> None:
    one, two, unscored = (factories.round_(project) for _ in range(3))
    drawn(session, project, one, 1.0, 3.0)
    drawn(session, project, one, 4.0, 4.0)
    drawn(session, project, two, 5.0, None)
    drawn(session, project, unscored, None, None)
    duel = factories.round_(project, "duel")
    drawn(session, project, duel, 9.0, 9.0)
    elsewhere = factories.project()
    drawn(session, elsewhere, factories.round_(elsewhere), 7.0, 8.0)
    first, second = scores.by_round(session, project, "colourfulness")
    assert (first.round_id, second.round_id) == (one.id, two.id)
    assert (first.mean.mean, first.mean.images, first.mean.groups) == (3.0, 4, 2)
    # Group means 2 and 4: standard deviation sqrt(2), standard error 1, times 1.96.
    assert (first.mean.low, first.mean.high) == pytest.approx((3 - 1.959964, 3 + 1.959964))
    assert (second.mean.mean, second.mean.low, second.mean.high, second.mean.images) == (5.0, None, None, 1)
    assert scores.by_round(session, project, "safety") == []


def test_a_round_tells_of_its_own_groups_only(session: Session, project: Project) -> None:
    boss, of = factories.operator(project), factories.round_(project)
    drawn(session, project, of, 1.0, 2.0)
    drawn(session, project, of, 3.0, 3.0)
    drawn(session, project, of, None, None)
    asked = rounds.request_reward_round(session, boss, project, COLOUR)
    drawn(session, project, of, 100.0, 200.0)
    found = scores.images(session, asked)
    assert [image.scores["colourfulness"] for image in found] == [1.0, 2.0, 3.0, 3.0]
    mean = scores.mean_of(session, asked, "colourfulness")
    assert mean is not None
    assert (mean.mean, mean.images, mean.groups) == (2.25, 4, 2)
    assert scores.scored(session, asked) == scores.Scored(0, 0)


def test_the_cost_of_counting_does_not_grow_with_the_groups(session: Session, project: Project, engine: Engine) -> None:
    of = factories.round_(project)
    groups = [drawn(session, project, of, 1.0, 2.0) for _ in range(6)]
    asked = rounds.request_reward_round(session, factories.operator(project), project, COLOUR)
    machine = session.get_one(User, asked.params["annotator_id"])
    for group in groups:
        [task] = session.scalars(select(Task).where(Task.group_id == group.id))
        ratings = {image.id: [float(image.position)] for image in group.images}
        factories.vote(task, machine, None, outcome=Outcome.RATED, ratings=ratings)
    session.expire_all()
    with recorded_queries(engine) as statements:
        assert scores.scored(session, asked) == scores.Scored(6, 0)
    assert len(statements) <= 4


def test_before_the_first_score_there_is_no_mean(session: Session, project: Project) -> None:
    drawn(session, project, factories.round_(project), None, None)
    asked = rounds.request_reward_round(session, factories.operator(project), project, COLOUR)
    assert scores.mean_of(session, asked, "colourfulness") is None
    assert scores.images(session, asked) == []


@pytest.mark.parametrize(
    ("groups", "without", "sentence"),
    [
        (0, 0, "Nothing is scored yet."),
        (1, 0, "1 group is scored and voted on; it gives pairs."),
        (1, 1, "1 group is scored and voted on; it gives no pair, because no image is better than another there."),
        (4, 0, "4 groups are scored and voted on; every one gives pairs."),
        (4, 3, "4 groups are scored and voted on; 3 of them give no pair, because no image is better than another there."),
    ],
)
def test_what_was_found_is_a_sentence(session: Session, groups: int, without: int, sentence: str) -> None:
    assert scores.Scored(groups, without).told == sentence
