"""What a launch will cost, as a sentence in its form; asked for again while the form is being filled in."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from server.deps import get_storage
from server.domain import estimates, pairs, projects
from server.models import Project
from server.pages.templating import answer, duration, size
from server.pages.visit import Visiting
from server.settings import get_settings

router = APIRouter(prefix="/p/{project_id}/estimate")


@router.get("/{kind}")
def show(project_id: str, kind: Literal["sample", "training", "duel"], visit: Visiting) -> HTMLResponse:
    project = projects.open_for(visit.session, visit.user, project_id, "operator")
    return answer(sentence(visit.session, project, kind, dict(visit.request.query_params)))


def sentence(session: Session, project: Project, kind: str, typed: dict[str, str]) -> str:
    """Empty where what was typed is no number yet, or where there is nothing to do."""
    try:
        params = _params(session, project, kind, typed)
    except ValueError:
        return ""
    if not all(params.values()):
        return ""
    found = estimates.estimate(session, get_storage(get_settings()), project, kind, params)
    if found is None:
        return "No round measured yet: the first one tells how long it takes and how much disk it fills."
    return f"About {duration(found.seconds)} and {size(found.bytes)} of disk, judging by round {found.judged_by}."


def _params(session: Session, project: Project, kind: str, typed: dict[str, str]) -> dict[str, Any]:
    """As the round's row would hold them."""
    steps = int(typed.get("num_inference_steps", project.sampling["num_inference_steps"]))
    if kind == "sample":
        images = int(typed.get("images_per_prompt", project.sampling["images_per_prompt"]))
        return {"prompts": int(typed.get("count", 12)), "images_per_prompt": images, "num_inference_steps": steps}
    if kind == "duel":
        return {"items": int(typed.get("count", 20)) * int(typed.get("seeds", 1)), "num_inference_steps": steps}
    votes = "new" if typed.get("votes") == "new" else "all"
    return {"groups": pairs.usable_pairs(session, project, votes).groups, "epochs": int(typed.get("epochs", 1))}
