"""Projects, rounds, groups, tasks, votes, checkpoints."""

from __future__ import annotations

import hashlib
import uuid
from datetime import timedelta
from typing import Any

from d3po_core.params import SamplingParams
from server.models import Checkpoint, Group, Image, Job, Lease, Outcome, Project, Round, State, Task, User, Vote, now
from tests.factories.base import add, count


def project(**values: Any) -> Project:
    defaults = {"name": f"project {next(count)}", "base_model": "demo", "mode": "best", "sampling": SamplingParams().model_dump()}
    return add(Project(**defaults | values))


def round_(project: Project, kind: str = "sample", **values: Any) -> Round:
    defaults = {"number": next(count), "state": State.DONE, "params": {"prompts": 1}}
    return add(Round(project_id=project.id, kind=kind, **defaults | values))


def job(round_: Round, **values: Any) -> Job:
    kind = {"training": "train", "reward": "score"}.get(round_.kind, round_.kind)
    payload = {} if kind == "train" else {"first_position": 0, "prompts": ["a red apple"]}
    return add(Job(round_id=round_.id, **{"kind": kind, "payload": payload} | values))


def checkpoint(project: Project, **values: Any) -> Checkpoint:
    """A promoted checkpoint with the training round that made it."""
    round_id = values.pop("round_id", None) or round_(project, "training").id
    number = next(count)
    defaults = {"number": number, "key": f"round-{number}", "manifest": {"parent": None}, "promoted_at": now()}
    return add(Checkpoint(project_id=project.id, round_id=round_id, **defaults | values))


def group(project: Project, *, images: int = 3, drawn_by: list[str | None] | None = None, **values: Any) -> Group:
    """A group of `images` images of one prompt. `drawn_by`: one checkpoint id an image, None for the base model."""
    round_id = values.pop("round_id", None) or round_(project).id
    defaults = {"position": next(count), "prompt": "a red apple", "trajectory_key": "t/0", "trajectory_sha256": "0" * 64}
    drawn_by = drawn_by or [None] * images
    pictures = [_image(position, checkpoint_id) for position, checkpoint_id in enumerate(drawn_by)]
    return add(Group(project_id=project.id, round_id=round_id, images=pictures, **defaults | values))


def _image(position: int, checkpoint_id: str | None) -> Image:
    sha256 = hashlib.sha256(str(next(count)).encode()).hexdigest()
    return Image(position=position, sha256=sha256, width=64, height=64, seed=position, checkpoint_id=checkpoint_id)


def task(project: Project, group_: Group | None = None, **values: Any) -> Task:
    group_ = group_ or group(project)
    made = Task(project_id=project.id, group=group_, **{"mode": project.mode, "votes_wanted": project.votes_per_task} | values)
    return add(made)


def lease(task: Task, user: User, **values: Any) -> Lease:
    defaults = {"expires_at": now() + timedelta(minutes=2), "shown_order": [image.id for image in task.group.images]}
    return add(Lease(task_id=task.id, user_id=user.id, **defaults | values))


def vote(task: Task, user: User, best: int | None = 0, **values: Any) -> Vote:
    """A vote for the image at position `best`; give outcome=... and best=None for the others."""
    image_ids = [image.id for image in task.group.images]
    defaults = {
        "id": str(uuid.uuid4()),
        "outcome": Outcome.BEST,
        "best_image_id": None if best is None else image_ids[best],
        "ranking": [],
        "flags": {},
        "shown_order": image_ids,
        "received_at": now(),
        "body_hash": "0" * 64,
    }
    return add(Vote(task_id=task.id, user_id=user.id, **defaults | values))
