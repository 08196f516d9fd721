"""People and how they get in: users, memberships, API tokens, browser sessions, one-time links."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from server.models.base import Base, Identified


def name_key(name: str) -> str:
    """Equal for names that a reader takes for one another: whatever their case, their spaces or their way of writing letters."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).split())


def _key_of_name(context: Any) -> str:
    return name_key(context.get_current_parameters()["name"])


class User(Identified, Base):
    """A person, or a machine annotator: then `reward` says what it scores images by, and nothing lets it sign in.

    `is_admin` is global; every other right comes from a Membership. `name_key` is taken once.
    """

    __tablename__ = "users"
    name: Mapped[str] = mapped_column(String(80), unique=True)
    name_key: Mapped[str] = mapped_column(String(240), index=True, unique=True, default=_key_of_name)
    is_admin: Mapped[bool] = mapped_column(default=False)
    password_hash: Mapped[str | None] = mapped_column(String(200))
    revoked_at: Mapped[datetime | None]
    reward: Mapped[dict[str, Any] | None]


class Membership(Base):
    """The role of one person in one project: operator or annotator."""

    __tablename__ = "memberships"
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(20))
    user: Mapped[User] = relationship()


class Credential(Identified, Base):
    """A secret, stored as SHA-256 only.

    kind: token (API bearer), session (cookie), sign_in (one-time link), invitation (link to join a project, good only
    while `created_by` may invite).
    """

    __tablename__ = "credentials"
    kind: Mapped[str] = mapped_column(String(20))
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id"), index=True)
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"), index=True)
    role: Mapped[str | None] = mapped_column(String(20))
    created_by: Mapped[str | None] = mapped_column(ForeignKey("users.id"))
    label: Mapped[str] = mapped_column(String(80), default="")
    csrf_token: Mapped[str | None] = mapped_column(String(64))
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
