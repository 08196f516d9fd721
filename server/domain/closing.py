"""Taking the groups of a round out of the voting queue, and putting them back."""

from __future__ import annotations

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session

from server.domain import audit, leasing, people
from server.domain.counting import live_signals
from server.domain.rounds import ACTIVE
from server.errors import Conflict
from server.models import Group, Project, Round, Task, User, now


def close(session: Session, by: User, round_: Round) -> int:
    """Nobody is asked about its groups any more; what was voted counts, and what still arrives is kept and does not."""
    return _set(session, by, round_, is_open=False)


def reopen(session: Session, by: User, round_: Round) -> int:
    """Asks again; votes that arrived meanwhile count while there is room."""
    return _set(session, by, round_, is_open=True)


def _set(session: Session, by: User, round_: Round, *, is_open: bool) -> int:
    people.require(session, by, session.get_one(Project, round_.project_id), "operator")
    if round_.state in ACTIVE:
        raise Conflict(f"Round {round_.number} is still drawing. Cancel it, or wait until it is over.")
    of_round = exists().where(Group.id == Task.group_id, Group.round_id == round_.id)
    changing = (of_round, Task.closed_at.is_not(None) if is_open else Task.closed_at.is_(None))
    changed = leasing.locked(session, *changing)
    # Only now look at the clock: a vote that came while this waited for its task was in time.
    session.execute(update(Task).where(*changing).values(closed_at=None if is_open else now()))
    if not changed:
        raise Conflict(f"Round {round_.number} has no group that is {'closed' if is_open else 'open to votes'}.")
    audit.record(session, by, "reopen voting" if is_open else "close voting", round_.id, groups=len(changed))
    return len(changed)


def wanting(session: Session, round_: Round) -> tuple[int, int]:
    """(groups that wait for a vote, groups that were closed) of the round."""
    tasks = select(func.count()).select_from(Task).join(Group, Group.id == Task.group_id).where(Group.round_id == round_.id)
    waiting = session.scalar(tasks.where(Task.closed_at.is_(None), live_signals() < Task.votes_wanted)) or 0
    return waiting, session.scalar(tasks.where(Task.closed_at.is_not(None))) or 0
