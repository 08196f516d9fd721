"""What people said about two checkpoints: wins, losses, and how sure one can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from d3po_core.preferences import dominance
from server.domain.counting import counted_ids, is_live, live_signals
from server.models import Group, Image, Outcome, Round, Task, Vote

Z95 = 1.959964
TIE = "tie"


@dataclass(frozen=True)
class DuelResult:
    """wins are votes for the round's checkpoint, losses for its opponent. low..high: Wilson's 95 % interval of win_rate."""

    wins: int
    losses: int
    ties: int
    skipped: int
    waiting: int
    win_rate: float | None
    low: float
    high: float


def result(session: Session, round_: Round) -> DuelResult:
    return results(session, [round_])[round_.id]


def results(session: Session, rounds: Sequence[Round]) -> dict[str, DuelResult]:
    """The results of many duel rounds with four queries."""
    ids = [round_.id for round_ in rounds]
    skipped = _votes(session, ids, Vote.outcome == Outcome.SKIP, is_live())
    open_ = select(Group.round_id, func.count()).join(Task, Task.group_id == Group.id).group_by(Group.round_id)
    open_ = open_.where(Group.round_id.in_(ids), Task.closed_at.is_(None), live_signals() < Task.votes_wanted)
    waiting = dict(session.execute(open_).tuples().all())
    chosen = _chosen(session, ids)
    return {
        round_.id: tally(
            chosen[round_.id, round_.checkpoint_id], chosen[round_.id, round_.opponent_id],
            chosen[round_.id, TIE], skipped.get(round_.id, 0), waiting.get(round_.id, 0),
        )
        for round_ in rounds
    }  # fmt: skip


def tally(wins: int, losses: int, ties: int = 0, skipped: int = 0, waiting: int = 0) -> DuelResult:
    low, high = wilson(wins, wins + losses)
    rate = wins / (wins + losses) if wins + losses else None
    return DuelResult(wins, losses, ties, skipped, waiting, rate, low, high)


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """The interval of a proportion (Wilson 1927); (0, 1) where nothing was tried."""
    if not trials:
        return 0.0, 1.0
    share, scale = successes / trials, 1 + z * z / trials
    centre = share + z * z / (2 * trials)
    spread = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _counted(round_ids: list[str]) -> Select[str]:
    return counted_ids(Task.group_id.in_(select(Group.id).where(Group.round_id.in_(round_ids))))


def _votes(session: Session, round_ids: list[str], *conditions: ColumnElement[bool]) -> dict[str, int]:
    query = select(Group.round_id, func.count()).select_from(Vote).join(Task, Task.id == Vote.task_id)
    query = query.join(Group, Group.id == Task.group_id).where(Group.round_id.in_(round_ids), *conditions)
    return dict(session.execute(query.group_by(Group.round_id)).tuples().all())


def _chosen(session: Session, round_ids: list[str]) -> Counter[tuple[str, str | None]]:
    """How often each checkpoint's image was chosen, by round, and how often none was (TIE)."""
    votes = session.execute(
        select(Group.round_id, Vote)
        .join(Task, Task.id == Vote.task_id)
        .join(Group, Group.id == Task.group_id)
        .where(Vote.id.in_(_counted(round_ids)))
    ).tuples()
    drawn_by = dict(
        session.execute(
            select(Image.id, Image.checkpoint_id).join(Group, Group.id == Image.group_id).where(Group.round_id.in_(round_ids))
        )
        .tuples()
        .all()
    )
    chosen = [(round_id, favourite(vote)) for round_id, vote in votes]
    return Counter((round_id, drawn_by[image_id] if image_id else TIE) for round_id, image_id in chosen)


def favourite(vote: Vote) -> str | None:
    """The image that the vote prefers to every other one, if there is one."""
    if vote.outcome != Outcome.RATED:
        return vote.best_image_id or next(iter(vote.ranking), None)
    image_ids = list(vote.ratings)
    wins = Counter(winner for winner, _ in dominance([vote.ratings[image_id] for image_id in image_ids]))
    return next((image_ids[winner] for winner, count in wins.items() if count == len(image_ids) - 1), None)
