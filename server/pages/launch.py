"""The forms that launch, cancel, retry and close rounds. An empty field means the default.

What does not fit comes back as the operator's page, with the sentence in its form and everything that was typed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel

from d3po_core.params import DuelParams, SamplingParams, TrainingParams
from d3po_core.rewards import RewardParams
from server.domain import checkpoints, closing, projects, rounds
from server.domain.launching import DUEL_PROMPTS, SAMPLE_PROMPTS
from server.domain.studying import STUDY_ITEMS, StudyParams
from server.errors import Conflict, Invalid, NotFound, TooLarge, parse
from server.models import Project
from server.pages import operate
from server.pages.visit import Fields, Visit, Visiting
from server.pages.wording import LABELS

router = APIRouter()


@router.post("/p/{project_id}/sample-rounds")
def sample(project_id: str, visit: Visiting, fields: Fields) -> Response:
    project = projects.open_for(visit.session, visit.user, project_id, "operator")

    def request() -> None:
        params = parse(SamplingParams, known(SamplingParams, fields), LABELS)
        policy = fields.get("checkpoint_id", checkpoints.CURRENT)
        count = _whole("count", fields.get("count", str(SAMPLE_PROMPTS)))
        rounds.request_sample_round(
            visit.session, visit.user, project, params, _prompts(fields), count=count, checkpoint_id=policy
        )

    return launch(visit, project, "sample", fields, request)


@router.post("/p/{project_id}/training-rounds")
def train(project_id: str, visit: Visiting, fields: Fields) -> Response:
    project = projects.open_for(visit.session, visit.user, project_id, "operator")

    def request() -> None:
        params = parse(TrainingParams, known(TrainingParams, fields), LABELS)
        rounds.request_training_round(visit.session, visit.user, project, params, fields.get("votes", "all"))

    return launch(visit, project, "training", fields, request)


@router.post("/p/{project_id}/study-rounds")
def study(project_id: str, visit: Visiting, fields: Fields) -> Response:
    project = projects.open_for(visit.session, visit.user, project_id, "operator")

    def request() -> None:
        params = parse(StudyParams, known(StudyParams, fields), LABELS)
        policies = [name.removeprefix("policy:") for name in fields if name.startswith("policy:")]
        count = _whole("count", fields.get("count", str(STUDY_ITEMS)))
        rounds.request_study_round(visit.session, visit.user, project, params, policies, _prompts(fields), count=count)

    return launch(visit, project, "study", fields, request)


@router.post("/p/{project_id}/reward-rounds")
def reward(project_id: str, visit: Visiting, fields: Fields) -> Response:
    project = projects.open_for(visit.session, visit.user, project_id, "operator")

    def request() -> None:
        params = parse(RewardParams, rewards_of(fields), LABELS)
        round_ids = [fields["round_id"]] if "round_id" in fields else None
        rounds.request_reward_round(visit.session, visit.user, project, params, round_ids=round_ids)

    return launch(visit, project, "reward", fields, request)


@router.post("/p/{project_id}/duel-rounds")
def duel(project_id: str, visit: Visiting, fields: Fields) -> Response:
    project = projects.open_for(visit.session, visit.user, project_id, "operator")

    def request() -> None:
        params = parse(DuelParams, known(DuelParams, fields) | {"seeds": _seeds(fields)}, LABELS)
        one, other = fields.get("checkpoint_a", checkpoints.CURRENT), fields.get("checkpoint_b", _parent(visit, project))
        count = _whole("count", fields.get("count", str(DUEL_PROMPTS)))
        rounds.request_duel_round(visit.session, visit.user, project, params, one, other, _prompts(fields), count=count)

    return launch(visit, project, "duel", fields, request)


@router.post("/rounds/{round_id}/cancel")
def cancel(round_id: str, visit: Visiting) -> RedirectResponse:
    row = rounds.open_for(visit.session, visit.user, round_id, "operator")
    rounds.cancel(visit.session, visit.user, row)
    return visit.back(f"/rounds/{row.id}")


@router.post("/rounds/{round_id}/retry")
def retry(round_id: str, visit: Visiting) -> RedirectResponse:
    row = rounds.open_for(visit.session, visit.user, round_id, "operator")
    rounds.retry(visit.session, visit.user, row)
    return visit.back(f"/rounds/{row.id}")


@router.post("/rounds/{round_id}/close")
def close(round_id: str, visit: Visiting) -> RedirectResponse:
    row = rounds.open_for(visit.session, visit.user, round_id, "operator")
    closing.close(visit.session, visit.user, row)
    return visit.back(f"/rounds/{row.id}")


@router.post("/rounds/{round_id}/reopen")
def reopen(round_id: str, visit: Visiting) -> RedirectResponse:
    row = rounds.open_for(visit.session, visit.user, round_id, "operator")
    closing.reopen(visit.session, visit.user, row)
    return visit.back(f"/rounds/{row.id}")


def launch(visit: Visit, project: Project, form: str, fields: dict[str, str], request: Callable[[], None]) -> Response:
    try:
        with visit.session.begin_nested():
            request()
    except (Conflict, Invalid, NotFound, TooLarge) as error:
        return operate.page(visit, project, operate.Refused(form, str(error), fields), error.status)
    return RedirectResponse(f"/p/{project.id}", status_code=303)


def known(model: type[BaseModel], fields: dict[str, str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in model.model_fields and name != "seeds"}


def rewards_of(fields: dict[str, str]) -> dict[str, Any]:
    """The rewards that are ticked. Weights stand in the form for all, and count where rewards add up."""
    names = [name.removeprefix("reward:") for name in fields if name.startswith("reward:")]
    if not names:
        raise Invalid("Choose at least one reward to score by.")
    combine = fields.get("combine", "pareto")
    weights = {name: _number(f"weight:{name}", fields) for name in names} if combine == "weighted" else {}
    return {"rewards": [{"name": name, "weight": weights.get(name)} for name in names], "combine": combine}


def _number(name: str, fields: dict[str, str]) -> float | None:
    try:
        return float(fields[name]) if name in fields else None
    except ValueError as error:
        raise Invalid(f"A weight is a number, you sent {fields[name][:40]}.") from error


def _prompts(fields: dict[str, str]) -> list[str] | None:
    lines = [line.strip() for line in fields.get("prompts", "").splitlines()]
    return [line for line in lines if line] or None


def _seeds(fields: dict[str, str]) -> list[int]:
    """Neighbouring seeds from the one given, or from one drawn by chance."""
    first = _whole("seed", fields["seed"]) if "seed" in fields else secrets.randbelow(2**30)
    return list(range(first, first + _whole("seeds", fields.get("seeds", "1"))))


def _whole(name: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise Invalid(f"{LABELS[name]} must be a whole number, you sent {text[:40]}.")
    return int(text)


def _parent(visit: Visit, project: Project) -> str:
    """Whom the current checkpoint should beat: the one it was trained from."""
    current = checkpoints.current(visit.session, project)
    return (current and current.parent_id) or checkpoints.BASE
