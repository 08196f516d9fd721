"""The voting queue: lease, vote, undo."""

from __future__ import annotations

from fastapi import APIRouter

from server.api.problems import problems
from server.api.shapes import ReceiptOut, RetractionOut, TaskOut
from server.deps import CurrentUser, DbSession
from server.domain import projects, voting
from server.domain.ballots import Ballot

router = APIRouter(tags=["voting"])


@router.post("/projects/{project_id}/tasks/next")
def lease_next(project_id: str, session: DbSession, user: CurrentUser, count: int = 3) -> list[TaskOut]:
    """Leases up to `count` tasks (at most 20) to you, those you hold already first. Empty when nothing waits."""
    project = projects.open_for(session, user, project_id, "annotator")
    return [TaskOut.of(leased) for leased in voting.lease_tasks(session, user, project, count)]


@router.post("/tasks/{task_id}/votes", responses=problems(409))
def vote(task_id: str, ballot: Ballot, session: DbSession, user: CurrentUser) -> ReceiptOut:
    """Stores your vote; once this answers, it is durable. Sending the same vote again is harmless."""
    return ReceiptOut(**voting.cast_vote(session, user, task_id, ballot)._asdict())


@router.post("/votes/{vote_id}/retract", responses=problems(409))
def retract(vote_id: str, session: DbSession, user: CurrentUser) -> RetractionOut:
    """Takes your vote back and leases its task to you again."""
    leased = voting.retract(session, user, vote_id)
    return RetractionOut(vote_id=vote_id, task=TaskOut.of(leased) if leased else None)


@router.post("/tasks/{task_id}/release", status_code=204)
def release(task_id: str, session: DbSession, user: CurrentUser) -> None:
    """Gives the task back, so that somebody else can have it at once."""
    voting.release(session, user, task_id)


@router.post("/tasks/{task_id}/renew", responses=problems(410))
def renew(task_id: str, session: DbSession, user: CurrentUser) -> TaskOut:
    """A sign of life: your lease starts anew."""
    return TaskOut.of(voting.renew(session, user, task_id))
