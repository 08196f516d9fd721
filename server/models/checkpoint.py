"""What a training round produced."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Base, Identified


class Checkpoint(Identified, Base):
    """An adapter folder with a manifest: parent, round, votes hash, params, code version.

    The base model has no row: wherever a checkpoint id is optional, None (in the API: "base") means the base model.
    The project's current checkpoint is the one with the latest `promoted_at`; the end of its round sets it first.
    """

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("project_id", "number"),)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    round_id: Mapped[str] = mapped_column(ForeignKey("rounds.id"), unique=True)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("checkpoints.id"))
    number: Mapped[int]
    key: Mapped[str] = mapped_column(String(200))
    manifest: Mapped[dict[str, Any]]
    promoted_at: Mapped[datetime | None]
