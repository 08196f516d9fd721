"""What the page of a reward round tells: who votes by what, on which rounds, and how many groups gave no pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from d3po_core.rewards import RewardParams
from server.domain import rounds, scores
from server.domain.projects import get as project_of
from server.domain.scoring import params_of
from server.errors import NotFound
from server.models import Project, Round, User
from server.pages.visit import Visiting, csv

router = APIRouter(prefix="/rounds/{round_id}")
COMBINED = {"pareto": "Pareto dominance", "weighted": "a weighted sum"}


@dataclass(frozen=True)
class RewardRound:
    """`found`: a sentence about pairs; `of`: the rounds that drew what is scored."""

    found: str
    of: Sequence[Round]


def read(session: Session, row: Round) -> RewardRound:
    of = session.scalars(select(Round).where(Round.id.in_(row.params["round_ids"])).order_by(Round.number)).all()
    return RewardRound(scores.scored(session, row).told, of)


def settings(session: Session, row: Round) -> dict[str, str]:
    machine = session.get(User, row.params["annotator_id"])
    told = {"Votes as": machine.name if machine else "", "Groups": str(row.params["groups"]), "Images": str(row.params["images"])}
    return told | in_words(params_of(row))


def in_words(params: RewardParams) -> dict[str, str]:
    """Rewards and how they combine, for a list of settings."""
    told = {}
    for chosen in params.rewards:
        weight = "" if chosen.weight is None else f"weight {chosen.weight:g}"
        parameters = [f"{name} {value}" for name, value in chosen.parameters.items() if value is not None]
        told[f"Reward {chosen.name}"] = ", ".join(filter(None, [weight, *parameters])) or "no parameters"
    return told | ({"Combined by": COMBINED[params.combine]} if len(params.rewards) > 1 else {})


@router.get("/scores.csv")
def scores_csv(round_id: str, visit: Visiting, by: str = "image") -> Response:
    """A line an image, or with by=round a line a round that drew some, for each reward."""
    row = rounds.open_for(visit.session, visit.user, round_id, "operator")
    if row.kind != "reward":
        raise NotFound("Only a reward round has scores.")
    project = project_of(visit.session, row.project_id)
    columns, lines = _by_round(visit.session, project, row) if by == "round" else _by_image(visit.session, row)
    return csv(f"round-{row.number}-scores", columns, lines)


def _by_image(session: Session, row: Round) -> tuple[list[str], list[list[Any]]]:
    chosen = params_of(row).rewards
    lines = [[one.prompt, one.image_id, *(one.scores.get(each.key) for each in chosen)] for one in scores.images(session, row)]
    return ["prompt", "image", *(each.name for each in chosen)], lines


def _by_round(session: Session, project: Project, row: Round) -> tuple[list[str], list[list[Any]]]:
    lines = [
        [chosen.name, one.number, one.mean.mean, one.mean.low, one.mean.high, one.mean.images, one.mean.groups]
        for chosen in params_of(row).rewards
        for one in scores.by_round(session, project, chosen.key)
    ]
    return ["reward", "round", "mean", "low", "high", "images", "groups"], lines
