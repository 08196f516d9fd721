"""What a launch will cost, as a sentence in its form; asked for again while the form is being filled in."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from server.deps import get_storage
from server.domain import estimates, projects
from server.models import Project
from server.pages.templating import answer, duration, size
from server.pages.visit import Visiting
from server.settings import get_settings

SIZES = ("count", "images_per_prompt", "num_inference_steps", "seeds", "epochs")
router = APIRouter(prefix="/p/{project_id}/estimate")


@router.get("/{kind}")
def show(project_id: str, kind: Literal["sample", "training", "duel"], visit: Visiting) -> HTMLResponse:
    project = projects.open_for(visit.session, visit.user, project_id, "operator")
    return answer(sentence(visit.session, project, kind, dict(visit.request.query_params)))


def sentence(session: Session, project: Project, kind: str, typed: dict[str, str]) -> str:
    """Empty where what was typed is no number yet, or where there is nothing to do."""
    try:
        params = estimates.planned(session, project, kind, _asked(typed))
    except ValueError:
        return ""
    if not all(params.values()):
        return ""
    found = estimates.estimate(session, get_storage(get_settings()), project, kind, params)
    if found is None:
        return "No round measured yet: the first one tells how long it takes, how much disk it fills and how much memory."
    costs = [duration(found.seconds), f"{size(found.disk_bytes)} of disk"]
    costs += [f"{size(found.memory_bytes)} of memory"] if found.memory_bytes else []
    return f"About {', '.join(costs[:-1])} and {costs[-1]}, judging by round {found.judged_by}."


def _asked(typed: dict[str, str]) -> dict[str, Any]:
    """The numbers of the form; ValueError where one is none."""
    sizes = {name: int(typed[name]) for name in SIZES if name in typed}
    return sizes | {"votes": "new" if typed.get("votes") == "new" else "all"}
