"""`d3po user`: people, their ways in, and invitations. Acts as the first admin."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy.orm import Session

from server import db
from server.cli_rounds import ProjectName, find_project, first_admin
from server.domain import invitations, people
from server.errors import Conflict, Invalid
from server.models import User

app = typer.Typer(no_args_is_help=True, help="People.")
told = Console(stderr=True, highlight=False)


@app.command("add")
def add_user(
    name: str,
    role: Annotated[str, typer.Option(help="admin, operator or annotator.")] = "annotator",
    project: Annotated[
        str | None, typer.Option(help="For operators and annotators; may be left out while there is only one.")
    ] = None,
) -> None:
    """Add a person, or one who is known to another project. Prints a new API token, shown once, and a link path that signs in."""
    if role not in ("admin", "operator", "annotator"):
        raise Invalid(f"The role must be admin, operator or annotator, you wrote {role}.")
    with db.session_scope() as session:
        member_of = None if role == "admin" else find_project(session, project)
        user = people.known(session, name) or people.create_user(session, name)
        people.refuse_machine(user)
        _refuse_revoked(user)
        user.is_admin = user.is_admin or role == "admin"
        if member_of is not None:
            people.add_member(session, member_of.id, user, role)
        token = people.issue_token(session, user, "d3po user add")
        link = people.new_sign_in_link(session, user)
    print(token)
    _say(f"{user.name} is {role}. The token above is shown once. In a browser, within 15 minutes: /sign-in/{link}")


@app.command("link")
def link(name: str) -> None:
    """Print a link path that signs this person in, once and within 15 minutes: for whoever lost password and link."""
    with db.session_scope() as session:
        secret = people.make_sign_in_link(session, first_admin(session), people.find(session, name))
    print(f"/sign-in/{secret}")


@app.command("token")
def token(name: str, label: Annotated[str, typer.Option(help="What it is for.")] = "d3po user token") -> None:
    """Print a new API token of this person, shown once. Their other tokens go on working; they revoke them on their page."""
    with db.session_scope() as session:
        user = people.find(session, name)
        _refuse_revoked(user)
        secret = people.issue_token(session, user, label)
    print(secret)


@app.command("revoke")
def revoke(name: str) -> None:
    """Take all access away from this person, and the invitations they made. Their votes stay."""
    with db.session_scope() as session:
        user = people.find(session, name)
        people.revoke(session, first_admin(session), user)
    _say(f"{user.name} has no access any more. Their votes stay.")


@app.command("invite")
def invite(project: ProjectName = None, role: Annotated[str, typer.Option(help="operator or annotator.")] = "annotator") -> None:
    """Print a link path that lets one person join the project, once and within a week."""
    with db.session_scope() as session:
        secret = invitations.invite(session, first_admin(session), find_project(session, project), role)
    print(f"/join/{secret}")


@app.command("invitations")
def list_invitations(project: ProjectName = None) -> None:
    """List the invitations that somebody could still use: id, role, who made it, and when it ends."""
    with db.read_scope() as session:
        for one in _open(session, project):
            print(one.id, one.role, one.by, f"{one.expires_at:%Y-%m-%d %H:%M} UTC", sep="\t")


@app.command("withdraw")
def withdraw(invitation_id: str) -> None:
    """Make an invitation useless, by the id that `d3po user invitations` shows."""
    with db.session_scope() as session:
        invitations.withdraw(session, first_admin(session), invitation_id)
    _say("The invitation is withdrawn.")


def _open(session: Session, project: str | None) -> list[invitations.Invitation]:
    return invitations.list_open(session, first_admin(session), find_project(session, project))


def _refuse_revoked(user: User) -> None:
    if user.revoked_at is not None:
        raise Conflict(f"The access of {user.name} was taken away for good. Choose another name.")


def _say(sentence: str) -> None:
    told.print(sentence, markup=False, soft_wrap=True)
