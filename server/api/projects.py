"""Projects, and what they have gathered."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from d3po_core.params import SamplingParams, TrainingParams
from server.api.problems import gives, problems
from server.api.shapes import After, Limit, Page, ProjectOut
from server.deps import CurrentUser, DbSession, Files
from server.domain import checkpoints, exports, presets, projects, stats
from server.domain.stats import ProjectStats

router = APIRouter(tags=["projects"])
STATS = {
    "groups": 24, "tasks": 24, "tasks_waiting": 9, "tasks_set_aside": 0, "votes": 16, "counted": 15, "surplus": 1,
    "usable": {"votes": 15, "groups": 12, "pairs": 60, "ties": 2, "all_bad": 1, "disagreements": 0}, "agreement": 0.8,
    "annotators": [{"name": "Alice", "votes": 16, "median_seconds": 2.4, "machine": False}], "position_bias": [3, 2, 3, 2, 1, 2],
}  # fmt: skip


class NewProject(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "Emoji", "base_model": "demo", "mode": "best", "votes_per_task": 1}]},
    )
    name: Annotated[str, Field(min_length=1, max_length=80)]
    base_model: str | None = Field(default=None, description="A name registered in the server's settings; null: its default.")
    preset: str | None = Field(
        default=None,
        description=f"{', '.join(presets.PRESETS)}: an experiment of the D3PO paper. What is null or left out is the preset's, "
        "without one the default that is named here.",
    )
    mode: str | None = Field(
        default=None, description="best (of N images, the default), pairwise, ranking (all N in order), or good_bad (each image)."
    )
    guideline: Annotated[str | None, Field(max_length=20_000, description="Empty by default.")] = None
    votes_per_task: int | None = Field(default=None, description="1 by default.")
    prompt_set: str | None = Field(default=None, description="demo by default.")
    prompts: dict[str, float] | None = Field(
        default=None, description='A prompt set of its own instead, each prompt with its weight: {"a cat": 1, "a dog": 2}.'
    )
    sampling: SamplingParams | None = Field(
        default=None, description="Of rounds that do not say otherwise; what is left out is the base model's own."
    )
    training: TrainingParams | None = Field(
        default=None, description="Of rounds that do not say otherwise; what is left out is the base model's own."
    )
    flags: list[str] | None = Field(default=None, description="Words about single images; null: distorted, unsafe, off-prompt.")
    blur: bool | None = Field(default=None, description="Blur images until hovered, focused or tapped; not by default.")


class ProjectChange(BaseModel):
    """What is left out stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"flags": ["distorted", "extra fingers"]}]})
    flags: list[str] | None = Field(default=None, description="Words about single images that people are offered from now on.")
    prompts: dict[str, float] | None = Field(
        default=None, description="A prompt set of its own, each prompt with its weight, that rounds draw from from now on."
    )
    prompt_set: str | None = Field(default=None, description='A prompt set by name, "own" for the project\'s own.')
    blur: bool | None = Field(default=None, description="Blur images until somebody wants to see them.")


@router.post("/projects", status_code=201, responses=problems(409))
def create(body: NewProject, session: DbSession, user: CurrentUser) -> ProjectOut:
    """Creates a project. Admins only."""
    project = projects.create(session, user, **{name: getattr(body, name) for name in NewProject.model_fields})
    return ProjectOut.of(project, None)


@router.get("/projects")
def list_all(session: DbSession, user: CurrentUser, after: After = None, limit: Limit = 50) -> Page[ProjectOut]:
    """The projects you belong to, by name; all of them for an admin."""
    found, following = projects.page_for(session, user, after, limit)
    current = checkpoints.current_of(session, found)
    return Page(items=[ProjectOut.of(project, current.get(project.id)) for project in found], next=following)


@router.get("/projects/{project_id}")
def read(project_id: str, session: DbSession, user: CurrentUser) -> ProjectOut:
    project = projects.open_for(session, user, project_id, "annotator")
    return ProjectOut.of(project, checkpoints.current(session, project))


@router.patch("/projects/{project_id}")
def change(project_id: str, body: ProjectChange, session: DbSession, user: CurrentUser) -> ProjectOut:
    """Changes what is named, from now on. Operators only."""
    project = projects.open_for(session, user, project_id, "operator")
    if body.flags is not None:
        projects.set_flags(session, user, project, body.flags)
    if body.prompts is not None:
        projects.set_prompts(session, user, project, body.prompts)
    if body.prompt_set is not None:
        projects.choose_prompt_set(session, user, project, body.prompt_set)
    if body.blur is not None:
        projects.set_blur(session, user, project, body.blur)
    return ProjectOut.of(project, checkpoints.current(session, project))


@router.get("/projects/{project_id}/stats", responses={200: {"content": {"application/json": {"example": STATS}}}})
def read_stats(project_id: str, session: DbSession, user: CurrentUser) -> ProjectStats:
    """Usable pairs, lost signal, agreement, speed and position bias. Operators only: annotators stay blind."""
    return stats.project_stats(session, projects.open_for(session, user, project_id, "operator"))


@router.get(
    "/projects/{project_id}/export",
    response_class=StreamingResponse,
    responses=gives("application/zip"),
)
def export(
    project_id: str,
    session: DbSession,
    user: CurrentUser,
    storage: Files,
    format: Annotated[str, Query(json_schema_extra={"enum": list(exports.FORMATS)})],
) -> StreamingResponse:
    """What the project has gathered, as a file; docs/formats.md describes each format. Operators only."""
    project = projects.open_for(session, user, project_id, "operator")
    chosen = exports.find(format)
    headers = {"Content-Disposition": f'attachment; filename="{chosen.filename(project)}"', "Cache-Control": "no-store"}
    return StreamingResponse(chosen.write(session, storage, project), media_type=chosen.media_type, headers=headers)
