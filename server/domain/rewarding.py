"""The request for a reward round: which groups a machine annotator scores and votes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from d3po_core.rewards import RewardParams
from server.domain import checkpoints, launching, machines, people, rewards
from server.errors import Invalid, NotFound
from server.models import Group, Image, Project, Round, Task, User, Vote

VOTED_ON = ("sample", "duel")
GROUPS_A_JOB = 16


@dataclass(frozen=True)
class _ToScore:
    group_id: str
    round_id: str
    images: int


def request_reward_round(
    session: Session, by: User, project: Project, params: RewardParams, *, round_ids: Sequence[str] | None = None
) -> Round:
    """A machine annotator scores every group with a task that it has not voted on, of these sample and duel rounds, else of all
    sample rounds of the policy in use; and votes by what it scored."""
    people.require(session, by, project, "operator")
    params = rewards.checked(params)
    launching.lock(session, project)
    machine = machines.annotator(session, by, project, params)
    of = _rounds(session, project, round_ids)
    groups = _groups(session, machine, list(of))
    if not groups:
        raise Invalid(_nothing(session, project, machine, round_ids))
    scored = {group.round_id for group in groups}
    policies = {of[round_id].checkpoint_id for round_id in scored}
    counts = {"groups": len(groups), "images": sum(group.images for group in groups)}
    told = params.model_dump(mode="json") | counts | {"annotator_id": machine.id, "round_ids": sorted(scored)}
    policy = policies.pop() if len(policies) == 1 else None
    round_ = launching.new_round(session, by, project, "reward", told, checkpoint_id=policy)
    for first in range(0, len(groups), GROUPS_A_JOB):
        chunk = groups[first : first + GROUPS_A_JOB]
        total = sum(group.images for group in chunk)
        payload = {"group_ids": [group.group_id for group in chunk]}
        launching.add_job(session, round_, "score", payload, progress_total=total, progress_unit="images")
    return round_


def _rounds(session: Session, project: Project, round_ids: Sequence[str] | None) -> dict[str, Round]:
    """By id. NotFound where one is not of this project, or draws nothing to vote on."""
    query = select(Round).where(Round.project_id == project.id)
    if round_ids is None:
        current = checkpoints.current(session, project)
        by_policy = Round.checkpoint_id.is_(None) if current is None else Round.checkpoint_id == current.id
        return {round_.id: round_ for round_ in session.scalars(query.where(Round.kind == "sample", by_policy))}
    found = {round_.id: round_ for round_ in session.scalars(query.where(Round.id.in_(round_ids), Round.kind.in_(VOTED_ON)))}
    if missing := [round_id for round_id in round_ids if round_id not in found]:
        raise NotFound(f"This project has no sample or duel round {missing[0][:40]}.")
    return found


def _groups(session: Session, machine: User, round_ids: list[str]) -> list[_ToScore]:
    """As they were drawn."""
    voted = exists().where(Vote.task_id == Task.id, Vote.user_id == machine.id)
    query = (
        select(Group.id, Round.id, func.count()).join(Round, Round.id == Group.round_id).join(Image, Image.group_id == Group.id)
    )
    query = query.join(Task, Task.group_id == Group.id).where(Round.id.in_(round_ids), ~voted)
    found = session.execute(query.group_by(Group.id, Round.id).order_by(Round.number, Group.position)).tuples()
    return [_ToScore(*row) for row in found]


def _nothing(session: Session, project: Project, machine: User, round_ids: Sequence[str] | None) -> str:
    current = checkpoints.current(session, project)
    policy = f"checkpoint {current.number}" if current else "the base model"
    drawn = f"that {policy} drew" if round_ids is None else "of these rounds"
    return f"There is nothing to score: no group {drawn} waits for the machine annotator {machine.name}. Sample a round first."
