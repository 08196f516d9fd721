"""What a scoring job has to do, and what its scores become: rows by image and reward, and one vote a group.

Scores come first and are never replaced, and the vote follows from what is stored. So an attempt that is run again, or
another machine that scores by the same reward, adds what is missing and changes nothing, whether or not a scorer says the
same thing twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from d3po_core.rewards import RewardParams, rated
from server.domain import voting
from server.domain.ballots import Ballot
from server.domain.jobs import Claim, heartbeat, require_claim
from server.errors import Denied
from server.models import Group, Job, Round, Score, Task, User, Vote

VOTES = uuid.UUID("5f0a7a52-3a4e-4d0b-9a55-0d4f3c7a1e6b")
Scores = dict[str, dict[str, float]]
"""By image id and by the key of the reward."""


@dataclass(frozen=True)
class GroupToScore:
    """`images`: (image id, SHA-256 of its file); `known`: what earlier rounds and attempts scored."""

    group_id: str
    prompt: str
    images: list[tuple[str, str]]
    known: Scores


@dataclass(frozen=True)
class Work:
    """`done` images of the job are scored and voted on already."""

    params: RewardParams
    groups: list[GroupToScore]
    done: int


def params_of(round_: Round) -> RewardParams:
    return RewardParams.model_validate({name: round_.params[name] for name in RewardParams.model_fields})


def begin(session: Session, claim: Claim) -> Work:
    """What is left of a job. Raises LostClaim."""
    require_claim(session, claim)
    job, round_ = session.get_one(Job, claim.job_id), session.get_one(Round, claim.round_id)
    query = select(Group).where(Group.id.in_(job.payload["group_ids"])).options(selectinload(Group.images))
    by_id = {group.id: group for group in session.scalars(query)}
    groups = [by_id[group_id] for group_id in job.payload["group_ids"]]
    voted_on = _voted_on(session, round_, groups)
    left = [group for group in groups if group.id not in voted_on]
    stored = known(session, [image.id for group in left for image in group.images])
    done = sum(len(group.images) for group in groups if group.id in voted_on)
    heartbeat(session, claim, done)
    return Work(params_of(round_), [to_score(group, stored) for group in left], done)


def record(session: Session, claim: Claim, group_id: str, scores: Scores, done: int) -> None:
    """Adds the scores of one group's images that are not there yet, and the vote that follows; the job is `done` images far.

    Raises LostClaim, Denied where the machine annotator may vote no more.
    """
    require_claim(session, claim)
    round_ = session.get_one(Round, claim.round_id)
    machine = session.get_one(User, round_.params["annotator_id"])
    if machine.revoked_at is not None:
        raise Denied(f"The machine annotator {machine.name} has no access any more; it scores no more images.")
    group = session.scalars(select(Group).where(Group.id == group_id).with_for_update(key_share=True)).one()
    params = params_of(round_)
    stored = store(session, group, scores, [chosen.key for chosen in params.rewards])
    _vote(session, machine, group, params, stored)
    heartbeat(session, claim, done)


def store(session: Session, group: Group, scores: Scores, keys: Sequence[str]) -> Scores:
    """Adds what is not known of the images yet; returns what is stored of them. The group's row must be locked."""
    stored = known(session, [image.id for image in group.images])
    for image in group.images:
        for key in keys:
            if key not in stored.setdefault(image.id, {}):
                stored[image.id][key] = scores[image.id][key]
                session.add(Score(image_id=image.id, reward=key, value=scores[image.id][key]))
    session.flush()
    return stored


def _vote(session: Session, machine: User, group: Group, params: RewardParams, stored: Scores) -> None:
    task = session.scalars(select(Task).where(Task.group_id == group.id)).one()
    if session.scalar(select(Vote.id).where(Vote.task_id == task.id, Vote.user_id == machine.id).limit(1)):
        return
    rows = [[stored[image.id][chosen.key] for image in group.images] for chosen in params.rewards]
    ratings = rated(rows, params.weights).ratings or ()
    ballot = Ballot(
        vote_id=str(uuid.uuid5(VOTES, f"{group.id} {machine.id}")),
        outcome="rated",
        ratings={image.id: list(numbers) for image, numbers in zip(group.images, ratings, strict=True)},
    )
    voting.cast_vote(session, machine, task.id, ballot)


def known(session: Session, image_ids: list[str]) -> Scores:
    """What is stored of these images."""
    found: Scores = {}
    for score in session.scalars(select(Score).where(Score.image_id.in_(image_ids))):
        found.setdefault(score.image_id, {})[score.reward] = score.value
    return found


def _voted_on(session: Session, round_: Round, groups: list[Group]) -> set[str]:
    """Ids of the groups that the round's machine has voted on."""
    query = select(Task.group_id).join(Vote, Vote.task_id == Task.id).where(Vote.user_id == round_.params["annotator_id"])
    return set(session.scalars(query.where(Task.group_id.in_([group.id for group in groups]))))


def to_score(group: Group, stored: Scores) -> GroupToScore:
    """The group, with what is stored of its images."""
    images = [(image.id, image.sha256) for image in group.images]
    return GroupToScore(group.id, group.prompt, images, {image_id: stored.get(image_id, {}) for image_id, _ in images})
