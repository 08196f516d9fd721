"""Inviting people to a project, and taking an invitation back."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from server.api.shapes import After, InvitationOut, Limit, NewInvitationOut, Page
from server.deps import CurrentUser, DbSession
from server.domain import invitations, projects

router = APIRouter(tags=["people"])


class NewInvitation(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "annotator"}]})
    role: Literal["operator", "annotator"] = "annotator"


@router.get("/projects/{project_id}/invitations")
def list_all(
    project_id: str, session: DbSession, user: CurrentUser, after: After = None, limit: Limit = 50
) -> Page[InvitationOut]:
    """Those that somebody could still use, newest first. The links themselves were shown once."""
    project = projects.open_for(session, user, project_id, "operator")
    found = [one for one in invitations.list_open(session, user, project) if after is None or one.id < after]
    following = found[limit - 1].id if len(found) > limit else None
    return Page(items=[InvitationOut.model_validate(one) for one in found[:limit]], next=following)


@router.post("/projects/{project_id}/invitations", status_code=201)
def invite(project_id: str, body: NewInvitation, request: Request, session: DbSession, user: CurrentUser) -> NewInvitationOut:
    """A link that lets one person join, once and within a week. It is shown only in this answer."""
    project = projects.open_for(session, user, project_id, "operator")
    secret = invitations.invite(session, user, project, body.role)
    return NewInvitationOut(link=f"{request.base_url}join/{secret}")


@router.post("/invitations/{invitation_id}/withdraw", status_code=204)
def withdraw(invitation_id: str, session: DbSession, user: CurrentUser) -> None:
    """The link stops working; whoever joined by one stays."""
    invitations.withdraw(session, user, invitation_id)
