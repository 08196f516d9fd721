"""One round: state, progress, what it gave. Live while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from d3po_core.rewards import RewardParams
from server.deps import Files, get_storage
from server.domain import blurring, closing, duels, projects, reliability, rounds
from server.domain.auto import params_of as auto_params_of
from server.domain.scoring import params_of
from server.errors import NotFound
from server.models import Checkpoint, Group, Project, Round, User
from server.pages import auto, live, score_plots, scored, study
from server.pages.charts import Chart
from server.pages.expectation import expectation
from server.pages.overview import headline, opponents
from server.pages.templating import the, title
from server.pages.training_plots import charts
from server.pages.visit import Visit, Visiting, csv
from server.pages.wording import facts
from server.settings import get_settings
from server.storage import Storage

router = APIRouter(prefix="/rounds/{round_id}")
GROUPS_SHOWN = 24
REWARD_FIELDS = {"reward", *RewardParams.model_fields}


@dataclass(frozen=True)
class Duel:
    headline: str
    explanation: str


@router.get("")
def show(round_id: str, visit: Visiting) -> HTMLResponse:
    row = rounds.open_for(visit.session, visit.user, round_id, "operator")
    project = projects.get(visit.session, row.project_id)
    return visit.page("round.html", project, **_changing(visit.session, project, row), settings=_settings(visit.session, row))


@router.get("/events")
def events(round_id: str, visit: Visiting) -> StreamingResponse:
    def parts(visit: Visit) -> dict[str, str]:
        row = rounds.open_for(visit.session, visit.user, round_id, "operator")
        project = projects.get(visit.session, row.project_id)
        return {"round": visit.html("_round.html", project, **_changing(visit.session, project, row))}

    parts(visit)
    return live.stream(visit.request, parts)


@router.get("/metrics.csv")
def metrics_csv(round_id: str, visit: Visiting) -> Response:
    row = rounds.open_for(visit.session, visit.user, round_id, "operator")
    logged = rounds.metrics(visit.session, row)
    names = sorted({name for metric in logged for name in metric.values})
    lines = [[metric.step, *(metric.values.get(name) for name in names)] for metric in logged]
    return csv(f"round-{row.number}-metrics", ["step", *names], lines)


@router.get("/log")
def log(round_id: str, visit: Visiting, storage: Files) -> Response:
    """Where the attempts of this round broke, oldest first."""
    row = rounds.open_for(visit.session, visit.user, round_id, "operator")
    found = _logs(row, storage)
    if not found:
        raise NotFound("Nothing broke in this round, or its log is no longer in the data folder.")
    return PlainTextResponse("\n".join(path.read_text(encoding="utf-8") for path in found))


def _logs(row: Round, storage: Storage) -> list[Path]:
    return [path for job in row.jobs if (path := storage.log(job.id)).exists()]


def _changing(session: Session, project: Project, row: Round) -> dict[str, Any]:
    by = session.get(User, row.created_by) if row.created_by else None
    waiting, closed = closing.wanting(session, row)
    groups = _groups(session, row) if row.kind in ("sample", "evaluation") else []
    parts = auto.parts(session, row) if row.kind == "auto" else None
    return {
        "round": row,
        "progress": rounds.progress(session, row),
        "by": by.name if by else "",
        "duel": _duel(session, row) if row.kind == "duel" else None,
        "has_log": bool(_logs(row, get_storage(get_settings()))),
        "charts": _charts(session, project, row),
        "scored": scored.read(session, row) if row.kind == "reward" else None,
        "study": study.read(session, row) if row.kind == "study" else None,
        "auto": parts,
        "measured": auto.measured(session, row) if row.kind == "evaluation" else [],
        "within": session.get(Round, row.auto_id) if row.auto_id else None,
        "checkpoint": session.scalar(select(Checkpoint).where(Checkpoint.round_id == row.id)),
        "waiting": waiting,
        "closed": closed,
        "learned": _learned(project, row) if row.kind == "training" else "",
        "people": reliability.judged(session, row),
        "groups": groups,
        "blurred": blurring.blurred(session, project, [image for group in groups for image in group.images])
        | blurring.in_gallery(session, project, parts["pictures"] if parts else []),
    }


def _charts(session: Session, project: Project, row: Round) -> list[Chart]:
    if row.kind == "reward":
        return score_plots.charts(session, project, row)
    return charts(rounds.metrics(session, row), f"/rounds/{row.id}/metrics.csv", row.params.get("algorithm", "d3po"))


def _learned(project: Project, row: Round) -> str:
    """From how much, and what that can be expected to change."""
    pairs, groups = row.params.get("pairs", 0), row.params.get("groups", 0)
    told = f"It learns from {pairs} pairs in {groups} group{'' if groups == 1 else 's'}." if groups else ""
    return f"{told} {expectation(project, groups)}".strip()


def _duel(session: Session, row: Round) -> Duel:
    result, (one, other) = duels.result(session, row), opponents(session, row)
    told = f"{title(one).capitalize()} won {result.wins} and lost {result.losses} comparisons with {the(other)}"
    extra = [f"{result.ties} were ties", f"{result.skipped} skipped", f"{result.waiting} wait for a vote"]
    counts = [text for text in extra if not text.startswith("0 ")]
    return Duel(headline(result), f"{'; '.join([told, *counts])}. In brackets the 95 % interval (Wilson).")


def _settings(session: Session, row: Round) -> dict[str, str]:
    if row.kind == "reward":
        return scored.settings(session, row)
    if row.kind == "study":
        return study.settings(session, row)
    one, other = opponents(session, row)
    roles = {
        "sample": {"Drawn by": title(one)},
        "training": {"Trained from": title(one)},
        "evaluation": {"Drawn by": title(one)},
        "auto": {"Begins with": title(one)},
    }
    sides = roles.get(row.kind, {"Does": title(one), "beat": title(other)})
    told_elsewhere = (*REWARD_FIELDS, reliability.NAME)
    return sides | _rewards(row) | facts({name: value for name, value in row.params.items() if name not in told_elsewhere})


def _rewards(row: Round) -> dict[str, str]:
    """What an evaluation or an auto round measures by."""
    if row.kind == "evaluation":
        return scored.in_words(params_of(row))
    return scored.in_words(auto_params_of(row).reward) if row.kind == "auto" else {}


def _groups(session: Session, row: Round) -> list[Group]:
    """The newest groups: what arrives is seen."""
    query = select(Group).where(Group.round_id == row.id).order_by(Group.position.desc()).limit(GROUPS_SHOWN)
    return list(session.scalars(query.options(selectinload(Group.images))))
