"""What a worker's results become: groups, images, tasks, metrics and checkpoints.

Every verb repeats the claim in the caller's transaction (jobs.require_claim), and is idempotent, so an attempt that is
run again adds what is missing and changes nothing that people may already have voted on. Files come first: a row is
written only for a file that is on disk.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from server.domain.jobs import Claim, require_claim
from server.models import Checkpoint, Group, Image, Metric, Project, Round, Task, new_id

_chance = random.SystemRandom()


@dataclass(frozen=True)
class DrawnImage:
    """One stored image: the SHA-256 of its original, its size in pixels, its seed, and who drew it (None: base model)."""

    sha256: str
    width: int
    height: int
    seed: int
    checkpoint_id: str | None = None


def recorded_positions(session: Session, round_id: str) -> set[int]:
    """Positions whose group an earlier attempt has recorded already."""
    return set(session.scalars(select(Group.position).where(Group.round_id == round_id)))


def record_group(
    session: Session,
    claim: Claim,
    *,
    position: int,
    prompt: str,
    trajectory_key: str | None,
    trajectory_sha256: str | None,
    images: Iterable[DrawnImage],
    task: bool = True,
) -> Group:
    """Add one group, votable at once if `task`. A group recorded before is returned unchanged. Raises LostClaim."""
    require_claim(session, claim)
    known = session.scalar(select(Group).where(Group.round_id == claim.round_id, Group.position == position))
    if known is not None:
        return known
    round_ = session.get_one(Round, claim.round_id)
    project = session.get_one(Project, round_.project_id)
    group = Group(
        project_id=project.id, round_id=claim.round_id, position=position, prompt=prompt,
        trajectory_key=trajectory_key, trajectory_sha256=trajectory_sha256,
        images=_images(images),
    )  # fmt: skip
    session.add(group)
    session.flush()
    if task:
        session.add(Task(project_id=project.id, group_id=group.id, **_asked(project, round_, group)))
        session.flush()
    return group


def _asked(project: Project, round_: Round, group: Group) -> dict[str, Any]:
    """How people are asked and how many of them: as the project says, but in a study always for the best."""
    if round_.kind == "study":
        mode = "pairwise" if len(group.images) == 2 else "best"
        return {"mode": mode, "votes_wanted": round_.params["votes_per_item"]}
    return {"mode": project.mode, "votes_wanted": project.votes_per_task}


def _images(drawn: Iterable[DrawnImage]) -> list[Image]:
    """Ids of one moment sort as they were made; in an order of chance they do not tell a voter which side of a duel is which."""
    made = list(drawn)
    ids = [new_id() for _ in made]
    _chance.shuffle(ids)
    return [Image(id=ids[index], position=index, **vars(image)) for index, image in enumerate(made)]


def record_metrics(session: Session, claim: Claim, rows: Mapping[int, dict[str, Any]]) -> None:
    """Add {step: values}. A resumed attempt writes the steps it repeats over those of the one before. Raises LostClaim."""
    require_claim(session, claim)
    for step, values in rows.items():
        session.merge(Metric(round_id=claim.round_id, step=step, values=values))
    session.flush()


def checkpoint_of(session: Session, round_id: str) -> Checkpoint | None:
    """The checkpoint that a training round has recorded so far."""
    return session.scalar(select(Checkpoint).where(Checkpoint.round_id == round_id))


def record_checkpoint(session: Session, claim: Claim, key: str, manifest: dict[str, Any]) -> Checkpoint:
    """Add the round's checkpoint; put_in_use follows at the round's end. One recorded before is returned. Raises LostClaim."""
    require_claim(session, claim)
    known = checkpoint_of(session, claim.round_id)
    if known is not None:
        return known
    round_ = session.get_one(Round, claim.round_id)
    # Checkpoints are numbered within the project; the lock keeps two rounds that end together from taking one number.
    session.execute(select(Project.id).where(Project.id == round_.project_id).with_for_update())
    last = session.scalar(select(func.max(Checkpoint.number)).where(Checkpoint.project_id == round_.project_id))
    checkpoint = Checkpoint(
        project_id=round_.project_id, round_id=round_.id, parent_id=round_.checkpoint_id, number=(last or 0) + 1,
        key=key, manifest=manifest,
    )  # fmt: skip
    session.add(checkpoint)
    session.flush()
    return checkpoint
