"""The request for an auto round: its row, and its first step."""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.domain import checkpoints, launching, people, projects, rewards
from server.domain import prompts as prompt_rules
from server.domain.auto.advancing import advance
from server.domain.auto.params import AutoParams
from server.errors import Invalid
from server.models import Project, Round, State, User


def request_auto_round(session: Session, by: User, project: Project, params: AutoParams) -> Round:
    """Begins with the policy in use. What every step would refuse, it refuses before anything is drawn."""
    people.require(session, by, project, "operator")
    launching.refuse_second_training(session, project)
    params = _checked(session, project, params)
    policy = checkpoints.current(session, project)
    own = params.model_dump(mode="json", exclude={"sampling", "training"})
    asked = {name: getattr(params, name).model_dump(mode="json", exclude_unset=True) for name in ("sampling", "training")}
    round_ = launching.new_round(session, by, project, "auto", own | asked, checkpoint_id=policy.id if policy else None)
    advance(session, round_)
    if round_.state == State.FAILED:
        raise Invalid(f"{round_.message} Nothing was launched.")
    return round_


def latest(session: Session, auto: Round) -> Round:
    """The round that it launched last."""
    query = select(Round).where(Round.auto_id == auto.id).order_by(Round.number.desc()).limit(1)
    return session.scalars(query).one()


def _checked(session: Session, project: Project, params: AutoParams) -> AutoParams:
    seed = params.seed if "seed" in params.model_fields_set else secrets.randbelow(2**31 - params.evaluation_prompts)
    prompt_set = prompt_rules.set_of(project, params.prompt_set).name
    projects.check_group_size(project.mode, projects.merged(project.sampling, params.sampling))
    launching.training_of(project, checkpoints.current(session, project), params.training)
    return params.model_copy(update={"reward": rewards.checked(params.reward), "prompt_set": prompt_set, "seed": seed})
