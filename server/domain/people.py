"""Who people are, how they sign in, and what they may do."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from datetime import timedelta
from itertools import count
from secrets import token_urlsafe
from typing import Literal

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from server.domain import audit, secrets
from server.errors import Conflict, Denied, Gone, Invalid, NotFound, NotSignedIn
from server.models import Credential, Membership, Project, User, name_key, now

Role = Literal["admin", "operator", "annotator"]
RANK: dict[str | None, int] = {None: 0, "annotator": 1, "operator": 2, "admin": 3}
SESSION_LASTS = timedelta(days=30)
SIGN_IN_LASTS = timedelta(minutes=15)
UNSEEN = {"Cc", "Cf", "Cs", "Co"}  # Unicode categories of what a reader cannot see in a name


def create_user(session: Session, name: str, is_admin: bool = False, password_hash: str | None = None) -> User:
    """A new person. `password_hash` is what passwords.hashed() gave, outside this transaction."""
    name = _readable(name)
    if session.scalar(select(User.id).where(User.name_key == name_key(name))):
        raise Conflict(f"There is already somebody called {name}, or a name that looks the same. Choose another name.")
    user = User(name=name, is_admin=is_admin, password_hash=password_hash)
    session.add(user)
    session.flush()
    audit.record(session, None, "add person", user.id)
    return user


def _readable(name: str) -> str:
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not name or len(name) > 80 or len(name_key(name)) > 200:
        raise Invalid("A name needs 1 to 80 characters.")
    if any(unicodedata.category(character) in UNSEEN for character in name):
        raise Invalid("A name takes only characters that others can see; this one hides some. Type it anew.")
    return name


def free_name(session: Session, name: str, taken: Collection[str] = ()) -> str:
    """The name, with a number behind it where somebody has it, or it is among `taken` (keys of names)."""
    tries = (name if number == 1 else f"{name} {number}" for number in count(1))
    return next(tried for tried in tries if name_key(tried) not in taken and known(session, tried) is None)


def refuse_machine(user: User) -> None:
    """Whatever would let somebody in is for people only."""
    if user.reward:
        raise Conflict(f"{user.name} is a machine annotator: it votes by what it scores, and nothing lets it sign in.")


def get(session: Session, user_id: str) -> User:
    user = session.get(User, user_id)
    if user is None:
        raise NotFound("There is no such person.")
    return user


def find(session: Session, name: str) -> User:
    """By name, as people type it on a command line."""
    user = known(session, name)
    if user is None:
        raise NotFound(f"There is nobody called {name}. `d3po user add {name}` adds them.")
    return user


def known(session: Session, name: str) -> User | None:
    return session.scalar(select(User).where(User.name_key == name_key(name)))


def set_password(session: Session, user: User, password_hash: str) -> None:
    """From now on this password, as passwords.hashed() gave it. Every open session of the person ends."""
    refuse_machine(user)
    user.password_hash = password_hash
    _end(session, Credential.user_id == user.id, Credential.kind == "session")
    audit.record(session, user, "set password", user.id)


def issue_token(session: Session, user: User, label: str) -> str:
    """An API token, to be shown once."""
    refuse_machine(user)
    return secrets.issue(session, "token", prefix="d3po_", user_id=user.id, label=label[:80])


def user_of_token(session: Session, secret: str) -> User:
    return _present(session, secrets.find(session, "token", secret), "This token is not valid. Ask an admin for a new one.")


def tokens(session: Session, user: User) -> Sequence[Credential]:
    """The person's API tokens that work, newest first. The secrets themselves are nowhere."""
    query = select(Credential).where(Credential.user_id == user.id, Credential.kind == "token", Credential.revoked_at.is_(None))
    return session.scalars(query.order_by(Credential.id.desc())).all()


def revoke_token(session: Session, user: User, token_id: str) -> None:
    """One of the person's own tokens stops working."""
    if token_id not in {token.id for token in tokens(session, user)}:
        raise NotFound("You have no such token; it may be revoked already.")
    _end(session, Credential.id == token_id)
    audit.record(session, user, "revoke token", token_id)


def start_session(session: Session, user: User) -> tuple[str, str]:
    """A browser session: the cookie's secret and the CSRF token that every write must repeat."""
    refuse_machine(user)
    csrf = token_urlsafe(24)
    audit.record(session, user, "sign in", user.id)
    return secrets.issue(session, "session", lasts=SESSION_LASTS, user_id=user.id, csrf_token=csrf), csrf


def user_of_session(session: Session, secret: str) -> tuple[User, str]:
    credential = secrets.find(session, "session", secret)
    user = _present(session, credential, "You are signed out. Sign in again.")
    return user, (credential.csrf_token if credential else None) or ""


def end_session(session: Session, secret: str) -> None:
    credential = secrets.find(session, "session", secret)
    if credential is not None:
        credential.revoked_at = now()
        session.flush()


def new_sign_in_link(session: Session, user: User, lasts: timedelta = SIGN_IN_LASTS) -> str:
    """The secret of a link that signs this person in, once."""
    refuse_machine(user)
    return secrets.issue(session, "sign_in", lasts=lasts, user_id=user.id)


def make_sign_in_link(session: Session, by: User, user: User) -> str:
    """For somebody who lost their password and their link. Admins only: whoever opens it is that person."""
    if not by.is_admin:
        raise Denied("Only an admin can make a sign-in link for somebody.")
    if user.revoked_at is not None:
        raise Conflict(f"{user.name} has no access any more, so a link would open nothing.")
    audit.record(session, by, "sign-in link", user.id)
    return new_sign_in_link(session, user)


def use_sign_in_link(session: Session, secret: str) -> User:
    credential = secrets.find(session, "sign_in", secret, lock=True)
    if credential is None or credential.used_at is not None:
        raise Gone("This sign-in link was used already or is too old. Ask for a new one, or sign in with your password.")
    credential.used_at = now()
    return _present(session, credential, "This person has no access any more.")


def add_member(session: Session, project_id: str, user: User, role: str) -> None:
    session.merge(Membership(project_id=project_id, user_id=user.id, role=role))
    session.flush()


def members(session: Session, project: Project) -> list[Membership]:
    query = select(Membership).join(Membership.user).where(Membership.project_id == project.id).order_by(User.name)
    return list(session.scalars(query))


def revoke(session: Session, by: User, user: User) -> None:
    """Takes all access away, and the invitations that the person made.

    What they voted stays, and stays traceable to the checkpoints that learned from it.
    """
    if not by.is_admin:
        raise Denied("Only an admin can take access away.")
    if by.id == user.id:
        raise Conflict("You cannot take your own access away. Ask another admin.")
    user.revoked_at = now()
    _end(session, or_(Credential.user_id == user.id, Credential.created_by == user.id))
    audit.record(session, by, "revoke", user.id)


def _end(session: Session, *which: ColumnElement[bool]) -> None:
    session.execute(update(Credential).where(*which, Credential.revoked_at.is_(None)).values(revoked_at=now()))
    session.flush()


def role_in(session: Session, user: User, project: Project) -> Role | None:
    if user.is_admin:
        return "admin"
    member = session.get(Membership, (project.id, user.id))
    return member.role if member else None  # type: ignore[return-value]


def require(session: Session, user: User, project: Project, role: Role) -> None:
    """Denied unless the person has this role in the project, or a higher one."""
    held = role_in(session, user, project)
    if held is None:
        raise Denied("You are not a member of this project. Ask one of its operators for an invitation.")
    if RANK[held] < RANK[role]:
        raise Denied(f"This needs the role {role}; you are {held} here. Ask an operator of the project.")


def _present(session: Session, credential: Credential | None, sentence: str) -> User:
    user = session.get(User, credential.user_id) if credential and credential.user_id else None
    if user is None or user.revoked_at is not None or user.reward:
        raise NotSignedIn(sentence)
    return user
