"""Held-out rewards by epoch: what an auto round's evaluations measured, which was best, and which is worse than chance explains.

An evaluation is judged by one number an image, its *worth*: the score where there is one reward; with weights the weighted sum;
else, because dominance orders no two means, the sum of the scores, each in its own deviations over the first evaluation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import fmean, stdev

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.domain.auto.params import AutoParams, params_of
from server.domain.duels import Z95
from server.models import Group, Image, Round, Score, State

Item = tuple[str, int]
"""A held-out prompt and the seed of its noise: the same in every evaluation of an auto round."""


@dataclass(frozen=True)
class Figure:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """One evaluation that is done; `checkpoint_id` is who drew it (None: the base model). `scores`: by reward, then by item."""

    epoch: int
    round_id: str
    checkpoint_id: str | None
    scores: dict[str, dict[Item, float]]

    @property
    def figures(self) -> dict[str, Figure]:
        return {reward: figure(list(values.values())) for reward, values in self.scores.items() if values}


@dataclass(frozen=True)
class Judged:
    """An evaluation with the worth of its images."""

    evaluation: Evaluation
    worth: dict[Item, float]

    @property
    def mean(self) -> float:
        return fmean(self.worth.values()) if self.worth else -inf


def figure(values: Sequence[float]) -> Figure:
    """The interval of the mean: 1.96 standard errors on both sides; without a second value it is unbounded."""
    mean = fmean(values)
    error = Z95 * stdev(values) / sqrt(len(values)) if len(values) > 1 else inf
    return Figure(mean, mean - error, mean + error)


def evaluations_of(session: Session, auto: Round) -> list[Evaluation]:
    """What is done, by epoch, with two queries."""
    of_auto = (Round.auto_id == auto.id, Round.kind == "evaluation", Round.state == State.DONE)
    rows = session.scalars(select(Round).where(*of_auto).order_by(Round.number)).all()
    return evaluations(session, rows, params_of(auto).score_names)


def evaluations(session: Session, rows: Sequence[Round], rewards: Sequence[str]) -> list[Evaluation]:
    """What these evaluation rounds measured so far, with one query. rewards: the names under which scores are kept."""
    found: dict[str, dict[str, dict[Item, float]]] = defaultdict(lambda: {reward: {} for reward in rewards})
    query = (
        select(Group.round_id, Group.prompt, Image.seed, Score.reward, Score.value)
        .join(Image, Image.group_id == Group.id)
        .join(Score, Score.image_id == Image.id)
        .where(Group.round_id.in_([row.id for row in rows]), Score.reward.in_(rewards))
        .order_by(Group.position)
    )
    for round_id, prompt, seed, reward, value in session.execute(query).tuples():
        found[round_id][reward][prompt, seed] = value
    return [Evaluation(row.params["epoch"], row.id, row.checkpoint_id, found[row.id]) for row in rows]


def judged(done: Sequence[Evaluation], params: AutoParams) -> list[Judged]:
    """Each with the worth of its images; items that lack a score are left out."""
    weights = params.weights
    if weights is None and done:
        weights = _units(done[0].scores)
    return [Judged(one, _worth(one.scores, weights or {})) for one in done]


def _units(scores: Mapping[str, Mapping[Item, float]]) -> dict[str, float]:
    """One over the deviation of each reward; a single one keeps its own unit."""
    if len(scores) == 1:
        return dict.fromkeys(scores, 1.0)
    spreads = {reward: stdev(values.values()) if len(values) > 1 else 0.0 for reward, values in scores.items()}
    return {reward: 1 / spread if spread > 0 else 1.0 for reward, spread in spreads.items()}


def _worth(scores: Mapping[str, Mapping[Item, float]], weights: Mapping[str, float]) -> dict[Item, float]:
    items = [set(values) for values in scores.values()]
    shared = set.intersection(*items) if items else set()
    return {item: sum(weights[reward] * values[item] for reward, values in scores.items()) for item in sorted(shared)}


def best(done: Sequence[Judged]) -> Judged:
    """The one with the highest mean; of equal ones the first."""
    return max(done, key=lambda one: one.mean)


def lost(one: Judged, against: Judged) -> Figure | None:
    """The mean difference over the items of both, where it is worse by more than chance explains; else None."""
    apart = [one.worth[item] - against.worth[item] for item in one.worth if item in against.worth]
    if len(apart) < 2:
        return None
    told = figure(apart)
    return told if told.high < 0 else None


def regression(done: Sequence[Judged]) -> tuple[Judged, Judged, Figure] | None:
    """The first evaluation that lost against the best one before it, that one, and by how much."""
    for place in range(1, len(done)):
        leader = best(done[:place])
        if told := lost(done[place], leader):
            return done[place], leader, told
    return None
