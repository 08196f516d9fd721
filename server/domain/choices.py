"""Whose image people chose, where several policies drew one image each of an item: a duel's, a study's."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from d3po_core.preferences import dominance
from server.domain.counting import counted_ids, is_live, live_signals
from server.models import Group, Image, Outcome, Task, Vote

TIE = "tie"
ALL_BAD = "all_bad"
Said = Counter[str | None]
"""How many votes on one item chose whose image: a checkpoint's id, None for the base model, TIE or ALL_BAD for nobody's."""


def by_item(session: Session, round_ids: Sequence[str]) -> dict[str, list[Said]]:
    """What the counted votes of each round say, item by item; items without a counted vote are missing. Two queries."""
    in_rounds = Group.round_id.in_(round_ids)
    counted = counted_ids(Task.group_id.in_(select(Group.id).where(in_rounds)))
    cast = select(Group.round_id, Vote).join(Task, Task.id == Vote.task_id).join(Group, Group.id == Task.group_id)
    votes = session.execute(cast.where(Vote.id.in_(counted)).order_by(Task.id)).tuples().all()
    images = select(Image.id, Image.checkpoint_id).join(Group, Group.id == Image.group_id).where(in_rounds)
    drawn_by: Mapping[str, str | None] = dict(session.execute(images).tuples().all())
    said: dict[str, dict[str, Said]] = defaultdict(lambda: defaultdict(Counter))
    for round_id, vote in votes:
        said[round_id][vote.task_id][_choice(vote, drawn_by)] += 1
    return {round_id: list(items.values()) for round_id, items in said.items()}


def _choice(vote: Vote, drawn_by: Mapping[str, str | None]) -> str | None:
    image_id = favourite(vote)
    if image_id is not None:
        return drawn_by[image_id]
    return ALL_BAD if vote.outcome == Outcome.ALL_BAD else TIE


def favourite(vote: Vote) -> str | None:
    """The image that the vote prefers to every other one, if there is one."""
    if vote.outcome != Outcome.RATED:
        return vote.best_image_id or next(iter(vote.ranking), None)
    image_ids = list(vote.ratings)
    wins = Counter(winner for winner, _ in dominance([vote.ratings[image_id] for image_id in image_ids]))
    return next((image_ids[winner] for winner, count in wins.items() if count == len(image_ids) - 1), None)


def skipped(session: Session, round_ids: Sequence[str]) -> dict[str, int]:
    """How many live votes of each round skip their item."""
    return _counts(session, round_ids, Vote.outcome == Outcome.SKIP, is_live())


def waiting(session: Session, round_ids: Sequence[str]) -> dict[str, int]:
    """How many open items of each round still want a vote."""
    query = select(Group.round_id, func.count()).join(Task, Task.group_id == Group.id).group_by(Group.round_id)
    query = query.where(Group.round_id.in_(round_ids), Task.closed_at.is_(None), live_signals() < Task.votes_wanted)
    return dict(session.execute(query).tuples().all())


def _counts(session: Session, round_ids: Sequence[str], *conditions: ColumnElement[bool]) -> dict[str, int]:
    query = select(Group.round_id, func.count()).select_from(Vote).join(Task, Task.id == Vote.task_id)
    query = query.join(Group, Group.id == Task.group_id).where(Group.round_id.in_(round_ids), *conditions)
    return dict(session.execute(query.group_by(Group.round_id)).tuples().all())
