"""The voting queue: lease, vote, undo. A vote is never lost: what cannot count is stored as surplus."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from server.domain import ballots, leasing, people, projects
from server.domain.ballots import Ballot
from server.domain.counting import SIGNAL, counted_ids, counted_votes, is_live
from server.domain.leasing import LeasedTask, lease_tasks
from server.errors import Conflict, Denied, Gone, NotFound
from server.models import Lease, Outcome, Project, Task, User, Vote, now

__all__ = [
    "Ballot", "LeasedTask", "MyProgress", "VoteReceipt", "cast_vote", "counted_votes", "last_vote_id", "lease_tasks",
    "my_progress", "release", "renew", "retract",
]  # fmt: skip


class VoteReceipt(NamedTuple):
    """counted: the vote fills a slot of its task. surplus: it came late or too many; it is kept and trains nothing."""

    vote_id: str
    counted: bool
    surplus: bool


class MyProgress(NamedTuple):
    voted_by_me: int
    waiting: int
    total: int


def cast_vote(session: Session, user: User, task_id: str, ballot: Ballot) -> VoteReceipt:
    """Stores the vote, whether or not the lease still holds. The same vote again is the same vote."""
    task = _locked_task(session, user, task_id)
    body_hash = ballot.body_hash(task.id)
    known = session.get(Vote, ballot.vote_id)
    if known is not None:
        return _same_vote(session, known, user, body_hash)
    ballots.check(ballot, task)
    moment, head = now(), _head(session, user, task)
    superseded = _superseded(head, ballot)
    lease = _close_lease(session, user, task)
    vote = Vote(
        id=ballot.vote_id,
        task_id=task.id,
        user_id=user.id,
        outcome=Outcome(ballot.outcome),
        best_image_id=ballot.best_image_id,
        ranking=ballot.ranking or [],
        ratings=ballot.ratings or {},
        flags=ballot.flags,
        shown_order=ballot.shown_order or (lease.shown_order if lease else []),
        shown_at=ballot.shown_at,
        decided_at=ballot.decided_at,
        received_at=moment,
        slot_taken_at=_slot_taken_at(moment, lease, head),
        supersedes=superseded,
        body_hash=body_hash,
    )
    session.add(vote)
    session.flush()
    return _receipt(session, vote)


def retract(session: Session, user: User, vote_id: str) -> LeasedTask | None:
    """Undo: takes the vote back by an appended row and leases its task to the person again, its images where they were.

    None where somebody else's vote fills the slot by now, or the task is closed: the vote is taken back all the same.
    """
    vote = session.get(Vote, vote_id)
    if vote is None:
        raise NotFound("There is no such vote.")
    if vote.user_id != user.id:
        raise Denied("This is somebody else's vote; only they can take it back.")
    task = _locked_task(session, user, vote.task_id)
    head = _head(session, user, task)
    if head is not None and head.id == vote.id and vote.outcome != Outcome.RETRACTED:
        _append_retraction(session, vote)
    elif head is None or head.supersedes != vote.id or head.outcome != Outcome.RETRACTED:
        raise Conflict("You have voted on this task again since; take back that later vote instead.")
    return leasing.hold(session, user, task, vote.shown_order) if leasing.has_room(session, user, task) else None


def release(session: Session, user: User, task_id: str) -> None:
    """Gives the lease back, so that the task goes to somebody else at once."""
    lease = _lease(session, user, _locked_task(session, user, task_id))
    if lease is not None:
        session.delete(lease)
        session.flush()


def renew(session: Session, user: User, task_id: str) -> LeasedTask:
    """A sign of life: the lease starts anew. Gone where it ran out and somebody else has the slot, or the task was closed."""
    task = _locked_task(session, user, task_id)
    lease = _lease(session, user, task)
    holds = lease is not None and leasing.is_held(lease, now()) and task.closed_at is None
    if lease is None or not (holds or leasing.has_room(session, user, task)):
        raise Gone("You no longer hold this task; somebody else may have it. Ask for the next one.")
    return leasing.hold(session, user, task)


def my_progress(session: Session, user: User, project: Project) -> MyProgress:
    """How many tasks this person has voted on, how many wait for them, and both together."""
    people.require(session, user, project, "annotator")
    mine = select(func.count()).select_from(Vote).join(Task, Task.id == Vote.task_id)
    voted = (
        session.scalar(mine.where(Task.project_id == project.id, Vote.user_id == user.id, Vote.outcome.in_(SIGNAL), is_live()))
        or 0
    )
    waiting = leasing.waiting(session, user, project)
    return MyProgress(voted, waiting, voted + waiting)


def last_vote_id(session: Session, user: User, project: Project) -> str | None:
    """The person's newest vote here that was not taken back: what undo takes back where no script remembers."""
    mine = select(Vote.id).join(Task, Task.id == Vote.task_id).where(Task.project_id == project.id, Vote.user_id == user.id)
    mine = mine.where(Vote.outcome != Outcome.RETRACTED, is_live())
    return session.scalar(mine.order_by(Vote.received_at.desc(), Vote.id).limit(1))


def _task(session: Session, user: User, task_id: str) -> Task:
    task = session.get(Task, task_id)
    if task is None:
        raise NotFound("There is no such task.")
    people.require(session, user, projects.get(session, task.project_id), "annotator")
    return task


def _locked_task(session: Session, user: User, task_id: str) -> Task:
    """Votes and leases of one task happen one after the other."""
    task = _task(session, user, task_id)
    session.refresh(task, with_for_update={"key_share": True})
    return task


def _same_vote(session: Session, known: Vote, user: User, body_hash: str) -> VoteReceipt:
    if known.user_id != user.id or known.body_hash != body_hash:
        raise Conflict("This vote_id belongs to a different vote, which is kept as it was. Make a new UUID for each vote.")
    return _receipt(session, known)


def _receipt(session: Session, vote: Vote) -> VoteReceipt:
    counted = vote.id in session.scalars(counted_ids(Task.id == vote.task_id)).all()
    live = session.scalar(select(Vote.id).where(Vote.id == vote.id, Vote.outcome.in_(SIGNAL), is_live())) is not None
    return VoteReceipt(vote.id, counted, surplus=live and not counted)


def _head(session: Session, user: User, task: Task) -> Vote | None:
    """The person's latest row on this task."""
    return session.scalar(select(Vote).where(Vote.task_id == task.id, Vote.user_id == user.id, is_live()))


def _slot_taken_at(moment: datetime, lease: Lease | None, head: Vote | None) -> datetime:
    """An edit of a vote that carried a signal keeps its slot; else the slot is the live lease's, or taken only now."""
    if head is not None and head.outcome in SIGNAL:
        return head.slot_taken_at
    return lease.taken_at if lease is not None and leasing.is_held(lease, moment) else moment


def _superseded(head: Vote | None, ballot: Ballot) -> str | None:
    """The row that this vote follows: the undo before it, or the person's own vote that the ballot names. `head`: their latest
    row on the task."""
    undone = head is not None and head.outcome == Outcome.RETRACTED
    known = {None, head.id, head.supersedes} if head and undone else {head.id if head else None}
    if ballot.supersedes in known:
        return head.id if head else None
    if head is None or undone:
        raise Conflict("`supersedes` names a vote that is not your latest one on this task.")
    raise Conflict("You have voted on this task already, and that vote is kept. Take it back, or name it in `supersedes`.")


def _append_retraction(session: Session, vote: Vote) -> None:
    taken_back = Vote(
        id=str(uuid.uuid4()),
        task_id=vote.task_id,
        user_id=vote.user_id,
        outcome=Outcome.RETRACTED,
        ranking=[],
        flags={},
        shown_order=vote.shown_order,
        received_at=now(),
        supersedes=vote.id,
        body_hash=vote.body_hash,
    )
    session.add(taken_back)
    session.flush()


def _lease(session: Session, user: User, task: Task) -> Lease | None:
    return session.get(Lease, (task.id, user.id))


def _close_lease(session: Session, user: User, task: Task) -> Lease | None:
    """Ends the lease, run out or not; gives it for what it knows: since when, and in which order the person saw the images."""
    lease = _lease(session, user, task)
    if lease is not None:
        session.delete(lease)
    return lease
