"""The rows that a published folder becomes: a project, one finished sample round, a group a prompt, a vote an annotator and
group. They go in together or not at all."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from d3po_core.params import SamplingParams
from server.domain import audit, people, projects
from server.domain.published.folder import SampleFolder
from server.models import Group, Image, Membership, Outcome, Project, Round, State, Task, User, Vote, now

VOTE_IDS = uuid.UUID("6f4a7a0e-7f0b-5f0e-9a57-2b1c6c1f3a11")


@dataclass(frozen=True)
class Wanted:
    """What the files do not say. `votes_per_task`: votes that each group waits for beside the imported ones."""

    name: str
    base_model: str
    sampling: SamplingParams
    votes_per_task: int = 1


@dataclass(frozen=True)
class StoredGroup:
    """What of a group lies in storage by now: `images` are SHA-256 sums, by position."""

    trajectory_key: str
    trajectory_sha256: str
    images: list[str]


def put_project(session: Session, by: User, folder: SampleFolder, wanted: Wanted) -> tuple[Project, list[str]]:
    """The project and the ids of its annotators, without any group yet. Raises Conflict, Denied or Invalid."""
    project = projects.create(
        session, by, wanted.name, wanted.base_model, "pairwise" if folder.images == 2 else "best",
        votes_per_task=wanted.votes_per_task, prompts=dict(Counter(folder.prompts)), sampling=wanted.sampling,
    )  # fmt: skip
    users = [people.create_user(session, people.free_name(session, name)).id for name in folder.votes]
    session.add_all(Membership(project_id=project.id, user_id=user_id, role="annotator") for user_id in users)
    session.flush()
    return project, users


def put_rows(session: Session, by: User, folder: SampleFolder, wanted: Wanted, groups: Sequence[StoredGroup]) -> Project:
    (project, annotators), moment = put_project(session, by, folder, wanted), now()
    params = wanted.sampling.model_dump() | {"prompts": len(groups)}
    round_ = Round(
        project_id=project.id, number=1, kind="sample", state=State.DONE, params=params, created_by=by.id,
        message="Imported from the published code's files.", started_at=moment, finished_at=moment,
    )  # fmt: skip
    session.add(round_)
    session.flush()
    for position, (prompt, stored) in enumerate(zip(folder.prompts, groups, strict=True)):
        task = _put_group(session, project, round_, folder, position, prompt, stored)
        for user_id, (name, numbers) in zip(annotators, folder.votes.items(), strict=True):
            ratings = {image.id: [number] for image, number in zip(task.group.images, numbers[position], strict=True)}
            said = json.dumps([task.id, list(ratings.items())])
            vote = Vote(
                id=str(uuid.uuid5(VOTE_IDS, f"{stored.trajectory_key} {name}")), task_id=task.id, user_id=user_id,
                outcome=Outcome.RATED, ranking=[], ratings=ratings, flags={}, shown_order=[], received_at=moment,
                body_hash=hashlib.sha256(said.encode()).hexdigest(),
            )  # fmt: skip
            session.add(vote)
    session.flush()
    audit.record(session, by, "import project", project.id)
    return project


def _put_group(
    session: Session, project: Project, round_: Round, folder: SampleFolder, position: int, prompt: str, stored: StoredGroup
) -> Task:
    images = [
        Image(position=k, sha256=sha256, width=folder.width, height=folder.height, seed=0)
        for k, sha256 in enumerate(stored.images)
    ]
    group = Group(
        project_id=project.id, round_id=round_.id, position=position, prompt=prompt, images=images,
        trajectory_key=stored.trajectory_key, trajectory_sha256=stored.trajectory_sha256,
    )  # fmt: skip
    wanted = len(folder.votes) + project.votes_per_task
    task = Task(project_id=project.id, group=group, mode=project.mode, votes_wanted=wanted)
    session.add(task)
    session.flush()
    return task
