"""Requesting studies. Their results come with their rounds."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from server.api.problems import problems
from server.api.rounds import Drawing, shown
from server.api.shapes import RoundOut
from server.deps import CurrentUser, DbSession
from server.domain import projects, rounds
from server.domain.studying import STUDY_ITEMS, StudyParams
from server.errors import parse

router = APIRouter(tags=["rounds"])


class NewStudyRound(StudyParams, Drawing):
    """Values that are left out are the project's own; a seed that is left out is drawn anew."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"checkpoints": ["base", "3"], "votes_per_item": 5, "count": 100}]})
    checkpoints: Annotated[list[str], Field(min_length=1, max_length=100)] = Field(
        description='Which policies draw, 2 to 9: "base", "current", ids or numbers.'
    )
    count: int = Field(default=STUDY_ITEMS, description="How many prompts to draw from the held-out part of the prompt set.")


@router.post("/projects/{project_id}/study-rounds", status_code=201, responses=problems(413))
def study(project_id: str, body: NewStudyRound, session: DbSession, user: CurrentUser) -> RoundOut:
    """Draws the same prompts and noise by several policies; as many people as the study wants say, blind, which image is best."""
    project = projects.open_for(session, user, project_id, "operator")
    params = parse(StudyParams, body.model_dump(exclude_unset=True, include=set(StudyParams.model_fields)))
    round_ = rounds.request_study_round(session, user, project, params, body.checkpoints, **body.source())
    return shown(session, [round_])[0]
