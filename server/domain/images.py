"""Which images a person may see: those of the projects they belong to."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.domain import people
from server.errors import NotFound
from server.models import Group, Image, Project, User


def open_for(session: Session, user: User, image_id: str) -> Image:
    query = select(Image, Project).join(Group, Group.id == Image.group_id).join(Project, Project.id == Group.project_id)
    found = session.execute(query.where(Image.id == image_id)).one_or_none()
    if found is None:
        raise NotFound("There is no such image.")
    image, project = found.tuple()
    people.require(session, user, project, "annotator")
    return image
