"""Secrets that the database knows only by their SHA-256: API tokens, browser sessions, one-time links."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.models import Credential, now


def issue(session: Session, kind: str, *, lasts: timedelta | None = None, prefix: str = "", **fields: str | None) -> str:
    """A new secret of one kind; only its hash is kept, so this is the one time it can be seen."""
    secret = prefix + secrets.token_urlsafe(32)
    expires_at = now() + lasts if lasts else None
    session.add(Credential(kind=kind, secret_hash=_hash(secret), expires_at=expires_at, **fields))
    session.flush()
    return secret


def find(session: Session, kind: str, secret: str, *, lock: bool = False) -> Credential | None:
    """The valid credential behind a secret. Looked up by hash, so the time it takes tells nothing about the secret."""
    query = select(Credential).where(
        Credential.kind == kind, Credential.secret_hash == _hash(secret), Credential.revoked_at.is_(None)
    )
    credential = session.scalar(query.with_for_update() if lock else query)
    expired = credential is not None and credential.expires_at is not None and credential.expires_at <= now()
    return None if expired else credential


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
