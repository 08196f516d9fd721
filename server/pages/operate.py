"""The operator's page: the loop, one suggested action, forms to launch rounds, all rounds. Live by server-sent events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from d3po_core.prompts import names as prompt_sets
from server.domain import blurring, checkpoints, launching, projects, rewards, rounds
from server.domain import prompts as prompt_rules
from server.domain.auto import AutoOptions
from server.domain.estimates import WORK
from server.domain.exports import FORMATS
from server.errors import Invalid, TooLarge
from server.models import OWN_PROMPTS, Project, User
from server.pages import live, overview, study
from server.pages.estimates import sentence
from server.pages.expectation import expectation
from server.pages.training_fields import ALGORITHMS, PAIR_WEIGHTS, TRAINING_FIELDS
from server.pages.visit import Visit, Visiting
from server.pages.win_rates import win_rates

router = APIRouter(prefix="/p/{project_id}")
ROUNDS_SHOWN = 50
PICTURES_SHOWN = 6


@dataclass(frozen=True)
class Refused:
    """A launch form that did not fit: which one, why, and what was typed."""

    form: str
    sentence: str
    fields: dict[str, str]


@router.get("")
def show(project_id: str, visit: Visiting) -> HTMLResponse:
    return page(visit, projects.open_for(visit.session, visit.user, project_id, "operator"))


def page(visit: Visit, project: Project, refused: Refused | None = None, status: int = 200) -> HTMLResponse:
    changing = _changing(visit.session, project)
    known = checkpoints.list_(visit.session, project)[0]
    current = changing["current"]
    challenger = current or next(iter(known), None)
    gallery = checkpoints.gallery(visit.session, current)[:PICTURES_SHOWN] if current else []
    by_id = {checkpoint.id: checkpoint for checkpoint in known}
    return visit.page(
        "operate.html", project, section="operate", **changing, checkpoints=known,
        challenger=challenger, opponent=by_id.get(challenger.parent_id or "") if challenger else None,
        training_fields=TRAINING_FIELDS, algorithms=ALGORITHMS, pair_weights=PAIR_WEIGHTS,
        training=launching.training_of(project, current).model_dump(),
        gallery=gallery, blurred=blurring.in_gallery(visit.session, project, gallery),
        win_rates=win_rates(visit.session, project, by_id), refused=refused, status=status, formats=FORMATS.values(),
        rewards=rewards.known(), auto_defaults=AutoOptions(), study_form=study.launch_form(known, current),
        prompts={"sample": launching.SAMPLE_PROMPTS, "duel": launching.DUEL_PROMPTS},
        prompt_sets=prompt_sets(), own_prompts=prompt_rules.to_text(project.prompts),
        estimates={kind: sentence(visit.session, project, kind, _typed(refused, kind)) for kind in WORK},
    )  # fmt: skip


@router.post("/flags")
def set_flags(project_id: str, visit: Visiting, flags: Annotated[str, Form()] = "") -> Response:
    """One word, or a few, a line; none at all takes the flags off the voting page."""
    project = projects.open_for(visit.session, visit.user, project_id, "operator")
    words = [line for line in flags.splitlines() if line.strip()]
    try:
        projects.set_flags(visit.session, visit.user, project, words)
    except Invalid as error:
        return page(visit, project, Refused("flags", str(error), {"flags": flags}), error.status)
    return RedirectResponse(f"/p/{project.id}#flags", status_code=303)


@router.post("/prompts")
def set_prompts(
    project_id: str, visit: Visiting, prompts: Annotated[str, Form()] = "", prompt_set: Annotated[str, Form()] = ""
) -> Response:
    """Prompts of its own, one a line, or a prompt set by name."""
    project = projects.open_for(visit.session, visit.user, project_id, "operator")
    try:
        with visit.session.begin_nested():
            if prompt_set != OWN_PROMPTS:
                projects.choose_prompt_set(visit.session, visit.user, project, prompt_set)
            else:
                projects.set_prompts(visit.session, visit.user, project, prompt_rules.in_text(prompts.encode(), "The list"))
    except (Invalid, TooLarge) as error:
        return page(visit, project, Refused("prompts", str(error), {"prompts": prompts, "prompt_set": prompt_set}), error.status)
    return RedirectResponse(f"/p/{project.id}#prompts", status_code=303)


@router.post("/blur")
def set_blur(project_id: str, visit: Visiting, blur: Annotated[bool, Form()] = False) -> Response:
    """An empty checkbox sends nothing."""
    project = projects.open_for(visit.session, visit.user, project_id, "operator")
    projects.set_blur(visit.session, visit.user, project, blur)
    return RedirectResponse(f"/p/{project.id}#blur", status_code=303)


def _typed(refused: Refused | None, form: str) -> dict[str, str]:
    return refused.fields if refused and refused.form == form else {}


@router.get("/events")
def events(project_id: str, visit: Visiting) -> StreamingResponse:
    """The parts of the page that changed, as HTML by name."""

    def parts(visit: Visit) -> dict[str, str]:
        project = projects.open_for(visit.session, visit.user, project_id, "operator")
        changing = _changing(visit.session, project)
        names = {"suggestion": "_suggestion.html", "loop": "_loop.html", "rounds": "_rounds.html"}
        return {name: visit.html(template, project, **changing) for name, template in names.items()}

    parts(visit)
    return live.stream(visit.request, parts)


def _changing(session: Session, project: Project) -> dict[str, Any]:
    """What the parts that change by themselves are drawn from."""
    seen = overview.read(session, project)
    return {
        "verdict": overview.verdict(seen), "suggestion": overview.suggest(seen), "stages": overview.stages(seen),
        "rows": round_rows(session, project),
        "current": seen.current, "usable_pairs": seen.usable.pairs, "expected": expectation(project, seen.usable.groups),
    }  # fmt: skip


def round_rows(session: Session, project: Project) -> list[dict[str, Any]]:
    found, _ = rounds.list_rounds(session, project, limit=ROUNDS_SHOWN)
    progress = rounds.progress_of(session, found)
    names = _names(session, {row.created_by for row in found})
    return [{"round": row, "progress": progress[row.id], "by": names.get(row.created_by, "")} for row in found]


def _names(session: Session, user_ids: set[str | None]) -> dict[str | None, str]:
    return dict(session.execute(select(User.id, User.name).where(User.id.in_(user_ids))).tuples().all())
