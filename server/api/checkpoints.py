"""Checkpoints: lists, lineage, download, promotion."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import FileResponse

from server.api.problems import gives
from server.api.shapes import After, CheckpointDetail, CheckpointOut, Limit, Page, ProjectOut
from server.deps import CurrentUser, DbSession, Files
from server.domain import checkpoints, projects
from server.errors import Gone
from server.models import Project

router = APIRouter(tags=["checkpoints"])
WEIGHTS = "pytorch_lora_weights.safetensors"


@router.get("/projects/{project_id}/checkpoints")
def list_all(
    project_id: str, session: DbSession, user: CurrentUser, after: After = None, limit: Limit = 50
) -> Page[CheckpointOut]:
    """Newest first. The base model has no entry."""
    project = projects.open_for(session, user, project_id, "operator")
    found, following = checkpoints.list_(session, project, after, limit)
    current = checkpoints.current(session, project)
    return Page(items=[CheckpointOut.of(checkpoint, current) for checkpoint in found], next=following)


@router.get("/checkpoints/{checkpoint_id}")
def read(checkpoint_id: str, session: DbSession, user: CurrentUser) -> CheckpointDetail:
    """The manifest, and where the checkpoint comes from."""
    checkpoint = checkpoints.open_for(session, user, checkpoint_id, "operator")
    lineage = checkpoints.lineage(session, checkpoint)
    current = checkpoints.current(session, session.get_one(Project, checkpoint.project_id))
    ancestors = [ancestor.id for ancestor in lineage.ancestors]
    plain = CheckpointOut.of(checkpoint, current).model_dump()
    return CheckpointDetail(**plain, ancestors=ancestors, votes_by_person=lineage.votes_by_person)


@router.get(
    "/checkpoints/{checkpoint_id}/download",
    response_class=FileResponse,
    responses=gives("application/octet-stream", 410),
)
def download(checkpoint_id: str, session: DbSession, user: CurrentUser, storage: Files) -> FileResponse:
    """The LoRA as safetensors, as `pipe.load_lora_weights(folder)` of diffusers reads it."""
    checkpoint = checkpoints.open_for(session, user, checkpoint_id, "operator")
    path = storage.checkpoint(checkpoint.key) / WEIGHTS
    if not path.is_file():
        raise Gone(f"The file of checkpoint {checkpoint.number} is no longer in the data folder. Restore it from a backup.")
    return FileResponse(path, media_type="application/octet-stream", filename=f"checkpoint-{checkpoint.number}-{WEIGHTS}")


@router.post("/checkpoints/{checkpoint_id}/promote")
def promote(checkpoint_id: str, session: DbSession, user: CurrentUser) -> CheckpointOut:
    """From now on sample rounds use this checkpoint; an older one is a roll-back."""
    checkpoint = checkpoints.promote(session, user, checkpoint_id)
    return CheckpointOut.of(checkpoint, checkpoint)


@router.post("/projects/{project_id}/checkpoints/base/promote")
def promote_base(project_id: str, session: DbSession, user: CurrentUser) -> ProjectOut:
    """Rolls back to the base model; all checkpoints are kept."""
    project = projects.open_for(session, user, project_id, "operator")
    checkpoints.promote_base(session, user, project)
    return ProjectOut.of(project, None)
