"""The voting queue: tasks, leases and votes."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from server.models.base import Base, Identified, now
from server.models.group import Group


class Outcome(StrEnum):
    BEST = "best"  # best_image_id beats every other image of the group
    RANKING = "ranking"  # `ranking` lists all image ids, best first
    RATED = "rated"  # `ratings` has numbers for each image, higher is better; one image beats another by Pareto dominance
    TIE = "tie"  # no difference worth a choice: no pairs
    ALL_BAD = "all_bad"  # nothing acceptable: no pairs
    SKIP = "skip"  # no opinion: no pairs, and the task wants somebody else's vote
    RETRACTED = "retracted"  # appended by undo; supersedes the vote it takes back


class Task(Identified, Base):
    """A group in the voting queue that wants `votes_wanted` votes. `mode`: how people are asked, see Project. `closed_at`: taken
    out of the queue by an operator."""

    __tablename__ = "tasks"
    __table_args__ = (Index("ix_tasks_project_id_closed_at_id", "project_id", "closed_at", "id"),)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    group_id: Mapped[str] = mapped_column(ForeignKey("groups.id"), unique=True)
    mode: Mapped[str] = mapped_column(String(20))
    votes_wanted: Mapped[int] = mapped_column(default=1)
    closed_at: Mapped[datetime | None]
    group: Mapped[Group] = relationship()


class Lease(Base):
    """One annotator's short hold on one task, with the image order that this annotator sees. `taken_at`: since when, unbroken."""

    __tablename__ = "leases"
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)
    taken_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
    shown_order: Mapped[list[str]]


def _time_of_receipt(context: Any) -> datetime:
    received_at: datetime = context.get_current_parameters()["received_at"]
    return received_at


class Vote(Base):
    """One annotator's outcome for a task; never changed, only superseded by a later row.

    `id` is the client's UUID, which makes a vote idempotent: the same id with the same `body_hash` is the same vote.
    `received_at` is the server's clock, the only one that orders votes. `slot_taken_at` is when the person took their slot of
    the task: at the start of the lease that the vote came within, else when the vote came. An edit keeps its slot.
    """

    __tablename__ = "votes"
    __table_args__ = (UniqueConstraint("supersedes"), Index("ix_votes_task_id_received_at", "task_id", "received_at"))
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    outcome: Mapped[Outcome] = mapped_column(String(20))
    best_image_id: Mapped[str | None] = mapped_column(ForeignKey("images.id"))
    ranking: Mapped[list[str]]
    ratings: Mapped[dict[str, list[float]]] = mapped_column(default=dict)
    flags: Mapped[dict[str, list[str]]]
    shown_order: Mapped[list[str]]
    criterion: Mapped[str] = mapped_column(String(40), default="overall")
    is_gold: Mapped[bool] = mapped_column(default=False)
    shown_at: Mapped[datetime | None]
    decided_at: Mapped[datetime | None]
    received_at: Mapped[datetime]
    slot_taken_at: Mapped[datetime] = mapped_column(default=_time_of_receipt)
    supersedes: Mapped[str | None] = mapped_column(ForeignKey("votes.id"))
    body_hash: Mapped[str] = mapped_column(String(64))
