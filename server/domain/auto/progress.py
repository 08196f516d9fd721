"""How far auto rounds are, in epochs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.domain.auto.steps import steps
from server.models import Round, State, now


@dataclass(frozen=True)
class Epochs:
    """`done` of `total` are drawn, scored, trained and where it is due evaluated. `seconds_left` is judged by those that are
    done, None before the first one is."""

    done: int
    total: int
    seconds_left: float | None


def epochs_of(session: Session, autos: Sequence[Round]) -> dict[str, Epochs]:
    """Of many auto rounds with one query."""
    children: dict[str, list[Round]] = defaultdict(list)
    if autos:
        query = select(Round).where(Round.auto_id.in_([auto.id for auto in autos])).execution_options(populate_existing=True)
        for row in session.scalars(query):
            children[str(row.auto_id)].append(row)
    return {auto.id: _epochs(auto, children[auto.id]) for auto in autos}


def _epochs(auto: Round, children: Sequence[Round]) -> Epochs:
    total, every = auto.params["epochs"], auto.params["evaluate_every"]
    ended = {(row.kind, row.params["epoch"]) for row in children if row.state == State.DONE}
    left = [epoch for step in steps(total, every) if step not in ended and (epoch := step[1])]
    done = (min(left) if left else total + 1) - 1
    spent: dict[int, float] = defaultdict(float)
    for row in children:
        spent[row.params["epoch"]] += _seconds(row)
    whole = [spent[epoch] for epoch in range(1, done + 1)]
    running = auto.state in (State.QUEUED, State.RUNNING)
    seconds_left = max(0.0, median(whole) * (total - done) - spent[done + 1]) if whole and running else None
    return Epochs(done, total, None if seconds_left is None else round(seconds_left, 1))


def _seconds(row: Round) -> float:
    return ((row.finished_at or now()) - row.started_at).total_seconds() if row.started_at else 0.0
