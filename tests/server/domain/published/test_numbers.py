"""Counted votes of every outcome as numbers."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from server.domain.published.numbers import groups_of, numbers_of
from server.errors import Invalid
from server.models import Group, Outcome, Project
from tests import factories


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


def groups(project: Project, count: int, **values: int) -> list[Group]:
    round_ = factories.round_(project)
    return [factories.group(project, round_id=round_.id, position=position, **values) for position in range(count)]


def test_every_outcome_becomes_numbers(session: Session, project: Project) -> None:
    made = groups(project, 6)
    tasks = [factories.task(project, group) for group in made]
    ids = [[image.id for image in group.images] for group in made]
    bob = factories.annotator(project, name="Bob")
    factories.vote(tasks[0], bob, best=1)
    factories.vote(tasks[1], bob, None, outcome=Outcome.RANKING, ranking=[ids[1][2], ids[1][0], ids[1][1]])
    factories.vote(tasks[2], bob, None, outcome=Outcome.RATED, ratings=dict(zip(ids[2], [[0.25], [-1], [7]], strict=True)))
    factories.vote(tasks[3], bob, None, outcome=Outcome.RATED, ratings=dict(zip(ids[3], [[1, 1], [0, 2], [0, 0]], strict=True)))
    factories.vote(tasks[4], bob, None, outcome=Outcome.ALL_BAD)
    factories.vote(tasks[4], factories.annotator(project, name="Late"), best=0)  # surplus
    expected = [[0, 1, 0], [1, 0, 2], [0.25, -1, 7], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert numbers_of(session, groups_of(session, project)) == {"Bob": expected}


def test_groups_come_by_round_and_place_and_only_with_a_trajectory(session: Session, project: Project) -> None:
    late = factories.round_(project, number=20)
    after = factories.group(project, round_id=late.id, position=0)
    early = factories.round_(project, number=10)
    second, first = (factories.group(project, round_id=early.id, position=position) for position in (1, 0))
    factories.group(project, round_id=early.id, position=2, trajectory_key=None)
    assert [group.id for group in groups_of(session, project)] == [first.id, second.id, after.id]


def test_nothing_to_export_and_groups_of_two_sizes_are_told(session: Session, project: Project) -> None:
    with pytest.raises(Invalid, match="no group with a trajectory to export"):
        groups_of(session, project)
    groups(project, 1)
    groups(project, 1, images=2)
    with pytest.raises(Invalid, match="has some of 2 and 3 images"):
        groups_of(session, project)
