"""Which votes count. Derived by query from the appended rows, never stored.

A vote is *live* while no later row supersedes it. The first `votes_wanted` live votes of a task that carry a signal
count, in the order in which their slots were taken; the others are surplus. A lease takes a slot, so a vote that came past
somebody else's live lease counts only if that lease leaves room in the end. A vote received after its task was closed is
kept and does not count.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from server.models import Group, Lease, Outcome, Round, Task, Vote, now

SIGNAL = (Outcome.BEST, Outcome.RANKING, Outcome.RATED, Outcome.TIE, Outcome.ALL_BAD)


def is_live() -> ColumnElement[bool]:
    later = aliased(Vote)
    return ~exists().where(later.supersedes == Vote.id)


def is_useful(current_id: str | None) -> ColumnElement[bool]:
    """Whether a vote on a task can count for something now: a duel, or images that the policy in use drew (None: base model)."""
    drawn_by_current = Round.checkpoint_id.is_(None) if current_id is None else Round.checkpoint_id == current_id
    of_task = (Group.id == Task.group_id, Group.round_id == Round.id)
    return exists().where(*of_task, or_(Round.kind != "sample", drawn_by_current)).correlate(Task)


def counted_ids(*tasks: ColumnElement[bool]) -> Select[str]:
    """Ids of the counted votes of the tasks that fulfil `tasks` (conditions on Task alone)."""
    place = func.row_number().over(partition_by=Vote.task_id, order_by=(Vote.slot_taken_at, Vote.id)).label("place")
    in_time = or_(Task.closed_at.is_(None), Vote.received_at < Task.closed_at)
    queue = (
        select(Vote.id, place, _leased_before().label("leased"), Task.votes_wanted)
        .join(Task, Task.id == Vote.task_id)
        .where(is_live(), Vote.outcome.in_(SIGNAL), in_time, *tasks)
        .subquery()
    )
    return select(queue.c.id).where(queue.c.place + queue.c.leased <= queue.c.votes_wanted)


def _leased_before() -> ColumnElement[int]:
    """How many others hold a slot of the task of the surrounding query's vote since before that vote took its own."""
    before = (Lease.task_id == Vote.task_id, Lease.user_id != Vote.user_id, Lease.taken_at < Vote.slot_taken_at)
    held = select(func.count()).where(*before, Lease.expires_at > now())
    return held.correlate(Vote).scalar_subquery()


def counted_votes(session: Session, task_ids: Sequence[str]) -> list[Vote]:
    """The counted votes of these tasks, oldest first."""
    query = select(Vote).where(Vote.id.in_(counted_ids(Task.id.in_(task_ids))))
    return list(session.scalars(query.order_by(Vote.received_at, Vote.id)))


def live_signals() -> ColumnElement[int]:
    """How many live votes with a signal the task of the surrounding query has."""
    query = select(func.count()).where(Vote.task_id == Task.id, Vote.outcome.in_(SIGNAL), is_live())
    return query.correlate(Task).scalar_subquery()
