"""Votes as lines of JSON, oldest first: every row that was ever stored, with what it was about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import RowMapping, select
from sqlalchemy.orm import Session

from server.domain.counting import counted_ids
from server.domain.exports import rows, zipped
from server.models import Group, Image, Project, Task, User, Vote
from server.storage import Storage

SAID = (
    "outcome", "best_image_id", "ranking", "ratings", "flags", "criterion", "shown_order", "shown_at", "decided_at",
    "received_at", "supersedes", "is_gold",
)  # fmt: skip


def write(session: Session, storage: Storage, project: Project) -> Iterator[bytes]:
    query = (
        select(
            Vote.id.label("vote_id"),
            Task.project_id.label("project"),
            Group.round_id.label("round"),
            Task.id.label("task"),
            Group.id.label("group"),
            Group.prompt,
            User.name.label("annotator"),
            Vote.id.in_(counted_ids(Task.project_id == project.id)).label("counted"),
            *(getattr(Vote, name) for name in SAID),
        )
        .join(Task, Task.id == Vote.task_id)
        .join(Group, Group.id == Task.group_id)
        .join(User, User.id == Vote.user_id)
        .where(Task.project_id == project.id)
        .order_by(Vote.received_at, rows.in_bytes(session, Vote.__table__.c.id))
    )
    batches = session.execute(query.execution_options(yield_per=rows.BATCH)).mappings().partitions()
    spool = rows.spooled(line for batch in batches for line in _lines(session, batch))
    return zipped.chunks_of(spool)


def _lines(session: Session, batch: Sequence[RowMapping]) -> Iterator[bytes]:
    images: dict[str, list[str]] = {row["group"]: [] for row in batch}
    query = select(Image.group_id, Image.id).where(Image.group_id.in_(list(images))).order_by(Image.position)
    for group_id, image_id in session.execute(query):
        images[group_id].append(image_id)
    for row in batch:
        yield rows.to_line({**row, "counted": bool(row["counted"]), "image_ids": images[row["group"]]})
