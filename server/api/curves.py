"""What the evaluations of an auto round measured."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from server.api.shapes import ID, example
from server.deps import CurrentUser, DbSession
from server.domain import checkpoints, rounds
from server.domain.auto import curve
from server.errors import NotFound

router = APIRouter(tags=["rounds"])


class FigureOut(BaseModel):
    """A mean over the held-out images with its 95 % interval."""

    model_config = ConfigDict(from_attributes=True)
    mean: float
    low: float
    high: float


class EvaluationOut(BaseModel):
    epoch: int = Field(description="0: before training.")
    round_id: str
    checkpoint_id: str
    rewards: dict[str, FigureOut] = Field(description="By reward: its name, and its parameters where it has any.")


class CurveOut(BaseModel):
    model_config = example(
        {"items": [{"epoch": 0, "round_id": ID, "checkpoint_id": "base",
                    "rewards": {"colourfulness": {"mean": 31.2, "low": 29.5, "high": 32.9}}}]}
    )  # fmt: skip
    items: list[EvaluationOut]


@router.get("/rounds/{round_id}/curve")
def read(round_id: str, session: DbSession, user: CurrentUser) -> CurveOut:
    """The held-out rewards of an auto round, by epoch: the same prompts and noise in every evaluation."""
    round_ = rounds.open_for(session, user, round_id, "operator")
    if round_.kind != "auto":
        raise NotFound("Only an auto round has a curve.")
    return CurveOut(items=[_shown(one) for one in curve.evaluations_of(session, round_)])


def _shown(one: curve.Evaluation) -> EvaluationOut:
    figures = {reward: FigureOut.model_validate(told) for reward, told in one.figures.items()}
    return EvaluationOut(
        epoch=one.epoch, round_id=one.round_id, checkpoint_id=one.checkpoint_id or checkpoints.BASE, rewards=figures
    )
