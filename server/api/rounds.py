"""Requesting, watching, cancelling and retrying rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from d3po_core.params import DuelParams, Params, SamplingParams, TrainingParams
from d3po_core.rewards import RewardParams
from server.api.problems import problems
from server.api.shapes import After, Limit, Page, RoundOut, ScoredOut
from server.deps import CurrentUser, DbSession
from server.domain import auto, checkpoints, closing, duels, projects, rounds, scores, studies
from server.domain.auto import MAX_EPOCHS, AutoOptions, AutoParams
from server.domain.duels import DuelResult
from server.domain.launching import DUEL_PROMPTS, SAMPLE_PROMPTS
from server.domain.scoring import params_of
from server.domain.studies import StudyResult
from server.errors import Invalid, parse
from server.models import Round

router = APIRouter(tags=["rounds"])


class Drawing(BaseModel):
    """Where the prompts of a round come from: given, or drawn from a prompt set."""

    prompts: list[str] | None = Field(default=None, description="Up to 10,000, each at most 2,000 characters.")
    prompt_set: str | None = Field(default=None, description="Instead of prompts; null: the project's own.")

    def source(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("prompts", "prompt_set", "count")}


class NewSampleRound(SamplingParams, Drawing):
    """Values that are left out are the project's own; a seed that is left out is drawn anew."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompts": ["a red apple", "a cat face"], "images_per_prompt": 6}]}
    )
    count: int = Field(default=SAMPLE_PROMPTS, description="How many prompts to draw from the prompt set.")
    checkpoint_id: str | None = Field(
        default=checkpoints.CURRENT, description='Who draws: "current", "base" (or null), or an id.'
    )


class RoundIds(BaseModel):
    round_ids: Annotated[list[str], Field(min_length=1)]


class NewTrainingRound(TrainingParams):
    """Values that are left out are the project's own; the shape of a LoRA that training goes on with stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"beta": 0.1, "learning_rate": 1e-3, "epochs": 1, "votes": "all"}]})
    votes: Literal["all", "new"] | RoundIds = Field(
        default="all",
        description='Which counted votes: "all", "new" (no round has learned from them), or those of some sample rounds.',
    )


class NewDuelRound(DuelParams, Drawing):
    """Values that are left out are the project's own."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"checkpoint_a": "current", "checkpoint_b": "base", "count": 24}]})
    count: int = Field(default=DUEL_PROMPTS, description="How many prompts to draw from the held-out part of the prompt set.")
    checkpoint_a: str | None = checkpoints.CURRENT
    checkpoint_b: str | None = checkpoints.BASE


class NewRewardRound(RewardParams, AutoOptions):
    """Which rewards vote, and how they combine. Parameters are those that the server registers, and are left out.

    With `epochs` it is an auto round: sample, score and train that often, with held-out evaluations. Everything but `rewards`,
    `combine` and `round_ids` belongs to that.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"rewards": [{"name": "compressibility"}, {"name": "colourfulness"}], "combine": "pareto"},
                {"rewards": [{"name": "colourfulness"}], "epochs": 10, "count": 40, "training": {"algorithm": "d3po"}},
            ]
        }
    )
    round_ids: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = Field(
        default=None, description="Score these sample and duel rounds; null: every sample round of the policy in use."
    )
    epochs: int | None = Field(default=None, ge=1, le=MAX_EPOCHS, description="Of an auto round; null: a reward round.")


@router.post("/projects/{project_id}/sample-rounds", status_code=201, responses=problems(413))
def sample(project_id: str, body: NewSampleRound, session: DbSession, user: CurrentUser) -> RoundOut:
    """Draws groups of images; they can be voted on as soon as each chunk is done."""
    project = projects.open_for(session, user, project_id, "operator")
    params = parse(SamplingParams, _given(body, SamplingParams))
    round_ = rounds.request_sample_round(session, user, project, params, **body.source(), checkpoint_id=body.checkpoint_id)
    return shown(session, [round_])[0]


@router.post("/projects/{project_id}/training-rounds", status_code=201, responses=problems(409))
def train(project_id: str, body: NewTrainingRound, session: DbSession, user: CurrentUser) -> RoundOut:
    """Trains the current policy on the votes counted so far on its images, and promotes the result."""
    project = projects.open_for(session, user, project_id, "operator")
    votes = body.votes.model_dump() if isinstance(body.votes, RoundIds) else body.votes
    params = parse(TrainingParams, _given(body, TrainingParams))
    return shown(session, [rounds.request_training_round(session, user, project, params, votes)])[0]


@router.post("/projects/{project_id}/duel-rounds", status_code=201, responses=problems(413))
def duel(project_id: str, body: NewDuelRound, session: DbSession, user: CurrentUser) -> RoundOut:
    """Draws the same prompts and seeds by two policies and puts them, blind, into the voting queue."""
    project = projects.open_for(session, user, project_id, "operator")
    params = parse(DuelParams, _given(body, DuelParams))
    round_ = rounds.request_duel_round(session, user, project, params, body.checkpoint_a, body.checkpoint_b, **body.source())
    return shown(session, [round_])[0]


@router.post("/projects/{project_id}/reward-rounds", status_code=201, responses=problems(409))
def reward(project_id: str, body: NewRewardRound, session: DbSession, user: CurrentUser) -> RoundOut:
    """A machine annotator scores every group that it has not voted on, and votes; all else goes on as with people's votes. With
    `epochs`, an auto round begins: sample, score and train, with held-out evaluations."""
    project = projects.open_for(session, user, project_id, "operator")
    params, options = parse(RewardParams, _given(body, RewardParams)), _given(body, AutoOptions)
    if body.epochs is not None:
        if body.round_ids is not None:
            raise Invalid("An auto round scores what it samples itself. Leave out round_ids, or leave out epochs.")
        asked = parse(AutoParams, options | {"reward": params, "epochs": body.epochs})
        return shown(session, [auto.request_auto_round(session, user, project, asked)])[0]
    if options:
        belong, them = ("belongs", "it") if len(options) == 1 else ("belong", "them")
        raise Invalid(f"{', '.join(sorted(options))} {belong} to an auto round. Say how many epochs, or leave {them} out.")
    return shown(session, [rounds.request_reward_round(session, user, project, params, round_ids=body.round_ids)])[0]


@router.get("/projects/{project_id}/rounds")
def list_all(project_id: str, session: DbSession, user: CurrentUser, after: After = None, limit: Limit = 50) -> Page[RoundOut]:
    """Newest first."""
    project = projects.open_for(session, user, project_id, "operator")
    found, following = rounds.list_rounds(session, project, after, limit)
    return Page(items=shown(session, found), next=following)


@router.get("/rounds/{round_id}")
def read(round_id: str, session: DbSession, user: CurrentUser) -> RoundOut:
    round_ = rounds.open_for(session, user, round_id, "operator")
    scored = _scored(session, round_) if round_.kind == "reward" else None
    return shown(session, [round_])[0].model_copy(update={"scored": scored})


@router.post("/rounds/{round_id}/cancel", responses=problems(409))
def cancel(round_id: str, session: DbSession, user: CurrentUser) -> RoundOut:
    """Stops the round; finished groups are kept."""
    round_ = rounds.open_for(session, user, round_id, "operator")
    rounds.cancel(session, user, round_)
    return shown(session, [round_])[0]


@router.post("/rounds/{round_id}/retry", responses=problems(409))
def retry(round_id: str, session: DbSession, user: CurrentUser) -> RoundOut:
    """Runs what failed or was cancelled again; what is done stays done."""
    round_ = rounds.open_for(session, user, round_id, "operator")
    rounds.retry(session, user, round_)
    return shown(session, [round_])[0]


@router.post("/rounds/{round_id}/close", responses=problems(409))
def close(round_id: str, session: DbSession, user: CurrentUser) -> RoundOut:
    """Takes its groups out of the voting queue; what was voted counts, and what still arrives is kept and does not."""
    round_ = rounds.open_for(session, user, round_id, "operator")
    closing.close(session, user, round_)
    return shown(session, [round_])[0]


@router.post("/rounds/{round_id}/reopen", responses=problems(409))
def reopen(round_id: str, session: DbSession, user: CurrentUser) -> RoundOut:
    """Puts its groups back into the voting queue."""
    round_ = rounds.open_for(session, user, round_id, "operator")
    closing.reopen(session, user, round_)
    return shown(session, [round_])[0]


def _given(body: BaseModel, params: type[Params]) -> dict[str, Any]:
    return body.model_dump(exclude_unset=True, include=set(params.model_fields))


def _scored(session: Session, round_: Round) -> ScoredOut:
    means = {chosen.name: scores.mean_of(session, round_, chosen.key) for chosen in params_of(round_).rewards}
    return ScoredOut.of(scores.scored(session, round_), {name: mean for name, mean in means.items() if mean})


def shown(session: Session, found: Sequence[Round]) -> list[RoundOut]:
    progress = rounds.progress_of(session, found)
    results: dict[str, DuelResult | StudyResult] = {
        **duels.results(session, [round_ for round_ in found if round_.kind == "duel"]),
        **studies.results(session, [round_ for round_ in found if round_.kind == "study"]),
    }
    return [RoundOut.of(round_, progress[round_.id], results.get(round_.id)) for round_ in found]
