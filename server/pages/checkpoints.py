"""The checkpoints of a project, and one checkpoint: what changed, where it comes from, promote and roll back.

For operators only: who sees the pictures labelled by checkpoint is no longer blind in a duel.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from sqlalchemy.orm import Session

from server.domain import blurring, checkpoints, projects
from server.models import Checkpoint, Project, Round, State
from server.pages import live
from server.pages.expectation import expectation
from server.pages.visit import Visit, Visiting
from server.pages.wording import facts

router = APIRouter()
# Where the file's own words say too little.
MANIFEST = {"weights": "Checksum of the weights", "model": "Checksum of the base model", "reference": "Reference policy"}


@router.get("/p/{project_id}/checkpoints")
def index(project_id: str, visit: Visiting) -> HTMLResponse:
    project = projects.open_for(visit.session, visit.user, project_id, "operator")
    known = checkpoints.list_(visit.session, project, limit=500)[0]
    parents = {None: None} | {checkpoint.id: checkpoint for checkpoint in known}
    current = checkpoints.current(visit.session, project)
    return visit.page("checkpoints.html", project, section="checkpoints", checkpoints=known, parents=parents, current=current)


@router.get("/checkpoints/{checkpoint_id}")
def show(checkpoint_id: str, visit: Visiting) -> HTMLResponse:
    checkpoint = checkpoints.open_for(visit.session, visit.user, checkpoint_id, "operator")
    project = projects.get(visit.session, checkpoint.project_id)
    return visit.page(
        "checkpoint.html", project, section="checkpoints", lineage=checkpoints.lineage(visit.session, checkpoint),
        manifest=_manifest(checkpoint), **_changing(visit.session, project, checkpoint),
    )  # fmt: skip


@router.get("/checkpoints/{checkpoint_id}/events")
def events(checkpoint_id: str, visit: Visiting) -> StreamingResponse:
    def parts(visit: Visit) -> dict[str, str]:
        checkpoint = checkpoints.open_for(visit.session, visit.user, checkpoint_id, "operator")
        project = projects.get(visit.session, checkpoint.project_id)
        changing = _changing(visit.session, project, checkpoint)
        names = {"use": "_checkpoint.html", "gallery": "_gallery.html"}
        return {name: visit.html(template, project, **changing) for name, template in names.items()}

    parts(visit)
    return live.stream(visit.request, parts)


@router.post("/p/{project_id}/promote")
def promote(project_id: str, visit: Visiting, checkpoint_id: Annotated[str, Form()]) -> RedirectResponse:
    project = projects.open_for(visit.session, visit.user, project_id, "operator")
    chosen = checkpoints.resolve(visit.session, project, checkpoint_id)
    if chosen is None:
        checkpoints.promote_base(visit.session, visit.user, project)
    else:
        checkpoints.promote(visit.session, visit.user, chosen.id)
    return visit.back(f"/p/{project_id}/checkpoints")


def _changing(session: Session, project: Project, checkpoint: Checkpoint) -> dict[str, Any]:
    """The checkpoint is there before its pictures: its round draws them, and then puts it into use if its parent still is."""
    training, current = session.get_one(Round, checkpoint.round_id), checkpoints.current(session, project)
    gallery = checkpoints.gallery(session, checkpoint)
    return {
        "checkpoint": checkpoint, "gallery": gallery, "blurred": blurring.in_gallery(session, project, gallery),
        "expected": expectation(project, checkpoint.manifest.get("groups", 0)),
        "drawing": training.state in (State.QUEUED, State.RUNNING),
        "follows": checkpoint.parent_id == (current.id if current else None),
        "parent": session.get(Checkpoint, checkpoint.parent_id) if checkpoint.parent_id else None,
        "in_use": current is not None and current.id == checkpoint.id,
    }  # fmt: skip


def _manifest(checkpoint: Checkpoint) -> dict[str, str]:
    return facts({MANIFEST.get(name, name): value for name, value in checkpoint.manifest.items()})
