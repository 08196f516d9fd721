"""Groups of images, the images, and what rewards say of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Double, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from server.models.base import Base, Identified


class Group(Identified, Base):
    """N images of one prompt from one shared x_T. `position` counts within its round from 0."""

    __tablename__ = "groups"
    __table_args__ = (UniqueConstraint("round_id", "position"),)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    round_id: Mapped[str] = mapped_column(ForeignKey("rounds.id"))
    position: Mapped[int]
    prompt: Mapped[str] = mapped_column(Text)
    trajectory_key: Mapped[str | None] = mapped_column(String(200))
    trajectory_sha256: Mapped[str | None] = mapped_column(String(64))
    images: Mapped[list[Image]] = relationship(order_by="Image.position")


class Image(Identified, Base):
    """One lossless original, addressed by the SHA-256 of its file. `checkpoint_id` is who drew it; None: the base model."""

    __tablename__ = "images"
    __table_args__ = (UniqueConstraint("group_id", "position"),)
    group_id: Mapped[str] = mapped_column(ForeignKey("groups.id"))
    position: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    width: Mapped[int]
    height: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    checkpoint_id: Mapped[str | None] = mapped_column(ForeignKey("checkpoints.id"))


class Score(Base):
    """What a reward says of an image, higher is better. `reward`: its name, and its parameters where it has any."""

    __tablename__ = "scores"
    image_id: Mapped[str] = mapped_column(ForeignKey("images.id"), primary_key=True)
    reward: Mapped[str] = mapped_column(String(300), primary_key=True)
    value: Mapped[float] = mapped_column(Double)
