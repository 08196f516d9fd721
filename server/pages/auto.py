"""What an auto round's page shows: where it is, the held-out rewards by epoch, its rounds, and pictures before and after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from server.domain import auto, rounds, scoring
from server.domain.auto import curve
from server.domain.auto.curve import Evaluation, Figure
from server.domain.checkpoints import BeforeAfter
from server.domain.rounds import Progress
from server.errors import NotFound
from server.models import Checkpoint, Group, Round, State
from server.pages.charts import Chart, Point, draw
from server.pages.templating import percent, time_left
from server.pages.visit import Visiting, csv

router = APIRouter(prefix="/rounds/{round_id}")
DOES = {"sample": "drawing images", "reward": "scoring them", "training": "training", "evaluation": "measuring"}
PICTURES_SHOWN = 6


@dataclass
class Epoch:
    """A row of the table: its rounds in order, and what was measured after it."""

    number: int
    rounds: list[Round] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)


@router.get("/curve.csv")
def curve_csv(round_id: str, visit: Visiting) -> Response:
    row = rounds.open_for(visit.session, visit.user, round_id, "operator")
    if row.kind != "auto":
        raise NotFound("Only an auto round has a curve.")
    made = {
        made.id: made.number for made in visit.session.scalars(select(Checkpoint).where(Checkpoint.project_id == row.project_id))
    }
    lines = [
        [one.epoch, "base" if one.checkpoint_id is None else made[one.checkpoint_id], reward, told.mean, told.low, told.high]
        for one in curve.evaluations_of(visit.session, row)
        for reward, told in one.figures.items()
    ]
    return csv(f"round-{row.number}-curve", ["epoch", "checkpoint", "reward", "mean", "low", "high"], lines)


def parts(session: Session, row: Round) -> dict[str, Any]:
    """For the template `_auto.html`."""
    params, children, done = auto.params_of(row), auto.launched(session, row), curve.evaluations_of(session, row)
    chosen = curve.best(curve.judged(done, params)).evaluation if done else None
    return {
        "sentence": sentence(session, row, list(children.values())),
        "curves": [_curve(done, reward.key, reward.name, row) for reward in params.reward.rewards] if done else [],
        "epochs": _epochs(list(children.values()), done, {chosen.key: chosen.name for chosen in params.reward.rewards}),
        "pictures": _pictures(session, done[0], chosen) if chosen and chosen is not done[0] else [],
        "best_epoch": chosen.epoch if chosen else 0,
    }


def measured(session: Session, row: Round) -> list[str]:
    """What an evaluation round found, like "colourfulness 31.2 [29.5, 32.9]"; empty before the first score."""
    names = {chosen.key: chosen.name for chosen in scoring.params_of(row).rewards}
    [found] = curve.evaluations(session, [row], list(names))
    return [f"{names[key]} {figure_text(told)}" for key, told in found.figures.items()]


def sentence(session: Session, row: Round, children: Sequence[Round]) -> str:
    """Like "Epoch 3 of 10: training, 40 %, 2 min left"; empty where it is over."""
    active = next((child for child in reversed(children) if child.state in rounds.ACTIVE), None)
    if active is None:
        return ""
    at, progress = active.params["epoch"], rounds.progress(session, active)
    where = f"Epoch {at} of {row.params['epochs']}" if at else "Before the first epoch"
    return f"{where}: {', '.join([DOES[active.kind], *_how_far(progress)])}."


def _how_far(progress: Progress) -> list[str]:
    if progress.state == State.QUEUED:
        return ["waiting for a worker"]
    told = [percent(progress.done / progress.total)] if progress.total else []
    return told if progress.seconds_left is None else [*told, time_left(progress)]


def _curve(done: Sequence[Evaluation], key: str, name: str, row: Round) -> Chart:
    figures = [(one.epoch, one.figures[key]) for one in done]
    return draw(
        [Point(epoch, told.mean, told.low, told.high) for epoch, told in figures], title=f"Held-out {name}",
        caption=_conclusion(done, key), csv=f"/rounds/{row.id}/curve.csv", x_name="epoch", y_name=f"{name}, with 95 % interval",
        reference=figures[0][1].mean, whole_x=True, dots=True,
    )  # fmt: skip


def _conclusion(done: Sequence[Evaluation], key: str) -> str:
    """What the last evaluation says against the first one, item by item."""
    first, last = done[0].scores[key], done[-1].scores[key]
    apart = [last[item] - first[item] for item in last if item in first]
    if len(done) < 2 or len(apart) < 2:
        return f"Before training: {figure_text(done[0].figures[key])}. The dashed line is its height."
    told = curve.figure(apart)
    change = f"{told.mean:+.3g} [{told.low:+.3g}, {told.high:+.3g}]"
    if told.low > 0 or told.high < 0:
        return f"{'Higher' if told.low > 0 else 'Lower'} than before training: {change} on the same prompts and noise."
    return f"Not told apart from before training yet: {change} on the same prompts and noise."


def figure_text(told: Figure) -> str:
    """31.2 [29.5, 32.9]"""
    return f"{told.mean:.4g} [{told.low:.4g}, {told.high:.4g}]"


def _epochs(children: Sequence[Round], done: Sequence[Evaluation], names: dict[str, str]) -> list[Epoch]:
    """Newest first. names: of the rewards, by the keys of their scores."""
    measured = {one.epoch: {names[key]: figure_text(told) for key, told in one.figures.items()} for one in done}
    found: dict[int, Epoch] = {}
    for child in children:
        at = child.params["epoch"]
        found.setdefault(at, Epoch(at, figures=measured.get(at, {}))).rounds.append(child)
    return sorted(found.values(), key=lambda epoch: -epoch.number)


def _pictures(session: Session, before: Evaluation, after: Evaluation) -> list[BeforeAfter]:
    """The first few held-out prompts, each with the same noise."""
    drawn: dict[str, dict[tuple[str, int], Any]] = defaultdict(dict)
    query = select(Group).where(Group.round_id.in_([before.round_id, after.round_id]), Group.position < PICTURES_SHOWN)
    for group in session.scalars(query.options(selectinload(Group.images)).order_by(Group.position)):
        drawn[group.round_id][group.prompt, group.images[0].seed] = group.images[0]
    after_images = drawn[after.round_id]
    return [
        BeforeAfter(item[0], image, after_images[item]) for item, image in drawn[before.round_id].items() if item in after_images
    ]
