"""Who people are, how they get in, and what they may do."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
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
INVITATION_LASTS = timedelta(days=7)
SIGN_IN_LASTS = timedelta(minutes=15)
UNSEEN = {"Cc", "Cf", "Cs", "Co"}  # Unicode categories of what a reader cannot see in a name


@dataclass(frozen=True)
class Invitation:
    """A link that nobody has used yet."""

    id: str
    role: str
    by: str
    created_at: datetime
    expires_at: datetime | None


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


def invite(session: Session, by: User, project: Project, role: str) -> str:
    """The secret of a link that lets one person join the project, while `by` may invite."""
    if role not in ("operator", "annotator"):
        raise Invalid("People are invited as operator or annotator.")
    refuse_machine(by)
    require(session, by, project, "operator")
    audit.record(session, by, "invite", project.id, role=role)
    return secrets.issue(session, "invitation", lasts=INVITATION_LASTS, project_id=project.id, role=role, created_by=by.id)


def open_invitations(session: Session, by: User, project: Project) -> list[Invitation]:
    """Those that somebody could still use, newest first. The links themselves were shown once."""
    require(session, by, project, "operator")
    query = select(Credential, User).join(User, User.id == Credential.created_by).where(*_open_invitation())
    rows = session.execute(query.where(Credential.project_id == project.id).order_by(Credential.id.desc())).tuples()
    return [
        Invitation(made.id, made.role or "", inviter.name, made.created_at, made.expires_at)
        for made, inviter in rows
        if _may_invite(session, inviter, project)
    ]


def withdraw_invitation(session: Session, by: User, invitation_id: str) -> Credential:
    """The link stops working; whoever joined by one stays."""
    made = session.scalar(select(Credential).where(*_open_invitation(), Credential.id == invitation_id).with_for_update())
    if made is None or made.project_id is None:
        raise NotFound("There is no such open invitation; it was used, withdrawn, or is too old.")
    require(session, by, session.get_one(Project, made.project_id), "operator")
    made.revoked_at = now()
    audit.record(session, by, "withdraw invitation", made.id)
    return made


def _open_invitation() -> tuple[ColumnElement[bool], ...]:
    unused = (Credential.kind == "invitation", Credential.used_at.is_(None), Credential.revoked_at.is_(None))
    return *unused, Credential.expires_at > now()


def find_invitation(session: Session, secret: str, *, lock: bool = False) -> Credential:
    """Gone unless it is unused and its maker may still invite."""
    credential = secrets.find(session, "invitation", secret, lock=lock)
    if credential is None or credential.used_at is not None:
        raise Gone("This invitation was used already, withdrawn, or is too old. Ask the person who sent it for a new one.")
    inviter = session.get(User, credential.created_by or "")
    project = session.get_one(Project, get_project_id(credential))
    if inviter is None or not _may_invite(session, inviter, project):
        raise Gone("Whoever made this invitation may not invite people any more. Ask an operator of the project for a new one.")
    return credential


def _may_invite(session: Session, inviter: User, project: Project) -> bool:
    return inviter.revoked_at is None and RANK[role_in(session, inviter, project)] >= RANK["operator"]


def accept_invitation(session: Session, secret: str, name: str, password_hash: str) -> User:
    """A new person, member of the project that invited them."""
    credential = find_invitation(session, secret, lock=True)
    user = create_user(session, name, password_hash=password_hash)
    _join(session, credential, user)
    return user


def join(session: Session, secret: str, user: User) -> str:
    """Somebody who is known joins one more project, or rises in it; returns the project's id."""
    refuse_machine(user)
    credential = find_invitation(session, secret, lock=True)
    held = role_in(session, user, session.get_one(Project, get_project_id(credential)))
    if RANK[held] >= RANK[credential.role]:
        raise Conflict(f"You are {held} in this project already, and the invitation is left for somebody else.")
    return _join(session, credential, user)


def _join(session: Session, credential: Credential, user: User) -> str:
    project_id = get_project_id(credential)
    credential.used_at, credential.user_id = now(), user.id
    add_member(session, project_id, user, credential.role or "annotator")
    audit.record(session, user, "join", project_id, role=credential.role)
    return project_id


def get_project_id(invitation: Credential) -> str:
    if invitation.project_id is None:
        raise Gone("This invitation leads to no project. Ask for a new one.")
    return invitation.project_id


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
