"""Short holds on tasks, so that no two people work on one slot.

A task has `votes_wanted` slots. A slot is taken by a live vote with a signal or by another person's unexpired lease, so
leases never overshoot. On PostgreSQL candidates are locked with SKIP LOCKED and counted again under the lock; SQLite has
one writer at a time anyway.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, and_, exists, func, select
from sqlalchemy.orm import Session, selectinload

from server.domain import blurring, checkpoints, people
from server.domain.counting import is_live, is_useful, live_signals
from server.errors import Invalid
from server.models import Group, Image, Lease, Outcome, Project, Task, User, Vote, now
from server.settings import get_settings

MAX_TASKS = 20
_chance = random.SystemRandom()


@dataclass(frozen=True)
class LeasedTask:
    """A task on somebody's screen, its images in the order in which this person sees them. `blurred`: ids of those to blur."""

    task_id: str
    prompt: str
    mode: str
    images: list[Image]
    lease_expires_at: datetime
    blurred: frozenset[str] = frozenset()


def lease_tasks(session: Session, user: User, project: Project, count: int) -> list[LeasedTask]:
    """The person's own unexpired tasks first, then new ones, together at most `count`. Empty when nothing waits."""
    people.require(session, user, project, "annotator")
    if not 1 <= count <= MAX_TASKS:
        raise Invalid(f"count must be 1 to {MAX_TASKS}, you sent {count}.")
    held = _lock_held(session, user, project, count)
    fresh = _take(session, user, project, count - len(held))
    return _hold(session, user, _load(session, held + fresh))


def hold(session: Session, user: User, task: Task, order: Sequence[str] = ()) -> LeasedTask:
    """Leases the task to the person, or renews; the images stay in the order of the lease, else in `order`, else shuffled.

    The task's row must be locked.
    """
    return _hold(session, user, [task], list(order))[0]


def _hold(session: Session, user: User, tasks: Sequence[Task], order: list[str] | None = None) -> list[LeasedTask]:
    known = select(Lease).where(Lease.user_id == user.id, Lease.task_id.in_([task.id for task in tasks]))
    leases = {lease.task_id: lease for lease in session.scalars(known)}
    moment = now()
    for task in tasks:
        lease = leases.get(task.id) or Lease(task_id=task.id, user_id=user.id, shown_order=order or _shuffled_images(task))
        leases[task.id] = lease
        lease.taken_at = lease.taken_at if is_held(lease, moment) else moment
        lease.expires_at = moment + timedelta(seconds=get_settings().lease_seconds)
    session.add_all(leases.values())
    session.flush()
    blurred = _blurred(session, tasks)
    return [_as_shown(task, leases[task.id], blurred) for task in tasks]


def _blurred(session: Session, tasks: Sequence[Task]) -> frozenset[str]:
    if not tasks:
        return frozenset()
    images = [image for task in tasks for image in task.group.images]
    return blurring.blurred(session, session.get_one(Project, tasks[0].project_id), images)


def is_held(lease: Lease, moment: datetime) -> bool:
    """Whether the lease takes a slot at this moment; a new one does not yet."""
    return lease.expires_at is not None and lease.expires_at > moment


def _shuffled_images(task: Task) -> list[str]:
    order = [image.id for image in task.group.images]
    _chance.shuffle(order)
    return order


def _as_shown(task: Task, lease: Lease, blurred: frozenset[str]) -> LeasedTask:
    images = {image.id: image for image in task.group.images}
    shown = [images[image_id] for image_id in lease.shown_order]
    return LeasedTask(task.id, task.group.prompt, task.mode, shown, lease.expires_at, blurred & images.keys())


def has_room(session: Session, user: User, task: Task) -> bool:
    """Whether a slot is left for this person. The task's row must be locked."""
    return session.scalar(select(exists().where(Task.id == task.id, _free_for(user)))) or False


def waiting(session: Session, user: User, project: Project) -> int:
    """How many tasks this person could vote on now."""
    return session.scalar(select(func.count()).select_from(_open_for(session, user, project).subquery())) or 0


def _held(user: User, project: Project) -> Select[str]:
    own = and_(Lease.task_id == Task.id, Lease.user_id == user.id, Lease.expires_at > now())
    open_ = (Task.project_id == project.id, Task.closed_at.is_(None))
    return select(Task.id).join(Lease, own).where(*open_, ~_voted_by(user)).order_by(_shuffled())


def locked(session: Session, *which: ColumnElement[bool]) -> Sequence[str]:
    """Locks these tasks in the order in which everybody does who needs several; waits for whoever has one. Returns their ids."""
    query = select(Task.id).where(*which).order_by(_shuffled())
    return session.scalars(query.with_for_update(of=Task, key_share=True)).all()


def _lock_held(session: Session, user: User, project: Project, count: int) -> list[str]:
    """The tasks that the person holds, locked; waits for a vote or a release of one of them, which ends its lease."""
    held = _held(user, project).limit(count)
    locked = session.scalars(held.with_for_update(of=Task, key_share=True)).all()
    # What was waited for does not show in the snapshot of that query: look again, now that nobody can change it.
    return list(session.scalars(held.where(Task.id.in_(locked))))


def _take(session: Session, user: User, project: Project, count: int) -> list[str]:
    """Locks up to `count` tasks with a free slot that the person does not hold."""
    taken: list[str] = []
    seen: list[str] = []
    open_ = _open_for(session, user, project)
    while len(taken) < count:
        query = open_.where(Task.id.not_in(seen), ~_held_by(user))
        query = query.order_by(_shuffled()).limit(count - len(taken))
        locked = session.scalars(query.with_for_update(of=Task, skip_locked=True, key_share=True)).all()
        if not locked:
            break
        seen += locked
        # Somebody may have taken a slot between the snapshot and the lock: count again, now that nobody can.
        taken += session.scalars(select(Task.id).where(Task.id.in_(locked), _free_for(user)).order_by(_shuffled()))
    return taken


def _open_for(session: Session, user: User, project: Project) -> Select[str]:
    """Without groups of a policy that is not in use: no round can train on them now. They come back with their policy."""
    current = checkpoints.current(session, project)
    useful = is_useful(current.id if current else None)
    return select(Task.id).where(Task.project_id == project.id, useful, _free_for(user))


def _free_for(user: User) -> ColumnElement[bool]:
    """Open, not voted on by this person, and with a slot that nobody else has."""
    others = select(func.count()).where(Lease.task_id == Task.id, Lease.user_id != user.id, Lease.expires_at > now())
    slots_taken = live_signals() + others.correlate(Task).scalar_subquery()
    return and_(Task.closed_at.is_(None), ~_voted_by(user), slots_taken < Task.votes_wanted)


def _voted_by(user: User) -> ColumnElement[bool]:
    own = (Vote.task_id == Task.id, Vote.user_id == user.id, Vote.outcome != Outcome.RETRACTED)
    return exists().where(*own, is_live()).correlate(Task)


def _held_by(user: User) -> ColumnElement[bool]:
    return exists().where(Lease.task_id == Task.id, Lease.user_id == user.id, Lease.expires_at > now()).correlate(Task)


def _shuffled() -> ColumnElement[str]:
    """Order by the random part of the id (after 12 digits of time), so that a duel cannot be told by when it comes."""
    return func.substr(Task.id, 13)


def _load(session: Session, task_ids: Sequence[str]) -> list[Task]:
    query = select(Task).where(Task.id.in_(task_ids)).options(selectinload(Task.group).selectinload(Group.images))
    tasks = {task.id: task for task in session.scalars(query)}
    return [tasks[task_id] for task_id in task_ids]
