"""The form that launches an auto round. An empty field means the default."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from d3po_core.params import SamplingParams, TrainingParams
from d3po_core.rewards import RewardParams
from server.domain import auto, projects
from server.domain.auto import AutoOptions, AutoParams
from server.errors import parse
from server.pages.launch import known, launch, rewards_of
from server.pages.visit import Fields, Visiting
from server.pages.wording import LABELS

router = APIRouter()


@router.post("/p/{project_id}/auto-rounds")
def auto_round(project_id: str, visit: Visiting, fields: Fields) -> Response:
    project = projects.open_for(visit.session, visit.user, project_id, "operator")

    def request() -> None:
        """`epochs` and `seed` are the auto round's own, not those of each training or sample round."""
        learning = {name: value for name, value in fields.items() if name not in ("epochs", "seed")}
        asked = known(AutoOptions, fields) | {"epochs": fields.get("epochs", "10")}
        asked |= {"reward": parse(RewardParams, rewards_of(fields), LABELS)}
        asked |= {"sampling": parse(SamplingParams, known(SamplingParams, learning), LABELS)}
        asked |= {"training": parse(TrainingParams, known(TrainingParams, learning), LABELS)}
        auto.request_auto_round(visit.session, visit.user, project, parse(AutoParams, asked, LABELS))

    return launch(visit, project, "auto", fields, request)
