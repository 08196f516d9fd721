"""What people did that others may have to answer for."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from server.models import Audit, User


def record(session: Session, by: User | None, action: str, subject: str, **detail: Any) -> None:
    session.add(Audit(user_id=by.id if by else None, action=action, subject=subject, detail=detail))
    session.flush()
