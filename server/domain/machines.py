"""Machine annotators: users that vote by rewards. One for each way of scoring in a project, made when it is first asked for."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from d3po_core.rewards import RewardParams
from server.domain import audit, people
from server.errors import Conflict
from server.models import Project, User, Vote

LONGEST_NAME = 70


def annotator(session: Session, by: User, project: Project, params: RewardParams) -> User:
    """The project's machine that scores like this. The project's row must be locked, so that no two are made."""
    spec = params.model_dump(mode="json")
    machine = next((user for user in _of(session, project) if user.reward == spec), None)
    if machine is None:
        machine = _made(session, by, project, params)
    if machine.revoked_at is not None:
        raise Conflict(f"The machine annotator {machine.name} has no access any more. Its votes stay; it gives no new ones.")
    return machine


def name_of(params: RewardParams) -> str:
    """Like "compressibility and colourfulness (Pareto)"."""
    *others, last = [chosen.name for chosen in params.rewards]
    if not others:
        return last
    how = {"pareto": "Pareto", "weighted": "weighted"}[params.combine]
    name = f"{', '.join(others)} and {last} ({how})"
    return name if len(name) <= LONGEST_NAME else f"{others[0]} and {len(others)} more ({how})"


def alone(session: Session, votes: Sequence[Vote]) -> bool:
    """Whether machines cast all of these votes."""
    voters = session.scalars(select(User).where(User.id.in_({vote.user_id for vote in votes})))
    return all(user.reward for user in voters)


def _of(session: Session, project: Project) -> list[User]:
    return [member.user for member in people.members(session, project) if member.user.reward]


def _made(session: Session, by: User, project: Project, params: RewardParams) -> User:
    machine = User(name=people.free_name(session, name_of(params)), reward=params.model_dump(mode="json"))
    session.add(machine)
    session.flush()
    people.add_member(session, project.id, machine, "annotator")
    audit.record(session, by, "add machine annotator", machine.id, project=project.id)
    return machine
