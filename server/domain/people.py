"""Who people are, how they get in, and what they may do."""

from __future__ import annotations

from datetime import timedelta
from secrets import token_urlsafe
from typing import Literal

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from server.domain import audit, secrets
from server.errors import Conflict, Denied, Gone, Invalid, NotFound, NotSignedIn
from server.models import Credential, Membership, Project, User, now

Role = Literal["admin", "operator", "annotator"]
RANK: dict[str | None, int] = {None: 0, "annotator": 1, "operator": 2, "admin": 3}
SESSION_LASTS = timedelta(days=30)
INVITATION_LASTS = timedelta(days=7)
SIGN_IN_LASTS = timedelta(minutes=15)
MIN_PASSWORD = 10

_passwords = PasswordHasher()
_nobody = _passwords.hash("nobody has this password")


def create_user(session: Session, name: str, is_admin: bool = False, password: str | None = None) -> User:
    name = name.strip()
    if not 1 <= len(name) <= 80:
        raise Invalid("A name needs 1 to 80 characters.")
    if session.scalar(select(User.id).where(func.lower(User.name) == name.lower())):
        raise Conflict(f"There is already somebody called {name}. Choose another name.")
    user = User(name=name, is_admin=is_admin)
    session.add(user)
    session.flush()
    if password is not None:
        set_password(session, user, password)
    return user


def get(session: Session, user_id: str) -> User:
    user = session.get(User, user_id)
    if user is None:
        raise NotFound("There is no such person.")
    return user


def find(session: Session, name: str) -> User:
    user = session.scalar(select(User).where(User.name == name))
    if user is None:
        raise NotFound(f"There is nobody called {name}. `d3po user add {name}` adds them.")
    return user


def set_password(session: Session, user: User, password: str) -> None:
    if not MIN_PASSWORD <= len(password) <= 200:
        raise Invalid(f"A password needs {MIN_PASSWORD} to 200 characters.")
    user.password_hash = _passwords.hash(password)
    session.flush()


def check_password(session: Session, name: str, password: str) -> User:
    """The user with this name and password. An unknown name takes as long as a wrong password."""
    user = session.scalar(select(User).where(func.lower(User.name) == name.strip().lower(), User.revoked_at.is_(None)))
    try:
        _passwords.verify((user and user.password_hash) or _nobody, password)
    except VerificationError as error:
        raise NotSignedIn("That name and password do not belong together.") from error
    if user is None or user.password_hash is None:
        raise NotSignedIn("That name and password do not belong together.")
    return user


def issue_token(session: Session, user: User, label: str) -> str:
    """An API token, to be shown once."""
    return secrets.issue(session, "token", prefix="d3po_", user_id=user.id, label=label[:80])


def user_of_token(session: Session, secret: str) -> User:
    return _present(session, secrets.find(session, "token", secret), "This token is not valid. Ask an admin for a new one.")


def start_session(session: Session, user: User) -> tuple[str, str]:
    """A browser session: the cookie's secret and the CSRF token that every write must repeat."""
    csrf = token_urlsafe(24)
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
    return secrets.issue(session, "sign_in", lasts=lasts, user_id=user.id)


def use_sign_in_link(session: Session, secret: str) -> User:
    credential = secrets.find(session, "sign_in", secret, lock=True)
    if credential is None or credential.used_at is not None:
        raise Gone("This sign-in link was used already or is too old. Ask for a new one, or sign in with your password.")
    credential.used_at = now()
    return _present(session, credential, "This person has no access any more.")


def invite(session: Session, by: User, project: Project, role: str) -> str:
    """The secret of a link that lets one new person join the project."""
    if role not in ("operator", "annotator"):
        raise Invalid("People are invited as operator or annotator.")
    require(session, by, project, "operator")
    audit.record(session, by, "invite", project.id, role=role)
    return secrets.issue(session, "invitation", lasts=INVITATION_LASTS, project_id=project.id, role=role)


def find_invitation(session: Session, secret: str, *, lock: bool = False) -> Credential:
    credential = secrets.find(session, "invitation", secret, lock=lock)
    if credential is None or credential.used_at is not None:
        raise Gone("This invitation was used already or is too old. Ask the person who sent it for a new one.")
    return credential


def accept_invitation(session: Session, secret: str, name: str, password: str) -> User:
    """A new person, member of the project that invited them."""
    credential = find_invitation(session, secret, lock=True)
    user = create_user(session, name, password=password)
    credential.used_at, credential.user_id = now(), user.id
    add_member(session, get_project_id(credential), user, credential.role or "annotator")
    return user


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
    """Takes all access away. What the person voted stays, and stays traceable to the checkpoints that learned from it."""
    if not by.is_admin:
        raise Denied("Only an admin can take access away.")
    if by.id == user.id:
        raise Conflict("You cannot take your own access away. Ask another admin.")
    user.revoked_at = now()
    live = update(Credential).where(Credential.user_id == user.id, Credential.revoked_at.is_(None))
    session.execute(live.values(revoked_at=now()))
    audit.record(session, by, "revoke", user.id)


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
    if user is None or user.revoked_at is not None:
        raise NotSignedIn(sentence)
    return user
