"""Counted votes as the numbers of the published format: a list a group, a number an image, higher is better, no holes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from d3po_core.preferences import wins_of
from server.domain.counting import counted_ids
from server.domain.pairs import preferences_of
from server.errors import Invalid
from server.models import Group, Project, Round, Task, User, Vote


def groups_of(session: Session, project: Project) -> list[Group]:
    """The groups of sample rounds that have a trajectory, in order. Invalid where there is none, or they differ in size."""
    query = (
        select(Group)
        .join(Round, Round.id == Group.round_id)
        .where(Round.project_id == project.id, Round.kind == "sample", Group.trajectory_key.is_not(None))
        .order_by(Round.number, Group.position)
        .options(selectinload(Group.images))
    )
    groups = list(session.scalars(query))
    if not groups:
        raise Invalid(f"{project.name} has no group with a trajectory to export. Sample a round first.")
    if len(counts := {len(group.images) for group in groups}) > 1:
        told = " and ".join(map(str, sorted(counts)))
        raise Invalid(f"The published format takes groups of one size only; {project.name} has some of {told} images.")
    return groups


def numbers_of(session: Session, groups: Sequence[Group]) -> dict[str, list[list[float]]]:
    """By annotator, [G][N]. A group that somebody did not vote on is zeros: equal numbers, which say nothing there."""
    place = {group.id: index for index, group in enumerate(groups)}
    query = (
        select(Vote, User.name, Task.group_id)
        .join(Task, Task.id == Vote.task_id)
        .join(User, User.id == Vote.user_id)
        .where(Vote.id.in_(counted_ids(Task.project_id == groups[0].project_id)))
        .order_by(User.name, Vote.received_at, Vote.id)
    )
    found: dict[str, list[list[float]]] = {}
    for vote, name, group_id in session.execute(query).tuples():
        if group_id in place:
            rows = found.setdefault(name, [[0] * len(group.images) for group in groups])
            rows[place[group_id]] = _row(vote, groups[place[group_id]])
    return found


def _row(vote: Vote, group: Group) -> list[float]:
    """Rated with one number: that number. Else best is 1 and the rest 0; a ranking N-1 to 0; of several numbers an image, how
    many images it beats; what prefers none, zeros."""
    if vote.ratings and all(len(numbers) == 1 for numbers in vote.ratings.values()):
        return [vote.ratings[image.id][0] for image in group.images]
    if vote.best_image_id is not None:
        return [int(image.id == vote.best_image_id) for image in group.images]
    [said] = preferences_of(group, [vote])
    won = [winner for winner, _ in wins_of(said, len(group.images))]
    return [won.count(image.position) for image in group.images]


def to_json(numbers: list[list[float]]) -> bytes:
    return json.dumps(numbers).encode()
