"""The people of a project: who they are, how they vote, inviting by link, taking access away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy import select

from server.domain import invitations, people, projects, stats
from server.models import Project, User
from server.pages.visit import Visit, Visiting

router = APIRouter(prefix="/p/{project_id}/people")


@dataclass(frozen=True)
class Person:
    user: User
    role: str
    votes: int
    median_seconds: float | None


@router.get("")
def index(project_id: str, visit: Visiting) -> HTMLResponse:
    project = projects.open_for(visit.session, visit.user, project_id, "operator")
    return _page(visit, project)


@router.post("/invite")
def invite(project_id: str, visit: Visiting, role: Annotated[str, Form()]) -> HTMLResponse:
    """The page itself carries the link: nothing else ever shows it."""
    project = projects.open_for(visit.session, visit.user, project_id, "operator")
    secret = invitations.invite(visit.session, visit.user, project, role)
    return _page(visit, project, invitation=f"{visit.request.base_url}join/{secret}")


@router.post("/invitations/{invitation_id}/withdraw")
def withdraw(project_id: str, invitation_id: str, visit: Visiting) -> RedirectResponse:
    invitations.withdraw(visit.session, visit.user, invitation_id)
    return RedirectResponse(f"/p/{project_id}/people", status_code=303)


@router.post("/{user_id}/link")
def link(project_id: str, user_id: str, visit: Visiting) -> HTMLResponse:
    """A sign-in link for somebody who lost theirs; the page itself carries it."""
    project = projects.open_for(visit.session, visit.user, project_id, "operator")
    person = people.get(visit.session, user_id)
    secret = people.make_sign_in_link(visit.session, visit.user, person)
    return _page(visit, project, sign_in=f"{visit.request.base_url}sign-in/{secret}", link_of=person.name)


@router.post("/{user_id}/revoke")
def revoke(project_id: str, user_id: str, visit: Visiting) -> RedirectResponse:
    projects.open_for(visit.session, visit.user, project_id, "operator")
    people.revoke(visit.session, visit.user, people.get(visit.session, user_id))
    return RedirectResponse(f"/p/{project_id}/people", status_code=303)


def _page(visit: Visit, project: Project, invitation: str = "", sign_in: str = "", link_of: str = "") -> HTMLResponse:
    voted = {annotator.name: annotator for annotator in stats.project_stats(visit.session, project).annotators}
    members = {member.user.id: (member.user, member.role) for member in people.members(visit.session, project)}
    admins = {user.id: (user, "admin") for user in visit.session.scalars(select(User).where(User.is_admin))}
    rows = [_person(user, role, voted) for user, role in (members | admins).values()]
    return visit.page(
        "people.html", project, section="people", people=rows, invitation=invitation, sign_in=sign_in, link_of=link_of,
        invitations=invitations.list_open(visit.session, visit.user, project),
    )  # fmt: skip


def _person(user: User, role: str, voted: dict[str, stats.Annotator]) -> Person:
    annotator = voted.get(user.name)
    role = "machine" if user.reward else role
    return Person(user, role, annotator.votes if annotator else 0, annotator.median_seconds if annotator else None)
