"""What a project has gathered."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from server.domain import stats
from server.domain.stats import Annotator
from server.models import Vote, now
from tests import factories
from tests.databases import on_both_databases


@on_both_databases
def test_votes_speed_agreement_and_position_bias(session: Session) -> None:
    project = factories.project(votes_per_task=2)
    alice, bob, carol = (factories.annotator(project, name=name) for name in ("Alice", "Bob", "Carol"))
    shown = now()
    agreed, disputed, open_ = (factories.task(project) for _ in range(3))
    factories.group(project)
    factories.vote(agreed, alice, 0, shown_at=shown, decided_at=shown + timedelta(seconds=2))
    factories.vote(agreed, bob, 0)
    factories.vote(disputed, alice, 0, shown_at=shown, decided_at=shown + timedelta(seconds=4))
    factories.vote(disputed, bob, 2)
    factories.vote(disputed, carol, 1)
    factories.vote(open_, alice, None, outcome="tie", shown_at=shown, decided_at=shown - timedelta(seconds=9))
    factories.vote(open_, bob, None, outcome="skip")
    found = stats.project_stats(session, project)
    assert (found.groups, found.tasks, found.tasks_waiting) == (4, 3, 1)
    assert (found.votes, found.counted, found.surplus) == (6, 5, 1)
    assert found.agreement == 0.5
    assert found.annotators == [Annotator("Alice", 3, 3.0), Annotator("Bob", 2, None), Annotator("Carol", 1, None)]
    assert found.position_bias == [3, 1, 1]
    assert (found.usable.groups, found.usable.ties) == (2, 1)


def test_an_empty_project(session: Session) -> None:
    found = stats.project_stats(session, factories.project())
    assert (found.votes, found.agreement, found.annotators, found.position_bias) == (0, None, [], [])


@on_both_databases
def test_people_and_machines_agree_on_a_favourite_and_machines_on_an_order(session: Session) -> None:
    project = factories.project(votes_per_task=3)
    alice, one, other = (factories.annotator(project) for _ in range(3))
    one.reward = {"rewards": [{"name": "colourfulness"}]}

    def agreement(best: int, *rated: list[float]) -> float | None:
        task = factories.task(project)
        image_ids = [image.id for image in task.group.images]
        factories.vote(task, alice, best)
        for machine, numbers in zip((one, other), rated, strict=False):
            ratings = {image_id: [number] for image_id, number in zip(image_ids, numbers, strict=True)}
            factories.vote(task, machine, None, outcome="rated", ratings=ratings)
        votes = session.scalars(select(Vote).where(Vote.task_id == task.id)).all()
        return stats._agreement(list(votes))

    assert agreement(1, [1.0, 3.0, 2.0]) == 1.0
    assert agreement(2, [1.0, 3.0, 2.0]) == 0.0
    assert agreement(1, [3.0, 3.0, 2.0]) == 0.0  # the machine has no favourite
    assert agreement(1, [1.0, 3.0, 2.0], [-7.0, 50.0, 2.5]) == 1.0
    assert agreement(1, [1.0, 3.0, 2.0], [2.0, 3.0, 1.0]) == pytest.approx(2 / 3)
    machines = {annotator.name: annotator.machine for annotator in stats.project_stats(session, project).annotators}
    assert machines == {alice.name: False, one.name: True, other.name: False}
