"""What a round would cost, before it is launched."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from server.api.shapes import EstimateOut
from server.deps import CurrentUser, DbSession, Files
from server.domain import estimates, projects

router = APIRouter(tags=["rounds"])


class Sizes(BaseModel):
    """What makes a round large; what is left out is the default of the launch."""

    model_config = ConfigDict(extra="forbid")
    count: int | None = Field(default=None, ge=1, le=10_000, description="Prompts (sample, duel, study).")
    images_per_prompt: int | None = Field(default=None, ge=2, le=64, description="Of a sample round.")
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000, description="Of a round that draws.")
    policies: int | None = Field(default=None, ge=2, le=9, description="How many a study compares.")
    seeds: int | None = Field(default=None, ge=1, le=1000, description="How many a prompt, of a duel round.")
    epochs: int | None = Field(default=None, ge=1, le=100, description="Of a training round.")
    votes: Literal["all", "new"] = Field(default="all", description="Which a training round learns from.")


@router.get("/projects/{project_id}/estimates/{kind}")
def estimate(
    project_id: str,
    kind: Literal["sample", "training", "duel", "study"],
    sizes: Annotated[Sizes, Query()],
    session: DbSession,
    user: CurrentUser,
    storage: Files,
) -> EstimateOut:
    """Time, disk and memory of a round, judged by the latest of its kind that is done; all null before there is one."""
    project = projects.open_for(session, user, project_id, "operator")
    asked: dict[str, Any] = sizes.model_dump(exclude_none=True)
    params = estimates.planned(session, project, kind, asked)
    return EstimateOut.of(estimates.estimate(session, storage, project, kind, params))
