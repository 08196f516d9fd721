"""Links that let somebody join a project, once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from server.domain import audit, people, secrets
from server.errors import Conflict, Gone, Invalid, NotFound
from server.models import Credential, Project, User, now

INVITATION_LASTS = timedelta(days=7)


@dataclass(frozen=True)
class Invitation:
    """A link that nobody has used yet."""

    id: str
    role: str
    by: str
    created_at: datetime
    expires_at: datetime | None


def invite(session: Session, by: User, project: Project, role: str) -> str:
    """The secret of a link that lets one person join the project, while `by` may invite."""
    if role not in ("operator", "annotator"):
        raise Invalid("People are invited as operator or annotator.")
    people.refuse_machine(by)
    people.require(session, by, project, "operator")
    audit.record(session, by, "invite", project.id, role=role)
    return secrets.issue(session, "invitation", lasts=INVITATION_LASTS, project_id=project.id, role=role, created_by=by.id)


def list_open(session: Session, by: User, project: Project) -> list[Invitation]:
    """Those that somebody could still use, newest first. The links themselves were shown once."""
    people.require(session, by, project, "operator")
    query = select(Credential, User).join(User, User.id == Credential.created_by).where(*_open())
    rows = session.execute(query.where(Credential.project_id == project.id).order_by(Credential.id.desc())).tuples()
    return [
        Invitation(made.id, made.role or "", inviter.name, made.created_at, made.expires_at)
        for made, inviter in rows
        if _may_invite(session, inviter, project)
    ]


def withdraw(session: Session, by: User, invitation_id: str) -> Credential:
    """The link stops working; whoever joined by one stays."""
    made = session.scalar(select(Credential).where(*_open(), Credential.id == invitation_id).with_for_update())
    if made is None or made.project_id is None:
        raise NotFound("There is no such open invitation; it was used, withdrawn, or is too old.")
    people.require(session, by, session.get_one(Project, made.project_id), "operator")
    made.revoked_at = now()
    audit.record(session, by, "withdraw invitation", made.id)
    return made


def _open() -> tuple[ColumnElement[bool], ...]:
    unused = (Credential.kind == "invitation", Credential.used_at.is_(None), Credential.revoked_at.is_(None))
    return *unused, Credential.expires_at > now()


def find(session: Session, secret: str, *, lock: bool = False) -> Credential:
    """Gone unless it is unused and its maker may still invite."""
    credential = secrets.find(session, "invitation", secret, lock=lock)
    if credential is None or credential.used_at is not None:
        raise Gone("This invitation was used already, withdrawn, or is too old. Ask the person who sent it for a new one.")
    inviter = session.get(User, credential.created_by or "")
    project = session.get_one(Project, project_of(credential))
    if inviter is None or not _may_invite(session, inviter, project):
        raise Gone("Whoever made this invitation may not invite people any more. Ask an operator of the project for a new one.")
    return credential


def _may_invite(session: Session, inviter: User, project: Project) -> bool:
    return inviter.revoked_at is None and people.RANK[people.role_in(session, inviter, project)] >= people.RANK["operator"]


def accept(session: Session, secret: str, name: str, password_hash: str) -> User:
    """A new person, member of the project that invited them."""
    credential = find(session, secret, lock=True)
    user = people.create_user(session, name, password_hash=password_hash)
    _join(session, credential, user)
    return user


def join(session: Session, secret: str, user: User) -> str:
    """Somebody who is known joins one more project, or rises in it; returns the project's id."""
    people.refuse_machine(user)
    credential = find(session, secret, lock=True)
    held = people.role_in(session, user, session.get_one(Project, project_of(credential)))
    if people.RANK[held] >= people.RANK[credential.role]:
        raise Conflict(f"You are {held} in this project already, and the invitation is left for somebody else.")
    return _join(session, credential, user)


def _join(session: Session, credential: Credential, user: User) -> str:
    project_id = project_of(credential)
    credential.used_at, credential.user_id = now(), user.id
    people.add_member(session, project_id, user, credential.role or "annotator")
    audit.record(session, user, "join", project_id, role=credential.role)
    return project_id


def project_of(invitation: Credential) -> str:
    if invitation.project_id is None:
        raise Gone("This invitation leads to no project. Ask for a new one.")
    return invitation.project_id
