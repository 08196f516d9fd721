"""How long a round will take, how much disk it fills and memory it takes, judged by the latest of its kind that is done.

Time grows with the work: chains times denoising steps where images are drawn, groups times epochs where they train. So does
the disk that images fill; a checkpoint is as large as the one before. Memory is what the measured round took at most: more
prompts or groups are more batches, not larger ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session, selectinload

from server.domain import launching, pairs
from server.domain.studying import STUDY_ITEMS
from server.models import Checkpoint, Group, Job, Project, Round, State
from server.storage import Storage

GROUPS_WEIGHED = 8
WORK = {
    "sample": ("prompts", "images_per_prompt", "num_inference_steps"),
    "duel": ("items", "num_inference_steps"),
    "study": ("items", "policies", "num_inference_steps"),
    "training": ("groups", "epochs"),
}


@dataclass(frozen=True)
class Estimate:
    """`judged_by`: the number of the round that was measured; `memory_bytes` of one worker, None where it was not measured."""

    seconds: float
    disk_bytes: float
    memory_bytes: int | None
    judged_by: int


def planned(session: Session, project: Project, kind: str, asked: Mapping[str, Any]) -> dict[str, int]:
    """The sizes of a round as its row would hold them, where some are asked for and the rest are the defaults."""
    steps = asked.get("num_inference_steps", project.sampling["num_inference_steps"])
    if kind == "sample":
        images = asked.get("images_per_prompt", project.sampling["images_per_prompt"])
        count = asked.get("count", launching.SAMPLE_PROMPTS)
        return {"prompts": count, "images_per_prompt": images, "num_inference_steps": steps}
    if kind == "study":
        count, policies = asked.get("count", STUDY_ITEMS), asked.get("policies", 2)
        return {"items": count, "policies": policies, "num_inference_steps": steps}
    if kind == "duel":
        return {"items": asked.get("count", launching.DUEL_PROMPTS) * asked.get("seeds", 1), "num_inference_steps": steps}
    groups = pairs.usable_pairs(session, project, asked.get("votes", "all")).groups
    return {"groups": groups, "epochs": asked.get("epochs", project.training.get("epochs", 1))}


def estimate(session: Session, storage: Storage, project: Project, kind: str, params: Mapping[str, Any]) -> Estimate | None:
    """For a round of this kind with `params` as its row would hold them; None before the first one is done."""
    drawn_here = exists().where(Job.round_id == Round.id)  # an imported round took no time
    query = select(Round).where(Round.project_id == project.id, Round.kind == kind, Round.state == State.DONE, drawn_here)
    measured = session.scalar(query.order_by(Round.number.desc()).limit(1))
    if measured is None or not (work := _work(kind, measured.params)):
        return None
    share = _work(kind, params) / work
    filled = _bytes(session, storage, measured) * (1 if kind == "training" else share)
    memory = session.scalar(select(func.max(Job.memory_bytes)).where(Job.round_id == measured.id))
    return Estimate(share * _seconds(session, measured), filled, memory, measured.number)


def _work(kind: str, params: Mapping[str, Any]) -> int:
    return prod(int(params.get(name, 0)) for name in WORK[kind])


def _seconds(session: Session, round_: Round) -> float:
    """Of work: not the night between a cancel and its retry, and not twice what two workers did at once."""
    jobs = session.scalars(select(Job).where(Job.round_id == round_.id))
    spent = sum((job.finished_at - job.started_at).total_seconds() for job in jobs if job.started_at and job.finished_at)
    whole = (round_.finished_at - round_.started_at).total_seconds() if round_.started_at and round_.finished_at else spent
    return min(spent, whole)


def _bytes(session: Session, storage: Storage, round_: Round) -> float:
    """Of its checkpoint and its groups; many groups are judged by the first few."""
    query = select(Group).where(Group.round_id == round_.id).order_by(Group.position).limit(GROUPS_WEIGHED)
    groups = session.scalars(query.options(selectinload(Group.images))).all()
    count = session.scalar(select(func.count()).where(Group.round_id == round_.id)) or 0
    keys = [group.trajectory_key for group in groups if group.trajectory_key]
    images = [image.sha256 for group in groups for image in group.images]
    weighed = storage.weigh(images=images, trajectories=keys) * count / max(1, len(groups))
    return weighed + storage.weigh(checkpoints=session.scalars(select(Checkpoint.key).where(Checkpoint.round_id == round_.id)))
