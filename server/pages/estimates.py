"""What a launch will cost, as a sentence in its form; asked for again while the form is being filled in."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from server.api.estimates import Sizes
from server.deps import get_storage
from server.domain import estimates, projects
from server.models import Project
from server.pages.templating import answer, duration, size
from server.pages.visit import Visiting
from server.settings import get_settings

router = APIRouter(prefix="/p/{project_id}/estimate")


@router.get("/{kind}")
def show(project_id: str, kind: Literal["sample", "training", "duel", "study"], visit: Visiting) -> HTMLResponse:
    project = projects.open_for(visit.session, visit.user, project_id, "operator")
    return answer(sentence(visit.session, project, kind, dict(visit.request.query_params)))


def sentence(session: Session, project: Project, kind: str, typed: dict[str, str]) -> str:
    """Empty where what was typed is no number of a round yet, or where there is nothing to do."""
    if ticked := sum(name.startswith("policy:") for name in typed):
        typed = typed | {"policies": str(ticked)}
    try:
        asked = Sizes.model_validate({name: typed[name] for name in Sizes.model_fields if name in typed})
    except ValueError:
        return ""
    params = estimates.planned(session, project, kind, asked.model_dump(exclude_none=True))
    if not all(params.values()):
        return ""
    found = estimates.estimate(session, get_storage(get_settings()), project, kind, params)
    if found is None:
        return "No round measured yet: the first one tells how long it takes, how much disk it fills and how much memory."
    costs = [duration(found.seconds), f"{size(found.disk_bytes)} of disk"]
    costs += [f"{size(found.memory_bytes)} of memory"] if found.memory_bytes else []
    return f"About {', '.join(costs[:-1])} and {costs[-1]}, judging by round {found.judged_by}."
