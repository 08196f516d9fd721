"""Evaluation rounds: held-out prompts drawn by one policy and scored by rewards. Nobody votes on them or trains on them."""

from __future__ import annotations

from sqlalchemy.orm import Session

from d3po_core.params import DuelParams
from d3po_core.rewards import RewardParams
from server.domain import checkpoints, launching, people, projects
from server.domain import prompts as prompt_rules
from server.models import Project, Round, User

CHUNK = 64
Item = tuple[str, int]
"""A prompt and the seed of its noise."""


def items(project: Project, count: int, seed: int, prompt_set: str | None = None) -> list[Item]:
    """`count` held-out prompts, each with noise of its own."""
    drawn = prompt_rules.held_out(project, count, seed, prompt_set)
    return [(prompt, seed + place) for place, prompt in enumerate(drawn)]


def items_of(evaluation: Round) -> list[Item]:
    """What that round draws, in its order."""
    chunks = sorted((job.payload for job in evaluation.jobs), key=lambda payload: payload["first_position"])
    return [(prompt, seed) for payload in chunks for prompt, seed in payload["items"]]


def request_evaluation_round(
    session: Session,
    by: User,
    project: Project,
    params: DuelParams,
    reward: RewardParams,
    items: list[Item],
    checkpoint_id: str | None,
) -> Round:
    """One image an item, the same for the same policy. What is drawn, `items` says, and not the seeds of `params`."""
    people.require(session, by, project, "operator")
    policy = checkpoints.resolve(session, project, checkpoint_id)
    chain = projects.merged(project.sampling, params).model_dump(exclude={"seeds"})
    told = chain | {"items": len(items)} | reward.model_dump(mode="json")
    round_ = launching.new_round(session, by, project, "evaluation", told, checkpoint_id=policy.id if policy else None)
    for first in range(0, len(items), CHUNK):
        payload = {"first_position": first, "items": [list(item) for item in items[first : first + CHUNK]]}
        launching.add_job(session, round_, "evaluate", payload)
    return round_
