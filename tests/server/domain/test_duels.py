"""Wins, losses and Wilson's interval."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from server.domain import duels
from server.models import Outcome, Project, Task
from tests import factories
from tests.databases import on_both_databases


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 0, 0.0, 1.0), (10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775), (50, 100, 0.4038, 0.5962), (75, 100, 0.6570, 0.8245)],
)
def test_wilson_interval(successes: int, trials: int, low: float, high: float) -> None:
    assert duels.wilson(successes, trials) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@on_both_databases
def test_a_vote_is_a_win_for_whoever_drew_the_image(session: Session) -> None:
    project: Project = factories.project()
    people = [factories.annotator(project) for _ in range(2)]
    tuned = factories.checkpoint(project)
    round_ = factories.round_(project, "duel", checkpoint_id=tuned.id, opponent_id=None)

    def task() -> Task:
        return factories.task(project, factories.group(project, round_id=round_.id, drawn_by=[tuned.id, None]))

    for best in (0, 0, 1):
        factories.vote(task(), people[0], best)
    ranked = task()
    factories.vote(ranked, people[0], None, outcome=Outcome.RANKING, ranking=[image.id for image in ranked.group.images])
    factories.vote(task(), people[0], None, outcome=Outcome.TIE)
    factories.vote(task(), people[0], None, outcome=Outcome.ALL_BAD)
    factories.vote(task(), people[0], None, outcome=Outcome.SKIP)
    task()
    factories.vote(ranked, people[1], 1)
    result = duels.result(session, round_)
    assert (result.wins, result.losses, result.ties, result.skipped, result.waiting) == (3, 1, 2, 1, 2)
    assert (result.win_rate, result.low, result.high) == (0.75, pytest.approx(0.3006, abs=1e-4), pytest.approx(0.9544, abs=1e-4))


def test_several_votes_on_one_comparison_are_one_win_loss_or_tie(session: Session) -> None:
    """Else ten people who look at one pair of images would make the interval of ten pairs."""
    project: Project = factories.project(votes_per_task=5)
    people = [factories.annotator(project) for _ in range(5)]
    tuned = factories.checkpoint(project)
    round_ = factories.round_(project, "duel", checkpoint_id=tuned.id, opponent_id=None)
    win, loss, tie, bad = 0, 1, Outcome.TIE, Outcome.ALL_BAD
    said = [(win, win, win, loss, tie), (loss, loss, win), (win, loss), (win, tie), (tie, bad, win), (win, win, loss, loss, tie)]
    for votes in said:
        task = factories.task(project, factories.group(project, round_id=round_.id, drawn_by=[tuned.id, None]))
        for person, vote in zip(people, votes, strict=False):
            chosen = {"outcome": vote, "best": None} if isinstance(vote, Outcome) else {"best": vote}
            factories.vote(task, person, **chosen)
    result = duels.result(session, round_)
    assert (result.wins, result.losses, result.ties) == (1, 1, 4)
    assert (result.low, result.high) == duels.wilson(1, 2)


def test_ratings_choose_where_one_image_is_better(session: Session) -> None:
    project: Project = factories.project()
    person, tuned = factories.annotator(project), factories.checkpoint(project)
    round_ = factories.round_(project, "duel", checkpoint_id=tuned.id, opponent_id=None)
    for one, other in [([1.0], [0.0]), ([1.0, 2.0], [1.0, 1.0]), ([0.0], [1.0]), ([1.0], [1.0]), ([0.0, 1.0], [1.0, 0.0])]:
        task = factories.task(project, factories.group(project, round_id=round_.id, drawn_by=[tuned.id, None]))
        ratings = dict(zip([image.id for image in task.group.images], [one, other], strict=True))
        factories.vote(task, person, None, outcome=Outcome.RATED, ratings=ratings)
    result = duels.result(session, round_)
    assert (result.wins, result.losses, result.ties) == (2, 1, 2)


def test_nobody_has_voted(session: Session) -> None:
    round_ = factories.round_(factories.project(), "duel")
    assert duels.result(session, round_) == duels.DuelResult(0, 0, 0, 0, 0, None, 0.0, 1.0)
